//! How an execution ended, or is about to: cancels, partial results, effects and what became of them.

use serde::{Deserialize, Serialize};

use crate::error::{FailureMode, StepError};
use crate::ids::{AgentId, ExecutionId, StepId};
use crate::time::Timestamp;

/// Why an execution did not complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionError {
    /// The step that ended it, when one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepId>,
    /// Whose fault it is.
    pub failure_mode: FailureMode,
    #[serde(flatten)]
    pub error: StepError,
}

impl ExecutionError {
    /// The failure of `step`, or of the execution itself.
    pub fn new(step: Option<StepId>, error: StepError) -> Self {
        Self { step, failure_mode: error.code.failure_mode(), error }
    }
}

/// How far a cancel is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelView {
    pub phase: CancelPhase,
    #[serde(with = "crate::time::rfc3339")]
    pub requested_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether what was completed is undone.
    pub compensate: bool,
    /// Attempts whose workers have not acknowledged it.
    pub outstanding: u32,
    /// Attempts whose workers acknowledged it.
    pub acknowledged: u32,
    /// Attempts that were given up because nobody acknowledged within the grace.
    pub forced: u32,
}

/// The phases of a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelPhase {
    /// Workers are told; some run on.
    Requested,
    /// Nothing runs any more: every worker acknowledged, or nothing ran.
    Acknowledged,
    /// The grace is over and some worker has not acknowledged.
    Forced,
}

/// What there is of an execution that did not complete (F105).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartialResult {
    /// In definition order; their outputs are in the execution's steps.
    pub completed_steps: Vec<StepId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_step: Option<StepId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StepError>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_mode: Option<FailureMode>,
    pub recovery_plan: RecoveryPlan,
}

/// What can be done about an execution that did not complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveryPlan {
    /// One sentence for people.
    pub advice: String,
    /// Whether `POST /executions/{id}/resume` is possible.
    pub resumable: bool,
    /// What a resume keeps.
    pub keeps: Vec<StepId>,
    /// What a resume runs.
    pub runs: Vec<StepId>,
    /// Completed steps whose effects stand and that a resume does not need to repeat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standing_effects: Vec<StepId>,
}

/// An effect of an execution and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EffectView {
    pub step_id: StepId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    pub state: EffectState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensation: Option<CompensationView>,
}

/// What became of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectState {
    /// It stands: nobody asked to undo it.
    Standing,
    /// It will be undone.
    Pending,
    /// It is being undone.
    Compensating,
    Compensated,
    /// Undoing it failed: it stands.
    CompensationFailed,
    /// It cannot be undone.
    Irreversible,
    /// Nobody knows whether the attempt had its effect; it was not undone.
    Unknown,
}

impl EffectState {
    /// The state as it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standing => "standing",
            Self::Pending => "pending",
            Self::Compensating => "compensating",
            Self::Compensated => "compensated",
            Self::CompensationFailed => "compensation_failed",
            Self::Irreversible => "irreversible",
            Self::Unknown => "unknown",
        }
    }
}

/// A compensation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompensationView {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Attempts that were started, as far as is known.
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StepError>,
    #[serde(default, with = "crate::time::rfc3339_option", skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// How often something went another way than planned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub retries: u32,
    pub fallbacks: u32,
    /// Tasks that were missing from the queue and were published once more.
    pub reissues: u32,
    pub compensations: u32,
}

/// Someone asked a failed execution to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeView {
    #[serde(with = "crate::time::rfc3339")]
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where a forked execution comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkView {
    pub of: ExecutionId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<StepId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
