//! Entries: everything that can influence an execution. What is written here is read for ever.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::StepError;
use crate::hash::ContentHash;
use crate::ids::{AgentId, Capability, ExecutionId, Namespace, NodeId, StepId, WorkerId, WorkflowId};
use crate::payload::{Payload, PayloadRef};
use crate::position::Position;
use crate::task::TaskKey;
use crate::time::Timestamp;
use crate::token::{Secret, Token};
use crate::trace::{SpanId, TraceParent};

/// One fact of the journal. On the wire externally tagged: `{"task_succeeded": {…}}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A coordinator took the partition.
    Epoch(Epoch),
    /// The owner has listed the tasks that are queued; what it had folded before is settled by absence.
    Scanned(Scanned),
    Submitted(Box<Submitted>),
    CancelRequested(CancelRequested),
    /// Someone asked a failed execution to go on from where it stopped.
    Resumed(Box<Resumed>),
    TimerFired(TimerFired),
    /// A task was missing from the queue and is published once more.
    Reissued(Reissued),
    /// The owner evaluated what reads claim-checked values.
    Evaluated(Evaluated),
    /// A step's input cannot be built.
    Unrenderable(Unrenderable),
    /// The broker refuses a task for good.
    Unpublishable(Unpublishable),
    /// The presence of a claim's holder is gone.
    ClaimAbandoned(ClaimAbandoned),
    /// A worker is about to run a task whose start is awaited.
    TaskStarted(TaskStarted),
    TaskSucceeded(TaskSucceeded),
    TaskFailed(TaskFailed),
    /// A redelivery found that another worker holds the claim of its ordinal.
    ClaimHeld(ClaimHeld),
    /// A worker met the task after its `not_after`.
    Expired(Expired),
    /// The history has the records of executions that have ended: the partition forgets them.
    Archived(Archived),
}

impl Entry {
    /// Whether workers may write this kind, on `.result.<capability>`.
    pub fn is_result(&self) -> bool {
        match self {
            Self::TaskStarted(_)
            | Self::TaskSucceeded(_)
            | Self::TaskFailed(_)
            | Self::ClaimHeld(_)
            | Self::Expired(_) => true,
            Self::Epoch(_)
            | Self::Scanned(_)
            | Self::Submitted(_)
            | Self::CancelRequested(_)
            | Self::Resumed(_)
            | Self::TimerFired(_)
            | Self::Reissued(_)
            | Self::Evaluated(_)
            | Self::Unrenderable(_)
            | Self::Unpublishable(_)
            | Self::ClaimAbandoned(_)
            | Self::Archived(_) => false,
        }
    }

    /// The execution it is about; `None` for what is about the partition.
    pub fn execution(&self) -> Option<ExecutionId> {
        match self {
            Self::Epoch(_) | Self::Scanned(_) | Self::Archived(_) => None,
            Self::Submitted(e) => Some(e.execution),
            Self::CancelRequested(e) => Some(e.execution),
            Self::Resumed(e) => Some(e.execution),
            Self::TimerFired(e) => Some(e.execution),
            Self::Reissued(e) => Some(e.task.execution),
            Self::Evaluated(e) => Some(e.execution),
            Self::Unrenderable(e) => Some(e.task.execution),
            Self::Unpublishable(e) => Some(e.task.execution),
            Self::ClaimAbandoned(e) => Some(e.task.execution),
            Self::TaskStarted(e) => Some(e.task.execution),
            Self::TaskSucceeded(e) => Some(e.task.execution),
            Self::TaskFailed(e) => Some(e.task.execution),
            Self::ClaimHeld(e) => Some(e.task.execution),
            Self::Expired(e) => Some(e.task.execution),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    pub node: NodeId,
    /// Grows with every take-over of the partition.
    pub epoch: u64,
    /// Revision of the fold that is in force from here on.
    pub fold_rev: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scanned {
    pub node: NodeId,
    pub epoch: u64,
}

/// Someone asked for an execution. Everything that later changes could touch is resolved into it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Submitted {
    pub execution: ExecutionId,
    #[serde(default)]
    pub ns: Namespace,
    pub workflow: WorkflowId,
    /// Pins the definition.
    pub definition: ContentHash,
    pub input: Payload,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Payload>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<Idempotency>,
    /// Key of the completion tokens.
    pub secret: Secret,
    /// The agents that steps use.
    pub agents: Vec<ResolvedAgent>,
    /// For each step in definition order, those of `finally` last, its index in `agents`; `None` for a step without
    /// agent.
    pub routes: Vec<Option<u16>>,
    /// Likewise for `fallback`; empty when no step has a fallback agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<Option<u16>>,
    /// Likewise for `compensate`; empty when no step has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compensations: Vec<Option<u16>>,
    pub defaults: Defaults,
    /// Revision of the expression language in force for this execution.
    pub expr_rev: u16,
    /// The caller's trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceParent>,
    /// The execution it was forked from, and what it keeps of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<Box<Fork>>,
}

/// Where a forked execution comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fork {
    pub of: ExecutionId,
    /// The first step that runs anew; `None` when all do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<StepId>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Steps that do not run again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Kept>,
}

/// A step that a fork takes over as it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub step: StepId,
    pub outcome: KeptOutcome,
}

/// How a step that is taken over ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptOutcome {
    Completed(Payload),
    /// A fan-out completed; one list of all outputs by index.
    Items(Payload),
    /// Its condition was false, or its fallback skipped it.
    Skipped,
    /// It failed without being critical.
    Failed(StepError),
}

/// Makes a repeated request the same request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// Hash of the caller's key.
    pub key: ContentHash,
    /// Hash of workflow id and canonical JSON of input and context.
    pub body: ContentHash,
}

/// An agent as it was when the execution was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedAgent {
    pub agent: AgentId,
    pub capability: Capability,
    /// Hash of the manifest.
    pub manifest: ContentHash,
}

/// What applies where a definition is silent, as configured at submission.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Defaults {
    pub workflow_timeout_ms: u64,
    pub step_timeout_ms: u64,
    pub max_parallel: u32,
    pub fan_out_concurrency: u32,
    pub max_attempts: u32,
    pub backoff_ms: u64,
    pub backoff_multiplier: f64,
    pub max_backoff_ms: u64,
}

impl Default for Defaults {
    fn default() -> Self {
        use crate::limits;
        Self {
            workflow_timeout_ms: limits::WORKFLOW_TIMEOUT_MS,
            step_timeout_ms: limits::STEP_TIMEOUT_MS,
            max_parallel: limits::MAX_PARALLEL,
            fan_out_concurrency: limits::FAN_OUT_CONCURRENCY,
            max_attempts: limits::MAX_ATTEMPTS,
            backoff_ms: limits::BACKOFF_MS,
            backoff_multiplier: limits::BACKOFF_MULTIPLIER,
            max_backoff_ms: limits::MAX_BACKOFF_MS,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequested {
    pub execution: ExecutionId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Whether what was completed is undone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compensate: bool,
}

/// Agents are resolved anew: what was mended since the execution failed is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    pub execution: ExecutionId,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The compressed transcript of the execution, a value of it in the payload store, where the partition has
    /// forgotten it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<PayloadRef>,
    /// As in [`Submitted`].
    pub agents: Vec<ResolvedAgent>,
    pub routes: Vec<Option<u16>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<Option<u16>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compensations: Vec<Option<u16>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerFired {
    pub execution: ExecutionId,
    pub timer: Timer,
}

/// A deadline of the folded state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timer {
    /// The execution's time is up.
    Deadline,
    /// Running steps had their time to acknowledge the cancel.
    Grace,
    /// The next attempt may start.
    Backoff {
        step: StepId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        item: Option<u32>,
        activation: u32,
        attempt: u32,
    },
    /// The holder of a claim had its time.
    Claim {
        step: StepId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        item: Option<u32>,
        activation: u32,
        ordinal: u32,
    },
    /// The task should have been started.
    ScheduleToStart {
        step: StepId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        item: Option<u32>,
        activation: u32,
        attempt: u32,
    },
    /// All attempts should have ended.
    ScheduleToClose {
        step: StepId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        item: Option<u32>,
        activation: u32,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reissued {
    /// The task that is published; its attempt is the ordinal of the missing one + 1, at most `max_attempts`.
    pub task: TaskKey,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    pub execution: ExecutionId,
    /// The step; `None` for the execution's output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepId>,
    /// How often the execution had been resumed when it was evaluated.
    #[serde(default, skip_serializing_if = "is_first")]
    pub round: u32,
    pub outcome: Evaluation,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_first(round: &u32) -> bool {
    *round == 0
}

/// What an evaluation over claim-checked values gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evaluation {
    /// The step's condition holds or not.
    Condition(bool),
    /// How many items the step's fan-out has.
    Items(u32),
    /// A fan-in's aggregate, or the execution's output.
    Value(Payload),
    Failed(StepError),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrenderable {
    pub task: TaskKey,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unpublishable {
    pub task: TaskKey,
    pub error: StepError,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimAbandoned {
    pub task: TaskKey,
    pub ordinal: u32,
}

/// Who ran a task, and when. Times are the worker's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub ordinal: u32,
    pub token: Token,
    pub worker: WorkerId,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    /// The worker's span.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<SpanId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStarted {
    pub task: TaskKey,
    pub ordinal: u32,
    pub token: Token,
    pub worker: WorkerId,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSucceeded {
    pub task: TaskKey,
    pub run: Run,
    pub output: Payload,
    /// What the agent measured of itself (tokens, cost, …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Payload>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskFailed {
    pub task: TaskKey,
    pub run: Run,
    pub error: StepError,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimHeld {
    pub task: TaskKey,
    pub ordinal: u32,
    pub token: Token,
    /// Who holds it.
    pub claimant: WorkerId,
    /// When it was stored, by the broker's clock.
    pub claimed_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expired {
    pub task: TaskKey,
    pub ordinal: u32,
    pub token: Token,
    pub worker: WorkerId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// Each with the place of the entry that ended it: one that was resumed since stays.
    pub executions: Vec<(ExecutionId, Position)>,
}
