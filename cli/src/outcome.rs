//! How a command ends, as its exit code tells.

use std::process::ExitCode;

use millstream_model::view::ExecutionStatus;

/// The meaning of every exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; an execution: COMPLETED.
    Success = 0,
    /// An execution: FAILED. An evaluation has no value. A check has found something.
    Failed = 1,
    /// The command line, a file or an input is not valid, or names what is not there.
    Invalid = 2,
    /// An execution: CANCELLED.
    Cancelled = 3,
    /// An execution: TIMEOUT, or `--timeout` was over before it ended.
    TimedOut = 4,
    /// The command could not be carried out, whatever it said.
    Broken = 5,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<ExecutionStatus> for Exit {
    fn from(status: ExecutionStatus) -> Self {
        match status {
            ExecutionStatus::Completed => Self::Success,
            ExecutionStatus::Failed => Self::Failed,
            ExecutionStatus::Cancelled => Self::Cancelled,
            ExecutionStatus::Timeout => Self::TimedOut,
            // Only an execution that ended is asked for its exit.
            ExecutionStatus::Pending | ExecutionStatus::Running => Self::Broken,
        }
    }
}

/// Something that the caller said is not valid.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Invalid {
    message: String,
}

impl Invalid {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}
