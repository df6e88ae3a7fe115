//! What is remembered of what happened, for events; as small as it can be, expanded when someone asks.

use millstream_model::entry::Run;
use millstream_model::error::StepError;
use millstream_model::ids::WorkerId;
use millstream_model::payload::Payload;
use millstream_model::plan::StepIndex;
use millstream_model::position::EventId;
use millstream_model::time::Timestamp;
use millstream_model::trace::SpanId;

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
    Cancelled(Subject, Option<Box<Ran>>),
    Skipped(StepIndex, Skip),
    FanOutStarted(StepIndex),
    FanOutCompleted(StepIndex),
    Aggregated,
    Ended,
}

impl What {
    pub(crate) fn ran(&self) -> Option<&Ran> {
        match self {
            Self::Completed(_, ran) | Self::Failed(_, ran, _) | Self::Retrying(_, ran, _) | Self::Cancelled(_, ran) => {
                ran.as_deref()
            }
            Self::Started
            | Self::Planned
            | Self::Scheduled(_)
            | Self::Skipped(..)
            | Self::FanOutStarted(_)
            | Self::FanOutCompleted(_)
            | Self::Aggregated
            | Self::Ended => None,
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
