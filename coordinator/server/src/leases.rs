//! Which coordinator owns which partition: takes part in sharing them and runs the owners of its own.
//!
//! One task brings the [`core`] what happens and performs its commands:
//!
//! ```text
//!   MS_LEASES ─ changes ─▶ ┌────────┐ ─▶ take, renew, release, announce ─▶ MS_LEASES
//!   owners ──── ended ───▶ │ Sharer │ ─▶ start, stop ─▶ owners, and who answers for them
//!   clock, link ─────────▶ │ (Core) │ ─▶ View ─▶ API
//!                          └────────┘
//! ```

pub mod assignment;
pub mod core;
mod owned;
mod view;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millstream_broker::{LeaseChange, LeaseError};
use millstream_engine::partition::FOLD_REV;
use millstream_model::ids::{NodeId, Partition};
use millstream_model::lease::{CoordinatorPresence, Lease};
use millstream_model::time::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::core::{Command, Core, Held, LEASE_TTL_MS, PRESENCE_TTL_MS, Why, Written};
use crate::owner::clock::Mono;
use crate::owner::{self, Surroundings};

pub use owned::Owned;
pub use view::View;

/// How often the connection is looked at.
const LINK_PERIOD: Duration = Duration::from_millis(100);
/// How long handing everything over may take.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// A handle to the sharing of partitions; cheap to clone.
#[derive(Clone)]
pub struct Leases {
    node: NodeId,
    view: watch::Receiver<View>,
    leave: CancellationToken,
}

impl Leases {
    /// Takes part in sharing the partitions. The owners that it starts have these surroundings, and the newest fold
    /// revision that all live coordinators support.
    pub fn start(surroundings: Surroundings, address: String) -> Self {
        let node = surroundings.node.clone();
        let presence = CoordinatorPresence {
            node: node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            fold_rev: FOLD_REV,
            address,
            started_at: Timestamp::from_micros(micros_since_the_epoch()),
            leaving: false,
            halted: std::collections::BTreeSet::new(),
        };
        let (view, seen) = watch::channel(View::new(surroundings.topology.partitions));
        let leave = CancellationToken::new();
        let (fold_rev, told_fold_rev) = watch::channel(FOLD_REV);
        let (happened, happenings) = mpsc::unbounded_channel();
        let sharer = Sharer {
            core: Core::new(surroundings.topology.partitions, presence, Mono::default()),
            began: Instant::now(),
            connection: None,
            owners: BTreeMap::new(),
            view,
            fold_rev,
            happened,
            surroundings: Surroundings { fold_rev: told_fold_rev, ..surroundings },
        };
        tokio::spawn(sharer.run(happenings, leave.clone()));
        Self { node, view: seen, leave }
    }

    /// This coordinator's name in the cluster.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// What is known of the partitions.
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// The own owner of a partition, if there is one.
    pub fn owned(&self, partition: Partition) -> Option<Owned> {
        self.view.borrow().owned.get(&partition).cloned()
    }

    /// Hands everything over: owners end what they were asked, leases are released, the presence is withdrawn. Returns
    /// when that is done, or is taking too long.
    pub async fn leave(&self) {
        self.leave.cancel();
        let mut view = self.view.clone();
        if tokio::time::timeout(LEAVE_MAX, view.wait_for(|view| view.gone)).await.is_err() {
            tracing::warn!("not every partition was handed over; what is left runs out by itself");
        }
    }
}

fn micros_since_the_epoch() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// What comes of a command.
#[derive(Debug)]
enum Happened {
    Wrote(Partition, Written),
    Announced { stored: bool },
    Withdrawn,
    Stopped { partition: Partition, why: Why, reason: Option<String> },
}

struct Sharer {
    core: Core,
    began: Instant,
    /// The connection that was last seen.
    connection: Option<u64>,
    owners: BTreeMap<Partition, Owned>,
    view: watch::Sender<View>,
    fold_rev: watch::Sender<u16>,
    happened: mpsc::UnboundedSender<Happened>,
    surroundings: Surroundings,
}

impl Sharer {
    async fn run(mut self, mut happenings: mpsc::UnboundedReceiver<Happened>, leave: CancellationToken) {
        let mut changes = self.surroundings.broker.watch_leases();
        self.connection = self.surroundings.broker.connection();
        let stop = self.surroundings.stop.clone();
        let mut link = tokio::time::interval(LINK_PERIOD);
        link.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_leaving = false;
        while !self.core.is_gone() {
            let wake = self.wake();
            tokio::select! {
                change = changes.next() => self.change(change),
                Some(happened) = happenings.recv() => self.happened(happened),
                () = leave.cancelled(), if !is_leaving => {
                    is_leaving = true;
                    self.core.leave(self.now());
                }
                _ = link.tick() => self.look_at_the_link(),
                () = tokio::time::sleep_until(wake.into()) => self.core.tick(self.now()),
                () = stop.cancelled() => return,
            }
            self.perform();
        }
        self.view.send_modify(|view| view.gone = true);
    }

    fn change(&mut self, change: LeaseChange) {
        let now = self.now();
        match change {
            LeaseChange::Lease(partition, lease) => self.core.lease(partition, lease, now),
            LeaseChange::Coordinator(node, presence) => self.core.coordinator(node, presence, now),
            LeaseChange::InitialDone => self.core.listed(now),
        }
    }

    fn happened(&mut self, happened: Happened) {
        let now = self.now();
        match happened {
            Happened::Wrote(partition, written) => self.core.wrote(partition, written, now),
            Happened::Announced { stored } => self.core.announced(stored, now),
            Happened::Withdrawn => self.core.withdrawn(now),
            Happened::Stopped { partition, why, reason } => {
                self.owners.remove(&partition);
                self.view.send_modify(|view| view.stopped(partition, why, reason));
                self.core.stopped(partition, why, now);
            }
        }
    }

    fn look_at_the_link(&mut self) {
        let now = self.now();
        let connection = self.surroundings.broker.connection();
        if connection != std::mem::replace(&mut self.connection, connection) {
            self.core.link(false, now);
            if connection.is_some() {
                self.core.link(true, now);
            }
        }
    }

    fn perform(&mut self) {
        let fold_rev = self.core.fold_rev();
        self.fold_rev.send_if_modified(|known| std::mem::replace(known, fold_rev) != fold_rev);
        while let Some(command) = self.core.next_command() {
            match command {
                Command::Take { partition } => self.write(partition, None),
                Command::Renew { partition, revision } => self.write(partition, Some(revision)),
                Command::Release { partition, revision } => self.release(partition, revision),
                Command::Announce(presence) => self.announce(presence),
                Command::Withdraw => self.withdraw(),
                Command::Start(partition) => self.start_owner(partition),
                Command::Stop(partition) => self.stop_owner(partition),
            }
        }
        let (core, connected) = (&self.core, self.connection.is_some());
        self.view.send_if_modified(|view| view.update(core, connected));
    }

    fn write(&self, partition: Partition, expected: Option<u64>) {
        let (broker, happened) = (self.surroundings.broker.clone(), self.happened.clone());
        let lease = Lease { node: self.surroundings.node.clone() };
        tokio::spawn(async move {
            let ttl = Duration::from_millis(LEASE_TTL_MS);
            let written = match broker.take_lease(partition, &lease, expected, ttl).await {
                Ok(revision) => Written::Stored { revision },
                Err(error) => failed(partition, &error),
            };
            tell(&happened, Happened::Wrote(partition, written));
        });
    }

    fn release(&self, partition: Partition, revision: u64) {
        let (broker, happened) = (self.surroundings.broker.clone(), self.happened.clone());
        tokio::spawn(async move {
            let written = match broker.release_lease(partition, revision).await {
                Ok(()) => Written::Released,
                Err(error) => failed(partition, &error),
            };
            tell(&happened, Happened::Wrote(partition, written));
        });
    }

    fn announce(&self, presence: CoordinatorPresence) {
        let (broker, happened) = (self.surroundings.broker.clone(), self.happened.clone());
        tokio::spawn(async move {
            let announced = broker.announce_coordinator(&presence, Duration::from_millis(PRESENCE_TTL_MS)).await;
            if let Err(error) = &announced {
                tracing::debug!(%error, "the presence is not announced yet");
            }
            tell(&happened, Happened::Announced { stored: announced.is_ok() });
        });
    }

    fn withdraw(&self) {
        let (broker, happened) = (self.surroundings.broker.clone(), self.happened.clone());
        let node = self.surroundings.node.clone();
        tokio::spawn(async move {
            if let Err(error) = broker.withdraw_coordinator(&node).await {
                tracing::debug!(%error, "the presence is not withdrawn and runs out by itself");
            }
            tell(&happened, Happened::Withdrawn);
        });
    }

    fn start_owner(&mut self, partition: Partition) {
        let stop = self.surroundings.stop.child_token();
        let surroundings = Surroundings { stop: stop.clone(), ..self.surroundings.clone() };
        let broker = surroundings.broker.clone();
        let handle = owner::start(partition, surroundings);
        let owned = Owned::new(handle, stop);
        tracing::info!(%partition, "the partition is taken");
        tokio::spawn(owned.clone().serve(partition, self.surroundings.node.clone(), broker));
        let (ended, happened) = (owned.clone(), self.happened.clone());
        tokio::spawn(async move {
            let (why, reason) = ended.ended().await;
            tell(&happened, Happened::Stopped { partition, why, reason });
        });
        self.view.send_modify(|view| view.started(partition, owned.clone()));
        self.owners.insert(partition, owned);
    }

    fn stop_owner(&mut self, partition: Partition) {
        // One that ended by itself is told of already.
        let Some(owned) = self.owners.get(&partition).cloned() else { return };
        let held_by = self.core.held().find_map(|(of, held)| match held {
            Held::Other { node } if of == partition => Some(node.to_string()),
            Held::Other { .. } | Held::Mine { .. } | Held::Nobody => None,
        });
        match held_by {
            Some(node) => tracing::warn!(%partition, %node, "another coordinator has the lease; the owner stops"),
            None => tracing::info!(%partition, "the partition is handed over"),
        }
        self.view.send_modify(|view| drop(view.owned.remove(&partition)));
        tokio::spawn(owned.stop());
    }

    fn now(&self) -> Mono {
        Mono(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn wake(&self) -> Instant {
        /// With nothing to wait for, look again now and then.
        const IDLE: Duration = Duration::from_secs(60);
        let now = self.now();
        let wait = self.core.wakes_at().map_or(IDLE, |at| Duration::from_micros(at.0.saturating_sub(now.0)));
        Instant::now() + wait.min(IDLE)
    }
}

fn failed(partition: Partition, error: &LeaseError) -> Written {
    match error {
        LeaseError::Taken => Written::Taken,
        LeaseError::Store(error) => {
            tracing::debug!(%partition, %error, "the lease is not written yet");
            Written::Unknown
        }
    }
}

/// Without the task that listens nothing is shared any more.
fn tell(happened: &mpsc::UnboundedSender<Happened>, what: Happened) {
    drop(happened.send(what));
}
