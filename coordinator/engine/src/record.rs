//! What is remembered of what happened, for events; as small as it can be, expanded when someone asks.

use millstream_model::entry::Run;
use millstream_model::error::StepError;
use millstream_model::ids::WorkerId;
use millstream_model::payload::Payload;
use millstream_model::plan::StepIndex;
use millstream_model::position::EventId;
use millstream_model::time::Timestamp;
use millstream_model::trace::SpanId;
use millstream_model::view::{ExecutionError, ExecutionStatus, FanOutView, PartialResult, ResumeView};

use crate::step::Skip;

/// One thing that happened.
#[derive(Debug)]
pub(crate) struct Record {
    pub id: EventId,
    pub at: Timestamp,
    pub what: What,
}

/// An attempt of a step or item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject {
    pub step: StepIndex,
    pub item: Option<u32>,
    pub activation: u32,
    pub attempt: u32,
}

/// With a [`Ran`], two events: that it started, and what came of it.
#[derive(Debug)]
pub(crate) enum What {
    Started,
    Planned,
    Scheduled(Subject),
    Completed(Subject, Option<Box<Ran>>),
    Failed(Subject, Option<Box<Ran>>, Box<StepError>),
    Retrying(Subject, Option<Box<Ran>>, Box<Retrying>),
    Cancelled(Subject, Option<Box<Ran>>, Cancel),
    /// The attempts are used up; what the definition provides for that takes their place.
    FellBack(Subject, Option<Box<Ran>>, Box<StepError>),
    Skipped(StepIndex, Skip),
    FanOutStarted(StepIndex, u32),
    FanOutCompleted(StepIndex, FanOutView),
    Aggregated,
    CancelRequested(Box<CancelRequest>),
    /// Undoing what was completed begins, with this many effects.
    Compensating(u32),
    CompensationScheduled(Subject),
    Compensated(Subject, Option<Box<Ran>>),
    CompensationRetrying(Subject, Option<Box<Ran>>, Box<Retrying>),
    CompensationFailed(Subject, Option<Box<Ran>>, Box<StepError>),
    Resumed(Box<ResumeView>),
    Ended(Box<End>),
}

/// How an execution ended.
#[derive(Debug)]
pub(crate) struct End {
    pub status: ExecutionStatus,
    pub partial: bool,
    pub failure: Option<ExecutionError>,
    pub result: Option<PartialResult>,
    /// How many effects were undone, and how many stand though they should not.
    pub compensated: u32,
    pub uncompensated: u32,
}

/// How an attempt came to its early end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// It waited for its next attempt.
    NotRunning,
    /// Its worker stopped it, or never started it.
    Acknowledged,
    /// Its worker did not answer within the grace.
    Forced,
}

/// Who asked for a cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CancelRequest {
    pub at: Timestamp,
    pub by: Option<String>,
    pub reason: Option<String>,
    pub compensate: bool,
}

impl What {
    pub(crate) fn ran(&self) -> Option<&Ran> {
        match self {
            Self::Completed(_, ran)
            | Self::Failed(_, ran, _)
            | Self::Retrying(_, ran, _)
            | Self::Cancelled(_, ran, _)
            | Self::FellBack(_, ran, _)
            | Self::Compensated(_, ran)
            | Self::CompensationRetrying(_, ran, _)
            | Self::CompensationFailed(_, ran, _) => ran.as_deref(),
            Self::Started
            | Self::Planned
            | Self::Scheduled(_)
            | Self::Skipped(..)
            | Self::FanOutStarted(..)
            | Self::FanOutCompleted(..)
            | Self::Aggregated
            | Self::CancelRequested(_)
            | Self::Compensating(_)
            | Self::CompensationScheduled(_)
            | Self::Resumed(_)
            | Self::Ended(_) => None,
        }
    }
}

/// Who ran an attempt, and when.
#[derive(Debug)]
pub(crate) struct Ran {
    pub worker: WorkerId,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    pub span: Option<SpanId>,
    pub metrics: Option<Payload>,
}

#[derive(Debug)]
pub(crate) struct Retrying {
    pub error: StepError,
    pub delay_ms: u64,
    pub next_attempt: u32,
}

impl Ran {
    pub(crate) fn of(run: &Run, metrics: Option<Payload>) -> Self {
        Self { worker: run.worker.clone(), started_at: run.started_at, ended_at: run.ended_at, span: run.span, metrics }
    }
}
