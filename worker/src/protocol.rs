//! What a worker does with a task, decided without doing any of it.
//!
//! A [`Delivered`] task is a machine that is told what happened and says what is next. It
//! knows no clock, broker or runtime, so a simulator drives it as the shell does.
//!
//! ```text
//!             ┌────────── expired, cancelled ─────────┐
//!             │                                       ▼
//! arriving ───┼── ordinal 1 of several ─► running ─► reporting ─► acking ─► releasing ─► over
//!             │                             ▲  │      ▲
//!             └── claim first ─► claiming ──┘  │      │ held by another
//!                                   └──────────┼──────┘
//!                                              └─► over: progress lost, handed back
//! ```
//!
//! Invariants:
//! - a task is acked only after its entry is stored, and it is never terminated;
//! - every run but the first of a step that permits more holds its claim before it starts;
//! - a claim is released only after the ack is confirmed, because an unacked task comes back, and only where no
//!   other message can stand for the same run.

mod arrival;
mod clocks;

use millstream_model::entry::{ClaimHeld, Entry, Expired, Run, TaskFailed, TaskSucceeded};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::ids::WorkerId;
use millstream_model::limits::CLAIM_TTL_MARGIN_MS;
use millstream_model::payload::Payload;
use millstream_model::task::{Claim, Purpose, Task, claim_key};
use millstream_model::time::Timestamp;
use millstream_model::trace::SpanId;

pub use arrival::{Refusal, read};
pub use clocks::{Clocks, Due};

const CANCELLED_BEFORE: (ErrorCode, &str) =
    (ErrorCode::Cancelled, "the execution was cancelled before this attempt started");
const CANCELLED_RUNNING: (ErrorCode, &str) =
    (ErrorCode::Cancelled, "the execution was cancelled while this attempt ran; it was stopped");
const TOO_LARGE: (ErrorCode, &str) =
    (ErrorCode::ResultTooLarge, "the result does not fit into a message of this broker, see its max_payload");

/// How long a task rests that this worker could not claim or whose result nobody takes.
const HAND_BACK_DELAY_MS: u64 = 10_000;

/// One delivery of a task, from its arrival to its ack.
#[derive(Debug)]
pub struct Delivered<'a> {
    task: &'a Task,
    worker: &'a WorkerId,
    ordinal: u32,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Arriving,
    Claiming { claim: Claim },
    Running { claimed: bool },
    Reporting { claimed: bool, shortened: bool },
    Acking,
    Releasing,
    Over,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The task was pulled.
    Arrived(Moment),
    /// This worker holds the claim.
    ClaimWon(Moment),
    /// The claim exists already; `stored_at` is the store's time.
    ClaimTaken { claim: Claim, stored_at: Timestamp, now: Moment },
    /// The store refuses the claim for good.
    ClaimRefused,
    /// The agent answered, or its time was up.
    Ran(Outcome),
    /// The execution was seen to be cancelled.
    CancelSeen { started_at: Timestamp, now: Timestamp },
    /// The broker has not confirmed progress for two thirds of ack_wait.
    ProgressLost,
    /// The worker stops and its grace is over.
    GraceOver,
    /// The entry is in the journal.
    Stored,
    /// The entry is larger than a message may be.
    TooLarge { now: Timestamp },
    /// The broker confirmed the ack, or did not.
    Acked { confirmed: bool },
    /// The claim is gone, or will be by its TTL.
    Released,
}

/// What holds when a task could start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub now: Timestamp,
    /// Whether the execution is known to be cancelled or settled.
    pub cancelled: bool,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    /// The worker's span, when it is exported.
    pub span: Option<SpanId>,
    pub result: Result<Payload, StepError>,
}

/// What is next.
#[derive(Debug, Clone)]
pub enum Next {
    /// Create the claim; answer [`Event::ClaimWon`], [`Event::ClaimTaken`] or [`Event::ClaimRefused`].
    Claim { key: String, claim: Claim, ttl_ms: u64 },
    /// Call the agent; answer [`Event::Ran`].
    Run,
    /// Append the entry, trying until it is stored; answer [`Event::Stored`] or [`Event::TooLarge`].
    Append(Box<Entry>),
    /// Ack without waiting for the broker's word.
    Ack,
    /// Ack and wait for the broker's word; answer [`Event::Acked`].
    AckConfirmed,
    /// Delete the claim; answer [`Event::Released`].
    ReleaseClaim,
    /// NAK. The delivery counts as an attempt.
    HandBack { delay_ms: Option<u64> },
    /// Stop without a word: the broker delivers the task again by itself.
    Leave,
    /// Go on as before.
    Continue,
    /// Nothing is owed any more.
    Done,
}

impl<'a> Delivered<'a> {
    /// A delivery; `delivered` counts the deliveries of this message from 1.
    pub fn new(task: &'a Task, delivered: u64, worker: &'a WorkerId) -> Self {
        Self { task, worker, ordinal: task.ordinal(delivered), state: State::Arriving }
    }

    /// The number of the run this delivery stands for.
    pub fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// Whether the execution's cancel ends this task: compensations and what runs after the
    /// outcome are exempt.
    pub fn heeds_cancel(&self) -> bool {
        match self.task.purpose {
            Purpose::Run => true,
            Purpose::Compensation | Purpose::Finally => false,
        }
    }

    /// Takes in what happened and says what is next.
    pub fn on(&mut self, event: Event) -> Next {
        let state = std::mem::replace(&mut self.state, State::Over);
        match (state, event) {
            (State::Arriving, Event::Arrived(moment)) => match self.refuse(moment) {
                Some(entry) => self.report(entry, false),
                None if self.task.needs_claim(self.ordinal) => self.claim(moment.now),
                None => self.run(false),
            },
            (State::Claiming { .. }, Event::ClaimWon(moment)) => self.run_unless_refused(moment, true),
            // A claim whose answer was lost is found again as taken: by ourselves, at that very moment.
            (State::Claiming { claim: ours }, Event::ClaimTaken { claim, now, .. }) if claim == ours => {
                self.run_unless_refused(now, false)
            }
            (State::Claiming { .. }, Event::ClaimTaken { claim, stored_at, .. }) => {
                let entry = self.claim_held(claim.worker, stored_at);
                self.report(entry, false)
            }
            (State::Claiming { .. }, Event::ClaimRefused) => Next::HandBack { delay_ms: Some(HAND_BACK_DELAY_MS) },
            (State::Running { claimed }, Event::Ran(outcome)) => {
                let entry = self.outcome(outcome);
                self.report(entry, claimed)
            }
            (State::Running { claimed }, Event::CancelSeen { started_at, now }) if self.heeds_cancel() => {
                let entry = self.failed(started_at, now, CANCELLED_RUNNING);
                self.report(entry, claimed)
            }
            (State::Claiming { .. } | State::Running { .. }, Event::ProgressLost) => Next::Leave,
            (State::Claiming { .. } | State::Running { .. } | State::Reporting { .. }, Event::GraceOver) => {
                Next::HandBack { delay_ms: None }
            }
            (State::Reporting { claimed, .. }, Event::Stored) if !(claimed && self.releases_claim()) => Next::Ack,
            (State::Reporting { .. }, Event::Stored) => {
                self.state = State::Acking;
                Next::AckConfirmed
            }
            (State::Reporting { claimed, shortened: false }, Event::TooLarge { now }) => {
                self.state = State::Reporting { claimed, shortened: true };
                Next::Append(Box::new(self.failed(now, now, TOO_LARGE)))
            }
            (State::Reporting { shortened: true, .. }, Event::TooLarge { .. }) => {
                Next::HandBack { delay_ms: Some(HAND_BACK_DELAY_MS) }
            }
            (State::Acking, Event::Acked { confirmed: true }) => {
                self.state = State::Releasing;
                Next::ReleaseClaim
            }
            (State::Acking, Event::Acked { confirmed: false }) | (State::Releasing, Event::Released) => Next::Done,
            // A result that is known is reported whoever runs the task again meanwhile, and what
            // comes too late changes nothing.
            (state, _) => {
                self.state = state;
                Next::Continue
            }
        }
    }

    /// The entry instead of a run, when there must be none.
    fn refuse(&self, moment: Moment) -> Option<Entry> {
        if moment.cancelled && self.heeds_cancel() {
            return Some(self.failed(moment.now, moment.now, CANCELLED_BEFORE));
        }
        if self.task.not_after.is_some_and(|not_after| moment.now > not_after) {
            return Some(Entry::Expired(Expired {
                task: self.task.key.clone(),
                ordinal: self.ordinal,
                token: self.task.token,
                worker: self.worker.clone(),
            }));
        }
        None
    }

    /// Whether the claim may go once the task is acked. Where a step permits more runs, another message may still
    /// arrive as this very ordinal: an earlier attempt's, whose ack was lost. There the claim stays until its TTL.
    fn releases_claim(&self) -> bool {
        self.task.max_attempts <= 1
    }

    fn claim(&mut self, now: Timestamp) -> Next {
        let claim = Claim { worker: self.worker.clone(), claimed_at: now };
        let last_start = self.task.not_after.or(self.task.deadline).unwrap_or(now);
        let ttl_ms = last_start.millis_since(now) + self.task.timeout_ms + CLAIM_TTL_MARGIN_MS;
        let key = claim_key(&self.task.capability, &self.task.key, self.ordinal);
        self.state = State::Claiming { claim: claim.clone() };
        Next::Claim { key, claim, ttl_ms }
    }

    fn run_unless_refused(&mut self, moment: Moment, claimed: bool) -> Next {
        match self.refuse(moment) {
            Some(entry) => self.report(entry, claimed),
            None => self.run(claimed),
        }
    }

    fn run(&mut self, claimed: bool) -> Next {
        self.state = State::Running { claimed };
        Next::Run
    }

    fn report(&mut self, entry: Entry, claimed: bool) -> Next {
        self.state = State::Reporting { claimed, shortened: false };
        Next::Append(Box::new(entry))
    }

    fn outcome(&self, outcome: Outcome) -> Entry {
        let task = self.task.key.clone();
        let run = self.run_record(outcome.started_at, outcome.ended_at, outcome.span);
        match outcome.result {
            Ok(output) => Entry::TaskSucceeded(TaskSucceeded { task, run, output, metrics: None }),
            Err(error) => Entry::TaskFailed(TaskFailed { task, run, error }),
        }
    }

    fn failed(&self, started_at: Timestamp, ended_at: Timestamp, (code, message): (ErrorCode, &str)) -> Entry {
        Entry::TaskFailed(TaskFailed {
            task: self.task.key.clone(),
            run: self.run_record(started_at, ended_at, None),
            error: StepError::new(code, message),
        })
    }

    fn claim_held(&self, claimant: WorkerId, claimed_at: Timestamp) -> Entry {
        Entry::ClaimHeld(ClaimHeld {
            task: self.task.key.clone(),
            ordinal: self.ordinal,
            token: self.task.token,
            claimant,
            claimed_at,
        })
    }

    fn run_record(&self, started_at: Timestamp, ended_at: Timestamp, span: Option<SpanId>) -> Run {
        Run {
            ordinal: self.ordinal,
            token: self.task.token,
            worker: self.worker.clone(),
            started_at,
            ended_at: ended_at.max(started_at),
            span,
        }
    }
}

#[cfg(test)]
mod tests;
