//! What an owner asks of the world, as data.

use std::sync::Arc;

use bytes::Bytes;
use millstream_engine::{Evaluate, Outcome, Rejection, TaskRef};
use millstream_model::ids::{Capability, ExecutionId, Partition};
use millstream_model::payload::PayloadRef;
use millstream_model::trace::TraceParent;
use serde_json::value::RawValue;

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
}
