//! The history, snapshots, and the journal's messages one by one.

use std::time::Duration;

use bytes::Bytes;
use millstream_model::hash::ContentHash;
use millstream_model::ids::ExecutionId;
use millstream_model::payload::PayloadRef;
use millstream_model::snapshot::SnapshotPointer;

use super::{Broker, PARTITION};
use crate::simulation::jetstream::{Expected, Newest, Publish, RequestFailed, Server, View};
use crate::simulation::request::{Keeping, NoReply, Reply};

/// Something that owners did to what is kept, in the order in which it was done.
#[derive(Debug, Clone)]
pub enum Kept {
    /// A record of the history was stored under this sequence.
    Recorded { sequence: u64, record: Bytes },
    /// The pointer leads to another snapshot.
    Pointed(Box<SnapshotPointer>),
    /// The journal was cut below this message.
    Cut { below: u64 },
    /// A snapshot was deleted.
    Dropped { object: String },
}

impl Broker {
    /// Takes what was done since the last call.
    pub fn take_kept(&mut self) -> Vec<Kept> {
        std::mem::take(&mut self.kept)
    }

    /// A record of the history.
    pub fn record(&self, sequence: u64) -> Option<Bytes> {
        let message = self.server.message(&self.names.history_stream(), sequence).ok()??;
        Some(message.payload.clone())
    }

    /// Copies the journal.
    pub fn back_up_journal(&mut self) {
        self.backup = self.server.backup(&self.names.journal_stream(PARTITION)).ok();
    }

    /// Puts the copy in the place of the journal. Whether the journal does not continue the newest snapshot any more;
    /// `None` when nothing is different.
    pub fn restore_journal(&mut self) -> Option<bool> {
        let (backup, journal) = (self.backup.take()?, self.names.journal_stream(PARTITION));
        let last = |server: &Server| server.stream_info(&journal).map_or(0, |info| info.last_sequence);
        let before = last(&self.server);
        self.server.restore(&backup);
        if last(&self.server) == before {
            return None;
        }
        let pointer = self.pointer();
        Some(pointer.is_some_and(|pointer| last(&self.server) < pointer.sequence))
    }

    /// Puts a transcript into the payload store at once, as the API does before it resumes what was archived.
    pub fn keep_transcript(&mut self, execution: ExecutionId, bytes: Bytes) -> PayloadRef {
        let reference = PayloadRef { hash: ContentHash::of(&bytes), size: bytes.len() as u64 };
        self.transcripts.insert((execution, reference.hash), bytes);
        reference
    }

    /// A transcript in the payload store.
    pub fn transcript(&self, execution: ExecutionId, reference: PayloadRef) -> Option<&Bytes> {
        self.transcripts.get(&(execution, reference.hash))
    }

    /// A snapshot.
    pub fn snapshot(&self, object: &str) -> Option<&Bytes> {
        self.snapshots.get(object)
    }

    /// What the pointer says.
    pub fn pointer(&self) -> Option<SnapshotPointer> {
        self.pointed().map(|(pointer, _)| *pointer)
    }

    fn pointed(&self) -> Option<(Box<SnapshotPointer>, u64)> {
        let (bucket, key) = (self.names.leases(), self.names.snapshot_pointer(PARTITION));
        match self.server.newest_record(&bucket, &key, View::CURRENT) {
            Ok(Newest::Record(record)) => {
                let pointer = serde_json::from_slice(&record.payload).expect("owners write pointers");
                Some((Box::new(pointer), record.sequence))
            }
            Ok(Newest::Nothing | Newest::Marker { .. }) | Err(_) => None,
        }
    }

    pub(super) fn keep_request(&mut self, request: Keeping) -> Result<Reply, NoReply> {
        let journal = self.names.journal_stream(PARTITION);
        match request {
            Keeping::JournalMessage { sequence } => {
                let message = self.server.message(&journal, sequence).map_err(NoReply::Refused)?;
                Ok(Reply::Message(message.cloned()))
            }
            Keeping::PurgeJournal { below } => {
                if self.server.message(&journal, below).map_err(NoReply::Refused)?.is_none() {
                    return Ok(Reply::Done);
                }
                self.server.purge(&journal, below).map_err(NoReply::Refused)?;
                self.kept.push(Kept::Cut { below });
                Ok(Reply::Done)
            }
            Keeping::AppendHistory { msg_id, record, lifetime_ms } => {
                let subject = self.names.history(PARTITION);
                let mut publish = Publish::new(&subject, record.clone());
                if let Some(id) = &msg_id {
                    publish = publish.msg_id(id);
                }
                if let Some(millis) = lifetime_ms {
                    publish = publish.lifetime(Duration::from_millis(millis));
                }
                let ack = self.server.publish(&publish)?;
                if !ack.duplicate {
                    self.kept.push(Kept::Recorded { sequence: ack.sequence, record });
                }
                Ok(Reply::Recorded(ack.sequence))
            }
            Keeping::HistoryMessage { sequence } => Ok(Reply::Record(self.record(sequence))),
            Keeping::DeleteHistory { sequence } => {
                let stream = self.names.history_stream();
                self.server.delete_message(&stream, sequence).map_err(NoReply::Refused)?;
                Ok(Reply::Done)
            }
            Keeping::PutSnapshot { object, bytes } => {
                if self.snapshots.get(&object).is_some_and(|there| *there != bytes) {
                    return Err(NoReply::Missing);
                }
                self.snapshots.insert(object, bytes);
                Ok(Reply::Done)
            }
            Keeping::GetSnapshot { pointer } => match self.snapshots.get(&pointer.object) {
                Some(bytes) if ContentHash::of(bytes) == pointer.hash => Ok(Reply::Snapshot(bytes.clone())),
                Some(_) | None => Err(NoReply::Missing),
            },
            Keeping::DeleteSnapshot { object } => {
                self.snapshots.remove(&object);
                self.kept.push(Kept::Dropped { object });
                Ok(Reply::Done)
            }
            Keeping::SnapshotPointer => Ok(Reply::Pointer(self.pointed())),
            Keeping::PutSnapshotPointer { pointer, expected } => {
                let value = serde_json::to_vec(&pointer).expect("a pointer always has a JSON form");
                let key = self.names.snapshot_pointer(PARTITION);
                let revision = self.write_lease_record(&key, value.into(), expected, None)?;
                self.kept.push(Kept::Pointed(pointer));
                Ok(Reply::Revision(revision))
            }
            Keeping::OverwriteSnapshotPointer { pointer } => {
                let value = serde_json::to_vec(&pointer).expect("a pointer always has a JSON form");
                let (bucket, key) = (self.names.leases(), self.names.snapshot_pointer(PARTITION));
                let ack = self.server.put_record(&bucket, &key, value.into(), Expected::Anything, None)?;
                self.kept.push(Kept::Pointed(pointer));
                Ok(Reply::Revision(ack.sequence))
            }
            Keeping::GetTranscript { execution, reference } => {
                let found = self.transcripts.get(&(execution, reference.hash));
                found.map(|bytes| Reply::Transcript(bytes.clone())).ok_or(NoReply::Missing)
            }
        }
    }

    /// Writes a record beside the leases that must not be there, a marker that it was there does not count; or over a
    /// revision of it.
    pub(super) fn write_lease_record(
        &mut self,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
        lifetime: Option<Duration>,
    ) -> Result<u64, NoReply> {
        let bucket = self.names.leases();
        let expected = match expected {
            Some(revision) => revision,
            None => match self.server.newest_record(&bucket, key, View::CURRENT)? {
                Newest::Record(_) => return Err(NoReply::Taken),
                Newest::Marker { revision } => revision,
                Newest::Nothing => 0,
            },
        };
        match self.server.put_record(&bucket, key, value, Expected::Revision(expected), lifetime) {
            Ok(ack) => Ok(ack.sequence),
            Err(RequestFailed::Refused(refusal)) if refusal.code == 10071 => Err(NoReply::Taken),
            Err(failed) => Err(failed.into()),
        }
    }
}
