//! What the API asks of an owner, and how it is answered.

use std::time::Duration;

use millstream_engine::{Ignored, Outcome, Rejection};
use millstream_model::entry::Submitted;
use millstream_model::event::Event;
use millstream_model::ids::ExecutionId;
use millstream_model::position::EventId;
use millstream_model::view::{ExecutionStatus, ExecutionView, Held};
use tokio::sync::oneshot;

use crate::cluster::{Accepted, CancelAnswer, CancelError, EventFeed, SubmitError};

/// What a caller is told to wait before trying again.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One request to an owner.
#[derive(Debug)]
pub enum Ask {
    Submit(Box<Submitted>, oneshot::Sender<Result<Accepted, SubmitError>>),
    Cancel(ExecutionId, Option<String>, oneshot::Sender<Result<CancelAnswer, CancelError>>),
    View(ExecutionId, oneshot::Sender<Option<ExecutionView<Held>>>),
    Events(ExecutionId, Option<EventId>, oneshot::Sender<Option<EventFeed>>),
    /// A worker says that it runs something.
    Notice(Box<Event>),
}

/// Who waits for the outcome of an entry.
#[derive(Debug)]
pub enum Ticket {
    Submit(ExecutionId, oneshot::Sender<Result<Accepted, SubmitError>>),
    Cancel(ExecutionId, oneshot::Sender<Result<CancelAnswer, CancelError>>),
}

impl Ticket {
    /// The execution it is about.
    pub fn execution(&self) -> ExecutionId {
        match self {
            Self::Submit(execution, _) | Self::Cancel(execution, _) => *execution,
        }
    }

    /// Answers with what became of the entry. `status` is the execution's, for a cancel that came too late.
    pub fn answer(self, outcome: Outcome, status: impl FnOnce() -> Option<ExecutionStatus>) {
        match self {
            Self::Submit(execution, reply) => send(reply, submitted(execution, outcome)),
            Self::Cancel(_, reply) => {
                let answer = match outcome {
                    Outcome::Ignored(Ignored::UnknownExecution) => Err(CancelError::NotFound),
                    Outcome::Ignored(Ignored::Ended) => {
                        Ok(status().map_or(CancelAnswer::Requested, CancelAnswer::AlreadyEnded))
                    }
                    Outcome::Accepted | Outcome::Ignored(_) | Outcome::Repeated(_) | Outcome::Conflict(_) => {
                        Ok(CancelAnswer::Requested)
                    }
                };
                send(reply, answer);
            }
        }
    }

    /// Answers before anything was journaled.
    pub fn reject(self, rejection: Rejection) {
        match (self, rejection) {
            (Self::Submit(execution, reply), Rejection::Repeated(earlier)) => {
                send(reply, submitted(execution, Outcome::Repeated(earlier)));
            }
            (Self::Submit(execution, reply), Rejection::Conflict(earlier)) => {
                send(reply, submitted(execution, Outcome::Conflict(earlier)));
            }
            (Self::Cancel(_, reply), Rejection::UnknownExecution(_)) => send(reply, Err(CancelError::NotFound)),
            (Self::Cancel(_, reply), Rejection::Ended(status)) => send(reply, Ok(CancelAnswer::AlreadyEnded(status))),
            (ticket, rejection) => ticket.unavailable(&rejection.to_string()),
        }
    }

    /// Nobody knows whether the entry is in the journal.
    pub fn unavailable(self, reason: &str) {
        let (reason, retry_after) = (reason.to_owned(), RETRY_AFTER);
        match self {
            Self::Submit(_, reply) => send(reply, Err(SubmitError::Unavailable { reason, retry_after })),
            Self::Cancel(_, reply) => send(reply, Err(CancelError::Unavailable { reason, retry_after })),
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

/// A caller who does not wait any more needs no answer.
pub fn send<T>(reply: oneshot::Sender<T>, answer: T) {
    drop(reply.send(answer));
}
