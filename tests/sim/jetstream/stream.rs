//! One stream: what it takes, what it refuses, what it removes by itself; and the consumers that hang on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream_model::time::Timestamp;

use super::Forgotten;
use super::config::{ConsumerConfig, Retention, StreamConfig};
use super::consumer::{AckToken, Answer, Consumer, ConsumerInfo, Delivery, Heard};
use super::dedupe::{Dedupe, micros};
use super::message::{Marker, PubAck, Publish, StoredMessage, stored_size};
use super::refusal::{Refusal, RequestFailed};
use super::retained::Moment;
use super::store::Store;
use super::subject::{matches, overlap};

/// What `STREAM.INFO` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamInfo {
    pub created: Timestamp,
    pub messages: u64,
    pub bytes: u64,
    /// Sequence of the oldest message that is left; one more than the last when none is.
    pub first_sequence: u64,
    /// Sequence of the newest message ever stored.
    pub last_sequence: u64,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    config: StreamConfig,
    created: Timestamp,
    /// Tells it from others of the same name, before and after.
    number: u64,
    store: Store,
    ids: Dedupe,
    consumers: BTreeMap<Arc<str>, Consumer>,
}

impl Stream {
    pub(crate) fn new(config: StreamConfig, created: Timestamp, number: u64, removed_kept: usize) -> Self {
        Self {
            created,
            number,
            store: Store::new(config.first_sequence, removed_kept),
            ids: Dedupe::new(config.duplicate_window),
            consumers: BTreeMap::new(),
            config,
        }
    }

    pub(crate) fn config(&self) -> &StreamConfig {
        &self.config
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn limit(&mut self, max_msgs: Option<u64>, max_bytes: Option<u64>) {
        self.config.max_msgs = max_msgs;
        self.config.max_bytes = max_bytes;
    }

    pub(crate) fn takes(&self, subject: &str) -> bool {
        self.config.subjects.iter().any(|filter| matches(filter, subject))
    }

    pub(crate) fn takes_any_of(&self, filter: &str) -> bool {
        self.config.subjects.iter().any(|own| overlap(own, filter))
    }

    pub(crate) fn info(&self) -> StreamInfo {
        StreamInfo {
            created: self.created,
            messages: self.store.count(),
            bytes: self.store.bytes(),
            first_sequence: self.store.first_sequence(),
            last_sequence: self.store.last_sequence(),
        }
    }

    pub(crate) fn publish(
        &mut self,
        publish: &Publish<'_>,
        now: Timestamp,
        changes: &mut u64,
    ) -> Result<PubAck, Refusal> {
        if publish.lifetime_seconds.is_some() && !self.config.allow_lifetimes {
            return Err(Refusal::lifetimes_off());
        }
        let last = self.store.of_subject(publish.subject).and_then(|sequences| sequences.last()).copied().unwrap_or(0);
        if publish.expected_last_subject_sequence.is_some_and(|expected| expected != last) {
            return Err(Refusal::wrong_last_sequence(last));
        }
        let last = self.store.last_sequence();
        if publish.expected_last_sequence.is_some_and(|expected| expected != last) {
            return Err(Refusal::wrong_last_sequence(last));
        }
        // A duplicate is told after expectations and before limits (the differential suite).
        if let Some(sequence) = publish.msg_id.and_then(|id| self.ids.find(id, now)) {
            return Ok(PubAck { sequence, duplicate: true });
        }
        let size = stored_size(publish.subject.len(), publish.headers_size(), publish.payload.len());
        self.check_limits(publish.subject, size)?;
        let msg_id: Option<Arc<str>> = publish.msg_id.map(Into::into);
        let lifetime = publish.lifetime_seconds.map(|seconds| seconds.saturating_mul(1_000));
        let message = StoredMessage {
            sequence: 0,
            time: now,
            subject: self.store.interned(publish.subject),
            msg_id: msg_id.clone(),
            marker: publish.marker,
            expires: lifetime.map(|millis| now.plus_millis(millis)),
            traceparent: publish.traceparent.map(Into::into),
            payload: publish.payload.clone(),
            size,
            stored: Moment(0),
        };
        let sequence = self.keep(message, changes);
        if let Some(id) = msg_id {
            self.ids.add(id, sequence, now);
        }
        Ok(PubAck { sequence, duplicate: false })
    }

    /// Whether there is room, in the order in which the server looks (server/filestore.go, `storeRawMsg`).
    fn check_limits(&self, subject: &str, size: u64) -> Result<(), Refusal> {
        let of_subject = self.store.of_subject(subject);
        let count = of_subject.map_or(0, |sequences| sequences.len() as u64);
        let subject_is_full = self.config.max_msgs_per_subject.is_some_and(|max| count >= max);
        if subject_is_full && self.config.discard_new_per_subject {
            return Err(Refusal::subject_full());
        }
        if !subject_is_full && self.config.max_msgs.is_some_and(|max| self.store.count() >= max) {
            return Err(Refusal::messages_full());
        }
        if self.config.max_bytes.is_some_and(|max| self.store.bytes() + size > max) {
            // The oldest of a full subject makes room for what is not larger.
            let oldest = of_subject.and_then(|sequences| sequences.first()).filter(|_| subject_is_full);
            let oldest = oldest.and_then(|sequence| self.store.get(*sequence));
            if oldest.is_none_or(|oldest| oldest.size < size) {
                return Err(Refusal::bytes_full());
            }
        }
        Ok(())
    }

    /// Stores a message and removes the oldest of its subject if that is too many.
    fn keep(&mut self, message: StoredMessage, changes: &mut u64) -> u64 {
        let subject = Arc::clone(&message.subject);
        let sequence = self.store.push(message, changes);
        if let Some(max) = self.config.max_msgs_per_subject
            && let Some(sequences) = self.store.of_subject(&subject)
            && sequences.len() as u64 > max
            && let Some(oldest) = sequences.first().copied()
        {
            self.remove(oldest, changes);
        }
        sequence
    }

    /// Removes a message; whether it was there. Consumers forget it.
    pub(crate) fn remove(&mut self, sequence: u64, changes: &mut u64) -> bool {
        for consumer in self.consumers.values_mut() {
            consumer.forget(sequence);
        }
        self.store.remove(sequence, changes)
    }

    pub(crate) fn purge(&mut self, before: u64, changes: &mut u64) -> u64 {
        let doomed = self.store.sequences_below(before);
        for sequence in &doomed {
            self.remove(*sequence, changes);
        }
        // A purge beyond the end moves the end.
        self.store.skip_to(before);
        doomed.len() as u64
    }

    pub(crate) fn lose_tail(&mut self, last: u64, changes: &mut u64) {
        self.store.truncate(last, changes);
        self.ids.rebuild(self.store.iter());
    }

    /// Removes what ran out, and stores markers of it where the stream wants them.
    /// It happens when it is due, but not before `before`, the last time that was told.
    pub(crate) fn expire(&mut self, before: Timestamp, now: Timestamp, changes: &mut u64) {
        while let Some((expires, message)) = self.store.next_to_expire()
            && expires <= now
        {
            let (sequence, subject) = (message.sequence, Arc::clone(&message.subject));
            // Markers of expiry and of a purge leave nothing behind, a deletion leaves one (the differential suite).
            let is_final = matches!(message.marker, Some(Marker::Expired | Marker::Purged));
            self.remove(sequence, changes);
            let Some(lifetime) = self.config.marker_lifetime else { continue };
            if is_final || self.store.of_subject(&subject).is_some() {
                continue;
            }
            let marker = expired(subject, lifetime.as_secs(), expires.max(before));
            self.keep(marker, changes);
        }
    }

    /// The next time at which time alone changes something here.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let lifetime = self.store.next_to_expire().map(|(expires, _)| expires);
        let redelivery = self.consumers.values().filter_map(Consumer::next_due).min();
        lifetime.into_iter().chain(redelivery).min()
    }

    /// A start with what was stored.
    pub(crate) fn restart(&mut self, now: Timestamp, forgotten: Forgotten) {
        let oldest = now.as_micros().saturating_sub(micros(self.config.duplicate_window));
        let lately = self.store.iter().filter(|message| message.time.as_micros() >= oldest);
        self.ids.rebuild(lately);
        for consumer in self.consumers.values_mut() {
            consumer.restart(forgotten);
        }
    }

    pub(crate) fn create_consumer(&mut self, config: ConsumerConfig) -> Result<(), Refusal> {
        let mut others = self.consumers.values().map(Consumer::config).filter(|other| other.name != config.name);
        let is_work_queue = self.config.retention == Retention::WorkQueue;
        if is_work_queue && others.any(|other| overlap(&other.filter, &config.filter)) {
            return Err(Refusal::filter_not_unique());
        }
        match self.consumers.get_mut(config.name.as_str()) {
            Some(consumer) => consumer.configure(config),
            None => {
                let name = config.name.as_str().into();
                self.consumers.insert(name, Consumer::new(&self.config.name, config, &self.store));
            }
        }
        Ok(())
    }

    pub(crate) fn delete_consumer(&mut self, consumer: &str) -> Result<(), Refusal> {
        self.consumers.remove(consumer).map(drop).ok_or(Refusal::consumer_not_found())
    }

    pub(crate) fn consumer_info(&self, consumer: &str) -> Result<ConsumerInfo, Refusal> {
        self.consumers.get(consumer).map(|consumer| consumer.info(&self.store)).ok_or(Refusal::consumer_not_found())
    }

    /// `None` when there is no such consumer.
    pub(crate) fn fetch(
        &mut self,
        consumer: &str,
        max: usize,
        now: Timestamp,
        changes: &mut u64,
    ) -> Option<Vec<Delivery>> {
        let consumer = self.consumers.get_mut(consumer)?;
        let mut deliveries = Vec::new();
        while deliveries.len() < max
            && let Some(delivery) = consumer.deliver(&self.store, now, changes)
        {
            deliveries.push(delivery);
        }
        Some(deliveries)
    }

    /// Whether a fetch would bring something; `None` when there is no such consumer.
    pub(crate) fn can_deliver(&self, consumer: &str, now: Timestamp) -> Option<bool> {
        self.consumers.get(consumer).map(|consumer| consumer.can_deliver(&self.store, now))
    }

    pub(crate) fn answer(
        &mut self,
        token: &AckToken,
        answer: Answer,
        now: Timestamp,
        changes: &mut u64,
    ) -> Result<(), RequestFailed> {
        let consumer = self.consumers.get_mut(&token.consumer).ok_or(RequestFailed::NoResponders)?;
        match consumer.answer(token, answer, now) {
            Heard::Ignored => return Err(RequestFailed::Silence),
            Heard::Confirmed => {}
            Heard::Done => {
                if self.config.retention == Retention::WorkQueue && !self.is_wanted_by_another(token) {
                    self.remove(token.stream_sequence, changes);
                }
            }
        }
        Ok(())
    }

    /// Whether the message of an ack is another consumer's, which has not acked it: it is there.
    fn is_wanted_by_another(&self, token: &AckToken) -> bool {
        let Some(message) = self.store.get(token.stream_sequence) else { return false };
        let mut others = self.consumers.iter().filter(|(name, _)| **name != token.consumer);
        others.any(|(_, consumer)| matches(&consumer.config().filter, &message.subject))
    }
}

/// The server's own marker for a subject whose last message ran out.
fn expired(subject: Arc<str>, seconds: u64, now: Timestamp) -> StoredMessage {
    let (name, reason) = Marker::Expired.header();
    let headers =
        format!("NATS/1.0\r\n{name}: {reason}\r\nNats-TTL: {}\r\nNats-Rollup: sub\r\n\r\n", go_duration(seconds)).len();
    StoredMessage {
        sequence: 0,
        time: now,
        size: stored_size(subject.len(), headers, 0),
        subject,
        msg_id: None,
        marker: Some(Marker::Expired),
        expires: Some(now.plus_millis(seconds.saturating_mul(1_000))),
        traceparent: None,
        payload: Bytes::new(),
        stored: Moment(0),
    }
}

/// Whole seconds as the server's language writes them; it counts in the stream's bytes.
fn go_duration(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}
