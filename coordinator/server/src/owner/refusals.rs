//! One table: what the broker's errors are to the owner.

use millstream_broker::{AppendError, PayloadError, PublishError, ReadError, StoreError};

use super::failure::{AppendFailure, PublishFailure, StoreFailure};

impl From<AppendError> for AppendFailure {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full { .. } => Self::Full,
            AppendError::TooLarge { size } => Self::TooLarge { size },
            AppendError::Denied { subject } => Self::Denied { subject },
            AppendError::NoStream { .. } => Self::NoStream,
            AppendError::Offline => Self::Offline,
            AppendError::Unknown { .. } => Self::Unknown,
            AppendError::Rejected { code, description } => Self::Rejected { code, description },
        }
    }
}

impl From<PublishError> for PublishFailure {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::QueueFull { .. } => Self::QueueFull,
            PublishError::StreamFull { .. } => Self::StreamFull,
            PublishError::TooLarge { size } => Self::TooLarge { size },
            PublishError::Denied { subject } => Self::Denied { subject },
            PublishError::NoStream { .. } => Self::NoStream,
            PublishError::Offline => Self::Offline,
            PublishError::Unknown { .. } => Self::Unknown,
            PublishError::Rejected { code, description } => Self::Rejected { code, description },
        }
    }
}

impl From<AppendError> for StoreFailure {
    fn from(error: AppendError) -> Self {
        Self::of(error.is_retryable(), error.to_string())
    }
}

impl From<ReadError> for StoreFailure {
    fn from(error: ReadError) -> Self {
        Self::of(error.is_retryable(), error.to_string())
    }
}

impl From<PayloadError> for StoreFailure {
    fn from(error: PayloadError) -> Self {
        Self::of(error.is_retryable(), error.to_string())
    }
}

impl From<StoreError> for StoreFailure {
    fn from(error: StoreError) -> Self {
        Self::of(error.is_retryable(), error.to_string())
    }
}

impl StoreFailure {
    fn of(passing: bool, reason: String) -> Self {
        if passing { Self::Passing { reason } } else { Self::Lasting { reason } }
    }
}
