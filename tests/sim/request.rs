//! What processes ask of the broker, as the broker crate's calls do, and what they hear.

mod keeping;
mod leasing;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use millstream_coordinator::owner::failure::{AppendFailure, PublishFailure, StoreFailure};
use millstream_model::batch::Batch;
use millstream_model::entry::{Entry, Timer, TimerFired};
use millstream_model::ids::{Capability, ExecutionId, WorkerId};
use millstream_model::payload::PayloadRef;
use millstream_model::snapshot::SnapshotPointer;
use millstream_model::task::{Claim, Purpose, Task, TaskKey};
use millstream_model::time::Timestamp;
use serde_json::value::RawValue;

use super::coverage::{Phase, Phases};
use super::jetstream::{AckToken, Delivery, Refusal, StoredMessage, StreamInfo};

pub use keeping::Keeping;
pub use leasing::{LeaseChange, Leasing};

/// One request, or a message without an answer.
#[derive(Debug, Clone)]
pub enum Request {
    JournalState,
    /// Reads the journal from a sequence on; messages are pushed.
    ReadJournal {
        from: u64,
    },
    /// A batch on the control subject.
    Append {
        msg_id: String,
        batch: Bytes,
    },
    /// A batch on the result subject of a capability.
    AppendResults {
        capability: Capability,
        batch: Bytes,
    },
    Publish {
        capability: Capability,
        message: Bytes,
    },
    /// Creates the task stream again when it is gone.
    EnsureTaskStream,
    Scan,
    MarkCancelled {
        execution: ExecutionId,
        below: u32,
    },
    /// Marks that are there, then every new one; they are pushed.
    WatchCancelled,
    Announce {
        worker: WorkerId,
    },
    Withdraw {
        worker: WorkerId,
    },
    ListWorkers,
    Pull {
        capability: Capability,
        batch: usize,
        wait_ms: u64,
    },
    Claim {
        key: String,
        claim: Claim,
        ttl_ms: u64,
    },
    ReleaseClaim {
        key: String,
        revision: u64,
    },
    Ack(AckToken),
    Progress(AckToken),
    HandBack {
        token: AckToken,
        delay_ms: Option<u64>,
    },
    PutPayload {
        execution: ExecutionId,
        text: Arc<RawValue>,
    },
    GetPayload {
        execution: ExecutionId,
        reference: PayloadRef,
    },
    Keep(Keeping),
    Lease(Leasing),
}

/// What the broker says.
#[derive(Debug, Clone)]
pub enum Reply {
    Done,
    JournalState(StreamInfo),
    Scanned(Vec<TaskKey>),
    Workers(BTreeSet<WorkerId>),
    Pulled(Vec<Delivery>),
    ClaimWon {
        revision: u64,
    },
    ClaimHeld {
        claim: Claim,
        stored_at: Timestamp,
    },
    Payload(Arc<RawValue>),
    Stored(PayloadRef),
    /// A message of the journal.
    Message(Option<StoredMessage>),
    /// The sequence of a record of the history.
    Recorded(u64),
    /// A record of the history.
    Record(Option<Bytes>),
    Transcript(Bytes),
    Snapshot(Bytes),
    Pointer(Option<(Box<SnapshotPointer>, u64)>),
    /// The revision of what was written.
    Revision(u64),
}

/// Why there is no reply, as `RequestError` of the broker crate has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoReply {
    /// Nothing was sent.
    Offline,
    /// It may have been done.
    NoAnswer,
    /// The server does not let this connection do it.
    Denied,
    NoResponders,
    TooLarge {
        size: usize,
    },
    Refused(Refusal),
    /// The store has no such value.
    Missing,
    /// A record is at another revision than was expected.
    Taken,
}

/// What the broker sends by itself.
#[derive(Debug, Clone)]
pub enum Push {
    Journal {
        sequence: u64,
        time: Timestamp,
        subject: Arc<str>,
        msg_id: Option<Arc<str>>,
        payload: Bytes,
    },
    Cancelled {
        execution: ExecutionId,
        below: u32,
    },
    /// The feed of the journal ended: whoever reads opens another one where it stopped.
    JournalBroken,
    /// The watch of cancelled executions ended.
    CancelledBroken,
    Lease(LeaseChange),
    /// The watch of leases ended.
    LeasesBroken,
}

impl Request {
    /// A word for traces.
    pub fn name(&self) -> &'static str {
        match self {
            Self::JournalState => "journal state",
            Self::ReadJournal { .. } => "read journal",
            Self::Append { .. } => "append",
            Self::AppendResults { .. } => "append results",
            Self::Publish { .. } => "publish",
            Self::EnsureTaskStream => "ensure task stream",
            Self::Scan => "scan",
            Self::MarkCancelled { .. } => "mark cancelled",
            Self::WatchCancelled => "watch cancelled",
            Self::Announce { .. } => "announce",
            Self::Withdraw { .. } => "withdraw",
            Self::ListWorkers => "list workers",
            Self::Pull { .. } => "pull",
            Self::Claim { .. } => "claim",
            Self::ReleaseClaim { .. } => "release claim",
            Self::Ack(_) => "ack",
            Self::Progress(_) => "progress",
            Self::HandBack { .. } => "hand back",
            Self::PutPayload { .. } => "put payload",
            Self::GetPayload { .. } => "get payload",
            Self::Keep(request) => request.name(),
            Self::Lease(request) => request.name(),
        }
    }

    /// Whether it stores something, so that a full disk or a quarrel between replicas can keep it out.
    pub fn stores(&self) -> bool {
        match self {
            Self::Append { .. }
            | Self::AppendResults { .. }
            | Self::Publish { .. }
            | Self::MarkCancelled { .. }
            | Self::Announce { .. }
            | Self::Withdraw { .. }
            | Self::Claim { .. }
            | Self::ReleaseClaim { .. }
            | Self::PutPayload { .. } => true,
            Self::JournalState
            | Self::ReadJournal { .. }
            | Self::EnsureTaskStream
            | Self::Scan
            | Self::WatchCancelled
            | Self::ListWorkers
            | Self::Pull { .. }
            | Self::Ack(_)
            | Self::Progress(_)
            | Self::HandBack { .. }
            | Self::GetPayload { .. } => false,
            Self::Keep(request) => request.stores(),
            Self::Lease(request) => request.stores(),
        }
    }

    /// What is going on when it is sent.
    pub fn phases(&self) -> Phases {
        match self {
            Self::JournalState | Self::ReadJournal { .. } => Phases::of(Phase::TakeOver).and(Phase::Fold),
            Self::Append { batch, .. } => of_batch(batch),
            Self::AppendResults { batch, .. } => of_batch(batch).and(Phase::Append),
            Self::Publish { message, .. } => of_task(message).and(Phase::Publish),
            Self::EnsureTaskStream | Self::Scan | Self::ListWorkers => Phases::of(Phase::Sweep),
            Self::MarkCancelled { .. } | Self::WatchCancelled => Phases::of(Phase::Cancel),
            Self::Announce { .. } | Self::Withdraw { .. } => Phases::NONE,
            Self::Pull { .. } => Phases::of(Phase::Pull),
            Self::Claim { .. } | Self::ReleaseClaim { .. } => Phases::of(Phase::Claim),
            Self::Ack(_) | Self::HandBack { .. } => Phases::of(Phase::Ack),
            Self::Progress(_) => Phases::of(Phase::Run),
            Self::PutPayload { .. } | Self::GetPayload { .. } => Phases::of(Phase::Payload),
            Self::Keep(request) => request.phases(),
            Self::Lease(_) => Phases::of(Phase::Lease),
        }
    }
}

/// The phases of what a journal message holds.
pub fn of_batch(batch: &[u8]) -> Phases {
    let Ok(batch) = Batch::decode(batch) else { return Phases::NONE };
    batch.entries.iter().flatten().fold(Phases::NONE, |phases, entry| phases.union(of_entry(entry)))
}

fn of_entry(entry: &Entry) -> Phases {
    match entry {
        Entry::Epoch(_) => Phases::of(Phase::TakeOver),
        Entry::Archived(_) => Phases::of(Phase::Record),
        Entry::Scanned(_) | Entry::Reissued(_) | Entry::ClaimAbandoned(_) => Phases::of(Phase::Sweep),
        Entry::Submitted(_) => Phases::of(Phase::Submit),
        Entry::CancelRequested(_) => Phases::of(Phase::Cancel),
        Entry::Resumed(_) => Phases::of(Phase::Resume),
        Entry::TimerFired(TimerFired { timer: Timer::Backoff { activation, .. }, .. }) => {
            of_activation(*activation).and(Phase::Backoff)
        }
        Entry::TimerFired(_) => Phases::NONE,
        Entry::Evaluated(_) | Entry::Unrenderable(_) | Entry::Unpublishable(_) => Phases::of(Phase::Publish),
        Entry::TaskStarted(e) => of_activation(e.task.activation).and(Phase::Run),
        Entry::TaskSucceeded(e) => of_key(&e.task),
        Entry::TaskFailed(e) => of_key(&e.task),
        Entry::ClaimHeld(e) => of_key(&e.task).and(Phase::Claim),
        Entry::Expired(e) => of_key(&e.task),
    }
}

fn of_key(key: &TaskKey) -> Phases {
    let phases = of_activation(key.activation);
    if key.step.as_str().starts_with(super::workload::FINALLY_PREFIX) { phases.and(Phase::Finally) } else { phases }
}

fn of_activation(activation: u32) -> Phases {
    let phases = if activation % 4 == 2 { Phases::of(Phase::Compensate) } else { Phases::NONE };
    if activation >= 4 { phases.and(Phase::Resume) } else { phases }
}

/// The phases of a task on its way.
pub fn of_task(message: &[u8]) -> Phases {
    let Ok(task) = serde_json::from_slice::<Task>(message) else { return Phases::NONE };
    let phases = match task.purpose {
        Purpose::Run => Phases::NONE,
        Purpose::Compensation => Phases::of(Phase::Compensate),
        Purpose::Finally => Phases::of(Phase::Finally),
    };
    let phases = if task.key.activation >= 4 { phases.and(Phase::Resume) } else { phases };
    if task.key.attempt > 1 { phases.and(Phase::Backoff) } else { phases }
}

/// What a refusal to store means: `RefusedStore` of the broker crate.
enum Store {
    SubjectFull,
    StreamFull,
    Unknown,
    Other,
}

fn store_of(refusal: &Refusal) -> Store {
    match refusal.code {
        10077 if refusal.description.contains("per subject") => Store::SubjectFull,
        10077 if refusal.description.contains("exceeded") => Store::StreamFull,
        10077 | 10164 => Store::Unknown,
        _ => Store::Other,
    }
}

impl NoReply {
    pub fn of_append(&self) -> AppendFailure {
        match self {
            Self::Offline => AppendFailure::Offline,
            Self::NoAnswer | Self::Missing | Self::Taken => AppendFailure::Unknown,
            Self::Denied => AppendFailure::Denied { subject: "control".to_owned() },
            Self::NoResponders => AppendFailure::NoStream,
            Self::TooLarge { size } => AppendFailure::TooLarge { size: *size },
            Self::Refused(refusal) => match store_of(refusal) {
                Store::SubjectFull | Store::StreamFull => AppendFailure::Full,
                Store::Unknown => AppendFailure::Unknown,
                Store::Other => {
                    AppendFailure::Rejected { code: refusal.code, description: refusal.description.to_string() }
                }
            },
        }
    }

    pub fn of_publish(&self) -> PublishFailure {
        match self {
            Self::Offline => PublishFailure::Offline,
            Self::NoAnswer | Self::Missing | Self::Taken => PublishFailure::Unknown,
            Self::Denied => PublishFailure::Denied { subject: "task".to_owned() },
            Self::NoResponders => PublishFailure::NoStream,
            Self::TooLarge { size } => PublishFailure::TooLarge { size: *size },
            Self::Refused(refusal) => match store_of(refusal) {
                Store::SubjectFull => PublishFailure::QueueFull,
                Store::StreamFull => PublishFailure::StreamFull,
                Store::Unknown => PublishFailure::Unknown,
                Store::Other => {
                    PublishFailure::Rejected { code: refusal.code, description: refusal.description.to_string() }
                }
            },
        }
    }

    pub fn of_store(&self) -> StoreFailure {
        match self {
            Self::Offline | Self::NoAnswer | Self::NoResponders | Self::Refused(_) => {
                StoreFailure::Passing { reason: format!("{self:?}") }
            }
            Self::Missing | Self::Taken | Self::Denied | Self::TooLarge { .. } => {
                StoreFailure::Lasting { reason: format!("{self:?}") }
            }
        }
    }
}
