//! What the API asks of an owner, and how it is answered.

use std::sync::Arc;
use std::time::Duration;

use millstream_engine::{Execution, Ignored, KeptOutput, Outcome, Rejection, Request};
use millstream_model::event::Event;
use millstream_model::ids::{ExecutionId, StepId};
use millstream_model::plan::{Plan, StepIndex};
use millstream_model::position::EventId;
use millstream_model::view::{ExecutionView, Held};
use tokio::sync::oneshot;

use super::command::Limit;
use super::core::Whereabouts;
use crate::cluster::{Accepted, CancelError, Cancelling, EventFeed, ResumeError, SubmitError};

/// What a caller is told to wait before trying again.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a caller is told to wait when there is more to do than is good.
pub const BUSY_RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a fork keeps: steps and how they ended.
pub type KeptSteps = Vec<(StepId, KeptOutput)>;

/// One request to an owner.
#[derive(Debug)]
pub enum Ask {
    /// Something that becomes an entry.
    Request(Request, Ticket),
    View(ExecutionId, oneshot::Sender<Option<ExecutionView<Held>>>),
    /// What a fork of the execution keeps under another plan when it begins at this step.
    Kept(ExecutionId, Arc<Plan>, Option<StepIndex>, oneshot::Sender<Option<KeptSteps>>),
    Events(ExecutionId, Option<EventId>, oneshot::Sender<Option<EventFeed>>),
    /// Where the execution is, and what it can be folded again from.
    Transcript(ExecutionId, oneshot::Sender<Option<Whereabouts>>),
    /// A worker says that it runs something.
    Notice(Box<Event>),
}

/// Who waits for the outcome of an entry.
#[derive(Debug)]
pub enum Ticket {
    Submit(ExecutionId, oneshot::Sender<Result<Accepted, SubmitError>>),
    Cancel(ExecutionId, oneshot::Sender<Result<Cancelling, CancelError>>),
    Resume(ExecutionId, oneshot::Sender<Result<(), ResumeError>>),
}

impl Ticket {
    /// The execution it is about.
    pub fn execution(&self) -> ExecutionId {
        match self {
            Self::Submit(execution, _) | Self::Cancel(execution, _) | Self::Resume(execution, _) => *execution,
        }
    }

    /// Answers with what became of the entry. `execution` is the one it is about, as it is after the entry.
    pub fn answer(self, outcome: Outcome, execution: Option<&Execution>) {
        match self {
            Self::Submit(id, reply) => send(reply, submitted(id, outcome)),
            Self::Cancel(_, reply) => send(reply, cancelling(outcome == Outcome::Accepted, execution)),
            Self::Resume(_, reply) => send(
                reply,
                match (outcome, execution) {
                    (Outcome::Accepted, _) => Ok(()),
                    (Outcome::Ignored(Ignored::UnknownExecution), _) | (_, None) => Err(ResumeError::NotFound),
                    (Outcome::Ignored(_) | Outcome::Repeated(_) | Outcome::Conflict(_), Some(execution)) => {
                        Err(ResumeError::NotResumable { status: execution.status() })
                    }
                },
            ),
        }
    }

    /// Answers before anything was journaled. `execution` is the one it is about.
    pub fn reject(self, rejection: Rejection, execution: Option<&Execution>) {
        match (self, rejection) {
            (Self::Submit(id, reply), Rejection::Repeated(earlier)) => {
                send(reply, submitted(id, Outcome::Repeated(earlier)));
            }
            (Self::Submit(id, reply), Rejection::Conflict(earlier)) => {
                send(reply, submitted(id, Outcome::Conflict(earlier)));
            }
            (Self::Cancel(_, reply), _) => send(reply, cancelling(false, execution)),
            (Self::Resume(_, reply), Rejection::NotResumable(status)) => {
                send(reply, Err(ResumeError::NotResumable { status }));
            }
            (Self::Resume(_, reply), Rejection::UnknownExecution(_)) => send(reply, Err(ResumeError::NotFound)),
            (ticket, rejection) => ticket.unavailable(&rejection.to_string()),
        }
    }

    /// Nothing was journaled: another process may own the partition.
    pub fn not_owner(self) {
        match self {
            Self::Submit(_, reply) => send(reply, Err(SubmitError::NotOwner)),
            Self::Cancel(_, reply) => send(reply, Err(CancelError::NotOwner)),
            Self::Resume(_, reply) => send(reply, Err(ResumeError::NotOwner)),
        }
    }

    /// Nothing was journaled: there is more to do than is good.
    pub fn busy(self, reason: String, limit: Limit) {
        match self {
            Self::Submit(_, reply) => {
                send(reply, Err(SubmitError::Busy { reason, limit, retry_after: BUSY_RETRY_AFTER }))
            }
            ticket @ (Self::Cancel(..) | Self::Resume(..)) => ticket.unavailable(&reason),
        }
    }

    /// Nobody knows whether the entry is in the journal.
    pub fn unavailable(self, reason: &str) {
        let (reason, retry_after) = (reason.to_owned(), RETRY_AFTER);
        match self {
            Self::Submit(_, reply) => send(reply, Err(SubmitError::Unavailable { reason, retry_after })),
            Self::Cancel(_, reply) => send(reply, Err(CancelError::Unavailable { reason, retry_after })),
            Self::Resume(_, reply) => send(reply, Err(ResumeError::Unavailable { reason, retry_after })),
        }
    }
}

fn submitted(execution: ExecutionId, outcome: Outcome) -> Result<Accepted, SubmitError> {
    match outcome {
        Outcome::Accepted => Ok(Accepted { execution, repeated: false }),
        Outcome::Repeated(earlier) => Ok(Accepted { execution: earlier, repeated: true }),
        Outcome::Conflict(earlier) => Err(SubmitError::Conflict { execution: earlier }),
        Outcome::Ignored(reason) => Err(SubmitError::Unavailable {
            reason: format!("the journal holds the submission and ignores it: {}", reason.as_str()),
            retry_after: RETRY_AFTER,
        }),
    }
}

/// What a cancel came to, as the execution shows it; asked for again while it runs, the answer is the same.
fn cancelling(accepted: bool, execution: Option<&Execution>) -> Result<Cancelling, CancelError> {
    let view = execution.ok_or(CancelError::NotFound)?.view();
    let (status, phase) = (view.status, view.phase);
    match view.cancel {
        Some(cancel) if accepted || !status.is_terminal() => Ok(Cancelling { status, phase, cancel }),
        Some(_) | None if status.is_terminal() => Err(CancelError::Ended { status }),
        Some(_) | None => Err(CancelError::Decided { phase }),
    }
}

/// A caller who does not wait any more needs no answer.
pub fn send<T>(reply: oneshot::Sender<T>, answer: T) {
    drop(reply.send(answer));
}
