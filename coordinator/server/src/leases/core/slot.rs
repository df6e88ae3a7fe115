//! One partition as a coordinator sees it: its lease, the write under way, the own owner.

use millstream_model::ids::{NodeId, Partition};

use super::{
    Command, HALTED_RETRY_MS, Held, LEASE_TTL_MS, RENEW_MS, RESTART_MS, RETRY_MS, SILENCE_GRACE_MS, STEADY_MS, Why,
    Written, earliest,
};
use crate::owner::clock::Mono;

#[derive(Debug)]
pub(super) struct Slot {
    held: Held,
    /// When the lease was written or last heard of.
    heard: Mono,
    /// The newest revision that was heard of: older ones are no news.
    newest: u64,
    write: Option<Write>,
    /// No write before.
    write_at: Mono,
    owner: Owner,
    restart_at: Mono,
    restart_ms: u64,
    /// It could not be folded here; when that is tried again.
    halted: Option<Mono>,
}

#[derive(Debug, Clone, Copy)]
enum Write {
    Take { at: Mono },
    Renew { at: Mono, revision: u64 },
    Release { revision: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Idle,
    Running { since: Mono },
    Stopping,
}

/// What a decision depends on beside the slot.
#[derive(Debug)]
pub(super) struct Circumstances {
    pub now: Mono,
    pub connected: bool,
    pub hears_since: Mono,
    /// The partition is to be owned here.
    pub wanted: bool,
    /// Somebody else is to own it, or whoever does, not this coordinator.
    pub wanted_elsewhere: bool,
}

impl Slot {
    pub(super) fn new(now: Mono) -> Self {
        Self {
            held: Held::Nobody,
            heard: now,
            newest: 0,
            write: None,
            write_at: now,
            owner: Owner::Idle,
            restart_at: now,
            restart_ms: *RESTART_MS.start(),
            halted: None,
        }
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    /// Neither owned nor held here.
    pub(super) fn is_handed_over(&self) -> bool {
        self.owner == Owner::Idle && self.write.is_none() && !matches!(self.held, Held::Mine { .. })
    }

    /// Until when the partition is not tried again; `None` once it is.
    pub(super) fn halted_until(&mut self, now: Mono) -> Option<Mono> {
        let until = self.halted?;
        if now < until {
            return Some(until);
        }
        // Who can fold it is not to be disturbed.
        self.halted = matches!(self.held, Held::Other { .. }).then(|| now.plus_millis(HALTED_RETRY_MS));
        self.halted
    }

    pub(super) fn heard_mine(&mut self, revision: u64, now: Mono) {
        if revision > self.newest {
            self.newest = revision;
            self.heard = now;
            self.held = Held::Mine { revision };
        }
    }

    pub(super) fn heard_other(&mut self, node: NodeId, revision: u64, now: Mono) {
        if revision > self.newest {
            self.newest = revision;
            self.heard = now;
            self.held = Held::Other { node };
        }
    }

    pub(super) fn heard_nobody(&mut self, now: Mono) {
        // It may be older than what was written here meanwhile; if it is not, the next renewal finds out.
        let is_fresh = matches!(self.held, Held::Mine { .. }) && now < self.heard.plus_millis(LEASE_TTL_MS);
        if !is_fresh {
            self.held = Held::Nobody;
            self.heard = now;
        }
    }

    /// Revisions may begin anew: the bucket may be another one.
    pub(super) fn reconnected(&mut self) {
        self.newest = 0;
    }

    pub(super) fn wrote(&mut self, written: Written, now: Mono) {
        let Some(write) = self.write.take() else { return };
        match (write, written) {
            (Write::Take { at } | Write::Renew { at, .. }, Written::Stored { revision }) => {
                if revision >= self.newest {
                    self.newest = revision;
                    self.heard = at;
                    self.held = Held::Mine { revision };
                }
            }
            (Write::Release { revision }, Written::Released | Written::Taken) => {
                self.newest = self.newest.max(revision);
                if self.held == (Held::Mine { revision }) {
                    self.held = Held::Nobody;
                    self.heard = now;
                }
            }
            (Write::Renew { revision, .. }, Written::Taken) => {
                // Whose it is will be heard; if it has run out, nobody's.
                if self.held == (Held::Mine { revision }) {
                    self.held = Held::Nobody;
                    self.heard = now;
                }
                self.write_at = now.plus_millis(RETRY_MS);
            }
            (Write::Take { .. }, Written::Taken)
            | (Write::Take { .. } | Write::Renew { .. }, Written::Released | Written::Unknown)
            | (Write::Release { .. }, Written::Stored { .. } | Written::Unknown) => {
                self.write_at = now.plus_millis(RETRY_MS);
            }
        }
    }

    pub(super) fn stopped(&mut self, why: Why, now: Mono) {
        let ran = std::mem::replace(&mut self.owner, Owner::Idle);
        match why {
            Why::Asked => {}
            Why::Halted => self.halted = Some(now.plus_millis(HALTED_RETRY_MS)),
            Why::Lost => {
                if matches!(ran, Owner::Running { since } if now >= since.plus_millis(STEADY_MS)) {
                    self.restart_ms = *RESTART_MS.start();
                }
                self.restart_at = now.plus_millis(self.restart_ms);
                self.restart_ms = (self.restart_ms * 2).min(*RESTART_MS.end());
            }
        }
    }

    /// What is done next, and when to look again.
    pub(super) fn settle(
        &mut self,
        partition: Partition,
        circumstances: &Circumstances,
    ) -> (Option<Command>, Option<Mono>) {
        let &Circumstances { now, connected, wanted, wanted_elsewhere, hears_since } = circumstances;
        let mut wakes_at = None;
        if let Held::Other { .. } = self.held {
            let silent_at = self.heard.max(hears_since).plus_millis(LEASE_TTL_MS + SILENCE_GRACE_MS);
            if connected && now >= silent_at {
                self.held = Held::Nobody;
                self.heard = now;
            } else if connected {
                wakes_at = Some(silent_at);
            }
        }
        let is_other = matches!(self.held, Held::Other { .. });
        if matches!(self.owner, Owner::Running { .. }) && (is_other || wanted_elsewhere) {
            self.owner = Owner::Stopping;
            return (Some(Command::Stop(partition)), wakes_at);
        }
        let is_mine = matches!(self.held, Held::Mine { .. });
        if is_mine && wanted && self.owner == Owner::Idle {
            if now >= self.restart_at {
                self.owner = Owner::Running { since: now };
                // The lease is renewed in its time.
                return (Some(Command::Start(partition)), Some(now));
            }
            wakes_at = earliest(wakes_at, Some(self.restart_at));
        }
        if !connected || self.write.is_some() {
            return (None, wakes_at);
        }
        let (write, due) = match self.held {
            Held::Nobody if wanted && self.owner != Owner::Stopping => (Write::Take { at: now }, self.write_at),
            Held::Mine { revision } if wanted || self.owner != Owner::Idle => {
                (Write::Renew { at: now, revision }, self.heard.plus_millis(RENEW_MS).max(self.write_at))
            }
            Held::Mine { revision } => (Write::Release { revision }, self.write_at),
            Held::Nobody | Held::Other { .. } => return (None, wakes_at),
        };
        if now < due {
            return (None, earliest(wakes_at, Some(due)));
        }
        self.write = Some(write);
        let command = match write {
            Write::Take { .. } => Command::Take { partition },
            Write::Renew { revision, .. } => Command::Renew { partition, revision },
            Write::Release { revision } => Command::Release { partition, revision },
        };
        (Some(command), wakes_at)
    }
}
