//! What a coordinator knows of the partitions, for its API.

use std::collections::BTreeMap;

use millstream_model::ids::{NodeId, Partition};
use millstream_model::lease::CoordinatorPresence;

use super::core::{Core, Held, Why};
use super::owned::Owned;

/// See the module.
#[derive(Debug, Clone)]
pub struct View {
    /// Partitions of the cluster.
    pub partitions: u16,
    /// What was in the bucket at the start is known.
    pub listed: bool,
    /// The connection to NATS is up.
    pub connected: bool,
    /// Everything was handed over.
    pub gone: bool,
    /// The owners that run here.
    pub owned: BTreeMap<Partition, Owned>,
    /// Who holds each partition's lease; those that nobody holds are absent.
    pub holders: BTreeMap<Partition, NodeId>,
    /// Who is to own each partition; those that nobody can fold are absent.
    pub assigned: BTreeMap<Partition, NodeId>,
    /// The coordinators that are present, this one first.
    pub coordinators: Vec<CoordinatorPresence>,
    /// Why partitions halted here, until they are owned again.
    pub incidents: BTreeMap<Partition, String>,
    /// Owners that were started here.
    pub starts: u64,
    /// Of these, how many followed another coordinator's.
    pub failovers: u64,
    /// Owners that ended here without being told to.
    pub losses: u64,
    /// Who held each partition last.
    last_holders: BTreeMap<Partition, NodeId>,
}

impl View {
    pub(super) fn new(partitions: u16) -> Self {
        Self {
            partitions,
            listed: false,
            connected: true,
            gone: false,
            owned: BTreeMap::new(),
            holders: BTreeMap::new(),
            assigned: BTreeMap::new(),
            coordinators: Vec::new(),
            incidents: BTreeMap::new(),
            starts: 0,
            failovers: 0,
            losses: 0,
            last_holders: BTreeMap::new(),
        }
    }

    /// The coordinators that cannot fold a partition.
    pub fn halted_at(&self, partition: Partition) -> impl Iterator<Item = &NodeId> {
        self.coordinators.iter().filter(move |c| c.halted.contains(&partition)).map(|c| &c.node)
    }

    pub(super) fn started(&mut self, partition: Partition, owned: Owned) {
        self.owned.insert(partition, owned);
        self.starts += 1;
        let own = self.coordinators.first().map(|own| &own.node);
        if self.last_holders.get(&partition).is_some_and(|node| Some(node) != own) {
            self.failovers += 1;
        }
    }

    pub(super) fn stopped(&mut self, partition: Partition, why: Why, reason: Option<String>) {
        self.owned.remove(&partition);
        match why {
            Why::Asked => {}
            Why::Lost => self.losses += 1,
            Why::Halted => {
                self.losses += 1;
                self.incidents.insert(partition, reason.unwrap_or_default());
            }
        }
    }

    /// Whether anything has changed.
    pub(super) fn update(&mut self, core: &Core, connected: bool) -> bool {
        let own = core.presence();
        let holders: BTreeMap<Partition, NodeId> = core
            .held()
            .filter_map(|(partition, held)| match held {
                Held::Nobody => None,
                Held::Other { node } => Some((partition, node.clone())),
                Held::Mine { .. } => Some((partition, own.node.clone())),
            })
            .collect();
        let changed = self.listed != core.is_listed()
            || self.connected != connected
            || self.holders != holders
            || !self.coordinators.iter().eq(std::iter::once(own).chain(core.peers()))
            || self.assigned != *core.assigned();
        if changed {
            self.listed = core.is_listed();
            self.connected = connected;
            self.last_holders.extend(holders.iter().map(|(partition, node)| (*partition, node.clone())));
            self.holders = holders;
            self.coordinators = std::iter::once(own).chain(core.peers()).cloned().collect();
            self.assigned.clone_from(core.assigned());
            let own = &own.node;
            let (holders, halted) = (&self.holders, &core.presence().halted);
            self.incidents.retain(|partition, _| {
                halted.contains(partition) && holders.get(partition).is_none_or(|node| node == own)
            });
        }
        changed
    }
}
