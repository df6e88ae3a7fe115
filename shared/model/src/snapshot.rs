//! Snapshots: what a partition is after some message of its journal, so that nobody has to fold what lies before.
//!
//! A snapshot holds transcripts, not the engine's structures: every build that folds the revisions of its executions
//! reads it, and taking it and folding it again are the same fold as ever. Compressed as one Zstandard frame it is
//!
//! ```text
//! a line of JSON   SnapshotHead
//! a line each      remembered idempotency keys, then parked executions
//! for each other   a line of JSON with its id and sizes, then its compressed transcript
//! execution
//! ```

use std::io::{BufRead, Read, Write};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::entry::Epoch;
use crate::hash::ContentHash;
use crate::ids::{ExecutionId, NodeId};
use crate::position::Position;
use crate::time::Timestamp;
use crate::transcript::Transcript;

/// Version of the form that this build writes and reads.
const VERSION: u16 = 1;
const LEVEL: i32 = 1;
/// A transcript in a snapshot that is larger is none of ours.
const TRANSCRIPT_MAX: u64 = 4 << 30;

/// A partition at a place of its journal.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub head: SnapshotHead,
    pub keys: Vec<RememberedKey>,
    pub parked: Vec<ParkedExecution>,
    /// Every execution that is neither parked nor archived.
    pub executions: Vec<(ExecutionId, Transcript)>,
}

/// What is said of the partition as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHead {
    pub v: u16,
    /// The last entry that is in it.
    pub applied: Position,
    /// Fold revision in force.
    pub fold_rev: u16,
    pub epoch: Option<Epoch>,
    pub epoch_at: Position,
    pub keys: u64,
    pub parked: u64,
    pub executions: u64,
}

/// An idempotency key that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedKey {
    pub key: ContentHash,
    pub body: ContentHash,
    pub execution: ExecutionId,
    pub at: Timestamp,
}

/// An execution whose state is in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedExecution {
    pub execution: ExecutionId,
    /// Sequence of its record in the history.
    pub record: u64,
    /// When its next alarm is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct TranscriptHead {
    execution: ExecutionId,
    entries: u32,
    text: u64,
    size: u64,
}

/// Where the newest snapshot of a partition is, and what the journal must be for it to count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPointer {
    /// Name of the object.
    pub object: String,
    /// Hash and size of the object.
    pub hash: ContentHash,
    pub size: u64,
    /// The last message that is in it, when the stream stored that, and the hash of its payload.
    pub sequence: u64,
    pub time: Timestamp,
    pub message: ContentHash,
    /// When the journal's stream was created.
    pub stream_created: Timestamp,
    /// Hash of the folded state.
    pub state: ContentHash,
    pub taken_by: NodeId,
    pub fold_rev: u16,
    pub executions: u64,
    pub entries: u64,
}

/// The bytes are no snapshot that this build can read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableSnapshot {
    #[error("it is damaged: {source}")]
    Damaged {
        #[source]
        source: std::io::Error,
    },
    #[error("a line of it is not what it should be: {source}")]
    Line {
        #[source]
        source: serde_json::Error,
    },
    #[error("it is a snapshot of version {found}; this build reads {VERSION}")]
    Version { found: u16 },
    #[error("a transcript of {size} bytes is none of ours")]
    TooLarge { size: u64 },
}

impl Snapshot {
    /// The head of a snapshot with these parts.
    pub fn new(
        applied: Position,
        fold_rev: u16,
        epoch: Option<(Epoch, Position)>,
        keys: Vec<RememberedKey>,
        parked: Vec<ParkedExecution>,
        executions: Vec<(ExecutionId, Transcript)>,
    ) -> Self {
        let (epoch, epoch_at) = epoch.map_or((None, Position::default()), |(epoch, at)| (Some(epoch), at));
        let head = SnapshotHead {
            v: VERSION,
            applied,
            fold_rev,
            epoch,
            epoch_at,
            keys: keys.len() as u64,
            parked: parked.len() as u64,
            executions: executions.len() as u64,
        };
        Self { head, keys, parked, executions }
    }

    /// Entries of the executions that are in it.
    pub fn entries(&self) -> u64 {
        self.executions.iter().map(|(_, transcript)| u64::from(transcript.len())).sum()
    }

    /// The object.
    pub fn encode(&self) -> Vec<u8> {
        self.try_encode().expect("memory takes what is written")
    }

    fn try_encode(&self) -> std::io::Result<Vec<u8>> {
        let mut out = zstd::Encoder::new(Vec::new(), LEVEL)?;
        write_line(&mut out, &self.head)?;
        self.keys.iter().try_for_each(|key| write_line(&mut out, key))?;
        self.parked.iter().try_for_each(|parked| write_line(&mut out, parked))?;
        for (execution, transcript) in &self.executions {
            let finished = transcript.finish();
            let head = TranscriptHead {
                execution: *execution,
                entries: transcript.len(),
                text: transcript.text_size(),
                size: finished.len() as u64,
            };
            write_line(&mut out, &head)?;
            out.write_all(&finished)?;
        }
        out.finish()
    }

    /// Reads an object.
    pub fn decode(object: &[u8]) -> Result<Self, UnreadableSnapshot> {
        let damaged = |source| UnreadableSnapshot::Damaged { source };
        let mut lines = std::io::BufReader::new(zstd::Decoder::with_buffer(object).map_err(damaged)?);
        let head: SnapshotHead = read_line(&mut lines)?;
        if head.v != VERSION {
            return Err(UnreadableSnapshot::Version { found: head.v });
        }
        let keys = (0..head.keys).map(|_| read_line(&mut lines)).collect::<Result<_, _>>()?;
        let parked = (0..head.parked).map(|_| read_line(&mut lines)).collect::<Result<_, _>>()?;
        let mut executions = Vec::new();
        for _ in 0..head.executions {
            let TranscriptHead { execution, entries, text, size } = read_line(&mut lines)?;
            if size > TRANSCRIPT_MAX {
                return Err(UnreadableSnapshot::TooLarge { size });
            }
            let mut finished = Vec::new();
            let read = (&mut lines).take(size).read_to_end(&mut finished).map_err(damaged)?;
            if read as u64 != size {
                return Err(damaged(std::io::ErrorKind::UnexpectedEof.into()));
            }
            executions.push((execution, Transcript::resume(Bytes::from(finished), entries, text)));
        }
        Ok(Self { head, keys, parked, executions })
    }
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

fn read_line<T: DeserializeOwned>(lines: &mut impl BufRead) -> Result<T, UnreadableSnapshot> {
    let mut line = Vec::new();
    lines.read_until(b'\n', &mut line).map_err(|source| UnreadableSnapshot::Damaged { source })?;
    serde_json::from_slice(&line).map_err(|source| UnreadableSnapshot::Line { source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::{Revisions, text_of};

    fn snapshot() -> Snapshot {
        let execution: ExecutionId = "0193a5a0-0000-7000-8000-000000000003".parse().expect("an id");
        let mut transcript = Transcript::new(Revisions { fold: 1, expressions: 1 });
        transcript.push(Position::start_of(4), Timestamp::from_micros(5), None, b"{}");
        let hash = ContentHash::of(b"k");
        Snapshot::new(
            Position { sequence: 9, index: 2 },
            1,
            Some((Epoch { node: "n".parse().expect("a name"), epoch: 3, fold_rev: 1 }, Position::start_of(3))),
            vec![RememberedKey { key: hash, body: hash, execution, at: Timestamp::from_micros(7) }; 2],
            vec![ParkedExecution { execution, record: 8, next: None }],
            vec![(execution, transcript.clone()), (execution, transcript)],
        )
    }

    #[test]
    fn snapshots_read_back() {
        let (written, object) = (snapshot(), snapshot().encode());
        let read = Snapshot::decode(&object).expect("a snapshot");
        assert_eq!((&read.head, &read.keys, &read.parked), (&written.head, &written.keys, &written.parked));
        assert_eq!(read.entries(), 2);
        for ((one, transcript), (other, again)) in written.executions.iter().zip(&read.executions) {
            assert_eq!(one, other);
            assert_eq!(text_of(&transcript.finish()).ok(), text_of(&again.finish()).ok());
            assert_eq!((transcript.len(), transcript.text_size()), (again.len(), again.text_size()));
        }
    }

    #[test]
    fn a_snapshot_that_was_cut_or_changed_is_refused() {
        let object = snapshot().encode();
        for length in 0..object.len() {
            assert!(Snapshot::decode(&object[..length]).is_err(), "{length}");
        }
        assert!(Snapshot::decode(b"nonsense").is_err());
    }
}
