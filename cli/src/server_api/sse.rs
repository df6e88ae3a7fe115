//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>) from bytes as they arrive.

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// The last id the stream named, this event's included.
    pub(super) id: Option<String>,
    pub(super) data: String,
}

/// Reads a stream in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// Bytes of a line that has not ended.
    line: Vec<u8>,
    /// The last byte was a carriage return, so a line feed that follows belongs to it.
    after_return: bool,
    id: Option<String>,
    data: Vec<String>,
}

impl Decoder {
    /// Takes bytes and returns what they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        for &byte in bytes {
            let second_half = self.after_return && byte == b'\n';
            self.after_return = byte == b'\r';
            match byte {
                b'\n' if second_half => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    frames.extend(self.end_of_line(&String::from_utf8_lossy(&line)));
                }
                byte => self.line.push(byte),
            }
        }
        frames
    }

    fn end_of_line(&mut self, line: &str) -> Option<Frame> {
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return (!data.is_empty()).then(|| Frame { id: self.id.clone(), data: data.join("\n") });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => self.data.push(value.to_owned()),
            "id" => self.id = Some(value.to_owned()),
            // Comments, the event's type (the data names it too) and the reconnection time.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stream: &str, expected: &[(Option<&str>, &str)]) {
        for size in [1, 2, 7, stream.len()] {
            let mut decoder = Decoder::default();
            let frames: Vec<Frame> = stream.as_bytes().chunks(size).flat_map(|bytes| decoder.push(bytes)).collect();
            let expected = expected.iter().map(|(id, data)| Frame { id: id.map(str::to_owned), data: (*data).into() });
            assert_eq!(frames, expected.collect::<Vec<_>>(), "in pieces of {size}");
        }
    }

    #[test]
    fn events_end_at_an_empty_line_whatever_ends_lines() {
        check("event: a\nid: 1.0.0\ndata: {}\n\n", &[(Some("1.0.0"), "{}")]);
        check("id: 1\r\ndata: x\r\n\r\nid: 2\r\ndata: y\r\n\r\n", &[(Some("1"), "x"), (Some("2"), "y")]);
        check("data: x\r\rdata: y\r\r", &[(None, "x"), (None, "y")]);
    }

    #[test]
    fn comments_and_unfinished_events_are_left_out() {
        check(": keep-alive\n\ndata: x\n\ndata: unfinished\n", &[(None, "x")]);
    }

    #[test]
    fn lines_of_data_are_joined_and_ids_stay() {
        check("id:7\ndata: a\ndata:b\n\ndata: ü\n\n", &[(Some("7"), "a\nb"), (Some("7"), "ü")]);
    }
}
