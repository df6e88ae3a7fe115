//! What became of an entry.

use millstream_model::hash::ContentHash;
use millstream_model::ids::ExecutionId;

use crate::effect::Effect;

/// The answer to one entry.
#[derive(Debug, PartialEq, Eq)]
pub struct Applied {
    pub outcome: Outcome,
    pub effects: Vec<Effect>,
}

/// What an entry did to the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It changed the state.
    Accepted,
    /// A submission repeats this one.
    Repeated(ExecutionId),
    /// A submission uses the idempotency key of this one for something else.
    Conflict(ExecutionId),
    /// It is stale or impossible; the state is as it was.
    Ignored(Ignored),
}

/// Why an entry changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ignored {
    /// The partition does not know the execution.
    UnknownExecution,
    /// The execution has ended.
    Ended,
    /// The definition has no such step, or its fan-out no such item.
    UnknownStep,
    /// The step, item or attempt has moved on.
    Stale,
    /// The timer is early by the journal's own time.
    Early,
    /// The kind of entry may not be written on that subject, or the capability is another one.
    Forbidden,
    /// The completion token is wrong.
    WrongToken,
    /// It was asked for before.
    AlreadyRequested,
    /// The outcome is decided: what was completed is being undone, or `finally` runs.
    OutcomeDecided,
    /// Only what has failed or timed out can be resumed.
    NotResumable,
    /// The agents do not fit the definition.
    Unroutable,
}

impl Ignored {
    /// The reason as logs, metrics and tests write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownExecution => "unknown execution",
            Self::Ended => "execution has ended",
            Self::UnknownStep => "unknown step",
            Self::Stale => "stale",
            Self::Early => "early",
            Self::Forbidden => "forbidden",
            Self::WrongToken => "wrong token",
            Self::AlreadyRequested => "already requested",
            Self::OutcomeDecided => "outcome is decided",
            Self::NotResumable => "not resumable",
            Self::Unroutable => "unroutable",
        }
    }
}

/// The fold cannot go on without being wrong. The partition stops and says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    #[error("the journal asks for fold revision {found}; this build folds revision {known}: run a newer build")]
    FoldRevision { found: u16, known: u16 },
    #[error("execution {execution} uses expression revision {found}; this build has {known}: run a newer build")]
    ExpressionRevision { execution: ExecutionId, found: u16, known: u16 },
    #[error("execution {execution} runs definition {definition}, which is not in the definition store")]
    MissingDefinition { execution: ExecutionId, definition: ContentHash },
    #[error("execution {execution} is not in memory, and what there is of it elsewhere was not brought")]
    MissingExecution { execution: ExecutionId },
    #[error("a transcript that does not begin with a submission, or not before the place that was asked for")]
    NoSubmission,
}
