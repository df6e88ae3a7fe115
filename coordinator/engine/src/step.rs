//! What an execution knows of one step.
//!
//! ```text
//!   Pending ─▶ Evaluating ─▶ Ready ─▶ Running ⇄ BackingOff
//!      │           │         ▲ │  └─▶ FanningOut
//!      │           │         └─┼─ fallback agent
//!      └───────────┴───────────┴────────▶ Settled
//! ```
//!
//! A resume makes what is not kept Pending again.

use std::sync::Arc;

use millstream_model::error::StepError;
use millstream_model::ids::WorkerId;
use millstream_model::payload::Payload;
use millstream_model::plan::StepIndex;
use millstream_model::time::Timestamp;
use millstream_model::view::{FanOutView, StepStatus};

use crate::attempt::Attempt;
use crate::fan_out::FanOut;

/// A step of an execution.
#[derive(Debug)]
pub(crate) struct Step {
    pub state: State,
    /// The round in which it was last made Pending.
    pub round: u32,
    /// Ordinals that were started, as far as is known.
    pub attempts: u32,
    pub retries: u32,
    pub fallbacks: u32,
    pub scheduled_at: Option<Timestamp>,
    /// The worker's own time of the last known run.
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub worker: Option<WorkerId>,
    pub metrics: Option<Payload>,
    /// Outputs of items that a fan-out need not run again.
    pub kept: Option<Outputs>,
    /// How a fan-out ended.
    pub fan_out: Option<FanOutView>,
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
    /// Its attempts are used up and its fallback is to go on without it.
    Fallback,
    /// It requires completed dependencies and this one was skipped by its own condition.
    NotCompleted(StepIndex),
    /// Something upstream failed.
    Upstream(Cause),
    /// The execution ended before it could start.
    Ended,
}

/// What kept a step from running, as it was when that was decided: a resume may change it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cause {
    /// The dependency through which it came.
    pub through: StepIndex,
    /// The first that did not complete.
    pub first: StepIndex,
    /// How that one ended.
    pub status: StepStatus,
}

/// The output of a completed step.
#[derive(Debug, Clone)]
pub(crate) enum Output {
    One(Payload),
    /// Of a fan-out, or of a fan-in `list`.
    List(Outputs),
    /// Of a fan-out of the execution that this one was forked from, as one list.
    Whole(Payload),
}

/// Outputs by index; `None` where there is none, which reads as null.
pub(crate) type Outputs = Arc<Vec<Option<Payload>>>;

impl Step {
    pub(crate) fn new(missing: usize, round: u32) -> Self {
        Self {
            state: State::Pending { missing: u32::try_from(missing).unwrap_or(u32::MAX) },
            round,
            attempts: 0,
            retries: 0,
            fallbacks: 0,
            kept: None,
            fan_out: None,
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

    /// What a settled step leaves behind for the events of its round.
    pub(crate) fn into_output(self) -> Option<Output> {
        match self.state {
            State::Settled(Settlement::Completed(output)) => Some(output),
            State::Settled(
                Settlement::Failed { outputs: Some(outputs), .. } | Settlement::Cancelled { outputs: Some(outputs) },
            ) => Some(Output::List(outputs)),
            _ => None,
        }
    }

    pub(crate) fn output(&self) -> Option<&Output> {
        match self.settlement()? {
            Settlement::Completed(output) => Some(output),
            Settlement::Failed { .. } | Settlement::Skipped(_) | Settlement::Cancelled { .. } => None,
        }
    }

    /// Whether there is an output of it, or of one of its items.
    pub(crate) fn has_output(&self) -> bool {
        self.output().is_some() || self.item_outputs().is_some_and(|outputs| outputs.iter().any(Option::is_some))
    }

    /// The outputs of a fan-out that has ended, however it did.
    pub(crate) fn item_outputs(&self) -> Option<&Outputs> {
        match self.settlement()? {
            Settlement::Completed(Output::List(outputs))
            | Settlement::Failed { outputs: Some(outputs), .. }
            | Settlement::Cancelled { outputs: Some(outputs) } => Some(outputs),
            Settlement::Completed(Output::One(_) | Output::Whole(_))
            | Settlement::Failed { outputs: None, .. }
            | Settlement::Cancelled { outputs: None }
            | Settlement::Skipped(_) => None,
        }
    }

    /// The outputs of items that are known, be it that a resume kept them.
    pub(crate) fn known_outputs(&self) -> Option<&Outputs> {
        self.item_outputs().or(self.kept.as_ref())
    }

    /// Whether a resume kept the output of the item.
    pub(crate) fn keeps(&self, item: u32) -> bool {
        self.kept.as_ref().and_then(|kept| kept.get(item as usize)).is_some_and(Option::is_some)
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
