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
mod errands;
pub mod failure;
mod later;
pub mod machine;
mod payloads;
mod reading;
mod refusals;
mod spans;
pub mod sweep;
mod unsent;
mod watchers;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_broker::{AppendError, Broker, ReadError, Topology};
use millstream_engine::{Request, TaskRef};
use millstream_model::ids::{Capability, ExecutionId, NodeId, Partition};
use millstream_model::trace::TraceParent;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::core::{Core, Ownership};
use crate::catalog::{Catalog, PlanError};
use ask::{Ask, Ticket};
use clock::Mono;
use command::{Answer, AskId, Command};
use errands::{Done, Errands};
use failure::{PublishFailure, StoreFailure};
use machine::{Counts, Message, Stop};
use reading::{Read, plan, read_journal};
use watchers::Watchers;

/// Decoded journal messages that wait to be folded.
const READ_AHEAD: usize = 256;
/// Requests that wait for the owner.
const ASKS_MAX: usize = 4_096;
/// Between two tries of what cannot be read.
const RETRY: Duration = Duration::from_millis(250);
/// How often the connection is looked at.
const LINK_PERIOD: Duration = Duration::from_millis(100);

/// What others see of an owner.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// It has folded the journal up to its own epoch.
    pub caught_up: bool,
    /// Why it stopped.
    pub stopped: Option<String>,
    pub counts: Counts,
}

/// What an owner needs from its process.
#[derive(Clone)]
pub struct Surroundings {
    pub broker: Broker,
    pub catalog: Catalog,
    pub topology: Topology,
    pub node: NodeId,
    pub stop: CancellationToken,
}

/// A running owner.
#[derive(Clone)]
pub struct Handle {
    pub asks: mpsc::Sender<Ask>,
    pub status: watch::Receiver<Status>,
}

/// Why the owner of a partition ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Stop(#[from] Stop),
    #[error("the journal cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("the journal begins with message {first}; the ones before it are gone")]
    Trimmed { first: u64 },
    #[error("the reader of the journal has stopped")]
    ReaderGone,
    #[error(transparent)]
    Plan(#[from] PlanError),
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
        tracing::error!(%partition, %error, "the partition stops");
        status.send_modify(|s| {
            s.caught_up = false;
            s.stopped = Some(format!("partition {partition}: {error}"));
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
    let state = loop {
        match broker.journal_state(partition).await {
            Ok(state) => break state,
            Err(error) if error.is_retryable() => tokio::time::sleep(RETRY).await,
            Err(error) => return Err(error.into()),
        }
    };
    if state.first_sequence > 1 {
        return Err(Ended::Trimmed { first: state.first_sequence });
    }
    let core = Core::new(Ownership {
        node: surroundings.node.clone(),
        epoch: state.last_sequence + 1,
        batch_size_max: broker.max_payload() / 2,
        connection: broker.connection(),
    });
    let (messages, read) = mpsc::channel(READ_AHEAD);
    tokio::spawn(read_journal(broker.clone(), partition, messages));
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
}

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
        loop {
            self.perform(status).await;
            let wake = self.wake();
            tokio::select! {
                message = inputs.messages.recv() => {
                    let Read { message, id } = message.ok_or(Ended::ReaderGone)??;
                    self.fold(message, id).await?;
                }
                Some(ask) = inputs.asks.recv() => self.answer(ask),
                Some(done) = inputs.done.recv() => self.finish(done),
                (id, result) = settled(&mut self.append) => self.appended(&id, result),
                _ = link.tick() => self.core.link(self.surroundings.broker.connection()),
                () = tokio::time::sleep_until(wake.into()) => self.core.tick(self.now()),
            }
        }
    }

    async fn fold(&mut self, message: Message, id: Option<String>) -> Result<(), Ended> {
        for hash in self.core.wants(&message) {
            let plan = plan(&self.surroundings.catalog, hash).await?;
            self.core.install(plan);
        }
        let told = self.core.message(message, id.as_deref(), self.now())?;
        for touched in told.touched {
            if let Some(execution) = self.core.partition().execution(touched) {
                self.watchers.tell(execution);
            }
        }
        Ok(())
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

    fn finish(&mut self, done: Done) {
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
        }
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
                Command::Report => {
                    let counts = self.core.counts().clone();
                    let caught_up = self.core.owns();
                    status.send_modify(|s| {
                        s.caught_up = caught_up;
                        s.counts = counts;
                    });
                }
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
            Ask::Events(id, after, reply) => {
                let execution = self.core.partition().execution(id);
                ask::send(reply, execution.map(|execution| self.watchers.follow(execution, after)));
            }
            Ask::Notice(event) => self.watchers.notify(&event),
        }
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
