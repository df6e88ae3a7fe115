//! How every stream, bucket and object store of Millstream is configured.
//!
//! Names and subjects come from [`Names`]. What differs between environments is in [`Topology`];
//! all the rest is the same everywhere, and a stream that differs is reported (`drift.rs`).

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use millstream_model::ids::Partition;
use millstream_model::limits::{ACK_PENDING_MAX, DUPLICATE_WINDOW_MS, PARTITIONS, PRESENCE_TTL_MS};
use millstream_model::names::Names;

use crate::bucket::{bucket_stream, key_subject};
use crate::objects::{chunks_subject, description_filter, store_stream};

/// How long a lease or presence that ran out leaves a marker for those who watch.
const LEASE_MARKER_TTL: Duration = Duration::from_secs(30);

/// Where streams keep their messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Storage {
    #[default]
    File,
    /// For trying things out: gone when the server stops.
    Memory,
}

/// What an operator decides about the streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Partitions of the journal, 1–256; fixed when the cluster is created.
    pub partitions: u16,
    pub storage: Storage,
    /// Copies of each stream: 1, or 3 or 5 in a cluster of as many servers.
    pub replicas: usize,
    /// Tasks that may wait in the queue of one capability and partition.
    pub tasks_per_subject_max: i64,
    /// Size of the journal of one partition; `None` is unlimited.
    pub journal_bytes_max: Option<i64>,
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            partitions: PARTITIONS,
            storage: Storage::File,
            replicas: 1,
            tasks_per_subject_max: ACK_PENDING_MAX,
            journal_bytes_max: None,
        }
    }
}

impl Topology {
    fn stream(&self, name: String, subjects: Vec<String>) -> Config {
        Config {
            name,
            subjects,
            discard: DiscardPolicy::New,
            storage: match self.storage {
                Storage::File => StorageType::File,
                Storage::Memory => StorageType::Memory,
            },
            num_replicas: self.replicas,
            duplicate_window: Duration::from_millis(DUPLICATE_WINDOW_MS),
            allow_direct: true,
            ..Config::default()
        }
    }

    /// The journal of a partition: nothing is ever lost from it but by a purge.
    pub(crate) fn journal(&self, names: &Names, partition: Partition) -> Config {
        Config {
            max_bytes: self.journal_bytes_max.unwrap_or(-1),
            deny_delete: true,
            ..self.stream(names.journal_stream(partition), vec![names.journal_subjects(partition)])
        }
    }

    /// A stream of tasks. Its sequences start at `first_sequence`, which no earlier stream of this name can have
    /// reached, so that an ack of a task of that one hits nothing.
    pub(crate) fn tasks(&self, names: &Names, name: String, first_sequence: u64) -> Config {
        Config {
            retention: RetentionPolicy::WorkQueue,
            discard_new_per_subject: true,
            max_messages_per_subject: self.tasks_per_subject_max,
            first_sequence: Some(first_sequence),
            ..self.stream(name, vec![names.tasks_subjects()])
        }
    }

    /// The records of executions; each message has its own time to live.
    pub(crate) fn history(&self, names: &Names) -> Config {
        Config { allow_message_ttl: true, ..self.stream(names.history_stream(), vec![names.history_subjects()]) }
    }

    /// The audit trail: nothing of it is ever changed or deleted.
    pub(crate) fn audit(&self, names: &Names) -> Config {
        Config { deny_delete: true, deny_purge: true, ..self.stream(names.audit_stream(), vec![names.audit()]) }
    }

    /// Every stream whose configuration is the same whenever it is created; all but the task streams.
    pub(crate) fn streams(&self, names: &Names) -> Vec<Config> {
        let journals = (0..self.partitions).filter_map(|partition| u8::try_from(partition).ok()).map(Partition);
        let mut streams: Vec<Config> = journals.map(|partition| self.journal(names, partition)).collect();
        streams.extend([self.history(names), self.audit(names)]);
        streams.extend(self.stores(names));
        streams
    }

    /// Every bucket and object store.
    pub(crate) fn stores(&self, names: &Names) -> Vec<Config> {
        vec![
            self.bucket(&names.definitions()),
            self.bucket(&names.agents()),
            // Whoever watches workers learns from a marker that one ran out.
            Config {
                subject_delete_marker_ttl: Some(Duration::from_millis(PRESENCE_TTL_MS)),
                ..self.expiring_bucket(&names.workers())
            },
            self.expiring_bucket(&names.claims()),
            self.expiring_bucket(&names.cancelled()),
            // Whoever watches leases learns from a marker that one ran out. With a history of one, markers do not
            // lengthen the life of records that live shorter than they.
            Config { subject_delete_marker_ttl: Some(LEASE_MARKER_TTL), ..self.expiring_bucket(&names.leases()) },
            self.object_store(&names.payloads()),
            self.object_store(&names.snapshots()),
        ]
    }

    /// As NATS lays out a key-value bucket with a history of one (ADR-8).
    fn bucket(&self, bucket: &str) -> Config {
        Config {
            max_messages_per_subject: 1,
            deny_delete: true,
            allow_rollup: true,
            ..self.stream(bucket_stream(bucket), vec![key_subject(bucket, ">")])
        }
    }

    fn expiring_bucket(&self, bucket: &str) -> Config {
        Config { allow_message_ttl: true, ..self.bucket(bucket) }
    }

    /// As NATS lays out an object store (ADR-20).
    fn object_store(&self, store: &str) -> Config {
        let subjects = vec![chunks_subject(store, ">"), description_filter(store)];
        Config { allow_rollup: true, ..self.stream(store_stream(store), subjects) }
    }
}
