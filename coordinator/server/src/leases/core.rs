//! Everything a coordinator decides about which partitions it owns, without its IO.
//!
//! The shell brings what happened, with the time, and performs the commands that follow:
//!
//! ```text
//!   listed, lease, coordinator, wrote, announced, withdrawn, stopped, link, leave, tick
//!        │
//!        ▼
//!      Core ─▶ next_command … until there is none
//! ```
//!
//! A lease avoids that two coordinators do the same work; that no entry is applied twice rests on epochs. So an owner
//! goes on when its lease ran out or NATS is away, and stops when another coordinator's name is in the lease. What each
//! partition goes through here:
//!
//! ```text
//!            nobody holds it,          stored                  the owner runs,
//!            it is to be mine   ┌─ Take ───▶ Mine ── Start ─▶ renewed each 1.5 s
//!   Nobody ─────────────────────┘             │                   │ it is to be another's
//!     ▲                                       │                 Stop
//!     └───────────── Release ◀────────────────┴───────────────────┘
//! ```

mod slot;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millstream_model::ids::{NodeId, Partition};
use millstream_model::lease::{CoordinatorPresence, Lease};

use super::assignment::{all, assign};
use crate::owner::clock::Mono;
use slot::{Circumstances, Slot};

/// A lease that is not renewed for so long is nobody's.
pub const LEASE_TTL_MS: u64 = 5_000;
/// How often a lease is renewed.
pub const RENEW_MS: u64 = 1_500;
/// A coordinator that does not announce itself for so long is gone.
pub const PRESENCE_TTL_MS: u64 = 6_000;
/// How often a coordinator announces itself.
pub const ANNOUNCE_MS: u64 = 2_000;
/// Before a write that failed is tried again.
pub const RETRY_MS: u64 = 250;
/// Before a stopped owner is started again: the first time, and at most.
pub const RESTART_MS: std::ops::RangeInclusive<u64> = 250..=5_000;
/// An owner that ran for so long is started again without delay growing.
pub const STEADY_MS: u64 = 10_000;
/// Before a partition that could not be folded is tried again.
pub const HALTED_RETRY_MS: u64 = 60_000;
/// What is not heard of for its time to live and this is taken for gone, should nobody say so.
pub const SILENCE_GRACE_MS: u64 = 2_000;

/// One thing to do. Each write is followed by its result before the next one of the same partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Write the lease, which nobody may hold. Tell [`Core::wrote`].
    Take { partition: Partition },
    /// Write the lease again over its own revision. Tell [`Core::wrote`].
    Renew { partition: Partition, revision: u64 },
    /// Delete the lease. Tell [`Core::wrote`].
    Release { partition: Partition, revision: u64 },
    /// Write the presence. Tell [`Core::announced`].
    Announce(CoordinatorPresence),
    /// Delete the presence. Tell [`Core::withdrawn`].
    Withdraw,
    /// Start the owner of the partition. Tell [`Core::stopped`] when it has ended, whyever.
    Start(Partition),
    /// Stop the owner of the partition. Tell [`Core::stopped`].
    Stop(Partition),
}

/// What became of a write of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Stored {
        revision: u64,
    },
    Released,
    /// Another revision is there.
    Taken,
    /// Nobody knows whether it was stored.
    Unknown,
}

/// Why an owner has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It was told to.
    Asked,
    /// Another one has taken over, its journal had a gap, or it could not be read: another start may mend it.
    Lost,
    /// It cannot fold the partition, and would stop at the same place again.
    Halted,
}

/// Who holds a partition's lease, as far as is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    Nobody,
    Other { node: NodeId },
    Mine { revision: u64 },
}

/// The decisions of one coordinator.
///
/// Invariant: after each call the caller takes commands until there is none.
#[derive(Debug)]
pub struct Core {
    presence: CoordinatorPresence,
    stage: Stage,
    connected: bool,
    /// Since when changes come without interruption.
    hears_since: Mono,
    peers: BTreeMap<NodeId, Peer>,
    slots: BTreeMap<Partition, Slot>,
    /// Who may own, with what it cannot fold; `assigned` follows from it.
    members: BTreeMap<NodeId, BTreeSet<Partition>>,
    assigned: BTreeMap<Partition, NodeId>,
    announcement: Announcement,
    commands: VecDeque<Command>,
    wakes_at: Option<Mono>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// What is in the bucket is not known yet.
    Listing,
    Present,
    /// Owners stop, leases are released.
    Leaving,
    /// The presence is deleted.
    Withdrawing,
    Gone,
}

#[derive(Debug)]
struct Peer {
    presence: CoordinatorPresence,
    heard: Mono,
}

#[derive(Debug)]
struct Announcement {
    due: Mono,
    under_way: bool,
}

impl Core {
    /// A coordinator that has heard nothing yet. `presence` is its own, `now` when it begins to listen.
    pub fn new(partitions: u16, presence: CoordinatorPresence, now: Mono) -> Self {
        Self {
            presence,
            stage: Stage::Listing,
            connected: true,
            hears_since: now,
            peers: BTreeMap::new(),
            slots: all(partitions).map(|partition| (partition, Slot::new(now))).collect(),
            members: BTreeMap::new(),
            assigned: BTreeMap::new(),
            announcement: Announcement { due: now, under_way: false },
            commands: VecDeque::new(),
            wakes_at: None,
        }
    }

    /// Everything that was in the bucket has been told.
    pub fn listed(&mut self, now: Mono) {
        if self.stage == Stage::Listing {
            self.stage = Stage::Present;
        }
        self.settle(now);
    }

    /// A lease was written, or deleted, or has run out.
    pub fn lease(&mut self, partition: Partition, lease: Option<(Lease, u64)>, now: Mono) {
        let own = &self.presence.node;
        if let Some(slot) = self.slots.get_mut(&partition) {
            match lease {
                Some((Lease { node }, revision)) if node == *own => slot.heard_mine(revision, now),
                Some((Lease { node }, revision)) => slot.heard_other(node, revision, now),
                None => slot.heard_nobody(now),
            }
        }
        self.settle(now);
    }

    /// A coordinator announced itself, or is gone.
    pub fn coordinator(&mut self, node: NodeId, presence: Option<CoordinatorPresence>, now: Mono) {
        if node != self.presence.node {
            match presence {
                Some(presence) => drop(self.peers.insert(node, Peer { presence, heard: now })),
                None => drop(self.peers.remove(&node)),
            }
        }
        self.settle(now);
    }

    /// What became of the partition's write.
    pub fn wrote(&mut self, partition: Partition, written: Written, now: Mono) {
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.wrote(written, now);
        }
        self.settle(now);
    }

    /// The presence was written, or perhaps not.
    pub fn announced(&mut self, stored: bool, now: Mono) {
        self.announcement.under_way = false;
        if !stored {
            self.announcement.due = now.plus_millis(RETRY_MS);
        }
        self.settle(now);
    }

    /// The presence was deleted, or it will run out by itself.
    pub fn withdrawn(&mut self, now: Mono) {
        self.stage = Stage::Gone;
        self.settle(now);
    }

    /// The owner of a partition has ended.
    pub fn stopped(&mut self, partition: Partition, why: Why, now: Mono) {
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.stopped(why, now);
        }
        if why == Why::Halted && self.presence.halted.insert(partition) {
            self.announcement.due = now;
        }
        self.settle(now);
    }

    /// The connection is up or not. Changes that happened meanwhile are told again.
    pub fn link(&mut self, connected: bool, now: Mono) {
        if connected != std::mem::replace(&mut self.connected, connected) && connected {
            self.hears_since = now;
            self.announcement.due = now;
            self.slots.values_mut().for_each(Slot::reconnected);
        }
        self.settle(now);
    }

    /// Everything is handed over.
    pub fn leave(&mut self, now: Mono) {
        if matches!(self.stage, Stage::Listing | Stage::Present) {
            self.stage = Stage::Leaving;
            self.presence.leaving = true;
            self.announcement.due = now;
        }
        self.settle(now);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Mono) {
        // Who stood still has not heard what was said meanwhile.
        if self.wakes_at.is_some_and(|at| now >= at.plus_millis(SILENCE_GRACE_MS)) {
            self.hears_since = now;
        }
        self.settle(now);
    }

    /// When `tick` has something to do though nothing happens.
    pub fn wakes_at(&self) -> Option<Mono> {
        self.wakes_at
    }

    /// The next thing to do.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Whether everything was handed over and the presence is deleted.
    pub fn is_gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    /// Whether what was in the bucket is known.
    pub fn is_listed(&self) -> bool {
        self.stage != Stage::Listing
    }

    /// Own presence.
    pub fn presence(&self) -> &CoordinatorPresence {
        &self.presence
    }

    /// The other coordinators that are present.
    pub fn peers(&self) -> impl Iterator<Item = &CoordinatorPresence> {
        self.peers.values().map(|peer| &peer.presence)
    }

    /// Who holds each partition.
    pub fn held(&self) -> impl Iterator<Item = (Partition, &Held)> {
        self.slots.iter().map(|(&partition, slot)| (partition, slot.held()))
    }

    /// Who is to own each partition, as the presences say; those that nobody can fold are absent.
    pub fn assigned(&self) -> &BTreeMap<Partition, NodeId> {
        &self.assigned
    }

    /// The newest fold revision that every coordinator folds.
    pub fn fold_rev(&self) -> u16 {
        self.peers().map(|presence| presence.fold_rev).fold(self.presence.fold_rev, u16::min)
    }

    /// Draws the conclusions.
    fn settle(&mut self, now: Mono) {
        self.wakes_at = None;
        if matches!(self.stage, Stage::Listing | Stage::Gone) {
            return;
        }
        self.forget_the_silent(now);
        self.retry_halted(now);
        self.assign();
        for (&partition, slot) in &mut self.slots {
            let owner = self.assigned.get(&partition);
            let circumstances = Circumstances {
                now,
                connected: self.connected,
                hears_since: self.hears_since,
                wanted: self.stage == Stage::Present && owner == Some(&self.presence.node),
                wanted_elsewhere: self.stage != Stage::Present || owner.is_some_and(|o| *o != self.presence.node),
            };
            let (command, wakes_at) = slot.settle(partition, &circumstances);
            self.commands.extend(command);
            self.wakes_at = earliest(self.wakes_at, wakes_at);
        }
        self.announce(now);
    }

    fn forget_the_silent(&mut self, now: Mono) {
        if !self.connected {
            return;
        }
        let since = self.hears_since;
        let gone_at = |peer: &Peer| peer.heard.max(since).plus_millis(PRESENCE_TTL_MS + SILENCE_GRACE_MS);
        self.peers.retain(|_, peer| gone_at(peer) > now);
        self.wakes_at = earliest(self.wakes_at, self.peers.values().map(gone_at).min());
    }

    /// A partition that could not be folded is tried again when nobody else owns it.
    fn retry_halted(&mut self, now: Mono) {
        let mut halted = BTreeSet::new();
        for &partition in &self.presence.halted {
            let Some(slot) = self.slots.get_mut(&partition) else { continue };
            match slot.halted_until(now) {
                Some(until) => {
                    halted.insert(partition);
                    self.wakes_at = earliest(self.wakes_at, Some(until));
                }
                None => self.announcement.due = now,
            }
        }
        self.presence.halted = halted;
    }

    fn assign(&mut self) {
        let own = (self.stage == Stage::Present).then_some(&self.presence);
        let present = own.into_iter().chain(self.peers.values().map(|peer| &peer.presence));
        let members: BTreeMap<NodeId, BTreeSet<Partition>> = present
            .filter(|presence| !presence.leaving)
            .map(|presence| (presence.node.clone(), presence.halted.clone()))
            .collect();
        if members != self.members {
            self.assigned = assign(u16::try_from(self.slots.len()).unwrap_or(u16::MAX), &members);
            self.members = members;
        }
    }

    fn announce(&mut self, now: Mono) {
        if !self.connected || self.announcement.under_way {
            return;
        }
        match self.stage {
            Stage::Leaving if self.slots.values().all(Slot::is_handed_over) => {
                self.stage = Stage::Withdrawing;
                self.commands.push_back(Command::Withdraw);
            }
            Stage::Present | Stage::Leaving if now >= self.announcement.due => {
                self.announcement = Announcement { due: now.plus_millis(ANNOUNCE_MS), under_way: true };
                // Before leases are released, so that nobody waits for this coordinator to take them.
                self.commands.push_front(Command::Announce(self.presence.clone()));
            }
            Stage::Present | Stage::Leaving => self.wakes_at = earliest(self.wakes_at, Some(self.announcement.due)),
            Stage::Listing | Stage::Withdrawing | Stage::Gone => {}
        }
    }
}

fn earliest(one: Option<Mono>, other: Option<Mono>) -> Option<Mono> {
    [one, other].into_iter().flatten().min()
}

#[cfg(test)]
mod tests;
