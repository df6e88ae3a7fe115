//! A coordinator of the world: the shell of an owner. The real [`Core`] decides; here its commands become messages,
//! and what comes back is told to it.
//!
//! ```text
//!   leases ─▶ start ─▶ begin ─▶ Core ─▶ commands ─▶ physics ─▶ broker
//!      ▲                         ▲                               │
//!      └─────────────────────────┴──── replies, messages ◀───────┘
//! ```
//!
//! Whether there is an owner is for the real lease core to say (`coordinator/leases.rs`), or for a strike that makes a
//! process own without a lease.

mod answers;
mod begin;
mod ends;
mod folding;
mod keeping;
mod leases;
mod life;
mod perform;
mod shadow;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use millstream_coordinator::history::summary;
use millstream_coordinator::leases::core::Core as LeaseCore;
use millstream_coordinator::owner::command::{Answer, AskId, Job, Wanted};
use millstream_coordinator::owner::core::Core;
use millstream_coordinator::owner::keeper::Keeping;
use millstream_coordinator::owner::machine::Message;
use millstream_engine::{Partition, TaskRef, Want};
use millstream_model::hash::ContentHash;
use millstream_model::history::Summary;
use millstream_model::ids::{Capability, ExecutionId, NodeId};
use millstream_model::lease::CoordinatorPresence;
use millstream_model::names::Names;
use millstream_model::payload::PayloadRef;
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::time::Timestamp;
use serde_json::value::RawValue;

use super::agenda::Time;
use super::client::{Demand, DemandId};
use super::happening::{Happening, Input, Wake};
use super::network::{Life, Node, Ticket};
use super::physics::Physics;
use super::plants::Plant;
use super::request::{Push, Request};
use super::tamper::Tamper;

use begin::Beginning;
use keeping::Storing;
use shadow::Shadow;

pub use ends::End;

/// Half of a nats-server's default `max_payload`.
const BATCH_SIZE_MAX: usize = 512 * 1024;
/// Between two tries of what the broker did not answer.
const RETRY_MS: u64 = 250;
/// Partitions that the coordinators share; the first has a real owner.
pub const PARTITIONS: u16 = 2;

/// What a process awaits.
#[derive(Debug)]
enum Awaited {
    Beginning(Beginning),
    Feed,
    Append {
        id: String,
    },
    Publish {
        task: TaskRef,
        capability: Capability,
        message: Bytes,
    },
    Fetch(u64),
    Store(Job),
    TaskStream,
    Scan,
    Presences,
    Mark {
        execution: ExecutionId,
        below: u32,
    },
    Recorded {
        execution: ExecutionId,
        end: Position,
    },
    Parked(ExecutionId),
    Woken {
        execution: ExecutionId,
        record: u64,
    },
    /// What the message at the head of the inbox wants.
    Brought(Want),
    Storing(Storing),
    Trimmed {
        below: u64,
    },
    /// Whatever it is, nothing comes of it.
    Nothing,
    LeaseWatch,
    Lease {
        partition: millstream_model::ids::Partition,
        releases: bool,
    },
    Announced,
    Withdrawn,
}

/// How a process is built and set up.
#[derive(Debug, Clone, Copy)]
pub struct Make {
    /// Newest revision of the fold that its build folds.
    pub fold_rev: u16,
    pub keeping: Keeping,
}

/// Values on their way, one after the other.
#[derive(Debug)]
struct Fetching {
    wanted: Wanted,
    values: Vec<(PayloadRef, Arc<RawValue>)>,
}

/// Something an owner did that only an owner may do.
#[derive(Debug, Clone)]
pub enum Emitted {
    Publish(TaskRef),
    Append { batch: Bytes, again: bool },
}

/// One process of a coordinator.
#[derive(Debug)]
pub struct Coordinator {
    pub life: Life,
    node: NodeId,
    started: Time,
    names: Names,
    plans: Arc<BTreeMap<ContentHash, Arc<Plan>>>,
    /// Newest revision of the fold that this build folds, and the one that the owner was told that all do.
    pub fold_rev: u16,
    told_fold_rev: u16,
    /// Since when it has thought so.
    pub agreed_since: Time,
    /// When it heard of leases last, and whether that was long before.
    heard: Time,
    pub agreed_deaf: bool,
    keeping: Keeping,
    leases: LeaseCore,
    lease_wakes_at: Option<Time>,
    /// The partitions without a real owner that it is to own.
    pub others: BTreeSet<millstream_model::ids::Partition>,
    /// It is to own the partition by its lease; it owns it without one.
    leads: bool,
    strays: bool,
    /// It has an owner, which may not have begun yet.
    runs: bool,
    /// Where it was when the broker did not answer.
    begins_again: Option<Beginning>,
    /// Whose journal it reads.
    journal_created: Option<Timestamp>,
    /// Messages that wait to be folded; the one that is next, whether something is being brought for it, and what was.
    inbox: VecDeque<(Message, Option<String>)>,
    head: Option<(Message, Option<String>)>,
    brings: bool,
    satisfied: BTreeSet<Want>,
    /// A bug: what is woken lacks its last entry.
    wakes_short: bool,
    /// How many owners it has had.
    incarnation: u32,
    /// It handed everything over.
    pub over: bool,
    core: Option<Core>,
    tamper: Tamper,
    /// What a planted bug knows beside the core.
    shadow: Shadow,
    /// Sequence of the next message, and how far the core's count is off when a bug hides gaps.
    next_sequence: u64,
    offset: i64,
    awaited: BTreeMap<Ticket, Awaited>,
    fetching: BTreeMap<u64, Fetching>,
    asks: BTreeMap<AskId, DemandId>,
    numbers: u64,
    wakes_at: Option<Time>,
    /// When the last scan was sent, and the last that was answered; the one whose marker was folded last, which is what
    /// it decides by; and what it had decided by when it sent each batch.
    scan_sent: Time,
    scan_answered: Option<Time>,
    decides_by: Option<Time>,
    pub decided_by: BTreeMap<String, Option<Time>>,
    /// When the core asked for them.
    pub looks: Vec<Time>,
    /// When it was last told that a task was certainly not stored, or that this is not known.
    pub refused: BTreeMap<TaskRef, Time>,
    pub unknown: BTreeMap<TaskRef, Time>,
    /// When it went on after it had stood still.
    pub went_on: Option<Time>,
    /// When it had a connection again, if it waited for no append then.
    pub reconnected: Option<Time>,
    /// The connection that the core knows of.
    connection: Option<u64>,
    /// The batch that is not known to be stored.
    unconfirmed: Option<String>,
    emitted: Vec<Emitted>,
    /// The epoch and where it was folded.
    pub epoch: u64,
    pub took_over_at: Option<u64>,
    /// Why its owners ended since that was last asked for.
    ended: Vec<(End, u64)>,
    /// It dies before it does anything else.
    pub doomed: bool,
}

impl Coordinator {
    /// A process that has just started.
    pub fn start(life: Life, make: Make, plans: Arc<BTreeMap<ContentHash, Arc<Plan>>>, physics: &mut Physics) -> Self {
        let Node::Coordinator(index) = life.node else { unreachable!("a coordinator's node") };
        let name = if physics.planted(Plant::NodeNameReused) {
            format!("node-{index}")
        } else {
            format!("node-{index}-{}", life.number)
        };
        let node: NodeId = name.parse().expect("a name");
        let presence = CoordinatorPresence {
            node: node.clone(),
            version: "0".to_owned(),
            fold_rev: make.fold_rev,
            address: String::new(),
            started_at: physics.wall(life.node),
            leaving: false,
            halted: BTreeSet::new(),
        };
        let mut coordinator = Self {
            fold_rev: make.fold_rev,
            told_fold_rev: make.fold_rev,
            agreed_since: physics.now,
            heard: physics.now,
            agreed_deaf: false,
            keeping: make.keeping,
            leases: LeaseCore::new(PARTITIONS, presence, physics.mono(physics.now)),
            lease_wakes_at: None,
            others: BTreeSet::new(),
            leads: false,
            strays: false,
            runs: false,
            begins_again: None,
            journal_created: None,
            inbox: VecDeque::new(),
            head: None,
            satisfied: BTreeSet::new(),
            brings: false,
            wakes_short: physics.planted(Plant::WokenWithoutLastEntry),
            incarnation: 0,
            over: false,
            life,
            node,
            started: physics.now,
            names: Names::default(),
            plans,
            core: None,
            tamper: Tamper::new(physics.plant),
            shadow: Shadow::default(),
            next_sequence: 1,
            offset: 0,
            awaited: BTreeMap::new(),
            fetching: BTreeMap::new(),
            asks: BTreeMap::new(),
            numbers: 0,
            wakes_at: None,
            scan_sent: Time(0),
            scan_answered: None,
            decides_by: None,
            decided_by: BTreeMap::new(),
            looks: Vec::new(),
            refused: BTreeMap::new(),
            unknown: BTreeMap::new(),
            went_on: None,
            reconnected: None,
            connection: None,
            unconfirmed: None,
            emitted: Vec::new(),
            epoch: 0,
            took_over_at: None,
            ended: Vec::new(),
            doomed: false,
        };
        coordinator.watch_leases(physics);
        coordinator
    }

    /// Takes why its owners ended since the last call, and where each had taken over.
    pub fn take_ended(&mut self) -> Vec<(End, u64)> {
        std::mem::take(&mut self.ended)
    }

    /// Whether it has an owner.
    pub fn runs(&self) -> bool {
        self.runs
    }

    /// What the lease core knows.
    pub fn leases(&self) -> &LeaseCore {
        &self.leases
    }

    /// The state it has folded, once it folds.
    pub fn partition(&self) -> Option<&Partition> {
        self.core.as_ref().map(Core::partition)
    }

    pub fn core(&self) -> Option<&Core> {
        self.core.as_ref()
    }

    pub fn owns(&self) -> bool {
        self.core.as_ref().is_some_and(Core::owns)
    }

    /// Sequence of the last message it folded.
    pub fn folded(&self) -> u64 {
        let waits = self.head.iter().chain(self.inbox.front()).next();
        waits.map_or(self.next_sequence, |(message, _)| message.sequence) - 1
    }

    /// Whether its owner waits for nothing but the journal.
    pub fn is_idle(&self) -> bool {
        self.asks.is_empty()
            && self.fetching.is_empty()
            && self.inbox.is_empty()
            && self.head.is_none()
            // A snapshot that somebody else has is tried again now and then.
            && self.awaited.values().all(|awaited| awaited.is_of_leases() || matches!(awaited, Awaited::Storing(_)))
    }

    /// Takes what it did since the last call.
    pub fn take_emitted(&mut self) -> Vec<Emitted> {
        std::mem::take(&mut self.emitted)
    }

    /// Its name in the journal.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Something happened to it.
    pub fn on(&mut self, input: Input, physics: &mut Physics) {
        match input {
            Input::Reply(ticket, reply) => {
                if let Some(awaited) = self.awaited.remove(&ticket) {
                    self.answered(awaited, reply, physics);
                }
            }
            Input::Push(Push::Journal { sequence, time, subject, msg_id, payload }) => {
                if self.core.is_some() && sequence >= self.next_sequence {
                    let time =
                        if physics.planted(Plant::WallClockInFold) { physics.wall(self.life.node) } else { time };
                    let subject = self.names.parse_journal(&subject);
                    let decoded = Message::decode(sequence, time, subject, &payload);
                    self.next_sequence = sequence + 1;
                    self.arrived(decoded, msg_id.as_deref(), physics);
                }
            }
            Input::Push(Push::JournalBroken) | Input::Wake(Wake::Reopen) => self.read(physics),
            Input::Push(Push::Lease(change)) => self.lease_changed(change, physics),
            Input::Push(Push::LeasesBroken) => self.watch_leases(physics),
            Input::Link => self.look_at_link(physics),
            Input::Wake(Wake::Owner) => {
                if self.wakes_at.is_some_and(|at| at <= physics.now) {
                    self.wakes_at = None;
                }
                let now = physics.mono(self.started);
                if let Some(core) = &mut self.core {
                    core.tick(now);
                }
            }
            Input::Wake(Wake::Leases) => {
                if self.lease_wakes_at.is_some_and(|at| at <= physics.now) {
                    self.lease_wakes_at = None;
                }
                self.leases.tick(physics.mono(self.started));
            }
            Input::Wake(Wake::Parked { execution, record }) => {
                if self.core.is_some() {
                    self.wake(execution, record, physics);
                }
            }
            Input::Wake(Wake::Bring) => self.bring_again(physics),
            Input::Wake(Wake::WatchLeases) => self.watch_leases(physics),
            Input::Ask(id, demand) => self.asked(id, *demand, physics),
            Input::Stray(strays) => {
                if strays {
                    self.stray(physics);
                } else {
                    self.stray_no_more(physics);
                }
            }
            Input::Leave => self.leave(physics),
            Input::Push(Push::Cancelled { .. } | Push::CancelledBroken) | Input::Wake(_) => {}
        }
        self.hear_fold_rev(physics);
        self.perform_leases(physics);
        self.perform(physics);
        self.perform_leases(physics);
        self.set_alarm(physics);
    }

    fn read(&mut self, physics: &mut Physics) {
        if self.core.is_some() {
            let from = self.next_sequence;
            self.ask_broker(Request::ReadJournal { from }, Awaited::Feed, physics);
        }
    }

    fn look_at_link(&mut self, physics: &mut Physics) {
        let connection = physics.network.connection(self.life.node);
        let is_new = connection.is_some() && connection != self.connection;
        if let Some(core) = &mut self.core {
            if is_new {
                self.reconnected = self.unconfirmed.is_none().then_some(physics.now);
            }
            if !physics.planted(Plant::TimersAfterReconnect) {
                core.link(connection);
            }
        }
        self.connection = connection;
        self.leases.link(connection.is_some(), physics.mono(self.started));
        if connection.is_some() {
            if is_new {
                self.watch_leases(physics);
            }
            if self.core.is_some() {
                self.read(physics);
            } else if let Some(beginning) = self.begins_again.take() {
                self.begin(beginning, physics);
            }
        }
    }

    fn asked(&mut self, id: DemandId, demand: Demand, physics: &mut Physics) {
        self.numbers += 1;
        let ask = AskId(self.numbers);
        self.asks.insert(ask, id);
        let now = physics.mono(self.started);
        let Some(core) = &mut self.core else {
            let reason = "it is starting".to_owned();
            return self.tell_client(ask, Answer::Unavailable { reason }, physics);
        };
        let submits = matches!(demand, Demand::Submit(_));
        core.ask(ask, demand.into_request(), now);
        if submits && physics.planted(Plant::AnswerBeforeStored) {
            self.tell_client(ask, Answer::Folded(millstream_engine::Outcome::Accepted), physics);
        }
    }

    fn tell_client(&mut self, ask: AskId, answer: Answer, physics: &mut Physics) {
        if let Some(id) = self.asks.remove(&ask) {
            let at = physics.now.plus_micros(physics.dice.between(50, 2_000));
            physics.agenda.add(at, Happening::Told { id, answer: Some(answer) });
        }
    }

    fn ask_broker(&mut self, request: Request, awaited: Awaited, physics: &mut Physics) {
        let ticket = physics.send(self.life, request);
        self.awaited.insert(ticket, awaited);
    }

    fn set_alarm(&mut self, physics: &mut Physics) {
        let Some(wakes) = self.core.as_ref().and_then(Core::wakes_at) else {
            return;
        };
        let at = self.started.plus_micros(wakes.0).max(physics.now.plus_micros(100));
        if self.wakes_at.is_none_or(|known| at < known) {
            self.wakes_at = Some(at);
            physics.agenda.add(at, Happening::Process(self.life, Input::Wake(Wake::Owner)));
        }
    }
}

impl Awaited {
    /// Whether it outlives the owner.
    fn is_of_leases(&self) -> bool {
        matches!(self, Self::LeaseWatch | Self::Lease { .. } | Self::Announced | Self::Withdrawn)
    }
}

/// What lists show of an execution.
fn summary(execution: &millstream_engine::Execution) -> Summary {
    summary::of(execution, 1_000_000_000, &summary::Values::default())
}
