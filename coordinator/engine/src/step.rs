//! What an execution knows of one step.
//!
//! ```text
//!   Pending ─▶ Evaluating ─▶ Ready ─▶ Running ⇄ BackingOff
//!      │           │           │  └─▶ FanningOut
//!      └───────────┴───────────┴────────▶ Settled
//! ```

use std::sync::Arc;

use millstream_model::error::StepError;
use millstream_model::ids::WorkerId;
use millstream_model::payload::Payload;
use millstream_model::plan::StepIndex;
use millstream_model::time::Timestamp;
use millstream_model::view::StepStatus;

use crate::attempt::Attempt;
use crate::fan_out::FanOut;

/// A step of an execution.
#[derive(Debug)]
pub(crate) struct Step {
    pub state: State,
    /// Ordinals that were started, as far as is known.
    pub attempts: u32,
    pub scheduled_at: Option<Timestamp>,
    /// The worker's own time of the last known run.
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub worker: Option<WorkerId>,
    pub metrics: Option<Payload>,
}

/// Where a step stands.
#[derive(Debug)]
pub(crate) enum State {
    /// Waits for this many dependencies.
    Pending {
        missing: u32,
    },
    /// The owner evaluates what it needs.
    Evaluating(Evaluating),
    /// Waits for a slot.
    Ready(Start),
    /// Its attempts; `BackingOff` and `Due` hold no slot.
    Running {
        activation: u32,
        attempt: Attempt,
    },
    FanningOut(Box<FanOut>),
    Settled(Settlement),
}

/// What is evaluated outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evaluating {
    Condition,
    Items,
    Aggregate,
}

/// What a step does when it gets its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Attempt { activation: u32, number: u32 },
    FanOut { items: u32 },
}

/// How a step ended.
#[derive(Debug)]
pub(crate) enum Settlement {
    Completed(Output),
    /// FAILED, or TIMEOUT when that is the error's code. A fan-out keeps the outputs it has.
    Failed {
        error: StepError,
        outputs: Option<Outputs>,
    },
    Skipped(Skip),
    Cancelled {
        outputs: Option<Outputs>,
    },
}

/// Why a step was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    /// Its condition is false.
    Condition,
    /// It requires completed dependencies and this one was skipped by its own condition.
    NotCompleted(StepIndex),
    /// Something upstream failed; this is the dependency through which it came.
    Upstream(StepIndex),
    /// The execution ended before it could start.
    Ended,
}

/// The output of a completed step.
#[derive(Debug, Clone)]
pub(crate) enum Output {
    One(Payload),
    /// Of a fan-out, or of a fan-in `list`.
    List(Outputs),
}

/// Outputs by index; `None` where there is none, which reads as null.
pub(crate) type Outputs = Arc<Vec<Option<Payload>>>;

impl Step {
    pub(crate) fn new(missing: usize) -> Self {
        Self {
            state: State::Pending { missing: u32::try_from(missing).unwrap_or(u32::MAX) },
            attempts: 0,
            scheduled_at: None,
            started_at: None,
            ended_at: None,
            worker: None,
            metrics: None,
        }
    }

    pub(crate) fn settlement(&self) -> Option<&Settlement> {
        match &self.state {
            State::Settled(settlement) => Some(settlement),
            State::Pending { .. }
            | State::Evaluating(_)
            | State::Ready(_)
            | State::Running { .. }
            | State::FanningOut(_) => None,
        }
    }

    pub(crate) fn output(&self) -> Option<&Output> {
        match self.settlement()? {
            Settlement::Completed(output) => Some(output),
            Settlement::Failed { .. } | Settlement::Skipped(_) | Settlement::Cancelled { .. } => None,
        }
    }

    pub(crate) fn error(&self) -> Option<&StepError> {
        match self.settlement()? {
            Settlement::Failed { error, .. } => Some(error),
            Settlement::Completed(_) | Settlement::Skipped(_) | Settlement::Cancelled { .. } => None,
        }
    }

    /// The state as people see it. RUNNING is known only to workers until the result.
    pub(crate) fn status(&self) -> StepStatus {
        match &self.state {
            State::Pending { .. } | State::Evaluating(_) => StepStatus::Pending,
            State::Ready(_) => StepStatus::Ready,
            State::Running { attempt: Attempt::Outstanding(o), .. } if o.held => StepStatus::Running,
            State::Running { attempt: Attempt::Outstanding(_), .. } => StepStatus::Queued,
            State::Running { attempt: Attempt::BackingOff { .. } | Attempt::Due { .. }, .. } => StepStatus::Retrying,
            State::FanningOut(_) => StepStatus::Running,
            State::Settled(settlement) => settlement.status(),
        }
    }
}

impl Settlement {
    pub(crate) fn status(&self) -> StepStatus {
        match self {
            Self::Completed(_) => StepStatus::Completed,
            Self::Failed { error, .. } => failed_status(error),
            Self::Skipped(_) => StepStatus::Skipped,
            Self::Cancelled { .. } => StepStatus::Cancelled,
        }
    }
}

/// FAILED, or TIMEOUT when that is the error's code.
pub(crate) fn failed_status(error: &StepError) -> StepStatus {
    if error.code == millstream_model::error::ErrorCode::Timeout { StepStatus::Timeout } else { StepStatus::Failed }
}
