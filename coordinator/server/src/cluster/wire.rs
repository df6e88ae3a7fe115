//! What coordinators ask each other's owners, and how that is answered, as it travels.
//!
//! A question is JSON. Its answer is a line of JSON, and behind it the bytes of a transcript where it has one. A
//! [`Question::Follow`] is answered by a stream of [`Followed`].

use bytes::{BufMut, Bytes, BytesMut};
use millstream_model::entry::{Resumed, Submitted};
use millstream_model::event::Event;
use millstream_model::ids::ExecutionId;
use millstream_model::position::EventId;
use millstream_model::view::{CancelView, ExecutionPhase, ExecutionStatus};
use serde::{Deserialize, Serialize};

use super::{Accepted, CancelError, Cancelling, ResumeError, SubmitError};
use crate::owner::ask::{BUSY_RETRY_AFTER, RETRY_AFTER};
use crate::owner::command::Limit;

/// What an owner is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    Submit(Box<Submitted>),
    Cancel {
        execution: ExecutionId,
        reason: Option<String>,
        by: Option<String>,
        compensate: bool,
    },
    Resume(Box<Resumed>),
    /// Where an execution is, and what it can be folded again from.
    Transcript(ExecutionId),
    /// The events after `after`, and those to come.
    Follow {
        execution: ExecutionId,
        after: Option<EventId>,
    },
}

/// What an owner answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// Nothing was journaled: this process does not own the partition.
    NotOwner,
    /// Nothing was journaled: there is more to do than is good.
    Busy {
        reason: String,
        #[serde(with = "LimitWord")]
        limit: Limit,
    },
    /// Nobody knows whether something was journaled.
    Unavailable {
        reason: String,
    },
    /// The owner knows no such execution.
    NotFound,
    Accepted {
        execution: ExecutionId,
        repeated: bool,
    },
    Conflict {
        execution: ExecutionId,
    },
    Cancelling {
        status: ExecutionStatus,
        phase: ExecutionPhase,
        cancel: CancelView,
    },
    Ended {
        status: ExecutionStatus,
    },
    Decided {
        phase: ExecutionPhase,
    },
    Resumed,
    NotResumable {
        status: ExecutionStatus,
    },
    /// The execution is in memory; its transcript follows.
    Here(#[serde(skip)] Bytes),
    /// The history has the execution under this sequence.
    Parked {
        record: u64,
    },
}

/// A part of the answer to [`Question::Follow`]: `Past` as often as needed, then `Live` and events, unless the execution
/// has ended. Or one of the others alone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Followed {
    NotOwner,
    NotFound,
    /// It waits; the history has it under this sequence.
    Parked {
        record: u64,
    },
    Past(Vec<Event>),
    Live,
    Event(Box<Event>),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Limit", rename_all = "snake_case")]
enum LimitWord {
    Executions,
    Storage,
}

/// The answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableAnswer {
    #[error("it has no line of JSON")]
    NoLine,
    #[error("its line of JSON is not one of an answer: {source}")]
    Json {
        #[source]
        source: serde_json::Error,
    },
}

impl Question {
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("a question always has a JSON form").into()
    }

    /// Whether asking twice may do more than asking once.
    pub fn changes_something(&self) -> bool {
        match self {
            Self::Submit(_) | Self::Cancel { .. } | Self::Resume(_) => true,
            Self::Transcript(_) | Self::Follow { .. } => false,
        }
    }
}

impl Told {
    pub fn encode(&self) -> Bytes {
        let line = serde_json::to_vec(self).expect("an answer always has a JSON form");
        let transcript = match self {
            Self::Here(transcript) => transcript.clone(),
            _ => Bytes::new(),
        };
        let mut whole = BytesMut::with_capacity(line.len() + 1 + transcript.len());
        whole.put(line.as_slice());
        whole.put_u8(b'\n');
        whole.put(transcript);
        whole.freeze()
    }

    pub fn decode(answer: &Bytes) -> Result<Self, UnreadableAnswer> {
        let end = answer.iter().position(|&byte| byte == b'\n').ok_or(UnreadableAnswer::NoLine)?;
        let told = serde_json::from_slice(&answer[..end]).map_err(|source| UnreadableAnswer::Json { source })?;
        Ok(match told {
            Self::Here(_) => Self::Here(answer.slice(end + 1..)),
            told => told,
        })
    }

    pub fn submission(self) -> Result<Accepted, SubmitError> {
        match self {
            Self::Accepted { execution, repeated } => Ok(Accepted { execution, repeated }),
            Self::Conflict { execution } => Err(SubmitError::Conflict { execution }),
            Self::NotOwner => Err(SubmitError::NotOwner),
            Self::Busy { reason, limit } => Err(SubmitError::Busy { reason, limit, retry_after: BUSY_RETRY_AFTER }),
            other => Err(SubmitError::Unavailable { reason: other.why_not(), retry_after: RETRY_AFTER }),
        }
    }

    pub fn cancel(self) -> Result<Cancelling, CancelError> {
        match self {
            Self::Cancelling { status, phase, cancel } => Ok(Cancelling { status, phase, cancel }),
            Self::NotFound => Err(CancelError::NotFound),
            Self::Ended { status } => Err(CancelError::Ended { status }),
            Self::Decided { phase } => Err(CancelError::Decided { phase }),
            Self::NotOwner => Err(CancelError::NotOwner),
            other => Err(CancelError::Unavailable { reason: other.why_not(), retry_after: RETRY_AFTER }),
        }
    }

    pub fn resume(self) -> Result<(), ResumeError> {
        match self {
            Self::Resumed => Ok(()),
            Self::NotFound => Err(ResumeError::NotFound),
            Self::NotResumable { status } => Err(ResumeError::NotResumable { status }),
            Self::NotOwner => Err(ResumeError::NotOwner),
            other => Err(ResumeError::Unavailable { reason: other.why_not(), retry_after: RETRY_AFTER }),
        }
    }

    /// Why an answer is of no use.
    pub fn why_not(self) -> String {
        match self {
            Self::Busy { reason, .. } | Self::Unavailable { reason } => reason,
            Self::NotOwner => "the partition has no owner at the moment".to_owned(),
            other => format!("the owner answered something else than it was asked: {other:?}"),
        }
    }
}

impl From<Result<Accepted, SubmitError>> for Told {
    fn from(submitted: Result<Accepted, SubmitError>) -> Self {
        match submitted {
            Ok(Accepted { execution, repeated }) => Self::Accepted { execution, repeated },
            Err(SubmitError::Conflict { execution }) => Self::Conflict { execution },
            Err(SubmitError::NotOwner) => Self::NotOwner,
            Err(SubmitError::Busy { reason, limit, .. }) => Self::Busy { reason, limit },
            Err(SubmitError::Unavailable { reason, .. }) => Self::Unavailable { reason },
            Err(
                error @ (SubmitError::TooLarge { .. } | SubmitError::KeptTooLarge { .. } | SubmitError::Kept { .. }),
            ) => Self::Unavailable { reason: error.to_string() },
        }
    }
}

impl From<Result<Cancelling, CancelError>> for Told {
    fn from(cancelled: Result<Cancelling, CancelError>) -> Self {
        match cancelled {
            Ok(Cancelling { status, phase, cancel }) => Self::Cancelling { status, phase, cancel },
            Err(CancelError::NotFound) => Self::NotFound,
            Err(CancelError::Ended { status }) => Self::Ended { status },
            Err(CancelError::Decided { phase }) => Self::Decided { phase },
            Err(CancelError::NotOwner) => Self::NotOwner,
            Err(CancelError::Unavailable { reason, .. }) => Self::Unavailable { reason },
        }
    }
}

impl From<Result<(), ResumeError>> for Told {
    fn from(resumed: Result<(), ResumeError>) -> Self {
        match resumed {
            Ok(()) => Self::Resumed,
            Err(ResumeError::NotFound) => Self::NotFound,
            Err(ResumeError::NotResumable { status }) => Self::NotResumable { status },
            Err(ResumeError::NotOwner) => Self::NotOwner,
            Err(ResumeError::Unavailable { reason, .. }) => Self::Unavailable { reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_read_back_with_what_follows_them() {
        let execution: ExecutionId = "0193a5a0-0000-7000-8000-000000000003".parse().expect("an id");
        for told in [
            Told::NotOwner,
            Told::Busy { reason: "full\nvery".to_owned(), limit: Limit::Storage },
            Told::Accepted { execution, repeated: true },
            Told::Ended { status: ExecutionStatus::Failed },
            Told::Here(Bytes::from_static(b"\n\0zstd\n")),
            Told::Parked { record: 7 },
        ] {
            assert_eq!(Told::decode(&told.encode()).expect("an answer"), told);
        }
        assert!(matches!(Told::decode(&Bytes::from_static(b"{}")), Err(UnreadableAnswer::NoLine)));
    }

    #[test]
    fn what_an_owner_says_arrives_as_it_was_said() {
        let busy = SubmitError::Busy { reason: "r".to_owned(), limit: Limit::Executions, retry_after: RETRY_AFTER };
        assert!(matches!(
            Told::from(Err::<Accepted, _>(busy)).submission(),
            Err(SubmitError::Busy { limit: Limit::Executions, .. })
        ));
        let ended = CancelError::Ended { status: ExecutionStatus::Failed };
        assert!(matches!(
            Told::from(Err::<Cancelling, _>(ended)).cancel(),
            Err(CancelError::Ended { status: ExecutionStatus::Failed })
        ));
        assert!(matches!(Told::from(Err::<(), _>(ResumeError::NotOwner)).resume(), Err(ResumeError::NotOwner)));
        assert!(matches!(Told::Resumed.submission(), Err(SubmitError::Unavailable { .. })));
    }
}
