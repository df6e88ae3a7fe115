//! Appending to the journal, how full it is, and purging it. Reading is in `reader.rs`.

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use bytes::Bytes;
use millstream_model::ids::{Capability, Partition};
use millstream_model::time::Timestamp;
use millstream_model::trace::TraceParent;
use serde::Deserialize;

use crate::request::{ANSWER_WAIT, RequestError};
use crate::stored::{RefusedStore, stored};
use crate::tasks::trace_headers;
use crate::{Broker, ReadError};

/// A batch that is in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The message's sequence; that of the first copy when it is a duplicate.
    pub sequence: u64,
    /// An earlier call with the same message id had stored it.
    pub duplicate: bool,
}

/// Why a message may not be in the stream it was for.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("the stream is full: {description}")]
    Full { description: String },
    #[error("a message of {size} bytes is larger than the server takes")]
    TooLarge { size: usize },
    #[error("NATS refuses this connection to publish to {subject}")]
    Denied { subject: String },
    #[error("no stream takes {subject}")]
    NoStream { subject: String },
    #[error("not connected to NATS; the message was not sent")]
    Offline,
    #[error("it is unknown whether the message on {subject} is stored: {reason}")]
    Unknown { subject: String, reason: String },
    #[error("NATS refused the message with error {code}: {description}")]
    Rejected { code: u64, description: String },
}

impl AppendError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } | Self::NoStream { .. } | Self::Offline | Self::Unknown { .. } => true,
            Self::TooLarge { .. } | Self::Denied { .. } | Self::Rejected { .. } => false,
        }
    }

    /// Whether the message may be in the stream all the same.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    pub(crate) fn of(error: RequestError, size: usize) -> Self {
        match error {
            RequestError::Offline => Self::Offline,
            RequestError::NoAnswer { subject, reason } => Self::Unknown { subject, reason: reason.to_owned() },
            RequestError::Denied { subject } => Self::Denied { subject },
            RequestError::NoResponders { subject } => Self::NoStream { subject },
            RequestError::TooLarge { size, .. } => Self::TooLarge { size },
            RequestError::Unreadable { subject, source } => Self::Unknown { subject, reason: source.to_string() },
            RequestError::Refused { subject, code, description } => match RefusedStore::of(code, &description) {
                RefusedStore::SubjectFull | RefusedStore::StreamFull => Self::Full { description },
                RefusedStore::TooLarge => Self::TooLarge { size },
                RefusedStore::NoStream => Self::NoStream { subject },
                RefusedStore::Unknown => Self::Unknown { subject, reason: description },
                RefusedStore::Other => Self::Rejected { code, description },
            },
        }
    }
}

/// How full a journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalState {
    /// Sequence of the oldest message that is left; one more than the last when none is.
    pub first_sequence: u64,
    /// Sequence of the newest message ever stored; 0 when there never was one.
    pub last_sequence: u64,
    pub messages: u64,
    pub bytes: u64,
    /// The stream's limit, when it has one.
    pub bytes_max: Option<u64>,
    /// When the stream was created.
    pub created: Timestamp,
}

impl Broker {
    /// Appends a batch of the API or a coordinator. Within the stream's duplicate window a second call with the
    /// same `msg_id` stores nothing and answers with the first one's sequence.
    pub async fn append_control(
        &self,
        partition: Partition,
        msg_id: &str,
        batch: Bytes,
    ) -> Result<Appended, AppendError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, msg_id);
        self.append(self.names().journal_control(partition), Some(headers), batch).await
    }

    /// Appends a batch of results of a capability.
    pub async fn append_results(
        &self,
        partition: Partition,
        capability: &Capability,
        batch: Bytes,
        traceparent: Option<&TraceParent>,
    ) -> Result<Appended, AppendError> {
        let subject = self.names().journal_result(partition, capability);
        self.append(subject, traceparent.map(trace_headers), batch).await
    }

    /// Sends a message to a stream and waits until that says it is stored.
    pub(crate) async fn append(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        batch: Bytes,
    ) -> Result<Appended, AppendError> {
        let size = batch.len();
        let answer = self.request(&subject, headers, batch, ANSWER_WAIT).await;
        answer
            .and_then(|answer| stored(subject, &answer.payload))
            .map(|stored| Appended { sequence: stored.seq, duplicate: stored.duplicate })
            .map_err(|error| AppendError::of(error, size))
    }

    /// Purges the messages of a journal that come before `below`, and answers how many there were. Without a message
    /// `below` nothing is purged: the journal is not the one that the caller means.
    pub async fn purge_journal(&self, partition: Partition, below: u64) -> Result<u64, RequestError> {
        #[derive(Deserialize)]
        struct Purged {
            #[serde(default)]
            purged: u64,
        }
        let stream = self.names().journal_stream(partition);
        // To JetStream a purge below 0 is one of everything, and one beyond the end makes the journal skip ahead.
        if below == 0 || self.message_at(&stream, below).await?.is_none() {
            return Ok(0);
        }
        let method = format!("STREAM.PURGE.{stream}");
        let purged: Purged = self.api(&method, &serde_json::json!({ "seq": below })).await?;
        Ok(purged.purged)
    }

    /// How full the journal of a partition is.
    pub async fn journal_state(&self, partition: Partition) -> Result<JournalState, ReadError> {
        let stream = self.names().journal_stream(partition);
        let info = self.stream_info(&stream).await.map_err(|source| ReadError::of(stream, source))?;
        Ok(JournalState {
            first_sequence: info.state.first_seq,
            last_sequence: info.state.last_seq,
            messages: info.state.messages,
            bytes: info.state.bytes,
            bytes_max: info.config.get("max_bytes").and_then(serde_json::Value::as_u64).filter(|bytes| *bytes > 0),
            created: info.created,
        })
    }
}
