//! Batches: what one journal message holds (group commit).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::entry::Entry;
use crate::ids::Namespace;
use crate::limits::BATCH_ENTRIES_MAX;
use crate::task::{PROTOCOL, PROTOCOL_OLDEST};

/// Packs entries into journal messages of at most [`BATCH_ENTRIES_MAX`] entries and `size_max` bytes.
#[derive(Debug)]
pub struct BatchBuilder {
    text: Vec<u8>,
    entries: usize,
    size_max: usize,
}

impl BatchBuilder {
    /// A batch of entries of `ns` with at most `size_max` bytes (half of the broker's `max_payload`).
    pub fn new(ns: &Namespace, size_max: usize) -> Self {
        let mut text = Vec::with_capacity(1024);
        text.extend_from_slice(format!("{{\"v\":{PROTOCOL},\"ns\":\"{ns}\",\"entries\":[").as_bytes());
        Self { text, entries: 0, size_max }
    }

    /// Adds an entry's JSON text, unless the batch would become too large; an entry alone always fits.
    pub fn push(&mut self, entry: &[u8]) -> bool {
        let full = self.entries == BATCH_ENTRIES_MAX || self.text.len() + entry.len() + 3 > self.size_max;
        if self.entries > 0 && full {
            return false;
        }
        if self.entries > 0 {
            self.text.push(b',');
        }
        self.text.extend_from_slice(entry);
        self.entries += 1;
        true
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// How many entries were added.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// The message.
    pub fn finish(mut self) -> Bytes {
        self.text.extend_from_slice(b"]}");
        Bytes::from(self.text)
    }
}

/// An entry's JSON text.
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    serde_json::to_vec(entry).expect("an entry always has a JSON form")
}

/// A batch as it was read: each entry is decoded by itself, so that a bad one spoils only itself.
#[derive(Debug)]
pub struct Batch {
    pub ns: Namespace,
    pub entries: Vec<Result<Entry, UnreadableEntry>>,
}

/// The message is not a batch this build can read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableBatch {
    #[error("the message is not a batch of entries: {source}")]
    Json {
        #[source]
        source: serde_json::Error,
    },
    #[error("protocol version {version}; this build speaks {PROTOCOL_OLDEST} to {PROTOCOL}")]
    Version { version: u16 },
    #[error("{count} entries; a batch has 1 to {BATCH_ENTRIES_MAX}")]
    Count { count: usize },
}

/// One entry of a batch is not of a kind and shape this build knows.
#[derive(Debug, thiserror::Error)]
#[error("not an entry this build knows: {source}")]
pub struct UnreadableEntry {
    #[source]
    pub source: serde_json::Error,
}

/// An entry and its JSON text, a part of the message it was read from.
#[derive(Debug, Clone)]
pub struct Written {
    pub entry: Entry,
    pub text: Bytes,
}

#[derive(Deserialize)]
struct Wire<'a> {
    v: u16,
    #[serde(default)]
    ns: Namespace,
    #[serde(borrow)]
    entries: Vec<&'a RawValue>,
}

impl<'a> Wire<'a> {
    fn read(message: &'a [u8]) -> Result<Self, UnreadableBatch> {
        let wire: Wire<'_> = serde_json::from_slice(message).map_err(|source| UnreadableBatch::Json { source })?;
        if !(PROTOCOL_OLDEST..=PROTOCOL).contains(&wire.v) {
            return Err(UnreadableBatch::Version { version: wire.v });
        }
        if !(1..=BATCH_ENTRIES_MAX).contains(&wire.entries.len()) {
            return Err(UnreadableBatch::Count { count: wire.entries.len() });
        }
        Ok(wire)
    }
}

impl Batch {
    /// Reads a journal message.
    pub fn decode(message: &[u8]) -> Result<Self, UnreadableBatch> {
        let wire = Wire::read(message)?;
        let entries = wire.entries.into_iter().map(decode_entry).collect();
        Ok(Self { ns: wire.ns, entries })
    }

    /// Reads a journal message, and keeps the text of each entry.
    pub fn decode_written(message: &Bytes) -> Result<Vec<Result<Written, UnreadableEntry>>, UnreadableBatch> {
        let written = |text: &RawValue| {
            decode_entry(text).map(|entry| Written { entry, text: message.slice_ref(text.get().as_bytes()) })
        };
        Ok(Wire::read(message)?.entries.into_iter().map(written).collect())
    }
}

impl Written {
    /// An entry as this build writes it.
    pub fn of(entry: Entry) -> Self {
        let text = Bytes::from(encode_entry(&entry));
        Self { entry, text }
    }
}

fn decode_entry(text: &RawValue) -> Result<Entry, UnreadableEntry> {
    serde_json::from_str(text.get()).map_err(|source| UnreadableEntry { source })
}

/// The wire form of one task or record: JSON.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("our messages always have a JSON form"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{CancelRequested, Scanned};

    fn cancel() -> Vec<u8> {
        encode_entry(&Entry::CancelRequested(CancelRequested {
            execution: "0193a5a0-0000-7000-8000-000000000003".parse().expect("an id"),
            reason: None,
            by: None,
            compensate: false,
        }))
    }

    #[test]
    fn a_batch_holds_what_fits_and_reads_back() {
        let mut builder = BatchBuilder::new(&Namespace::default(), 4096);
        let mut pushed = 0;
        while builder.push(&cancel()) {
            pushed += 1;
        }
        assert!(pushed > 1 && builder.len() == pushed);
        let message = builder.finish();
        assert!(message.len() <= 4096);
        let batch = Batch::decode(&message).expect("a batch");
        assert_eq!(batch.entries.len(), pushed);
        assert!(batch.entries.iter().all(|e| matches!(e, Ok(Entry::CancelRequested(_)))));
    }

    #[test]
    fn an_entry_larger_than_the_batch_travels_alone() {
        let mut builder = BatchBuilder::new(&Namespace::default(), 16);
        assert!(builder.push(&cancel()));
        assert!(!builder.push(&cancel()));
    }

    #[test]
    fn a_bad_entry_spoils_only_itself() {
        let mut builder = BatchBuilder::new(&Namespace::default(), 4096);
        builder.push(br#"{"invented_kind":{}}"#);
        builder.push(&encode_entry(&Entry::Scanned(Scanned { node: "n".parse().expect("a name"), epoch: 1 })));
        let batch = Batch::decode(&builder.finish()).expect("a batch");
        assert!(batch.entries[0].is_err());
        assert!(matches!(batch.entries[1], Ok(Entry::Scanned(_))));
    }

    #[test]
    fn another_protocol_is_named() {
        let error = Batch::decode(br#"{"v":9,"entries":[{}]}"#).expect_err("another version");
        assert_eq!(error.to_string(), "protocol version 9; this build speaks 1 to 1");
        assert!(Batch::decode(br#"{"v":1,"entries":[]}"#).is_err());
        assert!(Batch::decode(b"nonsense").is_err());
    }
}
