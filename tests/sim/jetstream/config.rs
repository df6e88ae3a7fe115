//! How streams and consumers are set up. Everything not named here is as `shared/broker/src/layout.rs` has it:
//! file storage, one replica, `discard: new`, direct get allowed.

use std::time::Duration;

use millstream_model::limits::{ACK_PENDING_MAX, ACK_WAIT_MS, DUPLICATE_WINDOW_MS, PRESENCE_TTL_MS};

/// How long a marker tells that a lease or the presence of a coordinator ran out.
const LEASE_MARKER_MS: u64 = 30_000;

/// When a stream removes messages by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Never: it refuses what is too much.
    Limits,
    /// When they are acked.
    WorkQueue,
}

/// A stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    pub name: String,
    pub subjects: Vec<String>,
    pub retention: Retention,
    pub max_msgs: Option<u64>,
    pub max_bytes: Option<u64>,
    /// With `discard_new_per_subject` what is too much is refused, without it the oldest of the subject goes.
    pub max_msgs_per_subject: Option<u64>,
    pub discard_new_per_subject: bool,
    pub duplicate_window: Duration,
    /// The first message gets this sequence.
    pub first_sequence: u64,
    pub deny_delete: bool,
    /// Messages may have a lifetime.
    pub allow_lifetimes: bool,
    /// A marker tells for so long that the last message of a subject ran out.
    pub marker_lifetime: Option<Duration>,
}

impl StreamConfig {
    fn new(name: &str, subject: String) -> Self {
        Self {
            name: name.to_owned(),
            subjects: vec![subject],
            retention: Retention::Limits,
            max_msgs: None,
            max_bytes: None,
            max_msgs_per_subject: None,
            discard_new_per_subject: false,
            duplicate_window: Duration::from_millis(DUPLICATE_WINDOW_MS),
            first_sequence: 1,
            deny_delete: false,
            allow_lifetimes: false,
            marker_lifetime: None,
        }
    }

    /// The journal of a partition. `subjects` is a filter such as `ms.journal.0.>`.
    pub fn journal(name: &str, subjects: String, bytes_max: Option<u64>) -> Self {
        Self { deny_delete: true, max_bytes: bytes_max, ..Self::new(name, subjects) }
    }

    /// The task stream, of which a subject holds at most `per_subject_max` tasks. `first_sequence` is, as the broker
    /// crate has it, the time of creation in microseconds.
    pub fn tasks(name: &str, subjects: String, per_subject_max: u64, first_sequence: u64) -> Self {
        Self {
            retention: Retention::WorkQueue,
            max_msgs_per_subject: Some(per_subject_max),
            discard_new_per_subject: true,
            first_sequence,
            ..Self::new(name, subjects)
        }
    }

    /// The history: its messages may have a lifetime, and leave nothing behind when it ends.
    pub fn history(name: &str, subjects: String) -> Self {
        Self { allow_lifetimes: true, ..Self::new(name, subjects) }
    }

    /// A bucket with a history of one. Its stream is `KV_<bucket>`.
    pub fn bucket(bucket: &str) -> Self {
        Self {
            max_msgs_per_subject: Some(1),
            deny_delete: true,
            ..Self::new(&format!("KV_{bucket}"), format!("$KV.{bucket}.>"))
        }
    }

    /// A bucket whose keys may have a lifetime.
    pub fn expiring_bucket(bucket: &str) -> Self {
        Self { allow_lifetimes: true, ..Self::bucket(bucket) }
    }

    /// The bucket of leases, whose watchers are told by a marker that a lease or a coordinator ran out.
    pub fn leases_bucket(bucket: &str) -> Self {
        Self { marker_lifetime: Some(Duration::from_millis(LEASE_MARKER_MS)), ..Self::expiring_bucket(bucket) }
    }

    /// The bucket of workers, whose watchers are told by a marker that a worker ran out.
    pub fn workers_bucket(bucket: &str) -> Self {
        Self { marker_lifetime: Some(Duration::from_millis(PRESENCE_TTL_MS)), ..Self::expiring_bucket(bucket) }
    }
}

/// A durable pull consumer with explicit acks that delivers from the first message on, as often as it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerConfig {
    pub name: String,
    pub filter: String,
    pub ack_wait: Duration,
    pub max_ack_pending: usize,
}

impl ConsumerConfig {
    /// The consumer of a capability. `filter` is such as `ms.task.<capability>.*`.
    pub fn tasks(name: &str, filter: String) -> Self {
        Self {
            name: name.to_owned(),
            filter,
            ack_wait: Duration::from_millis(ACK_WAIT_MS),
            max_ack_pending: usize::try_from(ACK_PENDING_MAX).expect("the limit is a positive number"),
        }
    }
}
