//! What an owner asks of the world, as data.

use std::sync::Arc;

use bytes::Bytes;
use millstream_engine::{Evaluate, Outcome, Rejection, TaskRef};
use millstream_model::ids::{Capability, ExecutionId, Partition};
use millstream_model::payload::PayloadRef;
use millstream_model::position::Position;
use millstream_model::trace::TraceParent;
use millstream_model::transcript::Transcript;
use serde_json::value::RawValue;

use super::keeper::Taken;

/// Names a request until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId(pub u64);

/// Something that is tried again once values are here or stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    Publish(TaskRef),
    Evaluate(Evaluate),
}

impl Job {
    /// The execution it belongs to.
    pub const fn execution(self) -> ExecutionId {
        match self {
            Self::Publish(task) => task.execution,
            Self::Evaluate(what) => what.execution(),
        }
    }
}

/// Stored values of an execution that jobs wait for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    pub execution: ExecutionId,
    pub references: Vec<PayloadRef>,
}

/// One thing to do. Commands are performed in the order they are given; what needs waiting for happens beside.
#[derive(Debug, Clone)]
pub enum Command {
    /// Append the batch on the control subject under this message id. Tell [`Core::appended`](super::core::Core).
    Append { id: String, batch: Bytes },
    /// Send the task to its queue. Tell `Core::unpublished` when it may not have arrived; success needs no word.
    Publish { task: TaskRef, capability: Capability, partition: Partition, message: Bytes, trace: TraceParent },
    /// Get values from the payload store. Tell `Core::fetched`.
    Fetch(Wanted),
    /// Put a value into the payload store of the job's execution. Tell `Core::stored`.
    Store { job: Job, text: Arc<RawValue> },
    /// Create the task stream again if it is missing, then list the tasks of the partition. Tell `Core::scanned`.
    Scan,
    /// List the workers that are present. Tell `Core::present`, or nothing when they cannot be listed.
    ListPresences,
    /// Tell the workers not to start tasks of the execution whose activation is below this. Tell
    /// `Core::cancel_marked`.
    MarkCancelled { execution: ExecutionId, below: u32 },
    /// Answer a request.
    Answer { ask: AskId, answer: Answer },
    /// The execution has ended.
    Ended(ExecutionId),
    /// Tell the history that the execution has begun. Nothing comes of it when that is not possible.
    Started(ExecutionId),
    /// Put the record of an execution that has ended into the history, its payload first where it is large. Tell
    /// `Core::recorded`.
    Record { execution: ExecutionId, end: Position, transcript: Transcript },
    /// Likewise for one that waits; this record stays until it is dropped. Tell `Core::parked`.
    Park { execution: ExecutionId, transcript: Transcript },
    /// Read the record of a parked execution, fold it again, and bring it: `Core::unpark`.
    Wake { execution: ExecutionId, record: u64 },
    /// Delete a record that nobody needs. Nothing comes of it when that is not possible.
    DropRecord { record: u64 },
    /// Store the snapshot, then move the pointer to it, by compare-and-set and only forward. Tell
    /// `Core::snapshot_stored`.
    Snapshot(Box<Taken>),
    /// Purge the journal below this message. Tell `Core::trimmed`.
    Trim { below: u64 },
    /// Whether the partition is owned or what was counted has changed.
    Report,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// What became of the request's own entry.
    Folded(Outcome),
    /// It was refused before anything was journaled.
    Rejected(Rejection),
    /// It cannot be said whether the request is or will be in the journal.
    Unavailable { reason: String },
    /// Nothing was journaled: this process does not own the partition.
    NotOwner,
    /// Nothing was journaled: there is more to do than is good.
    Busy { reason: String, limit: Limit },
}

/// What a submission was refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Too many executions are under way.
    Executions,
    /// What is stored is nearly full, or is not stored at the moment.
    Storage,
}
