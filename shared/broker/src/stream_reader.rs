//! Reading a stream: in order, each message once, across every kind of interruption.

use async_nats::Message;
use async_nats::jetstream::consumer::DeliverPolicy;
use millstream_model::time::Timestamp;
use tracing::{debug, warn};

use crate::Broker;
use crate::feed::{Feed, Opening, back_off};
use crate::message::DeliveryInfo;
use crate::provision::StreamInfo;
use crate::request::{RequestError, code};

/// Why a stream cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the stream {stream} is missing")]
    NoStream { stream: String },
    #[error("the stream {stream} went backwards: it ends at {last}, but {expected} was to come next")]
    WentBackwards { stream: String, expected: u64, last: u64 },
    #[error("the stream {stream} went backwards and grew again: message {sequence} is not the one that was read")]
    Rewritten { stream: String, sequence: u64 },
    #[error("the stream {stream} was replaced: it was created at {found}, not at {expected}")]
    Replaced { stream: String, expected: Timestamp, found: Timestamp },
    #[error("the stream {stream} cannot be read: {source}")]
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
            Self::NoStream { .. } | Self::WentBackwards { .. } | Self::Rewritten { .. } | Self::Replaced { .. } => {
                false
            }
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

/// How full a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSummary {
    /// Sequence of the oldest message that is left; one more than the last when none is.
    pub first: u64,
    /// Sequence of the newest message ever stored; 0 when there never was one.
    pub last: u64,
    pub messages: u64,
    pub bytes: u64,
    /// When the stream was created.
    pub created: Timestamp,
}

impl StreamSummary {
    fn of(info: &StreamInfo) -> Self {
        Self {
            first: info.state.first_seq,
            last: info.state.last_seq,
            messages: info.state.messages,
            bytes: info.state.bytes,
            created: info.created,
        }
    }
}

/// Reads a stream from a sequence on.
///
/// It survives lost connections, restarted servers and new leaders without repeating or leaving out what the
/// stream has. What the stream has not, because it was purged or ran out, shows as a gap in the sequences.
pub(crate) struct StreamReader {
    broker: Broker,
    stream: String,
    /// Sequence of the next message, if that is still there.
    next: u64,
    /// When the stream that is read was created.
    created: Timestamp,
    /// The message that was read last, and when the stream stored it.
    last: Option<(u64, Timestamp)>,
    state: State,
}

enum State {
    Reading(Box<Feed>),
    Opening(Opening<(Feed, Timestamp), ReadError>),
}

impl Broker {
    /// Reads a stream from a sequence on (the first is 1).
    pub(crate) async fn read_stream(&self, stream: String, from: u64) -> Result<StreamReader, ReadError> {
        let next = from.max(1);
        let (feed, created) = open(self.clone(), stream.clone(), next, None, None).await?;
        let state = State::Reading(Box::new(feed));
        Ok(StreamReader { broker: self.clone(), stream, next, created, last: None, state })
    }

    pub(crate) async fn stream_summary(&self, stream: String) -> Result<StreamSummary, ReadError> {
        match self.stream_info(&stream).await {
            Ok(info) => Ok(StreamSummary::of(&info)),
            Err(source) => Err(ReadError::of(stream, source)),
        }
    }
}

impl StreamReader {
    /// The next message, as soon as there is one. Dropping the future loses nothing.
    ///
    /// After an error the reader goes on trying with the next call.
    pub(crate) async fn next(&mut self) -> Result<(Message, DeliveryInfo), ReadError> {
        loop {
            let feed = self.feed().await?;
            match feed.next().await {
                Ok(Some((message, info))) if info.stream_sequence >= self.next => {
                    self.next = info.stream_sequence + 1;
                    self.last = Some((info.stream_sequence, info.time));
                    return Ok((message, info));
                }
                Ok(_) => {}
                Err(broken) => {
                    debug!(stream = self.stream, next = self.next, reason = broken.0, "reading the stream anew");
                    self.reopen();
                }
            }
        }
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Sequence of the next message, if that is still there.
    pub(crate) fn position(&self) -> u64 {
        self.next
    }

    pub(crate) fn created(&self) -> Timestamp {
        self.created
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
        let opening = open(self.broker.clone(), self.stream.clone(), self.next, Some(self.created), self.last);
        self.state = State::Opening(Box::pin(opening));
    }
}

/// Opens a feed from `next` on, and tries again as long as that may help. Also returns when the stream was created.
async fn open(
    broker: Broker,
    stream: String,
    next: u64,
    created: Option<Timestamp>,
    last: Option<(u64, Timestamp)>,
) -> Result<(Feed, Timestamp), ReadError> {
    let mut attempt = 0;
    loop {
        broker.connected().await;
        match try_open(&broker, &stream, next, created, last).await {
            Err(error) if error.is_retryable() => {
                if attempt == 3 {
                    warn!(stream, %error, "cannot read the stream; trying again");
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
    last: Option<(u64, Timestamp)>,
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
    // What went backwards may have grown again meanwhile, with other messages.
    if let Some((sequence, time)) = last
        && let Some(found) = broker.message_at(stream, sequence).await.map_err(failed)?
        && found.time != time
    {
        return Err(ReadError::Rewritten { stream: stream.to_owned(), sequence });
    }
    let from = DeliverPolicy::ByStartSequence { start_sequence: next };
    let feed = Feed::open(broker, stream, "", from).await.map_err(failed)?;
    Ok((feed, info.created))
}
