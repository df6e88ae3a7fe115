//! Workers as others see them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, Capability, WorkerId};
use crate::time::Timestamp;

/// A worker's presence, as stored in `MS_WORKERS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerPresence {
    pub id: WorkerId,
    pub version: String,
    /// Oldest and newest protocol version it speaks.
    pub protocol: (u16, u16),
    pub capabilities: BTreeMap<Capability, Slots>,
    /// Agents whose circuit is not closed here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub circuits: BTreeMap<AgentId, Circuit>,
    #[serde(with = "crate::time::rfc3339")]
    pub started_at: Timestamp,
}

/// State of the circuit breaker of one agent on one worker (M. Nygard, "Release It!", 2007).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Circuit {
    /// Calls pass.
    Closed,
    /// Calls fail at once with CIRCUIT_OPEN.
    Open,
    /// A few calls pass to find out whether the agent is well again.
    HalfOpen,
}

/// Concurrency of a worker for one capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    pub total: u32,
    pub busy: u32,
}
