//! How an owner ends.

use millstream_broker::{PayloadError, ReadError, StoreError};
use millstream_model::ids::ExecutionId;

use super::machine::Stop;
use super::recovery::UnusableSnapshot;
use crate::catalog::PlanError;

/// Why the owner of a partition ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error(transparent)]
    Stop(#[from] Stop),
    #[error("the journal cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("the journal begins with message {first}; no snapshot has what came before")]
    Trimmed { first: u64 },
    #[error(
        "the journal does not continue the snapshot up to message {sequence}: {reason}. It went backwards: restore what \
         is missing, or decide what to give up"
    )]
    Regressed { sequence: u64, reason: String },
    #[error("the snapshot {object} cannot be had: {source}")]
    Snapshot {
        object: String,
        #[source]
        source: Box<PayloadError>,
    },
    #[error("the snapshot {object} is of no use: {source}")]
    UnusableSnapshot {
        object: String,
        #[source]
        source: UnusableSnapshot,
    },
    #[error(
        "this build folds the snapshot {object} to another state than the one that wrote it; `millstream \
         verify-upgrade` shows where"
    )]
    OtherState { object: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("execution {execution}, which an entry needs, cannot be brought back: {reason}")]
    Absent { execution: ExecutionId, reason: String },
    #[error("the reader of the journal has stopped")]
    ReaderGone,
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl Ended {
    /// Whether another owner of the same build would end likewise.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Stop(Stop::TakenOver { .. } | Stop::Gap { .. }) | Self::ReaderGone => false,
            Self::Stop(Stop::Unreadable { .. } | Stop::Halt(_)) => true,
            Self::Read(error) => !error.is_retryable(),
            Self::Plan(error) => !error.is_retryable(),
            Self::Store(error) => !error.is_retryable(),
            Self::Trimmed { .. }
            | Self::Regressed { .. }
            | Self::Snapshot { .. }
            | Self::UnusableSnapshot { .. }
            | Self::OtherState { .. }
            | Self::Absent { .. } => true,
        }
    }
}
