//! What goes wrong outside, as plain data: the shell maps the broker's errors to it.

use millstream_model::error::{ErrorCode, StepError};

/// Why a batch may not be in the journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendFailure {
    #[error("the journal is full")]
    Full,
    #[error("a batch of {size} bytes is larger than NATS takes")]
    TooLarge { size: usize },
    #[error("NATS refuses this connection to publish to {subject}")]
    Denied { subject: String },
    #[error("there is no journal")]
    NoStream,
    #[error("not connected to NATS; nothing was sent")]
    Offline,
    #[error("NATS does not say whether the journal has it")]
    Unknown,
    #[error("NATS refused it with error {code}: {description}")]
    Rejected { code: u64, description: String },
}

impl AppendFailure {
    /// Whether the same batch under the same id may be stored later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Full | Self::NoStream | Self::Offline | Self::Unknown => true,
            Self::TooLarge { .. } | Self::Denied { .. } | Self::Rejected { .. } => false,
        }
    }
}

/// Why a task may not be in its queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishFailure {
    #[error("its queue is full")]
    QueueFull,
    #[error("the task stream is full")]
    StreamFull,
    #[error("a task of {size} bytes is larger than NATS takes")]
    TooLarge { size: usize },
    #[error("NATS refuses this connection to publish to {subject}")]
    Denied { subject: String },
    #[error("there is no task stream")]
    NoStream,
    #[error("not connected to NATS; nothing was sent")]
    Offline,
    #[error("NATS does not say whether the queue has it")]
    Unknown,
    #[error("NATS refused it with error {code}: {description}")]
    Rejected { code: u64, description: String },
}

/// What a failed publish leads to.
#[derive(Debug, Clone, PartialEq)]
pub enum Unpublished {
    /// It may be in the queue: the sweep looks for it.
    Suspect,
    /// It is not in the queue, and there may be room for it later.
    Again,
    /// The whole queue is gone.
    QueueGone,
    /// It will never be in the queue: the attempt fails.
    Never(StepError),
}

impl PublishFailure {
    /// What is to be done about it.
    pub fn verdict(&self) -> Unpublished {
        let never = |code| Unpublished::Never(StepError::new(code, format!("the task cannot be queued: {self}")));
        match self {
            Self::QueueFull | Self::StreamFull | Self::Offline => Unpublished::Again,
            Self::Unknown => Unpublished::Suspect,
            Self::NoStream => Unpublished::QueueGone,
            Self::Denied { .. } => never(ErrorCode::PermissionDenied),
            Self::TooLarge { .. } | Self::Rejected { .. } => never(ErrorCode::InternalError),
        }
    }
}

/// Why a value was not exchanged with the payload store, or a small record not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreFailure {
    /// The same call may succeed later.
    #[error("{reason}")]
    Passing { reason: String },
    /// The value is missing or damaged, or the store refuses for good.
    #[error("{reason}")]
    Lasting { reason: String },
}

/// The queue could not be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue cannot be listed")]
pub struct ScanFailure;
