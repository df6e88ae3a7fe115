//! Leases, the presence of coordinators, and those who watch them.

use std::time::Duration;

use millstream_model::ids::{NodeId, Partition};

use super::{Broker, Reader, Time};
use crate::simulation::coverage::{Phase, Phases};
use crate::simulation::happening::Happening;
use crate::simulation::jetstream::{Expected, Newest, ReadFrom, RequestFailed, StoredMessage, View, bucket_stream};
use crate::simulation::network::Life;
use crate::simulation::physics::Physics;
use crate::simulation::request::{LeaseChange, Leasing, NoReply, Push, Reply};

/// How long the store remembers that a lease was given back or a coordinator said goodbye.
const WITHDRAWN_TTL: Duration = Duration::from_secs(15);

/// Who announced itself within this time is there.
const HEARD_MS: u64 = 4_000;

/// Somebody watches leases.
#[derive(Debug)]
pub(super) struct LeaseReader {
    reader: Reader,
    /// Messages that were there when it began and were not told yet; then it is told that they were all.
    waiting: Option<u64>,
}

impl Broker {
    /// Who holds the lease of a partition.
    pub fn lease_of(&self, partition: Partition) -> Option<NodeId> {
        let (bucket, key) = (self.names.leases(), self.names.lease(partition));
        match self.server.newest_record(&bucket, &key, View::CURRENT) {
            Ok(Newest::Record(record)) => {
                let lease: millstream_model::lease::Lease = serde_json::from_slice(&record.payload).ok()?;
                Some(lease.node)
            }
            Ok(Newest::Nothing | Newest::Marker { .. }) | Err(_) => None,
        }
    }

    /// Coordinators that are present and do not fold a revision, and since when they have been there without a break.
    pub fn coordinators(&self, fold_rev: u16, now: Time) -> Vec<(NodeId, Time)> {
        let bucket = self.names.leases();
        let there = |node: &NodeId| {
            let record = self.server.newest_record(&bucket, &self.names.coordinator(node), View::CURRENT);
            matches!(record, Ok(Newest::Record(_)))
        };
        let old = self.present.iter().filter(|(_, (folds, ..))| *folds < fold_rev);
        // By the broker's clock, which goes back, one that is gone may be there for long.
        let present = old.filter(|(node, (.., heard))| now.millis_since(*heard) < HEARD_MS && there(node));
        present.map(|(node, (_, since, _))| (node.clone(), *since)).collect()
    }

    pub(super) fn lease_request(
        &mut self,
        life: Life,
        connection: u64,
        request: Leasing,
        now: Time,
    ) -> Result<Reply, NoReply> {
        let bucket = self.names.leases();
        match request {
            Leasing::Take { partition, lease, expected, ttl_ms } => {
                let value = serde_json::to_vec(&lease).expect("a lease always has a JSON form");
                let lifetime = Some(Duration::from_millis(ttl_ms));
                let key = self.names.lease(partition);
                self.write_lease_record(&key, value.into(), expected, lifetime).map(Reply::Revision)
            }
            Leasing::Release { partition, revision } => {
                let key = self.names.lease(partition);
                let expected = Expected::Revision(revision);
                match self.server.delete_record(&bucket, &key, expected, Some(WITHDRAWN_TTL)) {
                    Err(RequestFailed::Refused(refusal)) if refusal.code == 10071 => Err(NoReply::Taken),
                    result => Ok(result.map(|_| Reply::Done)?),
                }
            }
            Leasing::Announce { presence, ttl_ms } => {
                let value = serde_json::to_vec(&presence).expect("a presence always has a JSON form");
                let key = self.names.coordinator(&presence.node);
                let there = matches!(self.server.newest_record(&bucket, &key, View::CURRENT), Ok(Newest::Record(_)));
                let known = self.present.entry(presence.node.clone()).or_insert((presence.fold_rev, now, now));
                if !there {
                    known.1 = now;
                }
                known.2 = now;
                let lifetime = Some(Duration::from_millis(ttl_ms));
                self.server.put_record(&bucket, &key, value.into(), Expected::Anything, lifetime)?;
                Ok(Reply::Done)
            }
            Leasing::Withdraw { node } => {
                let key = self.names.coordinator(&node);
                self.server.delete_record(&bucket, &key, Expected::Anything, Some(WITHDRAWN_TTL))?;
                Ok(Reply::Done)
            }
            Leasing::Watch => {
                let feed = self.server.open_feed(&bucket_stream(&bucket), None, ReadFrom::NewestPerSubject);
                let feed = feed.map_err(NoReply::Refused)?;
                self.lease_readers.retain(|reader| reader.reader.life.node != life.node);
                let waiting = Some(feed.waiting());
                self.lease_readers.push(LeaseReader { reader: Reader { life, connection, feed }, waiting });
                Ok(Reply::Done)
            }
        }
    }

    /// Nothing is pushed to a node any more.
    pub(super) fn unwatch_leases(&mut self, gone: impl Fn(Life) -> bool) {
        self.lease_readers.retain(|reader| !gone(reader.reader.life));
    }

    pub(super) fn push_leases(&mut self, physics: &mut Physics) {
        let Self { server, lease_readers, names, .. } = self;
        lease_readers.retain_mut(|LeaseReader { reader, waiting }| {
            let (life, connection) = (reader.life, reader.connection);
            let lease = || Phases::of(Phase::Lease);
            loop {
                let told = Push::Lease(LeaseChange::InitialDone);
                let lost = waiting.take_if(|left| *left == 0).is_some() && !physics.push(life, connection, told, lease);
                let broken = lost
                    || match server.feed_next(&mut reader.feed) {
                        Ok(Some(message)) => {
                            *waiting = waiting.map(|left| left.saturating_sub(1));
                            let change = change(names, message);
                            change.is_some_and(|change| !physics.push(life, connection, Push::Lease(change), lease))
                        }
                        Ok(None) => {
                            // What was listed may be gone by now.
                            if waiting.is_some() {
                                *waiting = Some(0);
                                continue;
                            }
                            return true;
                        }
                        Err(_) => true,
                    };
                if broken {
                    let at = physics.now.plus_millis(physics.dice.between(1, 8_000));
                    physics.agenda.add(at, Happening::Push { life, connection, push: Push::LeasesBroken });
                    return false;
                }
            }
        });
    }
}

/// What a change of the bucket says of leases and coordinators.
fn change(names: &millstream_model::names::Names, message: &StoredMessage) -> Option<LeaseChange> {
    let bucket = names.leases();
    let key = message.subject.strip_prefix(&format!("$KV.{bucket}."))?;
    let (_, of) = key.split_once('.')?;
    let there = message.marker.is_none();
    if let Some(partition) = of.parse().ok().map(Partition)
        && names.lease(partition) == key
    {
        let lease = serde_json::from_slice(&message.payload).ok().map(|lease| (lease, message.sequence));
        return Some(LeaseChange::Lease(partition, lease.filter(|_| there)));
    }
    let node = of.parse::<NodeId>().ok().filter(|node| names.coordinator(node) == key)?;
    Some(LeaseChange::Coordinator(node, serde_json::from_slice(&message.payload).ok().filter(|_| there)))
}
