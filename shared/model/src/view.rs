//! Views: an execution and a worker as the API shows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::StepError;
use crate::hash::ContentHash;
use crate::ids::{AgentId, Capability, ExecutionId, StepId, WorkerId, WorkflowId};
use crate::payload::Payload;
use crate::time::Timestamp;
use crate::trace::TraceId;

mod ending;
mod presence;

pub use ending::{
    CancelPhase, CancelView, CompensationView, Counts, EffectState, EffectView, ExecutionError, ForkView,
    PartialResult, RecoveryPlan, ResumeView,
};
pub use presence::{Circuit, Slots, WorkerPresence};

/// State of an execution (F31).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ExecutionStatus {
    Pending,
    Running,
    Completed,
    Failed,
    Cancelled,
    Timeout,
}

impl ExecutionStatus {
    /// Whether nothing can change any more.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Timeout)
    }

    /// The state as it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::Timeout => "TIMEOUT",
        }
    }
}

/// State of a step, or of one item of a fan-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StepStatus {
    /// Waits for its dependencies.
    Pending,
    /// May run and waits for a slot.
    Ready,
    /// Its task is published.
    Queued,
    /// A worker said that it runs it; best effort.
    Running,
    /// Waits for the next attempt.
    Retrying,
    Completed,
    Failed,
    Skipped,
    Timeout,
    Cancelled,
    /// Its effect is being undone.
    Compensating,
    /// Its effect was undone.
    Compensated,
}

impl StepStatus {
    /// Whether nothing can change any more.
    pub const fn is_settled(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Skipped | Self::Timeout | Self::Cancelled | Self::Compensated
        )
    }

    /// The state as it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Ready => "READY",
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Retrying => "RETRYING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Skipped => "SKIPPED",
            Self::Timeout => "TIMEOUT",
            Self::Cancelled => "CANCELLED",
            Self::Compensating => "COMPENSATING",
            Self::Compensated => "COMPENSATED",
        }
    }
}

/// What an execution is doing at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ExecutionPhase {
    /// Its steps run.
    Running,
    /// Its output is evaluated.
    Aggregating,
    /// It starts nothing more; what runs is told to stop.
    Stopping,
    /// What was completed is undone.
    Compensating,
    /// The steps of `finally` run.
    Finalizing,
    Ended,
}

impl ExecutionPhase {
    /// The phase as it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Aggregating => "AGGREGATING",
            Self::Stopping => "STOPPING",
            Self::Compensating => "COMPENSATING",
            Self::Finalizing => "FINALIZING",
            Self::Ended => "ENDED",
        }
    }
}

/// An execution as the owner knows it. `V` is how values are held: [`Held`] inside, JSON in the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionView<V = Value> {
    pub id: ExecutionId,
    pub workflow_id: WorkflowId,
    pub definition: ContentHash,
    pub status: ExecutionStatus,
    pub phase: ExecutionPhase,
    /// Ended without all it should have done.
    pub partial: bool,
    /// A cancel was asked for.
    pub cancel_requested: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<CancelView>,
    pub input: V,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<V>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<V>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ExecutionError>,
    /// What there is of an execution that did not complete, and what can be done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial_result: Option<PartialResult>,
    /// The effects of an execution that did not complete, and what became of each, in the order of completion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<EffectView>,
    pub counts: Counts,
    pub labels: BTreeMap<String, String>,
    #[serde(with = "crate::time::rfc3339")]
    pub started_at: Timestamp,
    #[serde(default, with = "crate::time::rfc3339_option", skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    #[serde(with = "crate::time::rfc3339")]
    pub deadline: Timestamp,
    /// Times it was asked to go on after it had failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumes: Vec<ResumeView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<ForkView>,
    pub trace_id: TraceId,
    /// Those of `steps`, then those of `finally`.
    pub steps: Vec<StepView<V>>,
    /// Relative URLs by name: `self`, `events`, `workflow`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
}

/// A value as an owner holds it.
#[derive(Debug, Clone, PartialEq)]
pub enum Held {
    One(Payload),
    /// The parts of a list; `None` reads as null.
    List(Arc<Vec<Option<Payload>>>),
}

/// A step of an execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepView<V = Value> {
    pub id: StepId,
    pub status: StepStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Capability>,
    /// Attempts that were started, as far as is known.
    pub attempts: u32,
    /// Attempts that were repeated, over all items.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// Times its fallback took its place, over all items.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fallbacks: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<V>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StepError>,
    /// Why it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<WorkerId>,
    #[serde(default, with = "crate::time::rfc3339_option", skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Timestamp>,
    #[serde(default, with = "crate::time::rfc3339_option", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(default, with = "crate::time::rfc3339_option", skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What the agent measured of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<V>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fan_out: Option<FanOutView>,
    /// Whether it is a step of `finally`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub finally: bool,
    /// The compensation of a step that does not fan out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensation: Option<CompensationView>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// How far a fan-out is; all are numbers of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FanOutView {
    pub total: u32,
    pub completed: u32,
    pub failed: u32,
    /// Left out by their fallback.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u32,
    /// Queued, running or waiting for their next attempt.
    pub outstanding: u32,
}

impl<U> ExecutionView<U> {
    /// The same view with other values.
    pub fn try_map<V, E>(self, mut value: impl FnMut(U) -> Result<V, E>) -> Result<ExecutionView<V>, E> {
        Ok(ExecutionView {
            id: self.id,
            workflow_id: self.workflow_id,
            definition: self.definition,
            status: self.status,
            phase: self.phase,
            partial: self.partial,
            cancel_requested: self.cancel_requested,
            cancel: self.cancel,
            input: value(self.input)?,
            context: self.context.map(&mut value).transpose()?,
            output: self.output.map(&mut value).transpose()?,
            error: self.error,
            partial_result: self.partial_result,
            effects: self.effects,
            counts: self.counts,
            labels: self.labels,
            started_at: self.started_at,
            ended_at: self.ended_at,
            deadline: self.deadline,
            resumes: self.resumes,
            fork: self.fork,
            trace_id: self.trace_id,
            steps: self.steps.into_iter().map(|step| step.try_map(&mut value)).collect::<Result<_, E>>()?,
            links: self.links,
        })
    }
}

impl<U> StepView<U> {
    fn try_map<V, E>(self, value: &mut impl FnMut(U) -> Result<V, E>) -> Result<StepView<V>, E> {
        Ok(StepView {
            id: self.id,
            status: self.status,
            agent_id: self.agent_id,
            capability: self.capability,
            attempts: self.attempts,
            retries: self.retries,
            fallbacks: self.fallbacks,
            output: self.output.map(&mut *value).transpose()?,
            error: self.error,
            reason: self.reason,
            worker_id: self.worker_id,
            scheduled_at: self.scheduled_at,
            started_at: self.started_at,
            ended_at: self.ended_at,
            metrics: self.metrics.map(value).transpose()?,
            fan_out: self.fan_out,
            finally: self.finally,
            compensation: self.compensation,
        })
    }
}
