//! The audit trail: appended one after the other, each record over the one before it.

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_LAST_SEQUENCE;
use bytes::Bytes;
use millstream_model::time::Timestamp;

use crate::request::code;
use crate::stream_reader::{StreamReader, StreamSummary};
use crate::{AppendError, Broker, ReadError};

/// Why a record may not be in the audit trail.
#[derive(Debug, thiserror::Error)]
pub enum AuditAppendError {
    /// Somebody else's record, or the caller's own since an earlier call whose answer was lost.
    #[error("the audit trail does not end where this record was to be appended")]
    Moved,
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl AuditAppendError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Moved => false,
            Self::Append(source) => source.is_retryable(),
        }
    }

    /// Whether the record may be in the audit trail all the same.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Moved => false,
            Self::Append(source) => source.is_unknown(),
        }
    }
}

/// One record of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditMessage {
    pub sequence: u64,
    /// When the stream stored it, by the clock of its leader.
    pub time: Timestamp,
    pub payload: Bytes,
}

/// Reads the audit trail, across lost connections, restarted servers and new leaders.
pub struct AuditReader {
    reader: StreamReader,
}

impl Broker {
    /// Appends a record after the one with sequence `expected_last` (0: as the first), and answers with its sequence.
    pub async fn append_audit(&self, record: Bytes, expected_last: u64) -> Result<u64, AuditAppendError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SEQUENCE, expected_last.to_string().as_str());
        match self.append(self.names().audit(), Some(headers), record).await {
            Ok(appended) => Ok(appended.sequence),
            Err(AppendError::Rejected { code: code::WRONG_LAST_SEQUENCE, .. }) => Err(AuditAppendError::Moved),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the audit trail from a sequence on (the first is 1).
    pub async fn read_audit(&self, from: u64) -> Result<AuditReader, ReadError> {
        let reader = self.read_stream(self.names().audit_stream(), from).await?;
        Ok(AuditReader { reader })
    }

    /// The newest record, as the stream's leader knows it.
    pub async fn audit_last(&self) -> Result<Option<(u64, Bytes)>, ReadError> {
        let stream = self.names().audit_stream();
        let newest = self.newest_message(&stream, &self.names().audit()).await;
        let newest = newest.map_err(|source| ReadError::of(stream, source))?;
        Ok(newest.map(|message| (message.sequence, message.payload)))
    }

    /// How full the audit trail is.
    pub async fn audit_state(&self) -> Result<StreamSummary, ReadError> {
        self.stream_summary(self.names().audit_stream()).await
    }
}

impl AuditReader {
    /// The next record, as soon as there is one. Dropping the future loses nothing.
    ///
    /// After an error the reader goes on trying with the next call.
    pub async fn next(&mut self) -> Result<AuditMessage, ReadError> {
        let (message, info) = self.reader.next().await?;
        Ok(AuditMessage { sequence: info.stream_sequence, time: info.time, payload: message.payload })
    }

    /// Sequence of the next record, if that is still there.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }
}
