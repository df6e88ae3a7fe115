//! Problems: what a caller is told when a request fails (RFC 9457).

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Media type of every failed answer.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Every kind of failure the API knows. The slug is the kind's name for programs and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    RouteNotFound,
    MethodNotAllowed,
    InvalidRequest,
    CrossSite,
    InvalidId,
    InvalidJson,
    InvalidBody,
    BodyTooLarge,
    BodyTimeout,
    UnsupportedMediaType,
    InvalidDefinition,
    InvalidAgent,
    InvalidInput,
    UnresolvedAgents,
    WorkflowNotFound,
    WorkflowExists,
    AgentNotFound,
    AgentExists,
    TooManyCapabilities,
    ExecutionNotFound,
    ExecutionEnded,
    OutcomeDecided,
    NotResumable,
    UnknownStep,
    IdempotencyConflict,
    PayloadUnavailable,
    Busy,
    Unavailable,
    Internal,
}

impl ProblemKind {
    /// Every kind, for documents and tests.
    pub const ALL: [Self; 29] = [
        Self::RouteNotFound,
        Self::MethodNotAllowed,
        Self::InvalidRequest,
        Self::CrossSite,
        Self::InvalidId,
        Self::InvalidJson,
        Self::InvalidBody,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::UnsupportedMediaType,
        Self::InvalidDefinition,
        Self::InvalidAgent,
        Self::InvalidInput,
        Self::UnresolvedAgents,
        Self::WorkflowNotFound,
        Self::WorkflowExists,
        Self::AgentNotFound,
        Self::AgentExists,
        Self::TooManyCapabilities,
        Self::ExecutionNotFound,
        Self::ExecutionEnded,
        Self::OutcomeDecided,
        Self::NotResumable,
        Self::UnknownStep,
        Self::IdempotencyConflict,
        Self::PayloadUnavailable,
        Self::Busy,
        Self::Unavailable,
        Self::Internal,
    ];

    /// Last part of `type`.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::RouteNotFound => "route-not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::InvalidRequest => "invalid-request",
            Self::CrossSite => "cross-site",
            Self::InvalidId => "invalid-id",
            Self::InvalidJson => "invalid-json",
            Self::InvalidBody => "invalid-body",
            Self::BodyTooLarge => "body-too-large",
            Self::BodyTimeout => "body-timeout",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::InvalidDefinition => "invalid-definition",
            Self::InvalidAgent => "invalid-agent",
            Self::InvalidInput => "invalid-input",
            Self::UnresolvedAgents => "unresolved-agents",
            Self::WorkflowNotFound => "workflow-not-found",
            Self::WorkflowExists => "workflow-exists",
            Self::AgentNotFound => "agent-not-found",
            Self::AgentExists => "agent-exists",
            Self::TooManyCapabilities => "too-many-capabilities",
            Self::ExecutionNotFound => "execution-not-found",
            Self::ExecutionEnded => "execution-ended",
            Self::OutcomeDecided => "outcome-decided",
            Self::NotResumable => "not-resumable",
            Self::UnknownStep => "unknown-step",
            Self::IdempotencyConflict => "idempotency-conflict",
            Self::PayloadUnavailable => "payload-unavailable",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// Whether a rule refused what was well asked: the audit trail has these.
    pub const fn is_rule(self) -> bool {
        matches!(
            self,
            Self::CrossSite
                | Self::BodyTooLarge
                | Self::UnresolvedAgents
                | Self::TooManyCapabilities
                | Self::ExecutionEnded
                | Self::OutcomeDecided
                | Self::NotResumable
                | Self::IdempotencyConflict
        )
    }

    /// One line that is the same for every problem of the kind.
    pub const fn title(self) -> &'static str {
        match self {
            Self::RouteNotFound => "There is nothing at this path",
            Self::MethodNotAllowed => "This path does not take this method",
            Self::InvalidRequest => "The request is not valid",
            Self::CrossSite => "A browser asks on behalf of another site",
            Self::InvalidId => "The id is not valid",
            Self::InvalidJson => "The body is not valid JSON",
            Self::InvalidBody => "The body does not have the expected form",
            Self::BodyTooLarge => "The body is too large",
            Self::BodyTimeout => "The body did not arrive in time",
            Self::UnsupportedMediaType => "The body's type is not supported",
            Self::InvalidDefinition => "The definition is not valid",
            Self::InvalidAgent => "The agent is not valid",
            Self::InvalidInput => "The input does not match the workflow's schema",
            Self::UnresolvedAgents => "The workflow cannot run with the agents that are registered",
            Self::WorkflowNotFound => "There is no such workflow",
            Self::WorkflowExists => "The workflow exists already",
            Self::AgentNotFound => "There is no such agent",
            Self::AgentExists => "The agent exists already",
            Self::TooManyCapabilities => "The cluster has as many capabilities as it can have",
            Self::ExecutionNotFound => "There is no such execution",
            Self::ExecutionEnded => "The execution has ended",
            Self::OutcomeDecided => "The outcome of the execution is decided",
            Self::NotResumable => "The execution cannot be resumed",
            Self::UnknownStep => "The workflow has no such step",
            Self::IdempotencyConflict => "The idempotency key was used for another request",
            Self::PayloadUnavailable => "A value of the execution cannot be read",
            Self::Busy => "More executions are under way than there may be",
            Self::Unavailable => "The cluster is not available",
            Self::Internal => "The coordinator failed",
        }
    }

    /// The answer's status.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest | Self::InvalidId | Self::InvalidJson => StatusCode::BAD_REQUEST,
            Self::RouteNotFound | Self::WorkflowNotFound | Self::AgentNotFound | Self::ExecutionNotFound => {
                StatusCode::NOT_FOUND
            }
            Self::CrossSite => StatusCode::FORBIDDEN,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::WorkflowExists
            | Self::AgentExists
            | Self::TooManyCapabilities
            | Self::ExecutionEnded
            | Self::OutcomeDecided
            | Self::NotResumable
            | Self::IdempotencyConflict => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidBody
            | Self::InvalidDefinition
            | Self::InvalidAgent
            | Self::InvalidInput
            | Self::UnknownStep
            | Self::UnresolvedAgents => StatusCode::UNPROCESSABLE_ENTITY,
            Self::PayloadUnavailable | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A failed answer.
#[derive(Debug)]
pub struct Problem(Box<Content>);

#[derive(Debug)]
struct Content {
    kind: ProblemKind,
    detail: String,
    instance: Option<String>,
    problems: Vec<Value>,
    retry_after: Option<Duration>,
    headers: HeaderMap,
}

/// What an answer's problem is, for those that the answer passes.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub kind: ProblemKind,
    pub detail: String,
}

/// The members of a problem's JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProblemJson {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// What the problem is about, as a relative URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Each thing that is wrong, when there can be several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Value>,
}

impl Problem {
    /// A problem with a sentence about this very request.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self(Box::new(Content {
            kind,
            detail: detail.into(),
            instance: None,
            problems: Vec::new(),
            retry_after: None,
            headers: HeaderMap::new(),
        }))
    }

    /// The cluster cannot do it at the moment; the caller should come back.
    pub fn unavailable(detail: impl Into<String>, retry_after: Duration) -> Self {
        let mut problem = Self::new(ProblemKind::Unavailable, detail);
        problem.0.retry_after = Some(retry_after);
        problem
    }

    /// There is more to do than is good; it passes.
    pub fn busy(detail: impl Into<String>, retry_after: Duration) -> Self {
        let mut problem = Self::new(ProblemKind::Busy, detail);
        problem.0.retry_after = Some(retry_after);
        problem
    }

    /// Lists each thing that is wrong.
    #[must_use]
    pub fn listing<T: Serialize>(mut self, problems: &[T]) -> Self {
        self.0.problems = problems
            .iter()
            .map(|problem| serde_json::to_value(problem).expect("a problem always has a JSON form"))
            .collect();
        self
    }

    /// Names what the problem is about.
    #[must_use]
    pub fn about(mut self, instance: impl Into<String>) -> Self {
        self.0.instance = Some(instance.into());
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: axum::http::HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ProblemKind {
        self.0.kind
    }

    /// The sentence about this very request.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let content = *self.0;
        let status = content.kind.status();
        let told = Told { kind: content.kind, detail: content.detail.clone() };
        let json = ProblemJson {
            kind: format!("urn:millstream:problem:{}", content.kind.slug()),
            title: content.kind.title().to_owned(),
            status: status.as_u16(),
            detail: content.detail,
            instance: content.instance,
            problems: content.problems,
        };
        let text = serde_json::to_string(&json).expect("a problem always has a JSON form");
        let mut response = (status, text).into_response();
        response.extensions_mut().insert(told);
        response.headers_mut().extend(content.headers);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(delay) = content.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(whole_seconds(delay)));
        }
        response
    }
}

/// `Retry-After` counts whole seconds; 0 would invite a busy loop.
fn whole_seconds(delay: Duration) -> u64 {
    delay.as_secs() + u64::from(delay.subsec_nanos() > 0 || delay.is_zero())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_slug_of_its_own_and_a_status_of_failure() {
        let slugs: BTreeSet<&str> = ProblemKind::ALL.iter().map(|kind| kind.slug()).collect();
        assert_eq!(slugs.len(), ProblemKind::ALL.len());
        for kind in ProblemKind::ALL {
            assert!(kind.status().is_client_error() || kind.status().is_server_error(), "{kind:?}");
            assert!(kind.slug().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{kind:?}");
        }
    }

    #[test]
    fn the_caller_is_never_told_to_come_back_after_zero_seconds() {
        assert_eq!(whole_seconds(Duration::ZERO), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
        assert_eq!(whole_seconds(Duration::from_millis(2_500)), 3);
    }
}
