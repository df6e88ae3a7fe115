//! A journal as it lies in its stream.

use bytes::Bytes;
use millstream_engine::Origin;
use millstream_model::batch::Batch;
use millstream_model::entry::Entry;
use millstream_model::ids::Capability;
use millstream_model::names::{JournalSubject, Names};
use millstream_model::position::Position;
use millstream_model::time::Timestamp;

/// A message of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub sequence: u64,
    pub time: Timestamp,
    pub subject: String,
    pub payload: Bytes,
}

/// One entry of a message, as an owner reads it.
#[derive(Debug, Clone)]
pub struct Read {
    pub position: Position,
    pub time: Timestamp,
    pub by: Writer,
    /// `None` for what this build cannot read.
    pub entry: Option<Entry>,
}

/// Who wrote a message, as its subject says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writer {
    Control,
    Worker(Capability),
    Stranger,
}

impl Writer {
    /// What the fold is told of it; nothing of a stranger's is folded.
    pub fn origin(&self) -> Option<Origin<'_>> {
        match self {
            Self::Control => Some(Origin::Control),
            Self::Worker(capability) => Some(Origin::Result(capability)),
            Self::Stranger => None,
        }
    }

    /// The capability of a worker.
    pub fn capability(&self) -> Option<&Capability> {
        match self {
            Self::Worker(capability) => Some(capability),
            Self::Control | Self::Stranger => None,
        }
    }
}

impl Message {
    /// Its entries, each decoded by itself.
    pub fn read(&self) -> Vec<Read> {
        let by = match Names::default().parse_journal(&self.subject) {
            Some(JournalSubject::Control) => Writer::Control,
            Some(JournalSubject::Result(capability)) => Writer::Worker(capability),
            None => Writer::Stranger,
        };
        let entries = match Batch::decode(&self.payload) {
            Ok(batch) => batch.entries.into_iter().map(Result::ok).collect(),
            Err(_) => vec![None],
        };
        let read = |(index, entry)| {
            let index = u16::try_from(index).expect("a batch has at most 256 entries");
            Read { position: Position { sequence: self.sequence, index }, time: self.time, by: by.clone(), entry }
        };
        entries.into_iter().enumerate().map(read).collect()
    }
}
