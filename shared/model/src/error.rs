//! How a step fails: the error taxonomy (F95–F97).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::ERROR_MESSAGE_MAX;

/// What went wrong, as policies and people name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// The step was given something it cannot work with.
    InvalidInput,
    /// The caller may not do this.
    PermissionDenied,
    /// Nobody registered the agent.
    AgentNotFound,
    /// The agent is registered and switched off.
    AgentInactive,
    /// The attempt, the step or the execution took too long.
    Timeout,
    /// The system that the agent calls failed.
    ExternalServiceError,
    /// The agent failed too often lately and is left alone for a while.
    CircuitOpen,
    /// The agent is asked too often.
    RateLimited,
    /// The budget is spent.
    BudgetExceeded,
    /// A person said no.
    ApprovalDenied,
    /// Nobody answered in time.
    ApprovalTimeout,
    /// The output is larger than a result may be.
    ResultTooLarge,
    /// The worker vanished with the attempt.
    Lost,
    /// The execution was cancelled.
    Cancelled,
    /// Everything else.
    InternalError,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureMode {
    Agent,
    System,
    Resource,
    Policy,
    User,
}

impl ErrorCode {
    /// Every code, for documents and tables.
    pub const ALL: [Self; 15] = [
        Self::InvalidInput,
        Self::PermissionDenied,
        Self::AgentNotFound,
        Self::AgentInactive,
        Self::Timeout,
        Self::ExternalServiceError,
        Self::CircuitOpen,
        Self::RateLimited,
        Self::BudgetExceeded,
        Self::ApprovalDenied,
        Self::ApprovalTimeout,
        Self::ResultTooLarge,
        Self::Lost,
        Self::Cancelled,
        Self::InternalError,
    ];

    /// The code as it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "INVALID_INPUT",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::AgentNotFound => "AGENT_NOT_FOUND",
            Self::AgentInactive => "AGENT_INACTIVE",
            Self::Timeout => "TIMEOUT",
            Self::ExternalServiceError => "EXTERNAL_SERVICE_ERROR",
            Self::CircuitOpen => "CIRCUIT_OPEN",
            Self::RateLimited => "RATE_LIMITED",
            Self::BudgetExceeded => "BUDGET_EXCEEDED",
            Self::ApprovalDenied => "APPROVAL_DENIED",
            Self::ApprovalTimeout => "APPROVAL_TIMEOUT",
            Self::ResultTooLarge => "RESULT_TOO_LARGE",
            Self::Lost => "LOST",
            Self::Cancelled => "CANCELLED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    /// Whose fault it is (F96).
    pub const fn failure_mode(self) -> FailureMode {
        match self {
            Self::InvalidInput | Self::Cancelled => FailureMode::User,
            Self::PermissionDenied | Self::BudgetExceeded | Self::ApprovalDenied | Self::ApprovalTimeout => {
                FailureMode::Policy
            }
            Self::AgentNotFound | Self::AgentInactive | Self::InternalError => FailureMode::Agent,
            Self::Timeout | Self::CircuitOpen | Self::RateLimited | Self::ResultTooLarge => FailureMode::Resource,
            Self::ExternalServiceError | Self::Lost => FailureMode::System,
        }
    }

    /// Whether a step without `retry_on` retries it.
    pub const fn retryable_by_default(self) -> bool {
        matches!(
            self,
            Self::Timeout
                | Self::ExternalServiceError
                | Self::RateLimited
                | Self::CircuitOpen
                | Self::Lost
                | Self::InternalError
        )
    }

    /// Whether no policy and no agent can make it retryable.
    pub const fn never_retryable(self) -> bool {
        !self.retryable_by_default()
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error of a step, as it is journaled and shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepError {
    pub code: ErrorCode,
    /// One readable sentence; at most [`ERROR_MESSAGE_MAX`] bytes.
    pub message: String,
    /// The agent's own word on whether trying again could help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// What the agent or the system it called said, unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// A stack trace, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

impl StepError {
    /// An error with nothing but a code and a message, which is cut when it is too long.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > ERROR_MESSAGE_MAX {
            let mut end = ERROR_MESSAGE_MAX;
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
        }
        Self { code, message, retryable: None, details: None, trace: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_written_the_same_everywhere() {
        for code in ErrorCode::ALL {
            let json = serde_json::to_string(&code).expect("JSON");
            assert_eq!(json, format!("\"{}\"", code.as_str()));
        }
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let error = StepError::new(ErrorCode::InternalError, "é".repeat(ERROR_MESSAGE_MAX));
        assert!(error.message.len() <= ERROR_MESSAGE_MAX);
        assert!(error.message.ends_with('é'));
    }
}
