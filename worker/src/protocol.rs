//! What a worker does with a task, decided without doing any of it.
//!
//! A [`Delivered`] task is a machine that is told what happened and says what is next. It
//! knows no clock, broker or runtime, so a simulator drives it as the shell does. What else a
//! worker decides is beside it: [`Clocks`] of a run, [`CancelMarks`], [`Pulling`] of a lane, and
//! [`Acceptance`] of what it writes.
//!
//! ```text
//!  arriving ─┬─ first of several ─────────────┬─ unasked ──▶ running ─▶ storing ─▶ reporting ─▶ over
//!            ├─ claim first ─▶ claiming ─ won ─┤               ▲                    ▲  ▲  │
//!            │                    │            └─▶ announcing ─┘                    │  │  └─ claim unused:
//!            │                    │                     │                           │  │     acking, releasing
//!            │                    └─ held by another ───┼───────────────────────────┘  │
//!            └─ expired, cancelled; so after claiming and announcing too ──────────────┘
//!
//!  progress lost while claiming, announcing or running: left alone
//!  the worker's end, or entries that nobody takes:      handed back, an unused claim released before
//! ```
//!
//! Invariants:
//! - a task is acked only after its entry is stored, and it is never terminated;
//! - every run but the first of a step that permits more holds its claim before it starts;
//! - a run whose start is awaited in the journal starts only after that entry is stored;
//! - a claim under which the agent may have been called is never released: another message may
//!   still stand for the same run until nobody may start it any more. It ends by its TTL.

mod acceptance;
mod arrival;
mod cancels;
mod clocks;
mod pulling;

use millstream_model::entry::{ClaimHeld, Entry, Expired, Run, TaskFailed, TaskStarted, TaskSucceeded};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::ids::WorkerId;
use millstream_model::limits::{CLAIM_TTL_UNBOUNDED_MS, CLOCK_SKEW_MAX_MS};
use millstream_model::payload::Payload;
use millstream_model::task::{Claim, Purpose, Task, claim_key};
use millstream_model::time::Timestamp;
use millstream_model::trace::SpanId;

pub use acceptance::{Acceptance, Refused, Standing};
pub use arrival::{Refusal, read};
pub use cancels::CancelMarks;
pub use clocks::{Clocks, Due};
pub use pulling::{Pull, Pulling};

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
    message: u64,
    worker: &'a WorkerId,
    ordinal: u32,
    announces: bool,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Arriving,
    Claiming {
        claim: Claim,
    },
    /// The start is on its way into the journal.
    Announcing {
        claimed: bool,
    },
    Running,
    /// The agent has answered; its output is put where it belongs.
    Storing,
    Reporting {
        /// A claim is held under which nothing ran.
        unused_claim: bool,
        shortened: bool,
    },
    Acking,
    Releasing {
        then: AfterRelease,
    },
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterRelease {
    Done,
    HandBack { delay_ms: Option<u64> },
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
    /// Nobody answered: the claim may be stored or not.
    ClaimUnanswered(Moment),
    /// The store refuses the claim for good.
    ClaimRefused,
    /// The start is in the journal.
    Announced(Moment),
    /// The agent answered; the outcome follows once the output is where it belongs. A shell that needs no time for
    /// that leaves it out.
    Answered,
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
    /// The journal refuses what this worker writes, and nobody mended that in time: [`Refused::GiveUp`].
    NotAccepted,
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
    /// Create the claim; answer [`Event::ClaimWon`], [`Event::ClaimTaken`], [`Event::ClaimUnanswered`] or
    /// [`Event::ClaimRefused`].
    Claim { key: String, claim: Claim, ttl_ms: u64 },
    /// Append the entry as with [`Next::Append`]; answer [`Event::Announced`] or [`Event::NotAccepted`].
    Announce(Box<Entry>),
    /// Call the agent; answer [`Event::Ran`].
    Run,
    /// Append the entry, trying until it is stored; answer [`Event::Stored`], [`Event::TooLarge`] or
    /// [`Event::NotAccepted`].
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
    /// A delivery; `delivered` counts the deliveries of this message from 1, `message` tells it from others.
    pub fn new(task: &'a Task, message: u64, delivered: u64, worker: &'a WorkerId) -> Self {
        let ordinal = task.ordinal(delivered);
        Self { task, message, worker, ordinal, announces: task.announce_start, state: State::Arriving }
    }

    /// The same, by a worker whose entries were refused lately: it announces the start whether that is wanted or
    /// not, so that nothing runs whose result could not be stored.
    #[must_use]
    pub fn on_probation(self) -> Self {
        Self { announces: true, ..self }
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
                None if self.task.needs_claim(self.ordinal) => {
                    let (worker, claimed_at) = (self.worker.clone(), moment.now);
                    self.claim(Claim { worker, claimed_at, message: self.message }, moment.now)
                }
                None => self.start(false),
            },
            (State::Claiming { .. }, Event::ClaimWon(moment)) => self.start_unless_refused(moment, true),
            // A claim whose answer was lost is found again as taken: by ourselves, at that very moment.
            (State::Claiming { claim: ours }, Event::ClaimTaken { claim, now, .. }) if claim == ours => {
                self.start_unless_refused(now, false)
            }
            (State::Claiming { .. }, Event::ClaimTaken { claim, stored_at, .. }) => {
                let entry = self.claim_held(claim.worker, stored_at);
                self.report(entry, false)
            }
            (State::Claiming { claim }, Event::ClaimUnanswered(moment)) => match self.refuse(moment) {
                Some(entry) => self.report(entry, false),
                None => self.claim(claim, moment.now),
            },
            (State::Claiming { .. }, Event::ClaimRefused) => Next::HandBack { delay_ms: Some(HAND_BACK_DELAY_MS) },
            (State::Announcing { claimed }, Event::Announced(moment)) => match self.refuse(moment) {
                Some(entry) => self.report(entry, claimed),
                None => self.run(),
            },
            (State::Running | State::Storing, Event::Ran(outcome)) => {
                let entry = self.outcome(outcome);
                self.report(entry, false)
            }
            (State::Running, Event::Answered) => {
                self.state = State::Storing;
                Next::Continue
            }
            (State::Running, Event::CancelSeen { started_at, now }) if self.heeds_cancel() => {
                let entry = self.failed(started_at, now, CANCELLED_RUNNING);
                self.report(entry, false)
            }
            (State::Claiming { .. } | State::Announcing { .. } | State::Running, Event::ProgressLost) => Next::Leave,
            (State::Claiming { .. } | State::Running | State::Storing, Event::GraceOver) => {
                Next::HandBack { delay_ms: None }
            }
            (State::Announcing { claimed: unused_claim } | State::Reporting { unused_claim, .. }, Event::GraceOver) => {
                self.hand_back(unused_claim, None)
            }
            (
                State::Announcing { claimed: unused_claim } | State::Reporting { unused_claim, .. },
                Event::NotAccepted,
            )
            | (State::Reporting { unused_claim, shortened: true }, Event::TooLarge { .. }) => {
                self.hand_back(unused_claim, Some(HAND_BACK_DELAY_MS))
            }
            (State::Reporting { unused_claim, shortened: false }, Event::TooLarge { now }) => {
                self.state = State::Reporting { unused_claim, shortened: true };
                Next::Append(Box::new(self.failed(now, now, TOO_LARGE)))
            }
            (State::Reporting { unused_claim: false, .. }, Event::Stored) => Next::Ack,
            (State::Reporting { unused_claim: true, .. }, Event::Stored) => {
                self.state = State::Acking;
                Next::AckConfirmed
            }
            (State::Acking, Event::Acked { confirmed: true }) => self.release(AfterRelease::Done),
            (State::Acking, Event::Acked { confirmed: false })
            | (State::Releasing { then: AfterRelease::Done }, Event::Released) => Next::Done,
            (State::Releasing { then: AfterRelease::HandBack { delay_ms } }, Event::Released) => {
                Next::HandBack { delay_ms }
            }
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
        if last_start(self.task).is_some_and(|last| moment.now > last) {
            return Some(Entry::Expired(Expired {
                task: self.task.key.clone(),
                ordinal: self.ordinal,
                token: self.task.token,
                worker: self.worker.clone(),
            }));
        }
        None
    }

    fn claim(&mut self, claim: Claim, now: Timestamp) -> Next {
        let ttl_ms = claim_ttl_ms(self.task, now);
        let key = claim_key(&self.task.capability, &self.task.key, self.ordinal);
        self.state = State::Claiming { claim: claim.clone() };
        Next::Claim { key, claim, ttl_ms }
    }

    fn start_unless_refused(&mut self, moment: Moment, claimed: bool) -> Next {
        match self.refuse(moment) {
            Some(entry) => self.report(entry, claimed),
            None => self.start(claimed),
        }
    }

    fn start(&mut self, claimed: bool) -> Next {
        if !self.announces {
            return self.run();
        }
        self.state = State::Announcing { claimed };
        Next::Announce(Box::new(Entry::TaskStarted(TaskStarted {
            task: self.task.key.clone(),
            ordinal: self.ordinal,
            token: self.task.token,
            worker: self.worker.clone(),
        })))
    }

    fn run(&mut self) -> Next {
        self.state = State::Running;
        Next::Run
    }

    fn report(&mut self, entry: Entry, unused_claim: bool) -> Next {
        self.state = State::Reporting { unused_claim, shortened: false };
        Next::Append(Box::new(entry))
    }

    /// A claim under which nothing ran is nobody's run: it goes before the task is offered to others.
    fn hand_back(&mut self, unused_claim: bool, delay_ms: Option<u64>) -> Next {
        if unused_claim { self.release(AfterRelease::HandBack { delay_ms }) } else { Next::HandBack { delay_ms } }
    }

    fn release(&mut self, then: AfterRelease) -> Next {
        self.state = State::Releasing { then };
        Next::ReleaseClaim
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

/// After this moment no worker starts the task.
fn last_start(task: &Task) -> Option<Timestamp> {
    task.not_after.or(task.deadline)
}

/// How long a claim must live: until no worker can start the task any more, whichever message of the step it holds
/// and whatever its clock says.
///
/// A finished run does not end that. Another message may stand for the same ordinal: an earlier attempt's, whose ack
/// was lost and which comes back as this ordinal, or a reissue's, which keeps the number when it is the last one.
/// Such a message can wait in the queue as long as all workers are busy.
fn claim_ttl_ms(task: &Task, now: Timestamp) -> u64 {
    match last_start(task) {
        Some(last) => last.millis_since(now).saturating_add(CLOCK_SKEW_MAX_MS),
        None => CLAIM_TTL_UNBOUNDED_MS,
    }
}

#[cfg(test)]
mod tests;
