//! Why the cluster does not do what it is asked.

use std::time::Duration;

use millstream_broker::PayloadError;
use millstream_model::ids::{ExecutionId, StepId};
use millstream_model::view::{ExecutionPhase, ExecutionStatus};

use crate::owner::command::Limit;

/// Why there is no execution.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("the idempotency key belongs to execution {execution}, which was asked for with another body")]
    Conflict { execution: ExecutionId },
    #[error("the submission has {size} bytes, and NATS takes at most {max} (its max_payload)")]
    TooLarge { size: usize, max: usize },
    #[error("the fork would keep {size} bytes of step {step}, which no value may have (at most {max}); fork from it")]
    KeptTooLarge { step: StepId, size: usize, max: usize },
    #[error("what the fork keeps cannot be read: {source}")]
    Kept {
        #[source]
        source: PayloadError,
    },
    #[error("this coordinator does not own the partition")]
    NotOwner,
    #[error("{reason}")]
    Busy { reason: String, limit: Limit, retry_after: Duration },
    #[error("{reason}")]
    Unavailable { reason: String, retry_after: Duration },
}

/// Why nothing was cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    #[error("there is no such execution")]
    NotFound,
    #[error("the execution has ended, it is {}", .status.as_str())]
    Ended { status: ExecutionStatus },
    /// Its outcome cannot change any more: it is stopping, compensating or finalizing.
    #[error("the outcome of the execution is decided, it is {}", .phase.as_str())]
    Decided { phase: ExecutionPhase },
    #[error("this coordinator does not own the partition")]
    NotOwner,
    #[error("{reason}")]
    Unavailable { reason: String, retry_after: Duration },
}

/// Why an execution does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    #[error("there is no such execution")]
    NotFound,
    #[error("only executions that are FAILED or TIMEOUT can be resumed, this one is {}", .status.as_str())]
    NotResumable { status: ExecutionStatus },
    #[error("this coordinator does not own the partition")]
    NotOwner,
    #[error("{reason}")]
    Unavailable { reason: String, retry_after: Duration },
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("{reason}")]
    Unavailable { reason: String, retry_after: Duration },
}
