//! What coordinators tell each other in `MS_LEASES`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, Partition};
use crate::time::Timestamp;

/// A coordinator's presence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorPresence {
    pub node: NodeId,
    pub version: String,
    /// Newest fold revision that it folds.
    pub fold_rev: u16,
    /// Where its API is reached, as it was configured.
    pub address: String,
    #[serde(with = "crate::time::rfc3339")]
    pub started_at: Timestamp,
    /// It is about to stop: it takes nothing more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// Partitions that it cannot fold.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub halted: BTreeSet<Partition>,
}

/// Who is to own a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub node: NodeId,
}
