//! The message a worker pulls.

use serde::{Deserialize, Serialize};

use crate::hash::ContentHash;
use crate::ids::{AgentId, Capability, ExecutionId, Namespace, Partition, StepId, WorkflowId};
use crate::payload::Payload;
use crate::time::Timestamp;
use crate::token::Token;

/// Version of the protocol between coordinators and workers that this build writes.
pub const PROTOCOL: u16 = 1;
/// Oldest version that this build reads.
pub const PROTOCOL_OLDEST: u16 = 1;

/// What a result is the result of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    pub execution: ExecutionId,
    pub step: StepId,
    /// Index of the element of a fan-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    /// The engine's number of each fresh attempt budget, from 0.
    pub activation: u32,
    /// The attempt this task was published for, from 1.
    pub attempt: u32,
}

/// Why a task runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    #[default]
    Run,
    /// Undoes a completed step; runs in cancelled executions too.
    Compensation,
    /// Runs after the outcome is decided.
    Finally,
}

/// One attempt of a step, to be run by any worker of its capability.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// Protocol version, see [`PROTOCOL`].
    pub v: u16,
    pub ns: Namespace,
    /// Where the result goes.
    pub partition: Partition,
    pub key: TaskKey,
    pub workflow: WorkflowId,
    pub capability: Capability,
    pub agent: AgentId,
    /// The agent's manifest as the submission pinned it.
    pub manifest: ContentHash,
    #[serde(default)]
    pub purpose: Purpose,
    pub max_attempts: u32,
    /// Start-to-close.
    pub timeout_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
    /// Whether `TaskStarted` must be in the journal before the run: its start is awaited there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub announce_start: bool,
    /// After this moment the task is not started any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// When the whole execution ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Stable over the attempts of one activation, for the external system.
    pub idempotency_key: String,
    pub token: Token,
    pub input: Payload,
}

impl Task {
    /// The number of the run that a delivery starts: `min(attempt + delivered − 1, max_attempts)`.
    /// `delivered` counts deliveries of this message from 1.
    pub fn ordinal(&self, delivered: u64) -> u32 {
        ordinal(self.key.attempt, delivered, self.max_attempts)
    }

    /// How long a run that starts at `start` may take, in milliseconds: what waited in the queue has less time left
    /// until its deadline than when it was published.
    pub fn time_ms(&self, start: Timestamp) -> u64 {
        let left_ms = self.deadline.map_or(u64::MAX, |deadline| deadline.millis_since(start));
        self.timeout_ms.min(left_ms)
    }

    /// Whether a run of this ordinal must hold the claim before it starts: every run but the
    /// first of a step that permits more.
    pub fn needs_claim(&self, ordinal: u32) -> bool {
        ordinal > 1 || self.max_attempts <= 1
    }
}

fn ordinal(attempt: u32, delivered: u64, max_attempts: u32) -> u32 {
    let redeliveries = u32::try_from(delivered.saturating_sub(1)).unwrap_or(u32::MAX);
    attempt.saturating_add(redeliveries).min(max_attempts)
}

/// A claim on one run, as stored in `MS_CLAIMS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub worker: crate::ids::WorkerId,
    /// When the claimant asked for it, by its own clock; for people. What counts is the store's time.
    pub claimed_at: Timestamp,
    /// Sequence of the task's message. A worker can have two messages at the same moment that stand for the same run.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub message: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_unknown(message: &u64) -> bool {
    *message == 0
}

/// The claim's key: `<capability>.<hash(execution, step, item, activation, ordinal)>` (32 hexadecimal digits).
pub fn claim_key(capability: &Capability, key: &TaskKey, ordinal: u32) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.execution.as_bytes());
    hasher.update(key.step.as_str().as_bytes());
    hasher.update(&[0]);
    hasher.update(&key.item.map_or(0, |i| i.wrapping_add(1)).to_le_bytes());
    hasher.update(&key.activation.to_le_bytes());
    hasher.update(&ordinal.to_le_bytes());
    let hex = hasher.finalize().to_hex();
    format!("{capability}.{}", &hex[..32])
}

#[cfg(test)]
mod tests {
    use super::ordinal;

    #[test]
    fn redeliveries_are_attempts() {
        assert_eq!(ordinal(1, 1, 3), 1);
        assert_eq!(ordinal(1, 2, 3), 2);
        assert_eq!(ordinal(2, 2, 3), 3);
        assert_eq!(ordinal(2, 9, 3), 3);
        assert_eq!(ordinal(1, u64::MAX, 1), 1);
    }
}
