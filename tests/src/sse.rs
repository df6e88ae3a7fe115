//! Server-sent events as the HTML standard (9.2.6) tells to read them.

/// One message of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: String,
}

/// Reads a whole stream. Comments, `retry` and an unfinished last message are left out.
pub fn parse(text: &str) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut message = Message::default();
    let mut has_data = false;
    for line in text.lines() {
        if line.is_empty() {
            let done = std::mem::take(&mut message);
            if std::mem::take(&mut has_data) {
                messages.push(done);
            }
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => message.id = Some(value.to_owned()),
            "event" => message.event = Some(value.to_owned()),
            "data" => {
                if std::mem::replace(&mut has_data, true) {
                    message.data.push('\n');
                }
                message.data.push_str(value);
            }
            _ => {}
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_as_the_standard_says() {
        let text = ": hello\n\nid: 1.0.0\nevent: step.started\ndata: {\"a\":\ndata: 1}\n\nretry: 5\n\ndata:cut off";
        let expected =
            Message { id: Some("1.0.0".into()), event: Some("step.started".into()), data: "{\"a\":\n1}".into() };
        assert_eq!(parse(text), [expected]);
    }
}
