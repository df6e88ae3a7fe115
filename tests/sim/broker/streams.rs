//! The streams and buckets of the world, set up as the broker crate does.

use std::collections::{BTreeMap, VecDeque};

use millstream_model::ids::Capability;
use millstream_model::names::Names;

use super::{Broker, PARTITION};
use crate::simulation::agenda::Time;
use crate::simulation::faults::Fault;
use crate::simulation::jetstream::{ConsumerConfig, Server, ServerOptions, StoredMessage, StreamConfig};
use crate::simulation::physics::Physics;
use crate::simulation::request::Push;

/// Tasks that a queue holds.
const QUEUE_MAX: u64 = 100_000;
/// Acked tasks that late reads still see.
const REMOVED_KEPT: usize = 2_000;

impl Broker {
    /// A broker with everything a coordinator creates when it starts.
    pub fn new(capabilities: &[Capability], physics: &Physics) -> Self {
        let names = Names::default();
        let late_reads = physics.faults.has(Fault::StaleRead);
        let options =
            ServerOptions { removed_kept: if late_reads { REMOVED_KEPT } else { 0 }, ..ServerOptions::default() };
        let mut server = Server::new(options, physics.clocks.broker(physics.now));
        let journal = StreamConfig::journal(&names.journal_stream(PARTITION), names.journal_subjects(PARTITION), None);
        let configs = [
            journal,
            StreamConfig::workers_bucket(&names.workers()),
            StreamConfig::expiring_bucket(&names.claims()),
            StreamConfig::expiring_bucket(&names.cancelled()),
            StreamConfig::leases_bucket(&names.leases()),
            StreamConfig::history(&names.history_stream(), names.history_subjects()),
        ];
        for config in configs {
            server.create_stream(config).expect("a new server takes every stream");
        }
        let mut broker = Self {
            server,
            names,
            capabilities: capabilities.to_vec(),
            payloads: BTreeMap::new(),
            transcripts: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            journal_readers: Vec::new(),
            cancel_readers: Vec::new(),
            lease_readers: Vec::new(),
            present: BTreeMap::new(),
            pulls: BTreeMap::new(),
            stored: Vec::new(),
            kept: Vec::new(),
            queued: Vec::new(),
            moments: VecDeque::new(),
            away_until: Time(0),
            full_until: Time(0),
            queue_full: None,
            denied: None,
            denied_results: None,
            gaps: 0,
            wakes_at: None,
            backup: None,
            forgot: Vec::new(),
            queue_lost: Vec::new(),
        };
        broker.ensure_task_stream();
        broker
    }

    /// Creates the task stream and its consumers unless they are there.
    pub(super) fn ensure_task_stream(&mut self) {
        let stream = self.tasks_stream();
        if self.server.stream_info(&stream).is_ok() {
            return;
        }
        let first = self.server.clock().as_micros();
        let config = StreamConfig::tasks(&stream, self.names.tasks_subjects(), QUEUE_MAX, first);
        self.server.create_stream(config).expect("the stream is missing");
        for capability in &self.capabilities {
            let filter = self.names.tasks_of_capability(capability);
            let config = ConsumerConfig::tasks(&self.names.task_consumer(capability), filter);
            self.server.create_consumer(&stream, config).expect("filters of capabilities do not overlap");
        }
    }

    pub(super) fn tasks_stream(&self) -> String {
        self.names.tasks_streams().remove(0)
    }
}

/// What a mark of a cancelled execution says.
pub(super) fn cancelled(message: &StoredMessage) -> Option<Push> {
    if message.marker.is_some() {
        return None;
    }
    let execution = message.subject.rsplit('.').next()?.parse().ok()?;
    let below = std::str::from_utf8(&message.payload).ok()?.parse().ok()?;
    Some(Push::Cancelled { execution, below })
}
