//! PubAcks: whether a stream stored a message, and if not why.

use serde::Deserialize;

use crate::request::{Refusal, RequestError, code};

/// A stream's answer to a message that it stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) seq: u64,
    /// It was there already, under the same `Nats-Msg-Id`.
    pub(crate) duplicate: bool,
}

/// Reads a PubAck.
pub(crate) fn stored(subject: String, answer: &[u8]) -> Result<Stored, RequestError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        seq: u64,
        #[serde(default)]
        duplicate: bool,
        error: Option<Refusal>,
    }
    match serde_json::from_slice(answer) {
        Ok(Answer { error: None, seq, duplicate }) => Ok(Stored { seq, duplicate }),
        Ok(Answer { error: Some(refusal), .. }) => {
            Err(RequestError::Refused { subject, code: refusal.err_code, description: refusal.description })
        }
        Err(source) => Err(RequestError::Unreadable { subject, source }),
    }
}

/// What a refusal to store means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusedStore {
    /// The subject holds as many messages as it may.
    SubjectFull,
    /// The stream, its account or its server has no room.
    StreamFull,
    TooLarge,
    /// The server does not say whether the message is stored.
    Unknown,
    NoStream,
    Other,
}

impl RefusedStore {
    /// Reads JetStream's code, and its words where one code says two things.
    pub(crate) fn of(code: u64, description: &str) -> Self {
        match code {
            code::STORE_FAILED if description.contains("per subject") => Self::SubjectFull,
            code::STORE_FAILED if description.contains("exceeded") => Self::StreamFull,
            code::INSUFFICIENT_RESOURCES | code::MEMORY_EXCEEDED | code::STORAGE_EXCEEDED => Self::StreamFull,
            code::MESSAGE_TOO_LARGE => Self::TooLarge,
            code::STREAM_NOT_FOUND | code::NOT_ENABLED | code::NOT_ENABLED_FOR_ACCOUNT => Self::NoStream,
            code::STORE_FAILED
            | code::CLUSTER_NOT_AVAILABLE
            | code::CLUSTER_NOT_LEADER
            | code::STREAM_OFFLINE
            | code::WRONG_LAST_SEQUENCE_CONSTANT => Self::Unknown,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_stored_duplicate_or_refused() {
        let answer = |text: &str| stored("s".into(), text.as_bytes());
        assert_eq!(answer(r#"{"stream":"S","seq":7}"#).ok(), Some(Stored { seq: 7, duplicate: false }));
        assert_eq!(
            answer(r#"{"stream":"S","seq":7,"domain":"d","duplicate":true}"#).ok(),
            Some(Stored { seq: 7, duplicate: true })
        );
        let refused =
            r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"S","seq":0}"#;
        assert_eq!(answer(refused).expect_err("refused").code(), Some(10077));
        assert!(matches!(answer("nonsense"), Err(RequestError::Unreadable { .. })));
    }

    #[test]
    fn one_code_says_two_kinds_of_full() {
        assert_eq!(RefusedStore::of(10077, "maximum messages per subject exceeded"), RefusedStore::SubjectFull);
        assert_eq!(RefusedStore::of(10077, "maximum bytes exceeded"), RefusedStore::StreamFull);
        assert_eq!(RefusedStore::of(10077, "maximum messages exceeded"), RefusedStore::StreamFull);
        assert_eq!(RefusedStore::of(10077, "write error"), RefusedStore::Unknown);
        assert_eq!(RefusedStore::of(10164, "constraint mismatch"), RefusedStore::Unknown);
        assert_eq!(RefusedStore::of(10052, "something else"), RefusedStore::Other);
    }
}
