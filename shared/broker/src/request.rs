//! One request, one answer; and why there was none.

use std::time::Duration;

use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Broker;
use crate::PayloadError;

/// How long the answer to a request may take.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Why the broker did not do what a request asked for.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("not connected to NATS; nothing was sent")]
    Offline,
    #[error("no answer from NATS on {subject}: {reason}; the request may have been carried out")]
    NoAnswer { subject: String, reason: &'static str },
    #[error("NATS refuses this connection the subject {subject}: its permissions do not include it")]
    Denied { subject: String },
    #[error("nobody listens on {subject}: JetStream is off or still starting, or the stream or consumer is missing")]
    NoResponders { subject: String },
    #[error("a message of {size} bytes for {subject} is larger than the server's max_payload of {max}")]
    TooLarge { subject: String, size: usize, max: usize },
    #[error("NATS answered on {subject} with error {code}: {description}")]
    Refused { subject: String, code: u64, description: String },
    #[error("NATS answered on {subject} with something this build cannot read: {source}")]
    Unreadable {
        subject: String,
        #[source]
        source: serde_json::Error,
    },
}

impl RequestError {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Offline | Self::NoAnswer { .. } | Self::NoResponders { .. } => true,
            Self::Refused { code, .. } => is_temporary(*code),
            Self::Denied { .. } | Self::TooLarge { .. } | Self::Unreadable { .. } => false,
        }
    }

    /// JetStream's error code, when that is what the answer was.
    pub(crate) fn code(&self) -> Option<u64> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// Why a small record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("bucket {bucket} cannot be used: {source}")]
    Request {
        bucket: String,
        #[source]
        source: RequestError,
    },
    #[error("key {key} of bucket {bucket} holds something this build cannot read: {source}")]
    Unreadable {
        bucket: String,
        key: String,
        #[source]
        source: serde_json::Error,
    },
    #[error(transparent)]
    Payload(Box<PayloadError>),
}

impl StoreError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Request { source, .. } => source.is_retryable(),
            Self::Unreadable { .. } => false,
            Self::Payload(source) => source.is_retryable(),
        }
    }
}

/// JetStream's error codes, as `server/errors.json` of nats-server numbers them.
pub(crate) mod code {
    pub(crate) const CLUSTER_NOT_AVAILABLE: u64 = 10008;
    pub(crate) const CLUSTER_NOT_LEADER: u64 = 10009;
    pub(crate) const CONSUMER_NOT_FOUND: u64 = 10014;
    pub(crate) const INSUFFICIENT_RESOURCES: u64 = 10023;
    pub(crate) const MEMORY_EXCEEDED: u64 = 10028;
    pub(crate) const NO_MESSAGE: u64 = 10037;
    pub(crate) const NOT_ENABLED_FOR_ACCOUNT: u64 = 10039;
    pub(crate) const STORAGE_EXCEEDED: u64 = 10047;
    pub(crate) const MESSAGE_TOO_LARGE: u64 = 10054;
    pub(crate) const DELETE_FAILED: u64 = 10057;
    pub(crate) const STREAM_NAME_IN_USE: u64 = 10058;
    pub(crate) const STREAM_NOT_FOUND: u64 = 10059;
    pub(crate) const WRONG_LAST_SEQUENCE: u64 = 10071;
    pub(crate) const NOT_ENABLED: u64 = 10076;
    pub(crate) const STORE_FAILED: u64 = 10077;
    pub(crate) const STREAM_OFFLINE: u64 = 10118;
    pub(crate) const WRONG_LAST_SEQUENCE_CONSTANT: u64 = 10164;
}

fn is_temporary(code: u64) -> bool {
    matches!(
        code,
        code::CLUSTER_NOT_AVAILABLE
            | code::CLUSTER_NOT_LEADER
            | code::STREAM_OFFLINE
            | code::WRONG_LAST_SEQUENCE_CONSTANT
    )
}

/// What JetStream says when it refuses.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Refusal {
    #[serde(default)]
    pub(crate) code: u16,
    #[serde(default)]
    pub(crate) err_code: u64,
    #[serde(default)]
    pub(crate) description: String,
}

impl Broker {
    /// Sends a message and waits for its answer, whatever that says.
    pub(crate) async fn request(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
        wait: Duration,
    ) -> Result<Message, RequestError> {
        let ticket = self.send(subject.to_owned(), headers, payload, wait).await?;
        ticket.await.message(subject)
    }

    /// One call of the JetStream API.
    pub(crate) async fn api<T: DeserializeOwned>(
        &self,
        method: &str,
        body: &impl Serialize,
    ) -> Result<T, RequestError> {
        let subject = format!("$JS.API.{method}");
        let body = serde_json::to_vec(body).expect("an API request always has a JSON form");
        let answer = self.request(&subject, None, body.into(), ANSWER_WAIT).await?;
        decode_answer(subject, &answer.payload)
    }
}

fn decode_answer<T: DeserializeOwned>(subject: String, answer: &[u8]) -> Result<T, RequestError> {
    #[derive(Deserialize)]
    struct Head {
        error: Option<Refusal>,
    }
    match serde_json::from_slice(answer) {
        Ok(Head { error: Some(refusal) }) => {
            Err(RequestError::Refused { subject, code: refusal.err_code, description: refusal.description })
        }
        Ok(Head { error: None }) => {
            serde_json::from_slice(answer).map_err(|source| RequestError::Unreadable { subject, source })
        }
        Err(source) => Err(RequestError::Unreadable { subject, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_an_answer() {
        let refused = br#"{"type":"x","error":{"code":404,"err_code":10059,"description":"stream not found"}}"#;
        let error = decode_answer::<serde_json::Value>("s".into(), refused).expect_err("a refusal");
        assert_eq!(error.code(), Some(code::STREAM_NOT_FOUND));
        assert!(!error.is_retryable());
        assert_eq!(error.to_string(), "NATS answered on s with error 10059: stream not found");
        assert!(decode_answer::<serde_json::Value>("s".into(), br#"{"streams":null}"#).is_ok());
    }
}
