//! JetStream as Millstream uses it, as one value: no clock, no threads, no randomness, no network.
//!
//! A [`Server`] is told the time and answers each operation at once, with the answers of one nats-server 2.15.1
//! with file storage and one replica. The differential suite (`differential.rs`) runs random operations on it and
//! on a real server and wants equal answers; what the suite cannot reach names the section of the reference it
//! follows.
//!
//! ```text
//!            publish ─▶ ┌─ Stream ───────────────────────────┐ ─▶ messages, newest     (direct get, a scan)
//!  create/delete/purge ▶│ messages by sequence, by subject   │ ─▶ open_feed, feed_next (ordered reads, watches)
//!                       │ duplicate window · lifetimes       │
//!                       │  └─ consumers (work queue) ────────│ ─▶ fetch ─▶ Delivery ─▶ answer (ack, NAK, progress)
//!                       └────────────────────────────────────┘
//! ```
//!
//! What lies between a client and the server is not here: lost, late and repeated messages, lost answers, a leader
//! that is away, a 10164 ([`Refusal::unsettled`]) are the world's to make. Two things the world needs from here:
//!
//! - **Stale reads and late removals.** Every change is counted; [`Server::moment`] is the count. A read takes a
//!   [`View`]: what it sees of what was stored and of what was removed. `View::as_of(moment)` is a replica that
//!   lags; `View::removals_as_of(moment)` still shows messages whose ack is confirmed. Removed messages are kept
//!   for this in the number that [`ServerOptions::removed_kept`] says.
//! - **Crashes.** [`Server::crash`] says what the server forgets, see [`Forgotten`].
//!
//! **The clock** is the server's wall clock, which may jump and go back. Timestamps of messages, ack_wait, NAK
//! delays, the duplicate window and lifetimes all follow it, as they do on the server (`time.Now()` is compared
//! with stored wall times there). A clock that went back therefore delays redeliveries until it has caught up.

mod backup;
mod bucket;
mod config;
mod consumer;
mod dedupe;
mod feed;
mod message;
mod pending;
mod refusal;
mod retained;
mod store;
mod stream;
mod subject;

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_model::time::Timestamp;

pub use backup::Backup;
pub use bucket::{Expected, Newest, bucket_stream, key_subject};
pub use config::{ConsumerConfig, Retention, StreamConfig};
pub use consumer::{AckToken, Answer, ConsumerInfo, Delivery};
pub use feed::{Feed, FeedBroken, ReadFrom};
pub use message::{Marker, PubAck, Publish, StoredMessage};
pub use refusal::{Refusal, RequestFailed};
pub use retained::{Moment, View};
pub use stream::StreamInfo;

use stream::Stream;

/// How a server is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerOptions {
    /// Largest message, headers included.
    pub max_payload: usize,
    /// Removed messages of each stream that reads of the past still see. 0 is none: then every [`View`] shows
    /// removals at once.
    pub removed_kept: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { max_payload: 1024 * 1024, removed_kept: 0 }
    }
}

/// What a crash takes with it. What a stream stored or removed survives a killed process in every case (reference,
/// reliability T10), what only memory held never does: feeds, redelivery queues, and the message ids of messages
/// that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// The server was stopped in an orderly way and wrote the state of its consumers.
    Nothing,
    /// `kill -9`: consumers write their state some time after they change it, and fall back to what they last wrote.
    /// Deliveries after the moment never were: their messages come again with a smaller count, first deliveries as
    /// first deliveries (DESIGN section 6).
    DeliveriesSince(Moment),
}

/// A nats-server with JetStream. See the [module](self).
#[derive(Debug, Clone)]
pub struct Server {
    options: ServerOptions,
    now: Timestamp,
    changes: u64,
    /// Streams ever created; numbers them.
    created: u64,
    /// Crashes so far; numbers the runs between them.
    run: u64,
    streams: BTreeMap<Arc<str>, Stream>,
}

impl Server {
    pub fn new(options: ServerOptions, now: Timestamp) -> Self {
        Self { options, now, changes: 0, created: 0, run: 0, streams: BTreeMap::new() }
    }

    /// Tells the time, which may also be earlier than the last. What ran out until then is removed, stream by stream
    /// in the order of their names, and markers of it are stored with the times at which they were due.
    pub fn set_clock(&mut self, now: Timestamp) {
        let before = std::mem::replace(&mut self.now, now).min(now);
        for stream in self.streams.values_mut() {
            stream.expire(before, now, &mut self.changes);
        }
    }

    /// The time that was told.
    pub fn clock(&self) -> Timestamp {
        self.now
    }

    /// The changes so far; keep it to read or to crash back to it.
    pub fn moment(&self) -> Moment {
        Moment(self.changes)
    }

    /// The next time at which time alone changes something: a redelivery or the end of a lifetime. May be past when
    /// a consumer has not been asked since.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.streams.values().filter_map(Stream::next_due).min()
    }

    /// Dies and starts again with what it had stored; see [`Forgotten`].
    pub fn crash(&mut self, forgotten: Forgotten) {
        self.run += 1;
        for stream in self.streams.values_mut() {
            stream.restart(self.now, forgotten);
        }
    }

    /// Creates a stream. One that is there with the same configuration is a success that changes nothing, with
    /// another 10058; a subject that another stream takes is 10065.
    pub fn create_stream(&mut self, config: StreamConfig) -> Result<StreamInfo, Refusal> {
        if let Some(stream) = self.streams.get(config.name.as_str()) {
            return if *stream.config() == config { Ok(stream.info()) } else { Err(Refusal::stream_name_in_use()) };
        }
        let taken = |subject: &String| self.streams.values().any(|stream| stream.takes_any_of(subject));
        if config.subjects.iter().any(taken) {
            return Err(Refusal::subjects_overlap());
        }
        self.created += 1;
        let stream = Stream::new(config, self.now, self.created, self.options.removed_kept);
        let info = stream.info();
        self.streams.insert(stream.config().name.as_str().into(), stream);
        Ok(info)
    }

    /// Deletes a stream with its messages and consumers: a task stream that got lost.
    pub fn delete_stream(&mut self, stream: &str) -> Result<(), Refusal> {
        self.changes += 1;
        self.streams.remove(stream).map(drop).ok_or(Refusal::stream_not_found())
    }

    /// Changes the limits of a stream, as a disk that fills up or an operator does. What is stored stays.
    pub fn limit_stream(
        &mut self,
        stream: &str,
        max_msgs: Option<u64>,
        max_bytes: Option<u64>,
    ) -> Result<StreamInfo, Refusal> {
        let stream = self.stream_mut(stream)?;
        stream.limit(max_msgs, max_bytes);
        Ok(stream.info())
    }

    /// `STREAM.INFO`.
    pub fn stream_info(&self, stream: &str) -> Result<StreamInfo, Refusal> {
        self.stream(stream).map(Stream::info)
    }

    /// Stores a message in the stream that takes its subject.
    pub fn publish(&mut self, publish: &Publish<'_>) -> Result<PubAck, RequestFailed> {
        let size = publish.payload.len() + publish.headers_size();
        if size > self.options.max_payload {
            return Err(RequestFailed::TooLarge { size, max: self.options.max_payload });
        }
        let stream = self.streams.values_mut().find(|stream| stream.takes(publish.subject));
        let stream = stream.ok_or(RequestFailed::NoResponders)?;
        Ok(stream.publish(publish, self.now, &mut self.changes)?)
    }

    /// Removes what is older than `before`, a sequence; how many messages that were. Readers get no sign of it. (A
    /// purged work queue forgets deliveries here at once; the server keeps counting them for a while. Ours is never
    /// purged.)
    pub fn purge(&mut self, stream: &str, before: u64) -> Result<u64, Refusal> {
        let stream = self.streams.get_mut(stream).ok_or(Refusal::stream_not_found())?;
        Ok(stream.purge(before, &mut self.changes))
    }

    /// Loses what a stream stored after `last`, and the sequences with it: a power failure of a server that does not
    /// sync, or a restored backup (reference, reliability T11 and F11). Follow it with [`Self::crash`].
    pub fn lose_tail(&mut self, stream: &str, last: u64) -> Result<(), Refusal> {
        let stream = self.streams.get_mut(stream).ok_or(Refusal::stream_not_found())?;
        stream.lose_tail(last, &mut self.changes);
        Ok(())
    }

    /// `STREAM.MSG.DELETE`; whether the message was there. (The server has three errors for one that is not.)
    pub fn delete_message(&mut self, stream: &str, sequence: u64) -> Result<bool, Refusal> {
        let stream = self.streams.get_mut(stream).ok_or(Refusal::stream_not_found())?;
        if stream.config().deny_delete {
            return Err(Refusal::delete_denied());
        }
        Ok(stream.remove(sequence, &mut self.changes))
    }

    /// Every message whose subject matches, in the order of the sequences: the broker crate's scan of tasks and its
    /// listing of a bucket (batch direct get). A stream that is missing has no responders.
    pub fn messages(&self, stream: &str, filter: &str, view: View) -> Result<Vec<&StoredMessage>, RequestFailed> {
        let stream = self.streams.get(stream).ok_or(RequestFailed::NoResponders)?;
        Ok(stream.store().matching(filter, view))
    }

    /// The newest message of a subject.
    pub fn newest(&self, stream: &str, subject: &str, view: View) -> Result<Option<&StoredMessage>, RequestFailed> {
        let stream = self.streams.get(stream).ok_or(RequestFailed::NoResponders)?;
        Ok(stream.store().newest(subject, view))
    }

    /// `STREAM.MSG.GET`: the message of a sequence as the leader has it. A direct get says the same, but for a stream
    /// that is missing, of which nobody answers.
    pub fn message(&self, stream: &str, sequence: u64) -> Result<Option<&StoredMessage>, Refusal> {
        Ok(self.stream(stream)?.store().get(sequence))
    }

    /// Creates a durable consumer; one of the same name is configured anew. On a work queue 10100 when its filter
    /// overlaps with another's.
    pub fn create_consumer(&mut self, stream: &str, config: ConsumerConfig) -> Result<(), Refusal> {
        self.stream_mut(stream)?.create_consumer(config)
    }

    /// Deletes a consumer and what it knows of deliveries; its messages stay.
    pub fn delete_consumer(&mut self, stream: &str, consumer: &str) -> Result<(), Refusal> {
        self.stream_mut(stream)?.delete_consumer(consumer)
    }

    /// `CONSUMER.INFO`.
    pub fn consumer_info(&self, stream: &str, consumer: &str) -> Result<ConsumerInfo, Refusal> {
        self.stream(stream)?.consumer_info(consumer)
    }

    /// Delivers up to `max` messages: a pull that does not wait. A pull that waits is the world's: it fetches again
    /// when [`Self::can_deliver`] says so, or time has passed [`Self::next_due`].
    pub fn fetch(&mut self, stream: &str, consumer: &str, max: usize) -> Result<Vec<Delivery>, RequestFailed> {
        let stream = self.streams.get_mut(stream).ok_or(RequestFailed::NoResponders)?;
        stream.fetch(consumer, max, self.now, &mut self.changes).ok_or(RequestFailed::NoResponders)
    }

    /// Whether a fetch would bring something; not when the consumer is missing.
    pub fn can_deliver(&self, stream: &str, consumer: &str) -> bool {
        let stream = self.streams.get(stream);
        stream.and_then(|stream| stream.can_deliver(consumer, self.now)).unwrap_or(false)
    }

    /// Takes an answer to a delivery, be it the last or an expired one. `Ok` is the reply that a client gets when it
    /// asked for one; it says that the server heard it, not that it changed anything. An ack of a work queue's
    /// message removes it, and its subject has room again. An ack of a message that the consumer, created again
    /// meanwhile, has not delivered is [`RequestFailed::Silence`].
    pub fn answer(&mut self, token: &AckToken, answer: Answer) -> Result<(), RequestFailed> {
        let stream = self.streams.get_mut(&token.stream).ok_or(RequestFailed::NoResponders)?;
        stream.answer(token, answer, self.now, &mut self.changes)
    }

    fn stream(&self, name: &str) -> Result<&Stream, Refusal> {
        self.streams.get(name).ok_or(Refusal::stream_not_found())
    }

    fn stream_mut(&mut self, name: &str) -> Result<&mut Stream, Refusal> {
        self.streams.get_mut(name).ok_or(Refusal::stream_not_found())
    }
}

#[cfg(test)]
mod tests;
