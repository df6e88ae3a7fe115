//! The transcript of an execution: its entries with their places, as they were read from the journal.
//!
//! It is what an execution can be folded from again, wherever that is: in the history, in a snapshot, in a file that
//! someone took home. Decompressed it is text, a head and a line for each entry:
//!
//! ```text
//! transcript 1 fold 2 expressions 1
//! 17.0 1790000000000000 - {"submitted":{…}}
//! 18.3 1790000000004000 http {"task_succeeded":{…}}
//! ```
//!
//! A line has the entry's position, the time of its message in microseconds, who wrote it (a worker's capability, or `-`
//! for the API and coordinators) and its JSON text. Compressed it is a sequence of Zstandard frames (RFC 8878); a
//! sequence of frames is what their contents are one after the other.

use std::io::Read;

use bytes::Bytes;

use crate::entry::Entry;
use crate::ids::Capability;
use crate::position::Position;
use crate::time::Timestamp;

/// Version of the text that this build writes and reads.
const VERSION: u16 = 1;
/// Text that is compressed in one piece.
const FRAME: usize = 32 * 1024;
/// As fast as it goes: entries of one execution are alike, and even so a tenth is left of them.
const LEVEL: i32 = 1;
/// Text that a transcript may have when it is read. A larger one is no transcript of ours.
const TEXT_MAX: u64 = 4 << 30;

/// A transcript that grows.
#[derive(Debug, Clone)]
pub struct Transcript {
    sealed: Vec<Bytes>,
    open: Vec<u8>,
    entries: u32,
    /// Bytes of the text so far.
    text: u64,
}

/// The revisions that an execution is folded under for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revisions {
    pub fold: u16,
    pub expressions: u16,
}

/// An entry of a transcript.
#[derive(Debug, Clone)]
pub struct Line {
    pub position: Position,
    /// When the stream stored it.
    pub at: Timestamp,
    /// The worker's capability; `None` for what the API and coordinators write.
    pub by: Option<Capability>,
    pub entry: Entry,
    /// The entry's JSON text.
    pub text: Box<str>,
}

/// A transcript that was read.
#[derive(Debug, Clone)]
pub struct Transcribed {
    pub revisions: Revisions,
    pub lines: Vec<Line>,
}

/// Why a text is no transcript that this build can read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableTranscript {
    #[error("it is damaged: {source}")]
    Damaged {
        #[source]
        source: std::io::Error,
    },
    #[error("it does not begin as a transcript does")]
    NoHead,
    #[error("it is a transcript of version {found}; this build reads {VERSION}")]
    Version { found: u16 },
    #[error("line {number} is not one of a transcript: {reason}")]
    Line { number: usize, reason: String },
}

impl Transcript {
    /// The transcript of an execution whose first entry is to come.
    pub fn new(revisions: Revisions) -> Self {
        let mut transcript = Self { sealed: Vec::new(), open: Vec::with_capacity(1024), entries: 0, text: 0 };
        let Revisions { fold, expressions } = revisions;
        transcript.write(format!("transcript {VERSION} fold {fold} expressions {expressions}\n").as_bytes());
        transcript
    }

    /// Goes on with what [`Self::finish`] gave.
    pub fn resume(finished: Bytes, entries: u32, text: u64) -> Self {
        Self { sealed: vec![finished], open: Vec::new(), entries, text }
    }

    /// Adds an entry. `text` is its JSON as it was read.
    pub fn push(&mut self, position: Position, at: Timestamp, by: Option<&Capability>, text: &[u8]) {
        let by = by.map_or("-", Capability::as_str);
        self.write(format!("{position} {} {by} ", at.as_micros()).as_bytes());
        if text.contains(&b'\n') {
            // Between the tokens of JSON a line break is a space; inside a string it cannot stand.
            let line: Vec<u8> = text.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }).collect();
            self.write(&line);
        } else {
            self.write(text);
        }
        self.write(b"\n");
        self.entries += 1;
        if self.open.len() >= FRAME {
            self.seal();
        }
    }

    /// How many entries it has.
    pub fn len(&self) -> u32 {
        self.entries
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes of its text.
    pub fn text_size(&self) -> u64 {
        self.text
    }

    /// Bytes that it takes in memory.
    pub fn held_size(&self) -> usize {
        self.sealed.iter().map(Bytes::len).sum::<usize>() + self.open.len()
    }

    /// The compressed transcript so far.
    pub fn finish(&self) -> Bytes {
        let mut whole = Vec::with_capacity(self.held_size());
        self.sealed.iter().for_each(|frame| whole.extend_from_slice(frame));
        if !self.open.is_empty() {
            whole.extend_from_slice(&compress(&self.open));
        }
        Bytes::from(whole)
    }

    fn write(&mut self, text: &[u8]) {
        self.open.extend_from_slice(text);
        self.text += text.len() as u64;
    }

    fn seal(&mut self) {
        let frame = compress(&self.open);
        self.sealed.push(Bytes::from(frame));
        self.open = Vec::new();
    }
}

impl Transcribed {
    /// Reads a compressed transcript.
    pub fn read(compressed: &[u8]) -> Result<Self, UnreadableTranscript> {
        Self::parse(&text_of(compressed)?)
    }

    /// Reads the text of a transcript.
    pub fn parse(text: &str) -> Result<Self, UnreadableTranscript> {
        let (head, rest) = text.split_once('\n').ok_or(UnreadableTranscript::NoHead)?;
        let revisions = read_head(head)?;
        let lines = rest.lines().enumerate().map(|(index, line)| {
            read_line(line).map_err(|reason| UnreadableTranscript::Line { number: index + 2, reason })
        });
        Ok(Self { revisions, lines: lines.collect::<Result<_, _>>()? })
    }

    /// The transcript as it grows on.
    pub fn to_transcript(&self) -> Transcript {
        let mut transcript = Transcript::new(self.revisions);
        for line in &self.lines {
            transcript.push(line.position, line.at, line.by.as_ref(), line.text.as_bytes());
        }
        transcript
    }
}

/// The text of a compressed transcript.
pub fn text_of(compressed: &[u8]) -> Result<String, UnreadableTranscript> {
    let damaged = |source| UnreadableTranscript::Damaged { source };
    let mut text = String::new();
    let decoder = zstd::Decoder::with_buffer(compressed).map_err(damaged)?;
    decoder.take(TEXT_MAX).read_to_string(&mut text).map_err(damaged)?;
    Ok(text)
}

/// Compresses a part of a transcript's text.
pub fn compress(text: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(text, LEVEL).expect("memory takes what is compressed")
}

fn read_head(head: &str) -> Result<Revisions, UnreadableTranscript> {
    let words: Vec<&str> = head.split(' ').collect();
    let number = |word: &str| word.parse::<u16>().map_err(|_| UnreadableTranscript::NoHead);
    match words[..] {
        ["transcript", version, "fold", fold, "expressions", expressions] => match number(version)? {
            VERSION => Ok(Revisions { fold: number(fold)?, expressions: number(expressions)? }),
            found => Err(UnreadableTranscript::Version { found }),
        },
        _ => Err(UnreadableTranscript::NoHead),
    }
}

fn read_line(line: &str) -> Result<Line, String> {
    let mut words = line.splitn(4, ' ');
    let mut word = |what: &str| words.next().ok_or_else(|| format!("{what} is missing"));
    let position = word("its position")?.parse().map_err(|error| format!("its position: {error}"))?;
    let micros = word("its time")?.parse().map_err(|error| format!("its time: {error}"))?;
    let by = match word("its writer")? {
        "-" => None,
        capability => Some(capability.parse().map_err(|error| format!("its writer: {error}"))?),
    };
    let text = word("its entry")?;
    let entry = serde_json::from_str(text).map_err(|error| format!("its entry: {error}"))?;
    Ok(Line { position, at: Timestamp::from_micros(micros), by, entry, text: text.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::encode_entry;
    use crate::entry::CancelRequested;

    const REVISIONS: Revisions = Revisions { fold: 2, expressions: 1 };

    fn cancel(reason: &str) -> Vec<u8> {
        encode_entry(&Entry::CancelRequested(CancelRequested {
            execution: "0193a5a0-0000-7000-8000-000000000003".parse().expect("an id"),
            reason: Some(reason.to_owned()),
            by: None,
            compensate: false,
        }))
    }

    fn transcript(entries: u64) -> Transcript {
        let http: Capability = "http".parse().expect("a name");
        let mut transcript = Transcript::new(REVISIONS);
        for n in 0..entries {
            let by = (n % 2 == 1).then_some(&http);
            transcript.push(Position::start_of(n + 1), Timestamp::from_micros(n), by, &cancel(&format!("line\n{n}")));
        }
        transcript
    }

    #[test]
    fn what_was_pushed_is_read_back_however_much_it_is() {
        for count in [0, 1, 2, 2_000] {
            let written = transcript(count);
            let read = Transcribed::read(&written.finish()).expect("a transcript");
            assert_eq!(read.revisions, REVISIONS);
            assert_eq!(read.lines.len() as u64, count);
            assert_eq!(written.len() as u64, count);
            for (n, line) in read.lines.iter().enumerate() {
                assert_eq!(line.position, Position::start_of(n as u64 + 1));
                assert_eq!(line.at, Timestamp::from_micros(n as u64));
                assert_eq!(line.by.as_ref().map(Capability::as_str), (n % 2 == 1).then_some("http"));
                assert_eq!(line.text.as_bytes(), cancel(&format!("line\n{n}")));
            }
            assert_eq!(text_of(&read.to_transcript().finish()).ok(), text_of(&written.finish()).ok());
        }
    }

    #[test]
    fn a_finished_transcript_goes_on() {
        let first = transcript(3);
        let mut resumed = Transcript::resume(first.finish(), first.len(), first.text_size());
        resumed.push(Position::start_of(9), Timestamp::from_micros(9), None, &cancel("more"));
        let read = Transcribed::read(&resumed.finish()).expect("a transcript");
        assert_eq!(read.lines.len(), 4);
        assert_eq!(text_of(&resumed.finish()).expect("text").len() as u64, resumed.text_size());
    }

    #[test]
    fn white_space_of_a_foreign_writer_stays_on_its_line() {
        let mut transcript = Transcript::new(REVISIONS);
        let pretty = String::from_utf8(cancel("x")).expect("text").replace(',', ",\n");
        transcript.push(Position::start_of(1), Timestamp::from_micros(1), None, pretty.as_bytes());
        assert_eq!(Transcribed::read(&transcript.finish()).expect("a transcript").lines.len(), 1);
    }

    #[test]
    fn what_is_no_transcript_is_refused_with_the_reason() {
        let refused = |text: &str| Transcribed::parse(text).expect_err("no transcript").to_string();
        assert_eq!(refused(""), "it does not begin as a transcript does");
        assert_eq!(
            refused("transcript 9 fold 1 expressions 1\n"),
            "it is a transcript of version 9; this build reads 1"
        );
        assert_eq!(
            refused("transcript 1 fold 1 expressions 1\n1.0 x - {}\n"),
            "line 2 is not one of a transcript: its time: invalid digit found in string"
        );
        assert!(Transcribed::read(b"nonsense").expect_err("no frames").to_string().starts_with("it is damaged"));
        let whole = transcript(500).finish();
        assert!(Transcribed::read(&whole[..whole.len() - 3]).is_err());
    }
}
