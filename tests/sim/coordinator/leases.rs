//! Who owns what: the real lease core decides, here its commands become messages.
//!
//! One of the partitions has a real owner; of the others a process only knows whether it is to own them.

use millstream_coordinator::leases::core::{Command, Why, Written};
use millstream_model::ids::Partition;
use millstream_model::lease::Lease;

use super::{Awaited, Coordinator, End};
use crate::simulation::broker::PARTITION;
use crate::simulation::happening::{Happening, Input, Wake};
use crate::simulation::physics::Physics;
use crate::simulation::plants::Plant;
use crate::simulation::request::{LeaseChange, Leasing, NoReply, Reply, Request};

/// A lease that is not renewed for so long is nobody's, and a coordinator that is not heard of for so long is gone.
const LEASE_TTL_MS: u64 = millstream_coordinator::leases::core::LEASE_TTL_MS;
const PRESENCE_TTL_MS: u64 = millstream_coordinator::leases::core::PRESENCE_TTL_MS;

/// Who has heard nothing of leases for so long hears nothing: they are renewed more often.
const DEAF_MS: u64 = 2_500;

impl Coordinator {
    pub(super) fn watch_leases(&mut self, physics: &mut Physics) {
        self.ask_broker(Request::Lease(Leasing::Watch), Awaited::LeaseWatch, physics);
    }

    pub(super) fn lease_changed(&mut self, change: LeaseChange, physics: &mut Physics) {
        let now = physics.mono(self.started);
        self.heard = physics.now;
        match change {
            LeaseChange::Lease(partition, lease) => {
                let expired = lease.is_none();
                self.leases.lease(partition, lease, now);
                if expired && partition == PARTITION && physics.planted(Plant::ExpiryStopsOwner) && self.runs {
                    self.end(End::Asked, physics);
                }
            }
            LeaseChange::Coordinator(node, presence) => self.leases.coordinator(node, presence, now),
            LeaseChange::InitialDone => self.leases.listed(now),
        }
        self.hear_fold_rev(physics);
    }

    pub(super) fn leased(
        &mut self,
        partition: Partition,
        releases: bool,
        reply: &Result<Reply, NoReply>,
        physics: &mut Physics,
    ) {
        let written = match reply {
            Ok(Reply::Revision(revision)) => Written::Stored { revision: *revision },
            Ok(_) if releases => Written::Released,
            Err(NoReply::Taken) => Written::Taken,
            Ok(_) | Err(_) => Written::Unknown,
        };
        self.leases.wrote(partition, written, physics.mono(self.started));
    }

    /// The newest revision of the fold that all coordinators that are there support.
    pub(super) fn agreed_fold_rev(&self, physics: &Physics) -> u16 {
        if physics.planted(Plant::RevisionWithoutOthers) {
            return self.fold_rev;
        }
        self.leases.fold_rev()
    }

    /// The owner hears it when that changes.
    pub(super) fn hear_fold_rev(&mut self, physics: &Physics) {
        let agreed = self.agreed_fold_rev(physics);
        if std::mem::replace(&mut self.told_fold_rev, agreed) != agreed {
            self.agree(physics);
            if let Some(core) = &mut self.core {
                core.raise(agreed);
            }
        }
    }

    /// From here on it thinks as it does about what all support.
    pub(super) fn agree(&mut self, physics: &Physics) {
        self.agreed_since = physics.now;
        self.agreed_deaf = physics.now.millis_since(self.heard) > DEAF_MS;
    }

    /// Does what the lease core asks for.
    pub(super) fn perform_leases(&mut self, physics: &mut Physics) {
        while let Some(command) = self.leases.next_command() {
            let lease = Lease { node: self.node.clone() };
            match command {
                Command::Take { partition } => {
                    let take = Leasing::Take { partition, lease, expected: None, ttl_ms: LEASE_TTL_MS };
                    self.ask_broker(Request::Lease(take), Awaited::Lease { partition, releases: false }, physics);
                }
                Command::Renew { partition, revision } => {
                    let expected = Some(revision);
                    let renew = Leasing::Take { partition, lease, expected, ttl_ms: LEASE_TTL_MS };
                    self.ask_broker(Request::Lease(renew), Awaited::Lease { partition, releases: false }, physics);
                }
                Command::Release { partition, revision } => {
                    let release = Leasing::Release { partition, revision };
                    self.ask_broker(Request::Lease(release), Awaited::Lease { partition, releases: true }, physics);
                }
                Command::Announce(presence) => {
                    let announce = Leasing::Announce { presence: Box::new(presence), ttl_ms: PRESENCE_TTL_MS };
                    self.ask_broker(Request::Lease(announce), Awaited::Announced, physics);
                }
                Command::Withdraw => {
                    let withdraw = Leasing::Withdraw { node: self.node.clone() };
                    self.ask_broker(Request::Lease(withdraw), Awaited::Withdrawn, physics);
                }
                Command::Start(PARTITION) => {
                    self.leads = true;
                    self.start_owner(physics);
                }
                Command::Start(partition) => drop(self.others.insert(partition)),
                Command::Stop(PARTITION) => {
                    self.leads = false;
                    if self.runs && !self.strays {
                        self.end(End::Asked, physics);
                    }
                    self.leases.stopped(PARTITION, Why::Asked, physics.mono(self.started));
                }
                Command::Stop(partition) => {
                    self.others.remove(&partition);
                    self.leases.stopped(partition, Why::Asked, physics.mono(self.started));
                }
            }
        }
        if self.leases.is_gone() {
            self.over = true;
        }
        if let Some(wakes) = self.leases.wakes_at() {
            let at = self.started.plus_micros(wakes.0).max(physics.now.plus_micros(100));
            if self.lease_wakes_at.is_none_or(|known| at < known) {
                self.lease_wakes_at = Some(at);
                physics.agenda.add(at, Happening::Process(self.life, Input::Wake(Wake::Leases)));
            }
        }
    }

    /// It owns without a lease, as one may whose lease ran out and who has not heard of it.
    pub fn stray(&mut self, physics: &mut Physics) {
        self.strays = true;
        self.start_owner(physics);
    }

    /// It goes by its leases again.
    pub fn stray_no_more(&mut self, physics: &mut Physics) {
        if std::mem::take(&mut self.strays) && !self.leads && self.runs {
            self.end(End::Asked, physics);
        }
    }

    /// It hands everything over and goes.
    pub fn leave(&mut self, physics: &mut Physics) {
        let now = physics.mono(self.started);
        self.leases.leave(now);
    }
}
