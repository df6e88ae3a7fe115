//! How an owner ends.

use std::fmt;

use millstream_coordinator::leases::core::Why;
use millstream_coordinator::owner::machine::Stop;
use millstream_model::ids::ExecutionId;

/// Why an owner ended, as `coordinator/server/src/owner/ended.rs` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The lease core said so.
    Asked,
    Stop(Stop),
    Trimmed {
        first: u64,
    },
    Regressed {
        reason: String,
    },
    /// The reader found the journal shorter than what was read, or another one.
    WentBackwards {
        last: u64,
        next: u64,
    },
    SnapshotMissing {
        object: String,
    },
    SnapshotUnusable {
        reason: String,
    },
    OtherState {
        object: String,
    },
    Absent {
        execution: ExecutionId,
        reason: String,
    },
    /// This build does not fold the revision that was put in force.
    OldBuild {
        fold_rev: u16,
    },
}

impl End {
    /// What the lease core is told.
    pub(super) fn why(&self) -> Why {
        match self {
            Self::Asked => Why::Asked,
            Self::Stop(Stop::TakenOver { .. } | Stop::Gap { .. }) => Why::Lost,
            Self::Stop(Stop::Unreadable { .. } | Stop::Halt(_))
            | Self::Trimmed { .. }
            | Self::Regressed { .. }
            | Self::WentBackwards { .. }
            | Self::SnapshotMissing { .. }
            | Self::SnapshotUnusable { .. }
            | Self::OtherState { .. }
            | Self::Absent { .. }
            | Self::OldBuild { .. } => Why::Halted,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop(stop) => stop.fmt(f),
            other => write!(f, "{other:?}"),
        }
    }
}
