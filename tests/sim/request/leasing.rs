//! Requests about who owns what, and who is there.

use millstream_model::ids::{NodeId, Partition};
use millstream_model::lease::{CoordinatorPresence, Lease};

/// See the module.
#[derive(Debug, Clone)]
pub enum Leasing {
    /// Takes a lease that nobody may hold, or renews or takes over the one of a revision.
    Take {
        partition: Partition,
        lease: Lease,
        expected: Option<u64>,
        ttl_ms: u64,
    },
    Release {
        partition: Partition,
        revision: u64,
    },
    Announce {
        presence: Box<CoordinatorPresence>,
        ttl_ms: u64,
    },
    Withdraw {
        node: NodeId,
    },
    /// Everything that is there, then every change; it is pushed.
    Watch,
}

/// What a watcher of leases is told, as `LeaseChange` of the broker crate has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseChange {
    Lease(Partition, Option<(Lease, u64)>),
    Coordinator(NodeId, Option<CoordinatorPresence>),
    /// Everything that was there was told.
    InitialDone,
}

impl Leasing {
    /// A word for traces.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Take { .. } => "take lease",
            Self::Release { .. } => "release lease",
            Self::Announce { .. } => "announce coordinator",
            Self::Withdraw { .. } => "withdraw coordinator",
            Self::Watch => "watch leases",
        }
    }

    /// Whether it stores something.
    pub const fn stores(&self) -> bool {
        !matches!(self, Self::Watch)
    }
}
