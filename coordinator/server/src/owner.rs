//! The owner of one partition: folds its journal and performs what follows.
//!
//! One task owns the state and nobody locks it. Every decision is the [`Core`]'s; here is the loop that brings it the
//! next input and performs its commands.
//!
//! ```text
//!   journal ─▶ reader ─▶ ┌───────┐ ─▶ publish, append ─▶ NATS
//!   API ────── Ask ────▶ │ Owner │ ─▶ Errands ─▶ payloads, lists, marks, PubAcks
//!   errands ── Done ───▶ │ (Core)│ ─▶ Watchers ─▶ SSE
//!   clock, link ───────▶ └───────┘
//! ```

pub mod appends;
pub mod ask;
pub mod claimants;
pub mod clock;
pub mod command;
pub mod core;
mod emit;
mod ended;
mod errands;
pub mod failure;
pub mod keeper;
mod later;
pub mod machine;
mod payloads;
mod reading;
mod recovery;
mod refusals;
mod reporting;
mod spans;
pub mod status;
pub mod sweep;
mod unsent;
mod watchers;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_broker::{AppendError, Broker, Topology};
use millstream_engine::{Request, TaskRef, Want};
use millstream_model::ids::{Capability, ExecutionId, NodeId, Partition};
use millstream_model::position::EventId;
use millstream_model::trace::TraceParent;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::core::{Core, Ownership};
use crate::catalog::Catalog;
use crate::cluster::EventFeed;
use crate::history::summary;
use ask::{Ask, Ticket};
use clock::Mono;
use command::{Answer, AskId, Command};
use ended::Ended;
use errands::records;
use errands::snapshots::fullness;
use errands::{Done, Errands};
use failure::{PublishFailure, StoreFailure};
use keeper::Keeping;
use machine::Message;
use reading::{Read, plan, read_journal};

use watchers::Watchers;

pub use status::{Figures, Status};

/// Decoded journal messages that wait to be folded.
const READ_AHEAD: usize = 256;
/// Requests that wait for the owner.
const ASKS_MAX: usize = 4_096;
/// Between two tries of what cannot be read.
const RETRY: Duration = Duration::from_millis(250);
/// How often the journal's size is looked at, and what is held is told.
const JOURNAL_PERIOD: Duration = Duration::from_secs(5);
/// How often the connection is looked at.
const LINK_PERIOD: Duration = Duration::from_millis(100);

/// What an owner needs from its process.
#[derive(Clone)]
pub struct Surroundings {
    pub broker: Broker,
    pub catalog: Catalog,
    pub topology: Topology,
    /// Unique among all processes that ever were.
    pub node: NodeId,
    pub stop: CancellationToken,
    /// Newest revision of the fold that all live coordinators support.
    pub fold_rev: watch::Receiver<u16>,
    pub keeping: Keeping,
    /// How long the history keeps executions whose definitions do not say.
    pub retention_ms: u64,
}

/// A running owner.
#[derive(Clone)]
pub struct Handle {
    pub asks: mpsc::Sender<Ask>,
    pub status: watch::Receiver<Status>,
}

/// Starts the owner of `partition`.
pub fn start(partition: Partition, surroundings: Surroundings) -> Handle {
    let (asks, requests) = mpsc::channel(ASKS_MAX);
    let (status, seen) = watch::channel(Status::default());
    tokio::spawn(async move {
        let stop = surroundings.stop.clone();
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = run(partition, surroundings, requests, &status) => ended,
        };
        let Err(error) = ended;
        let halted = error.is_lasting();
        if halted {
            tracing::error!(%partition, %error, "the partition halts");
        } else {
            tracing::warn!(%partition, %error, "the partition is given up here");
        }
        status.send_modify(|s| {
            s.caught_up = false;
            s.stopped = Some(format!("partition {partition}: {error}"));
            s.halted = halted;
        });
    });
    Handle { asks, status: seen }
}

async fn run(
    partition: Partition,
    surroundings: Surroundings,
    asks: mpsc::Receiver<Ask>,
    status: &watch::Sender<Status>,
) -> Result<std::convert::Infallible, Ended> {
    let broker = &surroundings.broker;
    let (state, restored) = recovery::restore(broker, &surroundings.catalog, partition).await?;
    let from = restored.as_ref().map_or(1, |restored| restored.sequence + 1);
    let ownership = Ownership {
        node: surroundings.node.clone(),
        epoch: state.last_sequence + 1,
        id_prefix: format!("{}-{}", surroundings.node, Uuid::new_v4().simple()),
        batch_size_max: broker.max_payload() / 2,
        connection: broker.connection(),
        fold_rev: *surroundings.fold_rev.borrow(),
        keeping: surroundings.keeping,
    };
    let core = Core::new(ownership, restored);
    let (messages, read) = mpsc::channel(READ_AHEAD);
    tokio::spawn(read_journal(broker.clone(), partition, from, messages));
    let (catalog, topology) = (surroundings.catalog.clone(), surroundings.topology.clone());
    let (errands, done) = Errands::new(broker.clone(), catalog, topology, partition);
    let mut owner = Owner {
        partition,
        core,
        errands,
        append: None,
        tickets: BTreeMap::new(),
        last_ask: 0,
        watchers: Watchers::default(),
        started: Instant::now(),
        store_fails: false,
        sleepers: BTreeMap::new(),
        journal: (0, None),
        surroundings,
    };
    owner.work(Inputs { messages: read, asks, done }, status).await
}

struct Inputs {
    messages: mpsc::Receiver<Result<Read, Ended>>,
    asks: mpsc::Receiver<Ask>,
    done: mpsc::UnboundedReceiver<Done>,
}

struct Owner {
    partition: Partition,
    surroundings: Surroundings,
    core: Core,
    errands: Errands,
    append: Option<Append>,
    tickets: BTreeMap<AskId, Ticket>,
    last_ask: u64,
    watchers: Watchers,
    started: Instant,
    /// The payload store did not take the last value.
    store_fails: bool,
    /// Who wants to follow executions that are being brought back.
    sleepers: BTreeMap<ExecutionId, Vec<Follower>>,
    /// Bytes of the journal, and its limit, as they were last seen.
    journal: (u64, Option<u64>),
}

/// Who wants the events after one, and where to.
type Follower = (Option<EventId>, oneshot::Sender<Option<EventFeed>>);

/// The append under way and its id.
type Append = Pin<Box<dyn Future<Output = (String, Result<(), AppendError>)> + Send>>;

impl Owner {
    async fn work(
        &mut self,
        mut inputs: Inputs,
        status: &watch::Sender<Status>,
    ) -> Result<std::convert::Infallible, Ended> {
        let mut link = tokio::time::interval(LINK_PERIOD);
        link.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(JOURNAL_PERIOD);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut fold_rev = self.surroundings.fold_rev.clone();
        loop {
            self.perform(status).await;
            let wake = self.wake();
            tokio::select! {
                message = inputs.messages.recv() => {
                    let Read { message, id } = message.ok_or(Ended::ReaderGone)??;
                    self.fold(message, id).await?;
                }
                Some(ask) = inputs.asks.recv() => self.answer(ask),
                Some(done) = inputs.done.recv() => self.finish(done)?,
                (id, result) = settled(&mut self.append) => self.appended(&id, result),
                _ = link.tick() => self.core.link(self.surroundings.broker.connection()),
                _ = look.tick() => {
                    self.errands.look_at_journal();
                    self.report(status);
                    self.measure(status);
                }
                Ok(()) = fold_rev.changed() => {
                    let fold_rev = *fold_rev.borrow_and_update();
                    self.core.raise(fold_rev);
                }
                () = tokio::time::sleep_until(wake.into()) => self.core.tick(self.now()),
            }
        }
    }

    async fn fold(&mut self, message: Message, id: Option<String>) -> Result<(), Ended> {
        for want in self.core.wants(&message) {
            self.bring(want).await?;
        }
        let told = self.core.message(message, id.as_deref(), self.now())?;
        for touched in told.touched {
            if let Some(execution) = self.core.partition().execution(touched) {
                self.watchers.tell(execution);
            }
        }
        Ok(())
    }

    async fn bring(&mut self, want: Want) -> Result<(), Ended> {
        let (broker, catalog) = (&self.surroundings.broker, &self.surroundings.catalog);
        loop {
            let (execution, brought) = match want {
                Want::Definition(hash) => {
                    let plan = plan(catalog, hash).await?;
                    self.core.install(plan);
                    return Ok(());
                }
                Want::Parked(execution, record) => {
                    (execution, records::bring_parked(broker, catalog, execution, record).await)
                }
                Want::Transcript(execution, reference) => {
                    (execution, records::bring_archived(broker, catalog, execution, reference).await)
                }
            };
            match brought {
                Ok((found, transcript)) => {
                    match want {
                        Want::Parked(_, record) => self.core.unpark(record, found, transcript),
                        Want::Transcript(..) | Want::Definition(_) => self.core.recall(found, transcript),
                    }
                    return Ok(());
                }
                Err(StoreFailure::Passing { .. }) => tokio::time::sleep(RETRY).await,
                Err(StoreFailure::Lasting { reason }) => return Err(Ended::Absent { execution, reason }),
            }
        }
    }

    fn appended(&mut self, id: &str, result: Result<(), AppendError>) {
        let result = result.map_err(|error| {
            tracing::debug!(partition = %self.partition, %error, "an append failed");
            error.into()
        });
        if let Some(failure) = self.core.appended(id, result, self.now()) {
            tracing::warn!(partition = %self.partition, %failure, "entries were not appended");
        }
    }

    fn finish(&mut self, done: Done) -> Result<(), Ended> {
        let now = self.now();
        match done {
            Done::Fetched(wanted, values, result) => self.core.fetched(&wanted, values, result, now),
            Done::Stored(job, result) => {
                self.watch_store(job.execution(), result.as_ref().err());
                self.core.stored(job, result.as_ref().copied(), now);
            }
            Done::Scanned(scan) => self.core.scanned(scan.as_deref().map_err(|failure| *failure), now),
            Done::Present(workers) => self.core.present(&workers, now),
            Done::CancelMarked(execution, below, result) => {
                self.core.cancel_marked(execution, below, result.as_ref().copied(), now);
            }
            Done::Unpublished(task, failure) => self.unpublished(task, &failure),
            Done::Recorded(execution, end, result) => {
                self.core.recorded(execution, end, result.as_ref().copied(), now);
            }
            Done::Parked(execution, result) => self.core.parked(execution, result.as_ref().copied()),
            Done::Woken(execution, record, result) => {
                let (found, transcript) = result.map_err(|reason| Ended::Absent { execution, reason })?;
                self.core.unpark(record, found, transcript);
                for (after, reply) in self.sleepers.remove(&execution).into_iter().flatten() {
                    self.follow(execution, after, reply);
                }
            }
            Done::SnapshotStored(taken, result) => {
                self.core.snapshot_stored(&taken, result.as_ref().copied(), now);
            }
            Done::Trimmed(below, result) => self.core.trimmed(below, result.as_ref().copied(), now),
            Done::Journal(state) => {
                self.journal = (state.bytes, state.bytes_max);
                self.core.storage(fullness(&state));
            }
        }
        Ok(())
    }

    fn watch_store(&mut self, execution: ExecutionId, failure: Option<&StoreFailure>) {
        let failed_before = std::mem::replace(&mut self.store_fails, failure.is_some());
        if let Some(error) = failure.filter(|_| !failed_before) {
            tracing::warn!(%execution, %error, "a value cannot be stored yet");
        }
    }

    async fn perform(&mut self, status: &watch::Sender<Status>) {
        while let Some(command) = self.core.next_command(self.now()) {
            match command {
                Command::Append { id, batch } => self.append(id, batch),
                Command::Publish { task, capability, partition, message, trace } => {
                    self.publish(task, &capability, partition, message, trace).await;
                }
                Command::Fetch(wanted) => self.errands.fetch(wanted),
                Command::Store { job, text } => self.errands.store(job, text),
                Command::Scan => self.errands.scan(),
                Command::ListPresences => self.errands.list_presences(),
                Command::MarkCancelled { execution, below } => self.errands.mark_cancelled(execution, below),
                Command::Answer { ask, answer } => self.settle_ticket(ask, answer),
                Command::Ended(execution) => {
                    if let Some(execution) = self.core.partition().execution(execution) {
                        spans::execution_span(execution);
                    }
                }
                Command::Report => self.report(status),
                Command::Started(execution) => {
                    if let Some(execution) = self.core.partition().execution(execution) {
                        let retention_ms = self.surroundings.retention_ms;
                        self.errands.begin(summary::of(execution, retention_ms, &summary::Values::default()));
                    }
                }
                Command::Record { execution, end, transcript } => {
                    if let Some(remains) = self.remains(execution) {
                        self.errands.record(execution, end, remains, transcript);
                    }
                }
                Command::Park { execution, transcript } => {
                    if let Some(remains) = self.remains(execution) {
                        self.errands.park(execution, remains, transcript);
                    }
                }
                Command::Wake { execution, record } => self.errands.wake(execution, record),
                Command::DropRecord { record } => self.errands.drop_record(record),
                Command::Snapshot(taken) => {
                    self.errands.store_snapshot(self.surroundings.node.clone(), taken);
                }
                Command::Trim { below } => self.errands.trim(below),
            }
        }
    }

    fn append(&mut self, id: String, batch: Bytes) {
        let (broker, partition) = (self.surroundings.broker.clone(), self.partition);
        self.append = Some(Box::pin(async move {
            let appended = broker.append_control(partition, &id, batch).await;
            (id, appended.map(drop))
        }));
    }

    async fn publish(
        &mut self,
        task: TaskRef,
        capability: &Capability,
        partition: Partition,
        message: Bytes,
        mut trace: TraceParent,
    ) {
        let execution = self.core.partition().execution(task.execution);
        if let Some(execution) = execution.filter(|_| spans::enabled()) {
            trace.sampled = spans::sampled(execution);
        }
        match self.surroundings.broker.publish_task(capability, partition, message, Some(trace)).await {
            Ok(published) => {
                if let Some(execution) = execution {
                    spans::publish_span(execution, &task, capability, &trace);
                }
                self.errands.confirm(task, published).await;
            }
            Err(error) => self.unpublished(task, &error.into()),
        }
    }

    fn unpublished(&mut self, task: TaskRef, failure: &PublishFailure) {
        tracing::debug!(execution = %task.execution, %failure, "a task was not published");
        self.core.unpublished(task, failure, self.now());
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Request(request, ticket) => self.request(request, ticket),
            Ask::View(id, reply) => {
                ask::send(reply, self.core.partition().execution(id).map(|execution| execution.view()));
            }
            Ask::Kept(id, plan, from, reply) => {
                let execution = self.core.partition().execution(id);
                ask::send(reply, execution.map(|execution| execution.kept_for_fork(&plan, from)));
            }
            Ask::Events(id, after, reply) => match self.core.partition().parked_record(id) {
                // Whoever follows is told by the execution in memory; it leaves again when it has waited for long.
                Some(record) => {
                    self.sleepers.entry(id).or_default().push((after, reply));
                    self.errands.wake(id, record);
                }
                None => self.follow(id, after, reply),
            },
            Ask::Transcript(id, reply) => ask::send(reply, self.core.whereabouts(id)),
            Ask::Notice(event) => self.watchers.notify(&event),
        }
    }

    fn follow(&mut self, id: ExecutionId, after: Option<EventId>, reply: oneshot::Sender<Option<EventFeed>>) {
        let execution = self.core.partition().execution(id);
        ask::send(reply, execution.map(|execution| self.watchers.follow(execution, after)));
    }

    fn request(&mut self, request: Request, ticket: Ticket) {
        self.last_ask += 1;
        let ask = AskId(self.last_ask);
        self.tickets.insert(ask, ticket);
        self.core.ask(ask, request, self.now());
    }

    fn settle_ticket(&mut self, ask: AskId, answer: Answer) {
        let Some(ticket) = self.tickets.remove(&ask) else {
            return;
        };
        let execution = self.core.partition().execution(ticket.execution());
        match answer {
            Answer::Folded(outcome) => ticket.answer(outcome, execution),
            Answer::Rejected(rejection) => ticket.reject(rejection, execution),
            Answer::Unavailable { reason } => ticket.unavailable(&reason),
            Answer::NotOwner => ticket.not_owner(),
            Answer::Busy { reason, limit } => ticket.busy(reason, limit),
        }
    }

    fn now(&self) -> Mono {
        Mono(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn wake(&self) -> Instant {
        /// With nothing to wait for, look again now and then.
        const IDLE: Duration = Duration::from_secs(3_600);
        let now = self.now();
        let wait = self.core.wakes_at().map_or(IDLE, |at| Duration::from_micros(at.0.saturating_sub(now.0)));
        Instant::now() + wait.min(IDLE)
    }
}

/// Waits for the append under way; for ever when there is none. Safe to drop and call again.
async fn settled(append: &mut Option<Append>) -> (String, Result<(), AppendError>) {
    let Some(under_way) = append else {
        return std::future::pending().await;
    };
    let settled = under_way.await;
    *append = None;
    settled
}
