//! A small world of coordinators that share a bucket: writes arrive late or their answers never do, changes are heard
//! late, connections break, coordinators die and come, owners are taken over. Then all is calm and each partition must
//! have one owner.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millstream_model::ids::{NodeId, Partition};
use millstream_model::lease::{CoordinatorPresence, Lease};

use super::super::{Command, Core, LEASE_TTL_MS, PRESENCE_TTL_MS, Why, Written};
use super::{at, node, presence};

const PARTITIONS: u16 = 5;
const TROUBLE_MS: u64 = 40_000;
const CALM_MS: u64 = 30_000;
const STEP_MS: u64 = 10;

#[derive(Debug, Clone)]
enum Change {
    Lease(Partition, Option<(Lease, u64)>),
    Coordinator(NodeId, Option<CoordinatorPresence>),
}

#[derive(Debug)]
struct Node {
    core: Core,
    connected: bool,
    /// Of the changes.
    heard: usize,
    writes: VecDeque<Command>,
    /// The epoch of each running owner.
    owners: BTreeMap<Partition, u64>,
    stopping: BTreeSet<Partition>,
}

pub struct World {
    random: u64,
    now: u64,
    revision: u64,
    leases: BTreeMap<Partition, (Lease, u64, u64)>,
    presences: BTreeMap<NodeId, (CoordinatorPresence, u64)>,
    changes: Vec<Change>,
    epochs: BTreeMap<Partition, u64>,
    nodes: BTreeMap<NodeId, Node>,
    names: usize,
    history: String,
}

impl World {
    pub fn new(seed: u64, count: usize) -> Self {
        let mut world = Self {
            random: seed,
            now: 0,
            revision: 0,
            leases: BTreeMap::new(),
            presences: BTreeMap::new(),
            changes: Vec::new(),
            epochs: BTreeMap::new(),
            nodes: BTreeMap::new(),
            names: 0,
            history: String::new(),
        };
        (0..count).for_each(|_| world.join());
        world
    }

    /// Returns what happened.
    pub fn run(mut self) -> String {
        while self.now < TROUBLE_MS {
            self.trouble();
            self.step(4);
        }
        for node in self.nodes.values_mut().filter(|node| !node.connected) {
            node.connected = true;
            node.core.link(true, at(self.now));
        }
        while self.now < TROUBLE_MS + CALM_MS {
            self.step(1);
        }
        for partition in super::all(PARTITIONS) {
            let owners = self.nodes.iter().filter(|(_, node)| node.owners.contains_key(&partition));
            let owners: Vec<&NodeId> = owners.map(|(name, _)| name).collect();
            assert_eq!(owners.len(), 1, "owners of {partition}: {owners:?} after\n{}", self.history);
            let holder = &self.leases[&partition].0.node;
            assert_eq!(owners, [holder], "the owner of {partition} holds its lease\n{}", self.history);
        }
        self.history
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % below
    }

    fn note(&mut self, what: &str) {
        self.history += &format!("{} {what}\n", self.now);
    }

    fn join(&mut self) {
        self.names += 1;
        let name = format!("n{}", self.names);
        let mut core = Core::new(PARTITIONS, presence(&name), at(self.now));
        self.list(&mut core);
        core.listed(at(self.now));
        let heard = self.changes.len();
        let (writes, owners, stopping) = (VecDeque::new(), BTreeMap::new(), BTreeSet::new());
        self.nodes.insert(node(&name), Node { core, connected: true, heard, writes, owners, stopping });
        self.note(&format!("{name} joins"));
    }

    fn list(&self, core: &mut Core) {
        for partition in super::all(PARTITIONS) {
            let lease = self.leases.get(&partition).map(|(lease, revision, _)| (lease.clone(), *revision));
            core.lease(partition, lease, at(self.now));
        }
        let gone: Vec<NodeId> = core.peers().map(|peer| peer.node.clone()).collect();
        for name in gone.into_iter().filter(|name| !self.presences.contains_key(name)) {
            core.coordinator(name, None, at(self.now));
        }
        for (name, (presence, _)) in &self.presences {
            core.coordinator(name.clone(), Some(presence.clone()), at(self.now));
        }
    }

    fn pick(&mut self) -> NodeId {
        let index = self.draw(self.nodes.len() as u64);
        self.nodes.keys().nth(usize::try_from(index).expect("small")).expect("there is always one").clone()
    }

    fn trouble(&mut self) {
        let name = self.pick();
        match self.draw(400) {
            0 if self.nodes.len() > 1 => {
                self.nodes.remove(&name);
                self.note(&format!("{name} dies"));
            }
            1 if self.nodes.len() < 4 => self.join(),
            2..=3 => {
                let node = self.nodes.get_mut(&name).expect("it was picked");
                node.connected = !node.connected;
                let connected = node.connected;
                node.core.link(connected, at(self.now));
                if connected {
                    let mut node = self.nodes.remove(&name).expect("it was picked");
                    self.list(&mut node.core);
                    node.heard = self.changes.len();
                    self.nodes.insert(name.clone(), node);
                }
                self.note(&format!("{name} is connected: {connected}"));
            }
            4 => {
                let partition = Partition(u8::try_from(self.draw(u64::from(PARTITIONS))).expect("small"));
                let node = self.nodes.get_mut(&name).expect("it was picked");
                if node.owners.remove(&partition).is_some() {
                    node.stopping.remove(&partition);
                    node.core.stopped(partition, Why::Lost, at(self.now));
                    self.note(&format!("{name} loses {partition}"));
                }
            }
            5 if self.nodes.len() > 1 => {
                self.nodes.get_mut(&name).expect("it was picked").core.leave(at(self.now));
                self.note(&format!("{name} leaves"));
            }
            _ => {}
        }
        if let Some(mut node) = self.nodes.remove(&name) {
            self.perform(&name, &mut node);
            self.nodes.insert(name, node);
        }
    }

    /// Some time passes. Each thing that is under way happens with a chance of one in `slowness`.
    fn step(&mut self, slowness: u64) {
        self.now += STEP_MS;
        self.expire();
        let names: Vec<NodeId> = self.nodes.keys().cloned().collect();
        for name in names {
            let mut node = self.nodes.remove(&name).expect("nobody else takes it");
            node.core.tick(at(self.now));
            self.perform(&name, &mut node);
            if self.draw(slowness) == 0 {
                self.hear(&mut node);
                self.perform(&name, &mut node);
            }
            if self.draw(slowness) == 0 {
                self.write(&mut node, slowness);
                self.perform(&name, &mut node);
            }
            if self.draw(slowness) == 0 {
                self.fold(&name, &mut node);
            }
            let is_gone = node.core.is_gone();
            if is_gone {
                assert!(node.owners.is_empty(), "{name} is gone and owns\n{}", self.history);
                self.note(&format!("{name} is gone"));
            } else {
                self.nodes.insert(name, node);
            }
        }
        if self.nodes.is_empty() {
            self.join();
        }
    }

    fn expire(&mut self) {
        let now = self.now;
        let dead: Vec<Partition> = self.leases.iter().filter(|(_, l)| l.2 <= now).map(|(p, _)| *p).collect();
        for partition in dead {
            self.leases.remove(&partition);
            self.changes.push(Change::Lease(partition, None));
        }
        let dead: Vec<NodeId> = self.presences.iter().filter(|(_, p)| p.1 <= now).map(|(n, _)| n.clone()).collect();
        for name in dead {
            self.presences.remove(&name);
            self.changes.push(Change::Coordinator(name, None));
        }
    }

    fn hear(&mut self, node: &mut Node) {
        while node.connected && node.heard < self.changes.len() {
            match self.changes[node.heard].clone() {
                Change::Lease(partition, lease) => node.core.lease(partition, lease, at(self.now)),
                Change::Coordinator(name, presence) => node.core.coordinator(name, presence, at(self.now)),
            }
            node.heard += 1;
        }
    }

    /// An owner that is told to stop does; one that reads a newer epoch stops by itself.
    fn fold(&mut self, name: &NodeId, node: &mut Node) {
        for partition in std::mem::take(&mut node.stopping) {
            node.owners.remove(&partition);
            node.core.stopped(partition, Why::Asked, at(self.now));
            self.perform(name, node);
        }
        let epochs = &self.epochs;
        let taken = |(partition, epoch): (&Partition, &u64)| (epochs[partition] > *epoch).then_some(*partition);
        let taken: Vec<Partition> = node.owners.iter().filter_map(taken).collect();
        let taken = if node.connected { taken } else { Vec::new() };
        for partition in taken {
            node.owners.remove(&partition);
            node.stopping.remove(&partition);
            node.core.stopped(partition, Why::Lost, at(self.now));
            self.perform(name, node);
        }
    }

    fn perform(&mut self, name: &NodeId, node: &mut Node) {
        while let Some(command) = node.core.next_command() {
            match command {
                Command::Start(partition) => {
                    let epoch = self.epochs.entry(partition).or_default();
                    *epoch += 1;
                    assert_eq!(node.owners.insert(partition, *epoch), None, "{name} starts {partition} twice");
                    self.note(&format!("{name} owns {partition}"));
                }
                Command::Stop(partition) => {
                    assert!(node.owners.contains_key(&partition), "{name} stops {partition}, which it has not");
                    node.stopping.insert(partition);
                    self.note(&format!("{name} stops {partition}"));
                }
                write => node.writes.push_back(write),
            }
        }
    }

    fn write(&mut self, node: &mut Node, slowness: u64) {
        let Some(write) = node.writes.pop_front() else { return };
        let (is_sent, is_told) = match slowness {
            1 => (true, true),
            _ => (node.connected && self.draw(10) > 0, node.connected && self.draw(10) > 0),
        };
        let own = node.core.presence().node.clone();
        let now = at(self.now);
        let lease = |this: &mut Self, partition: Partition, expected: Option<u64>| {
            let found = this.leases.get(&partition).map(|(_, revision, _)| *revision);
            if !is_sent {
                return Written::Unknown;
            }
            if found != expected {
                return if is_told { Written::Taken } else { Written::Unknown };
            }
            this.revision += 1;
            let (lease, revision) = (Lease { node: own.clone() }, this.revision);
            this.leases.insert(partition, (lease.clone(), revision, this.now + LEASE_TTL_MS));
            this.changes.push(Change::Lease(partition, Some((lease, revision))));
            if is_told { Written::Stored { revision } } else { Written::Unknown }
        };
        match write {
            Command::Take { partition } => {
                let written = lease(self, partition, None);
                node.core.wrote(partition, written, now);
            }
            Command::Renew { partition, revision } => {
                let written = lease(self, partition, Some(revision));
                node.core.wrote(partition, written, now);
            }
            Command::Release { partition, revision } => {
                let found = self.leases.get(&partition).map(|(_, revision, _)| *revision);
                let written = if !is_sent {
                    Written::Unknown
                } else if found != Some(revision) {
                    Written::Taken
                } else {
                    self.revision += 1;
                    self.leases.remove(&partition);
                    self.changes.push(Change::Lease(partition, None));
                    if is_told { Written::Released } else { Written::Unknown }
                };
                node.core.wrote(partition, written, now);
            }
            Command::Announce(presence) => {
                if is_sent {
                    self.presences.insert(own.clone(), (presence.clone(), self.now + PRESENCE_TTL_MS));
                    self.changes.push(Change::Coordinator(own.clone(), Some(presence)));
                }
                node.core.announced(is_sent && is_told, now);
            }
            Command::Withdraw => {
                if is_sent {
                    self.presences.remove(&own);
                    self.changes.push(Change::Coordinator(own.clone(), None));
                }
                node.core.withdrawn(now);
            }
            Command::Start(_) | Command::Stop(_) => unreachable!("they are performed at once"),
        }
    }
}
