//! What an owner keeps beside the folded state, so that an execution can leave memory and the journal can be cut: the
//! transcripts of executions, their records, and snapshots.
//!
//! ```text
//!   fold ─▶ transcripts ─┬─ ended ─▶ Archive ─▶ Record, then the entry Archived
//!                        ├─ waits ─▶ Parking ─▶ Park, later Wake
//!                        └─ tail ──▶ Snapshots ─▶ Snapshot, later Trim
//! ```

mod archive;
mod parking;
mod snapshots;

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_engine::{Ignored, Outcome, Partition};
use millstream_model::entry::Entry;
use millstream_model::ids::{Capability, ExecutionId};
use millstream_model::names::JournalSubject;
use millstream_model::position::Position;
use millstream_model::time::Timestamp;
use millstream_model::transcript::Transcript;

use super::machine::Message;

pub use archive::{Archive, RECORDING_MAX};
pub use parking::Parking;
pub use snapshots::{Snapshots, Taken};

/// When what is kept leaves memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// An execution that waits for this long at least, and has for as long, is parked.
    pub park_after_ms: u64,
    /// A snapshot is taken when this many entries or bytes of journal follow the last one and outweigh it twice, or when
    /// this many entries do, whatever their weight.
    pub tail_entries_min: u64,
    pub tail_bytes_min: u64,
    pub tail_entries_max: u64,
    /// The journal is cut this long after a snapshot: no copy of a batch may arrive that it does not recognise.
    pub trim_after_ms: u64,
    /// Executions in memory that have not ended; beyond it submissions are refused.
    pub live_max: usize,
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            park_after_ms: 60_000,
            tail_entries_min: 200_000,
            tail_bytes_min: 64 * 1024 * 1024,
            tail_entries_max: 2_000_000,
            trim_after_ms: millstream_model::limits::DUPLICATE_WINDOW_MS,
            live_max: 100_000,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    pub keeping: Keeping,
    transcripts: BTreeMap<ExecutionId, Transcript>,
    pub archive: Archive,
    pub parking: Parking,
    pub snapshots: Snapshots,
}

/// What of a message goes into transcripts, taken before it is folded.
#[derive(Debug)]
pub struct Lines {
    sequence: u64,
    at: Timestamp,
    by: Option<Capability>,
    lines: Vec<Line>,
    payload: Bytes,
}

#[derive(Debug)]
enum Line {
    /// Not about an execution.
    Other,
    /// What may be forgotten.
    Archived(Vec<ExecutionId>),
    Of {
        execution: ExecutionId,
        text: Bytes,
        begins: bool,
    },
}

impl Lines {
    pub fn of(message: &Message) -> Self {
        let line = |written: &Option<millstream_model::batch::Written>| match written {
            None => Line::Other,
            Some(written) => match &written.entry {
                Entry::Archived(archived) => Line::Archived(archived.executions.iter().map(|(id, _)| *id).collect()),
                entry => match entry.execution() {
                    Some(execution) => {
                        let begins = matches!(entry, Entry::Submitted(_));
                        Line::Of { execution, text: written.text.clone(), begins }
                    }
                    None => Line::Other,
                },
            },
        };
        Self {
            sequence: message.sequence,
            at: message.time,
            by: match &message.subject {
                Some(JournalSubject::Result(capability)) => Some(capability.clone()),
                Some(JournalSubject::Control) | None => None,
            },
            // What stands on none of our subjects is not folded.
            lines: match &message.subject {
                Some(_) => message.entries.iter().map(line).collect(),
                None => message.entries.iter().map(|_| Line::Other).collect(),
            },
            payload: message.payload.clone(),
        }
    }
}

impl Keeper {
    /// A keeper of what was restored from a snapshot, or of nothing.
    pub fn new(
        keeping: Keeping,
        transcripts: BTreeMap<ExecutionId, Transcript>,
        base: Option<u64>,
        partition: &Partition,
    ) -> Self {
        let mut keeper = Self {
            keeping,
            transcripts,
            archive: Archive::default(),
            parking: Parking::default(),
            snapshots: Snapshots::new(base),
        };
        keeper.snapshots.weigh(keeper.weight(partition));
        keeper
    }

    /// Bytes of text that a snapshot would have.
    pub fn weight(&self, partition: &Partition) -> u64 {
        let lines = partition.parked_count() + partition.key_count();
        let texts: u64 = self.transcripts.values().map(Transcript::text_size).sum();
        texts + snapshots::LINE_WEIGHT * lines as u64
    }

    /// Every transcript in memory.
    pub fn transcripts(&self) -> Vec<(ExecutionId, Transcript)> {
        self.transcripts.iter().map(|(id, transcript)| (*id, transcript.clone())).collect()
    }

    /// The transcript of an execution in memory.
    pub fn transcript(&self, execution: ExecutionId) -> Option<&Transcript> {
        self.transcripts.get(&execution)
    }

    /// Keeps the transcript of an execution that came back.
    pub fn bring(&mut self, execution: ExecutionId, transcript: Transcript) {
        self.transcripts.insert(execution, transcript);
    }

    /// The execution left memory.
    pub fn drop_transcript(&mut self, execution: ExecutionId) {
        self.transcripts.remove(&execution);
    }

    /// Bytes of all transcripts in memory.
    pub fn held_size(&self) -> usize {
        self.transcripts.values().map(Transcript::held_size).sum()
    }

    /// What it waits for.
    pub fn in_mind(&self) -> usize {
        self.archive.in_mind() + self.parking.in_mind() + self.snapshots.in_mind()
    }

    /// A message was folded with these outcomes; adds what changed executions to their transcripts. Also what was ignored
    /// for another reason than that there is no such execution or that it has ended: the fold looked at it.
    pub fn folded(&mut self, message: Lines, outcomes: &[Outcome], partition: &Partition) {
        let Lines { sequence, at, by, lines, payload } = message;
        self.snapshots.folded(sequence, at, lines.len(), payload);
        for (index, (line, outcome)) in lines.into_iter().zip(outcomes).enumerate() {
            let index = u16::try_from(index).expect("a batch has at most 256 entries");
            let position = Position { sequence, index };
            match (line, outcome) {
                (Line::Archived(executions), Outcome::Accepted) => {
                    for execution in executions {
                        if partition.execution(execution).is_none() {
                            self.transcripts.remove(&execution);
                        }
                    }
                }
                (Line::Of { execution, text, begins: true }, Outcome::Accepted) => {
                    if let Some(found) = partition.execution(execution) {
                        let mut transcript = Transcript::new(found.revisions());
                        transcript.push(position, at, by.as_ref(), &text);
                        self.transcripts.insert(execution, transcript);
                    }
                }
                (_, Outcome::Ignored(Ignored::UnknownExecution | Ignored::Ended))
                | (Line::Other | Line::Archived(_) | Line::Of { begins: true, .. }, _) => {}
                (Line::Of { execution, text, begins: false }, _) => {
                    if let Some(transcript) = self.transcripts.get_mut(&execution) {
                        transcript.push(position, at, by.as_ref(), &text);
                    }
                }
            }
        }
    }
}
