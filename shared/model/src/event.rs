//! Events: what happened, for people. Derived from the journal, one JSON shape everywhere (F147–F149).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{ExecutionId, StepId, WorkerId, WorkflowId};
use crate::position::EventId;
use crate::time::Timestamp;
use crate::trace::{SpanId, TraceId};

/// One event. The last event of an execution is the workflow's terminal one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// `<position>.<n>`; absent from transient notices, which cannot be asked for again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<EventId>,
    #[serde(rename = "type")]
    pub kind: EventType,
    pub stage: Stage,
    #[serde(with = "crate::time::rfc3339")]
    pub time: Timestamp,
    pub execution_id: ExecutionId,
    pub workflow_id: WorkflowId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_id: Option<StepId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<WorkerId>,
    pub trace_id: TraceId,
    pub span_id: SpanId,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EventType {
    #[serde(rename = "workflow.started")]
    WorkflowStarted,
    #[serde(rename = "workflow.planned")]
    WorkflowPlanned,
    #[serde(rename = "workflow.aggregated")]
    WorkflowAggregated,
    #[serde(rename = "workflow.completed")]
    WorkflowCompleted,
    #[serde(rename = "workflow.failed")]
    WorkflowFailed,
    #[serde(rename = "workflow.cancelled")]
    WorkflowCancelled,
    #[serde(rename = "workflow.timeout")]
    WorkflowTimeout,
    #[serde(rename = "workflow.cancel_requested")]
    WorkflowCancelRequested,
    #[serde(rename = "workflow.compensating")]
    WorkflowCompensating,
    #[serde(rename = "workflow.resumed")]
    WorkflowResumed,
    #[serde(rename = "step.scheduled")]
    StepScheduled,
    #[serde(rename = "step.started")]
    StepStarted,
    #[serde(rename = "step.completed")]
    StepCompleted,
    #[serde(rename = "step.failed")]
    StepFailed,
    #[serde(rename = "step.retrying")]
    StepRetrying,
    #[serde(rename = "step.skipped")]
    StepSkipped,
    #[serde(rename = "step.timeout")]
    StepTimeout,
    #[serde(rename = "step.cancelled")]
    StepCancelled,
    #[serde(rename = "step.fallback")]
    StepFallback,
    #[serde(rename = "step.compensating")]
    StepCompensating,
    #[serde(rename = "step.compensated")]
    StepCompensated,
    #[serde(rename = "step.compensation_failed")]
    StepCompensationFailed,
    #[serde(rename = "fan_out.started")]
    FanOutStarted,
    #[serde(rename = "fan_out.completed")]
    FanOutCompleted,
}

/// Lifecycle stages (F42).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Stage {
    Initialize,
    Plan,
    Route,
    Execute,
    Aggregate,
    Complete,
    Failed,
}

impl EventType {
    /// The type as it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WorkflowStarted => "workflow.started",
            Self::WorkflowPlanned => "workflow.planned",
            Self::WorkflowAggregated => "workflow.aggregated",
            Self::WorkflowCompleted => "workflow.completed",
            Self::WorkflowFailed => "workflow.failed",
            Self::WorkflowCancelled => "workflow.cancelled",
            Self::WorkflowTimeout => "workflow.timeout",
            Self::WorkflowCancelRequested => "workflow.cancel_requested",
            Self::WorkflowCompensating => "workflow.compensating",
            Self::WorkflowResumed => "workflow.resumed",
            Self::StepScheduled => "step.scheduled",
            Self::StepStarted => "step.started",
            Self::StepCompleted => "step.completed",
            Self::StepFailed => "step.failed",
            Self::StepRetrying => "step.retrying",
            Self::StepSkipped => "step.skipped",
            Self::StepTimeout => "step.timeout",
            Self::StepCancelled => "step.cancelled",
            Self::StepFallback => "step.fallback",
            Self::StepCompensating => "step.compensating",
            Self::StepCompensated => "step.compensated",
            Self::StepCompensationFailed => "step.compensation_failed",
            Self::FanOutStarted => "fan_out.started",
            Self::FanOutCompleted => "fan_out.completed",
        }
    }

    /// The lifecycle stage it belongs to.
    pub const fn stage(self) -> Stage {
        match self {
            Self::WorkflowStarted => Stage::Initialize,
            Self::WorkflowPlanned => Stage::Plan,
            Self::StepScheduled => Stage::Route,
            Self::StepStarted
            | Self::StepCompleted
            | Self::StepFailed
            | Self::StepRetrying
            | Self::StepSkipped
            | Self::StepTimeout
            | Self::StepCancelled
            | Self::StepFallback
            | Self::StepCompensating
            | Self::StepCompensated
            | Self::StepCompensationFailed
            | Self::WorkflowCancelRequested
            | Self::WorkflowCompensating
            | Self::WorkflowResumed
            | Self::FanOutStarted
            | Self::FanOutCompleted => Stage::Execute,
            Self::WorkflowAggregated => Stage::Aggregate,
            Self::WorkflowCompleted => Stage::Complete,
            Self::WorkflowFailed | Self::WorkflowCancelled | Self::WorkflowTimeout => Stage::Failed,
        }
    }

    /// Whether no event of the execution follows it, unless somebody resumes it.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::WorkflowCompleted | Self::WorkflowFailed | Self::WorkflowCancelled | Self::WorkflowTimeout)
    }
}

impl std::fmt::Display for EventType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
