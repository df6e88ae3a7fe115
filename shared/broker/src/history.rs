//! The history: records of executions, each with its own time to live.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{NATS_MESSAGE_ID, NATS_MESSAGE_TTL};
use bytes::Bytes;
use millstream_model::ids::Partition;
use millstream_model::time::Timestamp;
use serde::Serialize;
use tracing::warn;

use crate::bucket::ttl_text;
use crate::request::{RequestError, code};
use crate::stream_reader::{StreamReader, StreamSummary};
use crate::{AppendError, Broker, ReadError};

/// One message of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryMessage {
    pub sequence: u64,
    /// When the stream stored it, by the clock of its leader.
    pub time: Timestamp,
    pub partition: Partition,
    pub payload: Bytes,
}

/// Reads the history.
///
/// It survives lost connections, restarted servers and new leaders without repeating or leaving out what the stream
/// has. Records that ran out or were deleted show as gaps in the sequences, which are normal.
pub struct HistoryReader {
    reader: StreamReader,
}

impl Broker {
    /// Appends a record that stays for `ttl`, in whole seconds and at least one, or for ever, and answers with its
    /// sequence. Within the stream's duplicate window a second call with the same `msg_id` stores nothing and answers
    /// with the first one's sequence.
    pub async fn append_history(
        &self,
        partition: Partition,
        msg_id: Option<&str>,
        record: Bytes,
        ttl: Option<Duration>,
    ) -> Result<u64, AppendError> {
        let mut headers = HeaderMap::new();
        if let Some(msg_id) = msg_id {
            headers.insert(NATS_MESSAGE_ID, msg_id);
        }
        if let Some(ttl) = ttl {
            headers.insert(NATS_MESSAGE_TTL, ttl_text(ttl).as_str());
        }
        let headers = (!headers.is_empty()).then_some(headers);
        let appended = self.append(self.names().history(partition), headers, record).await?;
        Ok(appended.sequence)
    }

    /// The record with a sequence; `None` when it ran out, was deleted or never was.
    pub async fn history_message(&self, sequence: u64) -> Result<Option<HistoryMessage>, ReadError> {
        let stream = self.names().history_stream();
        let found = match self.replica_message_at(&stream, sequence).await {
            Ok(Some(found)) => Some(found),
            // A follower may not know it yet, and maybe nobody answers for the followers.
            Ok(None) | Err(RequestError::NoResponders { .. }) => {
                self.message_at(&stream, sequence).await.map_err(|source| ReadError::of(stream, source))?
            }
            Err(source) => return Err(ReadError::of(stream, source)),
        };
        Ok(found.and_then(|message| {
            let partition = self.history_partition(&message.subject)?;
            let (sequence, time, payload) = (message.sequence, message.time, message.payload);
            Some(HistoryMessage { sequence, time, partition, payload })
        }))
    }

    /// Deletes a record. One that is not there is deleted already.
    pub async fn delete_history(&self, sequence: u64) -> Result<(), RequestError> {
        /// Without `no_erase` the server overwrites the message on its disk, which takes twenty times as long.
        #[derive(Serialize)]
        struct Delete {
            seq: u64,
            no_erase: bool,
        }
        let stream = self.names().history_stream();
        let method = format!("STREAM.MSG.DELETE.{stream}");
        match self.api::<serde_json::Value>(&method, &Delete { seq: sequence, no_erase: true }).await {
            // One code says all of what may be wrong.
            Err(error) if error.code() == Some(code::DELETE_FAILED) => {
                if self.message_at(&stream, sequence).await?.is_none() { Ok(()) } else { Err(error) }
            }
            outcome => outcome.map(drop),
        }
    }

    /// Reads the history from a sequence on (the first is 1).
    pub async fn read_history(&self, from: u64) -> Result<HistoryReader, ReadError> {
        let reader = self.read_stream(self.names().history_stream(), from).await?;
        Ok(HistoryReader { reader })
    }

    /// How full the history is.
    pub async fn history_state(&self) -> Result<StreamSummary, ReadError> {
        self.stream_summary(self.names().history_stream()).await
    }

    /// The partition of a subject of the history; `None` when it is none that we write.
    fn history_partition(&self, subject: &str) -> Option<Partition> {
        let partition = subject.rsplit('.').next().and_then(|number| number.parse().ok()).map(Partition);
        let partition = partition.filter(|partition| self.names().history(*partition) == subject);
        if partition.is_none() {
            warn!(subject, "not a subject of the history");
        }
        partition
    }
}

impl HistoryReader {
    /// The next record, as soon as there is one. Dropping the future loses nothing.
    ///
    /// After an error the reader goes on trying with the next call.
    pub async fn next(&mut self) -> Result<HistoryMessage, ReadError> {
        loop {
            let (message, info) = self.reader.next().await?;
            let Some(partition) = self.reader.broker().history_partition(&message.subject) else { continue };
            let payload = message.payload;
            return Ok(HistoryMessage { sequence: info.stream_sequence, time: info.time, partition, payload });
        }
    }

    /// Sequence of the next record, if that is still there.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// When the stream that is read was created.
    pub fn created(&self) -> Timestamp {
        self.reader.created()
    }
}
