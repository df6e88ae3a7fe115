//! Reading a journal: its messages one after the other, or one of them.

use async_nats::header::NATS_MESSAGE_ID;
use bytes::Bytes;
use millstream_model::ids::Partition;
use millstream_model::names::JournalSubject;
use millstream_model::time::Timestamp;

use crate::message::header_value;
use crate::stream_reader::StreamReader;
use crate::{Broker, ReadError};

/// One message of a journal.
#[derive(Debug, Clone)]
pub struct JournalMessage {
    pub sequence: u64,
    /// When the stream stored it, by the clock of its leader.
    pub time: Timestamp,
    /// `None` when it is on no subject that we write.
    pub subject: Option<JournalSubject>,
    pub msg_id: Option<String>,
    pub payload: Bytes,
}

/// Reads a journal.
///
/// It survives lost connections, restarted servers and new leaders without repeating or leaving out what the
/// stream has. What the stream has not, because it was purged, shows as a gap in the sequences.
pub struct JournalReader {
    reader: StreamReader,
}

impl Broker {
    /// Reads the journal of a partition from a sequence on (the first is 1).
    pub async fn read_journal(&self, partition: Partition, from_sequence: u64) -> Result<JournalReader, ReadError> {
        let reader = self.read_stream(self.names().journal_stream(partition), from_sequence).await?;
        Ok(JournalReader { reader })
    }

    /// One message of the journal of a partition, as the stream's leader knows it; `None` when it is not there, or
    /// not any more.
    pub async fn journal_message(
        &self,
        partition: Partition,
        sequence: u64,
    ) -> Result<Option<JournalMessage>, ReadError> {
        let stream = self.names().journal_stream(partition);
        let found = self.message_at(&stream, sequence).await.map_err(|source| ReadError::of(stream, source))?;
        Ok(found.map(|message| JournalMessage {
            sequence: message.sequence,
            time: message.time,
            subject: self.names().parse_journal(&message.subject),
            msg_id: message.headers.get_last(NATS_MESSAGE_ID).map(|id| id.as_str().to_owned()),
            payload: message.payload,
        }))
    }
}

impl JournalReader {
    /// The next message, as soon as there is one. Dropping the future loses nothing.
    ///
    /// After an error the reader goes on trying with the next call.
    pub async fn next(&mut self) -> Result<JournalMessage, ReadError> {
        let (message, info) = self.reader.next().await?;
        Ok(JournalMessage {
            sequence: info.stream_sequence,
            time: info.time,
            subject: self.reader.broker().names().parse_journal(&message.subject),
            msg_id: header_value(&message, NATS_MESSAGE_ID.as_ref()).map(str::to_owned),
            payload: message.payload,
        })
    }

    /// Sequence of the next message, if that is still there.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// When the stream that is read was created.
    pub fn created(&self) -> Timestamp {
        self.reader.created()
    }
}
