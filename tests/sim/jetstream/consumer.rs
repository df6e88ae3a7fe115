//! A durable pull consumer: which message comes next, and what an answer to a delivery does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_model::time::Timestamp;

use super::Forgotten;
use super::config::ConsumerConfig;
use super::dedupe::micros;
use super::pending::Pending;
use super::retained::Moment;
use super::store::Store;

/// Deliveries that a crash can take back.
const DELIVERIES_KEPT: usize = 100_000;

/// A NAK with a delay, even of nothing, is looked at after this time (server/consumer.go, `processNak`; 20 ms were
/// seen).
const NAK_DELAY_MIN: Duration = Duration::from_millis(10);

/// A message as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub subject: Arc<str>,
    pub payload: Bytes,
    pub traceparent: Option<Arc<str>>,
    /// When the stream stored it.
    pub published_at: Timestamp,
    /// What answers it.
    pub token: AckToken,
}

impl Delivery {
    /// Deliveries of this message, this one included.
    pub fn delivered(&self) -> u64 {
        self.token.delivered
    }

    pub fn stream_sequence(&self) -> u64 {
        self.token.stream_sequence
    }
}

/// What the reply subject of a delivery says (ADR-15): names and numbers, and nothing that ties it to the stream's
/// or consumer's incarnation. So it also answers a later delivery of the same message, and another message that
/// has the same sequence after the stream was created again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AckToken {
    pub stream: Arc<str>,
    pub consumer: Arc<str>,
    pub delivered: u64,
    pub stream_sequence: u64,
    pub consumer_sequence: u64,
}

/// An answer to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// `+ACK`.
    Ack,
    /// `-NAK`: again, at once.
    Nak,
    /// `-NAK {"delay": …}`: again, after a time.
    NakAfter(Duration),
    /// `+WPI`: the time until a redelivery starts anew.
    Progress,
}

/// What a consumer does with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It says nothing.
    Ignored,
    /// It replies; the message stays.
    Confirmed,
    /// It replies; the message is done with.
    Done,
}

/// What `CONSUMER.INFO` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Deliveries so far.
    pub delivered: u64,
    /// Delivered and not acked.
    pub ack_pending: u64,
    /// Of these, delivered more than once.
    pub redelivered: u64,
    /// Not delivered yet.
    pub pending: u64,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Consumer {
    config: ConsumerConfig,
    name: Arc<str>,
    stream: Arc<str>,
    /// The first sequence that was not looked at for a first delivery. A fetch that finds nothing looks at all.
    next: u64,
    /// Deliveries so far; the consumer sequence of the last.
    deliveries_made: u64,
    pending: Pending,
    /// When the last deliveries were, as changes of the server.
    deliveries: VecDeque<Moment>,
}

impl Consumer {
    pub(crate) fn new(stream: &str, config: ConsumerConfig, store: &Store) -> Self {
        Self {
            name: config.name.as_str().into(),
            stream: stream.into(),
            next: store.first_sequence(),
            deliveries_made: 0,
            pending: Pending::new(config.ack_wait),
            deliveries: VecDeque::new(),
            config,
        }
    }

    pub(crate) fn config(&self) -> &ConsumerConfig {
        &self.config
    }

    pub(crate) fn configure(&mut self, config: ConsumerConfig) {
        self.pending.set_ack_wait(config.ack_wait);
        self.config = config;
    }

    pub(crate) fn info(&self, store: &Store) -> ConsumerInfo {
        ConsumerInfo {
            delivered: self.deliveries_made,
            ack_pending: self.pending.len() as u64,
            redelivered: self.pending.redelivered() as u64,
            pending: store.count_from(self.next, &self.config.filter),
        }
    }

    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.pending.next_due()
    }

    pub(crate) fn can_deliver(&self, store: &Store, now: Timestamp) -> bool {
        self.pending.is_due(now)
            || (self.pending.len() < self.config.max_ack_pending
                && store.next_by_subject(self.next, &self.config.filter).is_some())
    }

    /// Delivers one message: first what is to be redelivered, whatever `max_ack_pending` says, then the next new one
    /// (the differential suite; server/consumer.go, `getNextMsg`).
    pub(crate) fn deliver(&mut self, store: &Store, now: Timestamp, changes: &mut u64) -> Option<Delivery> {
        self.pending.queue_due(now);
        let sequence = match self.pending.first_queued() {
            Some(sequence) => sequence,
            None if self.pending.len() >= self.config.max_ack_pending => return None,
            None => {
                let sequence = store.next_by_subject(self.next, &self.config.filter);
                self.next = sequence.unwrap_or(store.last_sequence()).max(self.next - 1) + 1;
                sequence?
            }
        };
        *changes += 1;
        let moment = Moment(*changes);
        self.deliveries_made += 1;
        if self.deliveries.len() == DELIVERIES_KEPT {
            self.deliveries.pop_front();
        }
        self.deliveries.push_back(moment);
        let consumer_sequence = self.deliveries_made;
        let message = store.get(sequence).expect("what is removed from the store is forgotten here");
        let delivered = self.pending.deliver(message, consumer_sequence, now, moment);
        Some(Delivery {
            subject: Arc::clone(&message.subject),
            payload: message.payload.clone(),
            traceparent: message.traceparent.clone(),
            published_at: message.time,
            token: AckToken {
                stream: Arc::clone(&self.stream),
                consumer: Arc::clone(&self.name),
                delivered,
                stream_sequence: sequence,
                consumer_sequence,
            },
        })
    }

    /// Takes an answer. Answers are not owned by a delivery: those of an expired one act on the message (reference,
    /// reliability T5).
    pub(crate) fn answer(&mut self, token: &AckToken, answer: Answer, now: Timestamp) -> Heard {
        self.pending.queue_due(now);
        let sequence = token.stream_sequence;
        match answer {
            // What the consumer has not come to since it was created cannot be acked, and nothing is said about it.
            // What it has come to can, even when it was passed over because its subject does not match.
            Answer::Ack if sequence >= self.next => return Heard::Ignored,
            Answer::Ack => {
                self.pending.remove(sequence);
                return Heard::Done;
            }
            Answer::Nak | Answer::NakAfter(_) if !self.takes_nak(token) => {}
            Answer::Nak => self.pending.queue(sequence),
            Answer::NakAfter(delay) => {
                let due = now.as_micros().saturating_add(micros(delay.max(NAK_DELAY_MIN)));
                self.pending.wait_until(sequence, Timestamp::from_micros(due));
            }
            Answer::Progress => self.pending.renew(sequence, now),
        }
        Heard::Confirmed
    }

    /// A NAK is held against the consumer's sequences, which a crash may have set back (server/consumer.go,
    /// `processNak`).
    fn takes_nak(&self, token: &AckToken) -> bool {
        let floor = self.pending.lowest_consumer_sequence().map_or(self.deliveries_made, |low| low - 1);
        token.consumer_sequence > floor
            && token.consumer_sequence <= self.deliveries_made + 1
            && self.pending.contains(token.stream_sequence)
    }

    /// A message is gone from the stream.
    pub(crate) fn forget(&mut self, sequence: u64) {
        self.pending.remove(sequence);
    }

    pub(crate) fn restart(&mut self, forgotten: Forgotten) {
        let kept = match forgotten {
            Forgotten::Nothing => Moment(u64::MAX),
            Forgotten::DeliveriesSince(moment) => moment,
        };
        while self.deliveries.back().is_some_and(|delivery| *delivery > kept) {
            self.deliveries.pop_back();
            self.deliveries_made -= 1;
        }
        if let Some(undelivered) = self.pending.restart(kept) {
            self.next = undelivered;
        }
    }
}
