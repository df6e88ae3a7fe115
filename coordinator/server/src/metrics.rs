//! What a coordinator shows of itself in figures, for Prometheus.
//!
//! Each figure is read from where it is kept when somebody asks; nothing is counted beside. Counters of a partition begin
//! anew with its owner.

use std::collections::BTreeMap;

use millstream_engine::Ignored;
use millstream_model::ids::Partition;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::cluster::Readiness;
use crate::leases::View;
use crate::owner::machine::Counts;
use crate::owner::status::{Figures, Status};

type Labels = Vec<(&'static str, String)>;

/// The figures as OpenMetrics text.
pub fn encode(view: &View, readiness: &Readiness, owners: &BTreeMap<Partition, Status>) -> String {
    let mut figures = Text { registry: Registry::with_prefix("millstream") };
    figures.cluster(view, readiness);
    figures.owners(owners);
    figures.kept(owners);
    let mut text = String::new();
    text::encode(&mut text, &figures.registry).expect("a string takes what is written to it");
    text
}

struct Text {
    registry: Registry,
}

impl Text {
    fn cluster(&mut self, view: &View, readiness: &Readiness) {
        let one = |value: u64| [(Labels::new(), value)];
        self.gauge("nats_connected", "1 while NATS is connected", one(u64::from(readiness.connected)));
        self.gauge("coordinators", "Coordinators that are present", one(view.coordinators.len() as u64));
        self.gauge("partitions", "Partitions of the cluster", one(u64::from(view.partitions)));
        self.gauge("partitions_owned", "Partitions that are owned here", one(u64::from(readiness.owned)));
        let absent = one(readiness.absent.len() as u64);
        self.gauge("partitions_absent", "Partitions that nobody answers for", absent);
        let halted = view.incidents.keys().map(|partition| (of(*partition), 1));
        self.gauge("partition_halted", "1 for each partition that cannot be folded here", halted);
        self.counter("owner_starts", "Owners that were started here", one(view.starts));
        self.counter("failovers", "Partitions taken over from another coordinator", one(view.failovers));
        self.counter("owner_losses", "Owners that ended here without being told to", one(view.losses));
    }

    fn owners(&mut self, owners: &BTreeMap<Partition, Status>) {
        let caught_up = owners.iter().map(|(partition, status)| (of(*partition), u64::from(status.caught_up)));
        self.gauge("owner_caught_up", "1 once the owner has folded the journal to its end", caught_up);
        self.figure(owners, "owner_epoch", "Epoch of the owner", |f| f.epoch);
        self.figure(owners, "fold_revision", "Fold revision in force", |f| u64::from(f.fold_rev));
        let ignored = owners.iter().flat_map(|(partition, status)| {
            let labels = |reason: &Ignored| {
                let mut labels = of(*partition);
                labels.push(("reason", reason.as_str().to_owned()));
                labels
            };
            status.counts.ignored.iter().map(move |(reason, count)| (labels(reason), *count))
        });
        self.counter("entries_ignored", "Entries that changed nothing, by reason", ignored);
        self.count(owners, "results_malformed", "Results that are not entries", |c| c.malformed);
        self.count(owners, "tasks_reissued", "Tasks that were missing from the queue", |c| c.reissued);
        self.count(owners, "sweeps", "Looks for missing tasks that came to their end", |c| c.sweeps);
    }

    fn kept(&mut self, owners: &BTreeMap<Partition, Status>) {
        let executions = "Executions in memory";
        self.figure(owners, "executions_in_memory", executions, |f| f.in_memory as u64);
        let parked = "Executions that wait outside of memory";
        self.figure(owners, "executions_parked", parked, |f| f.parked as u64);
        self.count(owners, "executions_archived", "Executions that the history has", |c| c.archived);
        self.count(owners, "executions_put_away", "Executions that left memory to wait", |c| c.parked);
        self.count(owners, "executions_woken", "Executions that came back to memory", |c| c.woken);
        let transcripts = "Bytes of the transcripts in memory";
        self.figure(owners, "transcript_bytes", transcripts, |f| f.transcripts as u64);
        self.figure(owners, "journal_bytes", "Bytes of the journal", |f| f.journal_bytes);
        let limit =
            |(partition, status): (&Partition, &Status)| Some((of(*partition), status.figures.journal_bytes_max?));
        self.gauge("journal_bytes_max", "Bytes that the journal may have", owners.iter().filter_map(limit));
        let tail = "Entries of the journal that follow the newest snapshot";
        self.figure(owners, "journal_tail_entries", tail, |f| f.tail_entries);
        let tail = "Bytes of the journal that follow the newest snapshot";
        self.figure(owners, "journal_tail_bytes", tail, |f| f.tail_bytes);
        let snapshot = "Last message of the journal in the newest snapshot";
        self.figure(owners, "snapshot_sequence", snapshot, |f| f.snapshot);
        self.count(owners, "snapshots", "Snapshots that were stored", |c| c.snapshots);
        self.count(owners, "journal_trims", "Times that the journal was cut after a snapshot", |c| c.trims);
    }

    fn figure(&mut self, of_owners: &BTreeMap<Partition, Status>, name: &str, help: &str, value: fn(&Figures) -> u64) {
        let values = of_owners.iter().map(|(partition, status)| (of(*partition), value(&status.figures)));
        self.gauge(name, help, values);
    }

    fn count(&mut self, of_owners: &BTreeMap<Partition, Status>, name: &str, help: &str, value: fn(&Counts) -> u64) {
        let values = of_owners.iter().map(|(partition, status)| (of(*partition), value(&status.counts)));
        self.counter(name, help, values);
    }

    fn gauge(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Gauge>::default();
        for (labels, value) in values {
            let gauge = family.get_or_create_owned(&labels);
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            if labels.is_empty() {
                return self.registry.register(name, help, gauge);
            }
        }
        self.registry.register(name, help, family);
    }

    fn counter(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            let counter = family.get_or_create_owned(&labels);
            counter.inc_by(value);
            if labels.is_empty() {
                return self.registry.register(name, help, counter);
            }
        }
        self.registry.register(name, help, family);
    }
}

fn of(partition: Partition) -> Labels {
    vec![("partition", partition.to_string())]
}
