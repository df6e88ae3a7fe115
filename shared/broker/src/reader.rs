//! Reading a journal: in order, each message once, across every kind of interruption.

use async_nats::Message;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::DeliverPolicy;
use bytes::Bytes;
use millstream_model::ids::Partition;
use millstream_model::names::JournalSubject;
use millstream_model::time::Timestamp;
use tracing::{debug, warn};

use crate::Broker;
use crate::feed::{Feed, Opening, back_off};
use crate::message::{DeliveryInfo, header_value};
use crate::request::{RequestError, code};

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the journal {stream} is missing")]
    NoStream { stream: String },
    #[error("the journal {stream} went backwards: it ends at {last}, but {expected} was to come next")]
    WentBackwards { stream: String, expected: u64, last: u64 },
    #[error("the journal {stream} was replaced: it was created at {found}, not at {expected}")]
    Replaced { stream: String, expected: Timestamp, found: Timestamp },
    #[error("the journal {stream} cannot be read: {source}")]
    Request {
        stream: String,
        #[source]
        source: RequestError,
    },
}

impl ReadError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoStream { .. } | Self::WentBackwards { .. } | Self::Replaced { .. } => false,
            Self::Request { source, .. } => source.is_retryable(),
        }
    }

    pub(crate) fn of(stream: String, source: RequestError) -> Self {
        match source.code() {
            Some(code::STREAM_NOT_FOUND) => Self::NoStream { stream },
            Some(_) | None => Self::Request { stream, source },
        }
    }
}

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
    broker: Broker,
    stream: String,
    /// Sequence of the next message, if that is still there.
    next: u64,
    /// When the stream that is read was created.
    created: Timestamp,
    state: State,
}

enum State {
    Reading(Box<Feed>),
    Opening(Opening<(Feed, Timestamp), ReadError>),
}

impl Broker {
    /// Reads the journal of a partition from a sequence on (the first is 1).
    pub async fn read_journal(&self, partition: Partition, from_sequence: u64) -> Result<JournalReader, ReadError> {
        let stream = self.names().journal_stream(partition);
        let next = from_sequence.max(1);
        let (feed, created) = open(self.clone(), stream.clone(), next, None).await?;
        let state = State::Reading(Box::new(feed));
        Ok(JournalReader { broker: self.clone(), stream, next, created, state })
    }
}

impl JournalReader {
    /// The next message, as soon as there is one. Dropping the future loses nothing.
    ///
    /// After an error the reader goes on trying with the next call.
    pub async fn next(&mut self) -> Result<JournalMessage, ReadError> {
        loop {
            let feed = self.feed().await?;
            match feed.next().await {
                Ok(Some((message, info))) if info.stream_sequence >= self.next => {
                    self.next = info.stream_sequence + 1;
                    return Ok(self.message(message, info));
                }
                Ok(_) => {}
                Err(broken) => {
                    debug!(stream = self.stream, next = self.next, reason = broken.0, "reading the journal anew");
                    self.reopen();
                }
            }
        }
    }

    /// Sequence of the next message, if that is still there.
    pub fn position(&self) -> u64 {
        self.next
    }

    async fn feed(&mut self) -> Result<&mut Feed, ReadError> {
        if let State::Opening(opening) = &mut self.state {
            match opening.await {
                Ok((feed, _created)) => self.state = State::Reading(Box::new(feed)),
                Err(error) => {
                    self.reopen();
                    return Err(error);
                }
            }
        }
        match &mut self.state {
            State::Reading(feed) => Ok(feed),
            State::Opening(_) => unreachable!("it was opened above"),
        }
    }

    fn reopen(&mut self) {
        let opening = open(self.broker.clone(), self.stream.clone(), self.next, Some(self.created));
        self.state = State::Opening(Box::pin(opening));
    }

    fn message(&self, message: Message, info: DeliveryInfo) -> JournalMessage {
        JournalMessage {
            sequence: info.stream_sequence,
            time: info.time,
            subject: self.broker.names().parse_journal(&message.subject),
            msg_id: header_value(&message, NATS_MESSAGE_ID.as_ref()).map(str::to_owned),
            payload: message.payload,
        }
    }
}

/// Opens a feed from `next` on, and tries again as long as that may help. Also returns when the stream was created.
async fn open(
    broker: Broker,
    stream: String,
    next: u64,
    created: Option<Timestamp>,
) -> Result<(Feed, Timestamp), ReadError> {
    let mut attempt = 0;
    loop {
        broker.connected().await;
        match try_open(&broker, &stream, next, created).await {
            Err(error) if error.is_retryable() => {
                if attempt == 3 {
                    warn!(stream, %error, "cannot read the journal; trying again");
                }
                attempt += 1;
                back_off(attempt).await;
            }
            outcome => return outcome,
        }
    }
}

async fn try_open(
    broker: &Broker,
    stream: &str,
    next: u64,
    created: Option<Timestamp>,
) -> Result<(Feed, Timestamp), ReadError> {
    let failed = |source| ReadError::of(stream.to_owned(), source);
    let info = broker.stream_info(stream).await.map_err(failed)?;
    if let Some(expected) = created
        && info.created != expected
    {
        return Err(ReadError::Replaced { stream: stream.to_owned(), expected, found: info.created });
    }
    if info.state.last_seq + 1 < next {
        let last = info.state.last_seq;
        return Err(ReadError::WentBackwards { stream: stream.to_owned(), expected: next, last });
    }
    let from = DeliverPolicy::ByStartSequence { start_sequence: next };
    let feed = Feed::open(broker, stream, "", from).await.map_err(failed)?;
    Ok((feed, info.created))
}
