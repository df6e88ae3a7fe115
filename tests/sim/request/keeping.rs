//! Requests about what owners keep: records of the history, snapshots, and the journal's messages one by one.

use bytes::Bytes;
use millstream_model::ids::ExecutionId;
use millstream_model::payload::PayloadRef;
use millstream_model::snapshot::SnapshotPointer;

use crate::simulation::coverage::{Phase, Phases};

/// See the module.
#[derive(Debug, Clone)]
pub enum Keeping {
    JournalMessage {
        sequence: u64,
    },
    /// Purges what comes before a message, if that is there.
    PurgeJournal {
        below: u64,
    },
    AppendHistory {
        msg_id: Option<String>,
        record: Bytes,
        lifetime_ms: Option<u64>,
    },
    HistoryMessage {
        sequence: u64,
    },
    DeleteHistory {
        sequence: u64,
    },
    PutSnapshot {
        object: String,
        bytes: Bytes,
    },
    GetSnapshot {
        pointer: Box<SnapshotPointer>,
    },
    DeleteSnapshot {
        object: String,
    },
    SnapshotPointer,
    /// Replaces the pointer, or with `None` writes the first one.
    PutSnapshotPointer {
        pointer: Box<SnapshotPointer>,
        expected: Option<u64>,
    },
    /// Replaces the pointer whatever it is: only a bug does.
    OverwriteSnapshotPointer {
        pointer: Box<SnapshotPointer>,
    },
    /// A transcript in the payload store.
    GetTranscript {
        execution: ExecutionId,
        reference: PayloadRef,
    },
}

impl Keeping {
    /// A word for traces.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::JournalMessage { .. } => "journal message",
            Self::PurgeJournal { .. } => "purge journal",
            Self::AppendHistory { .. } => "append history",
            Self::HistoryMessage { .. } => "history message",
            Self::DeleteHistory { .. } => "delete history",
            Self::PutSnapshot { .. } => "put snapshot",
            Self::GetSnapshot { .. } => "get snapshot",
            Self::DeleteSnapshot { .. } => "delete snapshot",
            Self::SnapshotPointer => "snapshot pointer",
            Self::PutSnapshotPointer { .. } | Self::OverwriteSnapshotPointer { .. } => "put snapshot pointer",
            Self::GetTranscript { .. } => "get transcript",
        }
    }

    /// Whether it stores something.
    pub const fn stores(&self) -> bool {
        match self {
            Self::AppendHistory { .. }
            | Self::PutSnapshot { .. }
            | Self::PutSnapshotPointer { .. }
            | Self::OverwriteSnapshotPointer { .. } => true,
            Self::GetTranscript { .. }
            | Self::JournalMessage { .. }
            | Self::PurgeJournal { .. }
            | Self::HistoryMessage { .. }
            | Self::DeleteHistory { .. }
            | Self::GetSnapshot { .. }
            | Self::DeleteSnapshot { .. }
            | Self::SnapshotPointer => false,
        }
    }

    /// What is going on when it is sent.
    pub const fn phases(&self) -> Phases {
        match self {
            Self::AppendHistory { .. }
            | Self::HistoryMessage { .. }
            | Self::DeleteHistory { .. }
            | Self::GetTranscript { .. } => Phases::of(Phase::Record),
            Self::JournalMessage { .. }
            | Self::PurgeJournal { .. }
            | Self::PutSnapshot { .. }
            | Self::GetSnapshot { .. }
            | Self::DeleteSnapshot { .. }
            | Self::SnapshotPointer
            | Self::PutSnapshotPointer { .. }
            | Self::OverwriteSnapshotPointer { .. } => Phases::of(Phase::Snapshot),
        }
    }
}
