//! Messages on their way in, and as they are stored.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_model::time::Timestamp;

use super::retained::Moment;

/// A message that says a key has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// `KV-Operation: DEL`, by a client.
    Deleted,
    /// `KV-Operation: PURGE`, by a client.
    Purged,
    /// `Nats-Marker-Reason: MaxAge`, by the server when the last message of a subject ran out.
    Expired,
}

/// A message to be stored. Build it with [`Publish::new`] and the methods below.
#[derive(Debug, Clone)]
pub struct Publish<'a> {
    pub(crate) subject: &'a str,
    pub(crate) payload: Bytes,
    pub(crate) msg_id: Option<&'a str>,
    pub(crate) expected_last_sequence: Option<u64>,
    pub(crate) expected_last_subject_sequence: Option<u64>,
    pub(crate) lifetime_seconds: Option<u64>,
    pub(crate) marker: Option<Marker>,
    pub(crate) traceparent: Option<&'a str>,
}

impl<'a> Publish<'a> {
    pub fn new(subject: &'a str, payload: Bytes) -> Self {
        Self {
            subject,
            payload,
            msg_id: None,
            expected_last_sequence: None,
            expected_last_subject_sequence: None,
            lifetime_seconds: None,
            marker: None,
            traceparent: None,
        }
    }

    /// `Nats-Msg-Id`.
    #[must_use]
    pub fn msg_id(mut self, id: &'a str) -> Self {
        self.msg_id = Some(id);
        self
    }

    /// `Nats-Expected-Last-Sequence`.
    #[must_use]
    pub fn expected_last_sequence(mut self, sequence: u64) -> Self {
        self.expected_last_sequence = Some(sequence);
        self
    }

    /// `Nats-Expected-Last-Subject-Sequence`.
    #[must_use]
    pub fn expected_last_subject_sequence(mut self, sequence: u64) -> Self {
        self.expected_last_subject_sequence = Some(sequence);
        self
    }

    /// `Nats-TTL`, in whole seconds, at least one, rounded up as the broker crate does.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        let seconds = lifetime.as_millis().div_ceil(1_000).max(1);
        self.lifetime_seconds = Some(u64::try_from(seconds).unwrap_or(u64::MAX));
        self
    }

    /// `KV-Operation`.
    #[must_use]
    pub fn marker(mut self, marker: Marker) -> Self {
        self.marker = Some(marker);
        self
    }

    /// `traceparent`.
    #[must_use]
    pub fn traceparent(mut self, traceparent: &'a str) -> Self {
        self.traceparent = Some(traceparent);
        self
    }

    /// Header names and values in the order in which the suite sends them.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        let mut add = |name, value: Option<String>| headers.extend(value.map(|value| (name, value)));
        add("Nats-Msg-Id", self.msg_id.map(str::to_owned));
        add("Nats-Expected-Last-Sequence", self.expected_last_sequence.map(|n| n.to_string()));
        add("Nats-Expected-Last-Subject-Sequence", self.expected_last_subject_sequence.map(|n| n.to_string()));
        add("Nats-TTL", self.lifetime_seconds.map(|n| format!("{n}s")));
        add("KV-Operation", self.marker.map(|marker| marker.header().1.to_owned()));
        add("traceparent", self.traceparent.map(str::to_owned));
        headers
    }

    /// Bytes of the header block; 0 when there are no headers.
    pub(crate) fn headers_size(&self) -> usize {
        let line = |name: &str, value: Option<usize>| value.map_or(0, |value| name.len() + ": \r\n".len() + value);
        let digits = |number: u64| number.checked_ilog10().map_or(1, |log| log as usize + 1);
        let lines = line("Nats-Msg-Id", self.msg_id.map(str::len))
            + line("Nats-Expected-Last-Sequence", self.expected_last_sequence.map(digits))
            + line("Nats-Expected-Last-Subject-Sequence", self.expected_last_subject_sequence.map(digits))
            + line("Nats-TTL", self.lifetime_seconds.map(|n| digits(n) + 1))
            + line("KV-Operation", self.marker.map(|marker| marker.header().1.len()))
            + line("traceparent", self.traceparent.map(str::len));
        if lines == 0 { 0 } else { "NATS/1.0\r\n\r\n".len() + lines }
    }
}

impl Marker {
    /// The header that says it.
    pub const fn header(self) -> (&'static str, &'static str) {
        match self {
            Self::Deleted => ("KV-Operation", "DEL"),
            Self::Purged => ("KV-Operation", "PURGE"),
            Self::Expired => ("Nats-Marker-Reason", "MaxAge"),
        }
    }
}

/// A stream's answer to a message that it stored, now or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PubAck {
    /// The message's sequence; that of the first copy when it is a duplicate.
    pub sequence: u64,
    pub duplicate: bool,
}

/// A message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    pub sequence: u64,
    /// When it was stored, by the server's clock.
    pub time: Timestamp,
    pub subject: Arc<str>,
    pub msg_id: Option<Arc<str>>,
    pub marker: Option<Marker>,
    /// When it runs out, by the server's clock.
    pub expires: Option<Timestamp>,
    pub traceparent: Option<Arc<str>>,
    pub payload: Bytes,
    /// What it counts for in the stream's bytes.
    pub size: u64,
    /// The change that stored it.
    pub stored: Moment,
}

/// What a file store counts for a message: 22 bytes of record header, 8 of checksum, and 4 for the headers' length
/// when there are any (server/filestore.go; the differential suite compares the stream's bytes).
pub(crate) fn stored_size(subject: usize, headers: usize, payload: usize) -> u64 {
    let headers = if headers == 0 { 0 } else { headers + 4 };
    (22 + subject + headers + payload + 8) as u64
}
