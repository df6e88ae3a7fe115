//! The broker of the world: the modelled [`Server`] and what real ones do to those who talk to it.
//!
//! ```text
//!   Envelope ─▶ away? full? denied? ─▶ Server ─▶ answer
//!                                        │ stored in the journal ─▶ feeds ─▶ owners
//!                                        │ marks of cancels ──────▶ watches ─▶ workers
//!                                        └ tasks ────────────────▶ waiting pulls ─▶ workers
//! ```

mod calls;
mod keeping;
mod leasing;
mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use millstream_model::hash::ContentHash;
use millstream_model::ids::{Capability, ExecutionId, NodeId, Partition};
use millstream_model::names::Names;
use millstream_model::task::{Task, TaskKey};
use millstream_model::time::Timestamp;
use serde_json::value::RawValue;

use super::agenda::Time;
use super::coverage::{Phase, Phases};
use super::faults::Fault;
use super::happening::{Envelope, Happening};
use super::jetstream::{AckToken, Backup, Feed, Forgotten, Moment, Refusal, Server, StoredMessage, View};
use super::network::{Life, Node, Ticket};
use super::physics::Physics;
use super::request::{Leasing, NoReply, Push, Reply, Request, of_batch};

use leasing::LeaseReader;

pub use keeping::Kept;

/// The one partition of the world.
pub const PARTITION: Partition = Partition(0);
/// Journal messages that one world may lose to a purge before an owner has read them.
const GAPS_MAX: u32 = 2;

/// A journal message, as the broker stored it.
#[derive(Debug, Clone)]
pub struct Stored {
    pub sequence: u64,
    pub time: Timestamp,
    pub subject: Arc<str>,
    pub msg_id: Option<String>,
    pub payload: Bytes,
    /// When it was stored.
    pub at: Time,
}

/// Somebody reads a stream.
#[derive(Debug)]
struct Reader {
    life: Life,
    connection: u64,
    feed: Feed,
}

/// A worker waits for tasks.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    life: Life,
    batch: usize,
    until: Time,
    answered: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Broker {
    server: Server,
    names: Names,
    capabilities: Vec<Capability>,
    payloads: BTreeMap<(ExecutionId, ContentHash), Arc<RawValue>>,
    transcripts: BTreeMap<(ExecutionId, ContentHash), Bytes>,
    snapshots: BTreeMap<String, Bytes>,
    journal_readers: Vec<Reader>,
    cancel_readers: Vec<Reader>,
    lease_readers: Vec<LeaseReader>,
    /// Coordinators that announced themselves: which revision they fold, since when they have been present, and when they
    /// were heard last.
    present: BTreeMap<NodeId, (u16, Time, Time)>,
    pulls: BTreeMap<Capability, VecDeque<Waiting>>,
    /// Journal messages that nobody has taken from here yet.
    stored: Vec<Stored>,
    /// Likewise what was done to records and snapshots.
    kept: Vec<Kept>,
    /// Likewise tasks.
    queued: Vec<TaskKey>,
    /// Moments of the past, for reads that are late.
    moments: VecDeque<(Time, Moment)>,
    away_until: Time,
    full_until: Time,
    queue_full: Option<(Capability, Time)>,
    denied: Option<(Capability, Time)>,
    denied_results: Option<(Capability, Time)>,
    gaps: u32,
    wakes_at: Option<Time>,
    /// The journal as it was.
    backup: Option<Backup>,
    /// When it forgot deliveries.
    pub forgot: Vec<Time>,
    /// When the task stream was lost.
    pub queue_lost: Vec<Time>,
}

impl Broker {
    /// Takes journal messages that were stored since the last call.
    pub fn take_stored(&mut self) -> Vec<Stored> {
        std::mem::take(&mut self.stored)
    }

    /// Takes the keys of tasks that were queued since the last call.
    pub fn take_queued(&mut self) -> Vec<TaskKey> {
        std::mem::take(&mut self.queued)
    }

    /// The task that an ack token stands for, while it is there.
    pub fn task_of(&self, token: &AckToken) -> Option<TaskKey> {
        let messages = self.server.messages(&token.stream, ">", View::CURRENT).ok()?;
        let message = messages.into_iter().find(|message| message.sequence == token.stream_sequence)?;
        serde_json::from_slice::<Task>(&message.payload).ok().map(|task| task.key)
    }

    /// When the tasks that are in the queue were put there, by the broker's clock.
    pub fn tasks(&self) -> Vec<(TaskKey, Timestamp)> {
        let stream = self.tasks_stream();
        let Ok(messages) = self.server.messages(&stream, ">", View::CURRENT) else { return Vec::new() };
        let task =
            |message: &StoredMessage| Some((serde_json::from_slice::<Task>(&message.payload).ok()?.key, message.time));
        messages.into_iter().filter_map(task).collect()
    }

    /// Tasks that are in the queue.
    pub fn queued(&self) -> usize {
        let stream = self.tasks_stream();
        self.server.stream_info(&stream).map_or(0, |info| usize::try_from(info.messages).unwrap_or(usize::MAX))
    }

    /// Puts a value into the payload store at once, as the API does before it submits.
    pub fn keep(&mut self, execution: ExecutionId, hash: ContentHash, text: Arc<RawValue>) {
        self.payloads.insert((execution, hash), text);
    }

    /// A value of the payload store.
    pub fn value(&self, execution: ExecutionId, hash: ContentHash) -> Option<&Arc<RawValue>> {
        self.payloads.get(&(execution, hash))
    }

    /// A message arrives.
    pub fn arrive(&mut self, envelope: Envelope, physics: &mut Physics) {
        let Envelope { life, connection, ticket, answering, request } = envelope;
        // What was sent on a connection that is gone arrives nowhere, but for what was under way through the servers.
        let reads =
            matches!(request, Request::ReadJournal { .. } | Request::WatchCancelled | Request::Lease(Leasing::Watch));
        if (ticket.is_some() || reads) && physics.network.connection(life.node) != Some(connection) {
            return;
        }
        self.tell_time(physics);
        if physics.now < self.away_until {
            let unheard = physics.dice.chance(600);
            physics.tell(|| format!("{life} {}: there is no leader", request.name()));
            if let Some(ticket) = ticket {
                if unheard { physics.no_answer(ticket) } else { physics.answer(ticket, Err(NoReply::NoResponders)) }
            }
            return;
        }
        if let Request::Pull { capability, batch, wait_ms } = request {
            if let Some(ticket) = ticket {
                let until = physics.now.plus_millis(wait_ms);
                let waiting = Waiting { ticket, life, batch, until, answered: answering.answered };
                self.pulls.entry(capability).or_default().push_back(waiting);
            }
            return self.pump(physics);
        }
        let name = request.name();
        let reply = match self.refusal(&request, physics) {
            Some(refusal) => Err(refusal),
            None if answering.unsettled == Some(false) => Err(NoReply::Refused(Refusal::unsettled())),
            None => self.carry_out(life, connection, request, physics),
        };
        let reply = match answering.unsettled {
            Some(_) => Err(NoReply::Refused(Refusal::unsettled())),
            None => reply,
        };
        physics.tell(|| match &reply {
            Ok(_) => format!("{life} {name}"),
            Err(failure) => format!("{life} {name}: {failure:?}"),
        });
        if let Some(ticket) = ticket {
            if answering.answered { physics.answer(ticket, reply) } else { physics.no_answer(ticket) }
        }
        self.pump(physics);
    }

    /// Time has passed.
    pub fn wake(&mut self, physics: &mut Physics) {
        if self.wakes_at.is_some_and(|at| at <= physics.now) {
            self.wakes_at = None;
        }
        self.tell_time(physics);
        self.pump(physics);
    }

    /// The connection of a node is gone, and the broker has noticed.
    pub fn closed(&mut self, node: Node) {
        for waiting in self.pulls.values_mut() {
            waiting.retain(|waiting| waiting.life.node != node);
        }
        self.unread(node);
    }

    /// The connection of a node is gone: nothing is pushed to it any more. Its pulls may still be answered into the
    /// void.
    pub fn unread(&mut self, node: Node) {
        self.journal_readers.retain(|reader| reader.life.node != node);
        self.cancel_readers.retain(|reader| reader.life.node != node);
        self.unwatch_leases(|life| life.node == node);
    }

    /// It dies, and starts again at once; deliveries of the last `forgotten_ms` never were.
    pub fn crash(&mut self, forgotten_ms: u64, physics: &mut Physics) {
        let since = Time(physics.now.0.saturating_sub(forgotten_ms * 1_000));
        self.server.crash(Forgotten::DeliveriesSince(self.moment_at(since)));
        self.forgot.push(physics.now);
        self.journal_readers.clear();
        self.cancel_readers.clear();
        self.unwatch_leases(|_| true);
        self.pulls.clear();
        self.away_until = Time(0);
    }

    /// It has no leader until then. Some readers notice only by the silence.
    pub fn leave(&mut self, until: Time, physics: &mut Physics) {
        self.away_until = until;
        for waiting in std::mem::take(&mut self.pulls).into_values().flatten() {
            physics.no_answer(waiting.ticket);
        }
        for reader in self.journal_readers.drain(..) {
            let silence = physics.dice.between(0, 8_000);
            let at = physics.now.plus_millis(silence);
            let (life, connection) = (reader.life, reader.connection);
            physics.agenda.add(at, Happening::Push { life, connection, push: Push::JournalBroken });
        }
    }

    pub fn fill_disk(&mut self, until: Time) {
        self.full_until = until;
    }

    pub fn fill_queue(&mut self, capability: Capability, until: Time) {
        self.queue_full = Some((capability, until));
    }

    pub fn deny(&mut self, capability: Capability, until: Time) {
        self.denied = Some((capability, until));
    }

    pub fn deny_results(&mut self, capability: Capability, until: Time) {
        self.denied_results = Some((capability, until));
    }

    /// The task stream is lost with all that is in it.
    pub fn lose_queue(&mut self, now: Time) {
        let stream = self.tasks_stream();
        // It may be lost already.
        if self.server.delete_stream(&stream).is_ok() {
            self.queue_lost.push(now);
        }
    }

    /// Whatever is wrong with it ends.
    pub fn heal(&mut self) {
        self.away_until = Time(0);
        self.full_until = Time(0);
        self.queue_full = None;
        self.denied = None;
        self.denied_results = None;
    }

    /// Why a request is refused before it reaches a stream.
    fn refusal(&self, request: &Request, physics: &Physics) -> Option<NoReply> {
        if let Request::Publish { capability, .. } = request {
            let holds = |window: &Option<(Capability, Time)>| {
                window.as_ref().is_some_and(|(full, until)| full == capability && physics.now < *until)
            };
            if holds(&self.denied) {
                return Some(NoReply::Denied);
            }
            if holds(&self.queue_full) {
                return Some(NoReply::Refused(Refusal::subject_full()));
            }
        }
        if let (Request::AppendResults { capability, .. }, Some((denied, until))) = (request, &self.denied_results)
            && denied == capability
            && physics.now < *until
        {
            return Some(NoReply::Denied);
        }
        (request.stores() && physics.now < self.full_until).then(|| NoReply::Refused(Refusal::bytes_full()))
    }

    /// Sends what is there to those who wait for it.
    fn pump(&mut self, physics: &mut Physics) {
        if physics.now >= self.away_until {
            self.push_journal(physics);
            self.push_cancels(physics);
            self.push_leases(physics);
            self.serve_pulls(physics);
        }
        self.set_alarm(physics);
    }

    fn push_journal(&mut self, physics: &mut Physics) {
        let stream = self.names.journal_stream(PARTITION);
        let last = self.server.stream_info(&stream).map_or(0, |info| info.last_sequence);
        let Self { server, journal_readers, gaps, .. } = self;
        journal_readers.retain_mut(|reader| {
            let (life, connection) = (reader.life, reader.connection);
            loop {
                let message = match server.feed_next(&mut reader.feed) {
                    Ok(Some(message)) => message,
                    Ok(None) => return true,
                    Err(_) => {
                        physics.push(life, connection, Push::JournalBroken, || Phases::NONE);
                        return false;
                    }
                };
                let phases = || of_batch(&message.payload).and(Phase::Fold);
                // What is purged is old: there is always something after it.
                if *gaps < GAPS_MAX && message.sequence < last && physics.strikes(Fault::FeedGap, phases) {
                    *gaps += 1;
                    physics.tell(|| format!("{life} never reads message {}", message.sequence));
                    continue;
                }
                let push = Push::Journal {
                    sequence: message.sequence,
                    time: message.time,
                    subject: Arc::clone(&message.subject),
                    msg_id: message.msg_id.clone(),
                    payload: message.payload.clone(),
                };
                if !physics.push(life, connection, push, phases) {
                    // The next message or heartbeat shows that one is missing.
                    let at = physics.now.plus_millis(physics.dice.between(1, 8_000));
                    physics.agenda.add(at, Happening::Push { life, connection, push: Push::JournalBroken });
                    return false;
                }
            }
        });
    }

    fn push_cancels(&mut self, physics: &mut Physics) {
        let Self { server, cancel_readers, .. } = self;
        cancel_readers.retain_mut(|reader| {
            let (life, connection) = (reader.life, reader.connection);
            loop {
                let broken = match server.feed_next(&mut reader.feed) {
                    Ok(Some(message)) => {
                        let push = streams::cancelled(message);
                        push.is_some_and(|push| !physics.push(life, connection, push, || Phases::of(Phase::Cancel)))
                    }
                    Ok(None) => return true,
                    Err(_) => true,
                };
                if broken {
                    let at = physics.now.plus_millis(physics.dice.between(1, 8_000));
                    physics.agenda.add(at, Happening::Push { life, connection, push: Push::CancelledBroken });
                    return false;
                }
            }
        });
    }

    fn serve_pulls(&mut self, physics: &mut Physics) {
        let stream = self.tasks_stream();
        for (capability, waiting) in &mut self.pulls {
            let consumer = self.names.task_consumer(capability);
            while let Some(front) = waiting.front() {
                if front.until <= physics.now {
                    physics.answer(front.ticket, Ok(Reply::Pulled(Vec::new())));
                } else if self.server.can_deliver(&stream, &consumer) {
                    let Ok(deliveries) = self.server.fetch(&stream, &consumer, front.batch) else { break };
                    let count = deliveries.len();
                    physics.tell(|| format!("{} pulls {count} of {capability}", front.life));
                    if front.answered {
                        physics.answer(front.ticket, Ok(Reply::Pulled(deliveries)));
                    } else {
                        physics.no_answer(front.ticket);
                    }
                } else {
                    break;
                }
                waiting.pop_front();
            }
        }
    }

    /// Has itself woken when time alone changes something.
    fn set_alarm(&mut self, physics: &mut Physics) {
        let fronts = self.pulls.values().filter_map(|waiting| waiting.front());
        let mut next = fronts.clone().map(|waiting| waiting.until).min();
        if fronts.count() > 0
            && let Some(due) = self.server.next_due()
        {
            // What is overdue waits for somebody who pulls.
            let due = physics.clocks.when_broker(due).max(physics.now.plus_millis(10));
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        if let Some(at) = next
            && self.wakes_at.is_none_or(|wakes| at < wakes)
        {
            self.wakes_at = Some(at);
            physics.agenda.add(at, Happening::BrokerWakes);
        }
    }

    fn tell_time(&mut self, physics: &Physics) {
        self.server.set_clock(physics.clocks.broker(physics.now));
        if self.moments.back().is_none_or(|(at, _)| physics.now.millis_since(*at) >= 50) {
            self.moments.push_back((physics.now, self.server.moment()));
            if self.moments.len() > 1_000 {
                self.moments.pop_front();
            }
        }
    }

    /// How far the broker was at a time.
    fn moment_at(&self, at: Time) -> Moment {
        let before = self.moments.iter().rev().find(|(time, _)| *time <= at);
        before.map_or(Moment(0), |(_, moment)| *moment)
    }
}
