//! A coordinator of the world: the shell of an owner. The real [`Core`] decides; here its commands become messages,
//! and what comes back is told to it.
//!
//! ```text
//!   start ─▶ journal state ─▶ Core ─▶ commands ─▶ physics ─▶ broker
//!                              ▲                               │
//!                              └──── replies, messages ◀───────┘
//! ```

mod perform;
mod shadow;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream_coordinator::owner::command::{Answer, AskId, Job, Wanted};
use millstream_coordinator::owner::core::{Core, Ownership};
use millstream_coordinator::owner::failure::{PublishFailure, ScanFailure, Unpublished};
use millstream_coordinator::owner::machine::{Message, Stop};
use millstream_engine::{Partition, TaskRef};
use millstream_model::entry::Entry;
use millstream_model::hash::ContentHash;
use millstream_model::ids::{Capability, ExecutionId, NodeId};
use millstream_model::names::Names;
use millstream_model::payload::PayloadRef;
use millstream_model::plan::Plan;
use serde_json::value::RawValue;

use super::agenda::Time;
use super::client::{Demand, DemandId};
use super::happening::{Happening, Input, Wake};
use super::network::{Life, Node, Ticket};
use super::physics::Physics;
use super::plants::Plant;
use super::request::{NoReply, Push, Reply, Request};
use super::tamper::Tamper;

use shadow::Shadow;

/// Half of a nats-server's default `max_payload`.
const BATCH_SIZE_MAX: usize = 512 * 1024;
/// Between two tries of what the broker did not answer.
const RETRY_MS: u64 = 250;

/// What a process awaits.
#[derive(Debug)]
enum Awaited {
    JournalState,
    Feed,
    Append { id: String },
    Publish { task: TaskRef, capability: Capability, message: Bytes },
    Fetch(u64),
    Store(Job),
    TaskStream,
    Scan,
    Presences,
    Mark { execution: ExecutionId, below: u32 },
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
    /// Why it stopped.
    pub stopped: Option<Stop>,
    /// It dies before it does anything else.
    pub doomed: bool,
}

impl Coordinator {
    /// A process that has just started.
    pub fn start(life: Life, plans: Arc<BTreeMap<ContentHash, Arc<Plan>>>, physics: &mut Physics) -> Self {
        let Node::Coordinator(index) = life.node else { unreachable!("a coordinator's node") };
        let node = format!("node-{index}-{}", life.number).parse().expect("a name");
        let mut coordinator = Self {
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
            stopped: None,
            doomed: false,
        };
        coordinator.ask_broker(Request::JournalState, Awaited::JournalState, physics);
        coordinator
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
        self.next_sequence - 1
    }

    /// Whether it waits for nothing but the journal.
    pub fn is_idle(&self) -> bool {
        self.asks.is_empty() && self.fetching.is_empty() && self.awaited.is_empty()
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
                if sequence >= self.next_sequence {
                    let time =
                        if physics.planted(Plant::WallClockInFold) { physics.wall(self.life.node) } else { time };
                    let subject = self.names.parse_journal(&subject);
                    let decoded = Message::decode(sequence, time, subject, &payload);
                    self.next_sequence = sequence + 1;
                    self.fold(decoded, msg_id.as_deref(), physics);
                }
            }
            Input::Push(Push::JournalBroken) | Input::Wake(Wake::Reopen) => self.read(physics),
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
            Input::Ask(id, demand) => self.asked(id, *demand, physics),
            Input::Push(Push::Cancelled { .. } | Push::CancelledBroken) | Input::Wake(_) => {}
        }
        self.perform(physics);
        self.set_alarm(physics);
    }

    fn read(&mut self, physics: &mut Physics) {
        if self.core.is_some() && self.stopped.is_none() {
            let from = self.next_sequence;
            self.ask_broker(Request::ReadJournal { from }, Awaited::Feed, physics);
        }
    }

    fn look_at_link(&mut self, physics: &mut Physics) {
        let connection = physics.network.connection(self.life.node);
        if let Some(core) = &mut self.core {
            if connection.is_some() && connection != self.connection {
                self.reconnected = self.unconfirmed.is_none().then_some(physics.now);
            }
            self.connection = connection;
            if !physics.planted(Plant::TimersAfterReconnect) {
                core.link(connection);
            }
        }
        if connection.is_some() {
            match self.core {
                Some(_) => self.read(physics),
                None => self.ask_broker(Request::JournalState, Awaited::JournalState, physics),
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

    fn fold(&mut self, decoded: Result<Message, Stop>, msg_id: Option<&str>, physics: &mut Physics) {
        let now = physics.mono(self.started);
        let Some(core) = self.core.as_mut().filter(|_| self.stopped.is_none()) else { return };
        let folded = decoded.and_then(|mut message| {
            let garbage = message.entries.iter().any(Option::is_none);
            if garbage && physics.planted(Plant::HaltOnGarbage) {
                return Err(Stop::Unreadable { sequence: message.sequence, reason: "garbage".to_owned() });
            }
            if physics.planted(Plant::NoContiguityCheck) {
                self.offset = i64::try_from(message.sequence - 1 - self.shadow.folded).expect("journals are short");
            }
            self.shadow.folded += 1;
            message.sequence = message.sequence.wrapping_add_signed(-self.offset);
            if physics.planted(Plant::IgnoreEpoch) {
                shadow::hide_epochs(&mut message, &self.node);
            }
            let own = |entry: &Entry| matches!(entry, Entry::Scanned(scanned) if scanned.node == self.node);
            if message.entries.iter().flatten().any(own) {
                self.decides_by = self.scan_answered;
            }
            let message = self.tamper.message(message, core.partition());
            for hash in core.wants(&message) {
                if let Some(plan) = self.plans.get(&hash) {
                    core.install(Arc::clone(plan));
                }
            }
            if physics.planted(Plant::EmitDuringReplay) && !core.owns() {
                self.shadow.replay(&message, &self.plans);
            }
            let owned = core.owns();
            let told = core.message(message, msg_id, now)?;
            if !owned && core.owns() {
                self.took_over_at = Some(self.next_sequence - 1);
                self.shadow.inherited = core.partition().executions().map(|execution| execution.id()).collect();
            }
            Ok(told)
        });
        match folded {
            Ok(_) => {
                let life = self.life;
                let sequence = self.next_sequence - 1;
                physics.tell(|| format!("{life} folds {sequence}"));
            }
            Err(stop) => {
                let life = self.life;
                physics.tell(|| format!("{life} stops: {stop}"));
                self.stopped = Some(stop);
            }
        }
    }

    fn answered(&mut self, awaited: Awaited, reply: Result<Reply, NoReply>, physics: &mut Physics) {
        let now = physics.mono(self.started);
        if let Awaited::JournalState = awaited {
            return match reply {
                Ok(Reply::JournalState { last_sequence }) => self.begin(last_sequence, physics),
                // Without a connection it asks once there is one.
                Err(NoReply::Offline) => {}
                _ => self.ask_broker_later(physics),
            };
        }
        let Some(core) = &mut self.core else { return };
        match (awaited, reply) {
            (Awaited::JournalState, _) => {}
            (Awaited::Feed, Ok(_)) => {}
            (Awaited::Feed, Err(NoReply::Offline)) => {}
            (Awaited::Feed, Err(_)) => physics.later(self.life, RETRY_MS, Input::Wake(Wake::Reopen)),
            (Awaited::Append { id }, reply) => {
                let failure = match &reply {
                    Err(failure) if !shadow::taken_for_success(failure, physics) => Some(failure.of_append()),
                    Ok(_) | Err(_) => None,
                };
                if failure.is_none() {
                    self.unconfirmed = None;
                }
                let result = failure.map_or(Ok(()), Err);
                // What is given up is considered again by the core, which says so with its commands.
                drop(core.appended(&id, result, now));
            }
            (Awaited::Publish { task, .. }, Ok(_)) => {
                self.refused.remove(&task);
                self.unknown.remove(&task);
            }
            (Awaited::Publish { task, capability, message }, Err(failure)) => {
                let failure = failure.of_publish();
                self.refused.remove(&task);
                self.unknown.remove(&task);
                match failure.verdict() {
                    Unpublished::Again | Unpublished::QueueGone => self.refused.insert(task, physics.now),
                    Unpublished::Suspect => self.unknown.insert(task, physics.now),
                    Unpublished::Never(_) => None,
                };
                match shadow::misjudged(&failure, physics) {
                    shadow::Misjudged::No => core.unpublished(task, &failure, now),
                    shadow::Misjudged::Full => core.unpublished(task, &PublishFailure::QueueFull, now),
                    shadow::Misjudged::Success => {}
                    shadow::Misjudged::Again => {
                        let request = Request::Publish { capability: capability.clone(), message: message.clone() };
                        let awaited = Awaited::Publish { task, capability, message };
                        self.ask_broker(request, awaited, physics);
                    }
                }
            }
            (Awaited::Fetch(number), reply) => self.fetched(number, reply, physics),
            (Awaited::Store(job), Ok(Reply::Stored(reference))) => core.stored(job, Ok(reference), now),
            (Awaited::Store(job), Err(failure)) => core.stored(job, Err(&failure.of_store()), now),
            (Awaited::TaskStream, Ok(_)) => {
                self.scan_sent = physics.now;
                self.ask_broker(Request::Scan, Awaited::Scan, physics);
            }
            (Awaited::Scan, Ok(Reply::Scanned(keys))) => {
                self.scan_answered = Some(self.scan_sent);
                let keys = self.shadow.scan(keys, physics.planted(Plant::OneScan));
                core.scanned(Ok(&keys), now);
                if physics.planted(Plant::MarkerNotAwaited) {
                    self.shadow.marker_owed = true;
                }
            }
            (Awaited::TaskStream | Awaited::Scan, _) => core.scanned(Err(ScanFailure), now),
            (Awaited::Presences, Ok(Reply::Workers(workers))) => core.present(&workers, now),
            (Awaited::Mark { execution, below }, reply) => {
                let result = reply.map(drop).map_err(|failure| failure.of_store());
                core.cancel_marked(execution, below, result.as_ref().copied(), now);
            }
            (Awaited::Presences | Awaited::Store(_), _) => {}
        }
    }

    /// The journal's end is known: the owner begins.
    fn begin(&mut self, last_sequence: u64, physics: &mut Physics) {
        if self.core.is_some() {
            return;
        }
        self.epoch = last_sequence + 1;
        self.connection = physics.network.connection(self.life.node);
        self.core = Some(Core::new(Ownership {
            node: self.node.clone(),
            epoch: self.epoch,
            batch_size_max: BATCH_SIZE_MAX,
            connection: self.connection,
        }));
        self.read(physics);
    }

    fn fetched(&mut self, number: u64, reply: Result<Reply, NoReply>, physics: &mut Physics) {
        let now = physics.mono(self.started);
        let Some(mut fetching) = self.fetching.remove(&number) else { return };
        let result = match reply {
            Ok(Reply::Payload(text)) => {
                let reference = fetching.wanted.references[fetching.values.len()];
                fetching.values.push((reference, text));
                if fetching.values.len() < fetching.wanted.references.len() {
                    return self.fetch(fetching, physics);
                }
                Ok(())
            }
            Ok(_) => Err(NoReply::NoAnswer.of_store()),
            Err(failure) => Err(failure.of_store()),
        };
        if let Some(core) = &mut self.core {
            core.fetched(&fetching.wanted, fetching.values, result, now);
        }
    }

    fn fetch(&mut self, fetching: Fetching, physics: &mut Physics) {
        let reference = fetching.wanted.references[fetching.values.len()];
        let request = Request::GetPayload { execution: fetching.wanted.execution, reference };
        self.numbers += 1;
        let number = self.numbers;
        self.fetching.insert(number, fetching);
        self.ask_broker(request, Awaited::Fetch(number), physics);
    }

    fn ask_broker(&mut self, request: Request, awaited: Awaited, physics: &mut Physics) {
        let ticket = physics.send(self.life, request);
        self.awaited.insert(ticket, awaited);
    }

    /// Asks for the journal's end again in a while.
    fn ask_broker_later(&mut self, physics: &mut Physics) {
        physics.later(self.life, RETRY_MS, Input::Link);
    }

    fn set_alarm(&mut self, physics: &mut Physics) {
        let Some(wakes) = self.core.as_ref().filter(|_| self.stopped.is_none()).and_then(Core::wakes_at) else {
            return;
        };
        let at = self.started.plus_micros(wakes.0).max(physics.now.plus_micros(100));
        if self.wakes_at.is_none_or(|known| at < known) {
            self.wakes_at = Some(at);
            physics.agenda.add(at, Happening::Process(self.life, Input::Wake(Wake::Owner)));
        }
    }

    /// An entry that stands for nothing, in place of one that a bug drops.
    fn nothing() -> Entry {
        Entry::Scanned(millstream_model::entry::Scanned { node: "nobody".parse().expect("a name"), epoch: 0 })
    }
}
