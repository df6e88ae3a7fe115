//! The owner of one partition: folds its journal and performs the effects.
//!
//! One task owns the state and nobody locks it. The decisions are the [`machine`]'s; here is the loop that brings it
//! the next input and does what it asks.
//!
//! ```text
//!   journal ─▶ reader ─▶ ┌───────┐ ─▶ Emitter ─▶ tasks, payloads
//!   API ────── Ask ────▶ │ Owner │ ─▶ Appender ─▶ journal
//!   jobs ───── Done ───▶ └───────┘ ─▶ Watchers ─▶ SSE
//! ```

mod append;
pub mod ask;
pub mod claimants;
pub mod clock;
mod emit;
pub mod machine;
mod payloads;
mod reading;
mod spans;
pub mod sweep;
mod unsent;
mod watchers;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millstream_broker::{Broker, PublishError, ReadError, ScanError, Topology};
use millstream_engine::{Effect, Outcome, Request, TaskRef};
use millstream_model::entry::Entry;
use millstream_model::ids::{ExecutionId, NodeId, Partition, WorkerId};
use millstream_model::limits::CANCELLED_TTL_MS;
use millstream_model::task::TaskKey;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::catalog::{Catalog, PlanError};
use append::Appender;
use ask::{Ask, Ticket};
use clock::Mono;
use emit::{Attempted, Done, Emitter, Job};
use machine::{Counts, Folded, Machine, Message, Stop};
use reading::{Read, plan, read_journal};
use unsent::Unsent;
use watchers::Watchers;

/// Decoded journal messages that wait to be folded.
const READ_AHEAD: usize = 256;
/// Requests that wait for the owner.
const ASKS_MAX: usize = 4_096;
/// Between two tries of what NATS refused.
const RETRY: Duration = Duration::from_millis(250);
/// Tasks that NATS refused which are tried again at a time.
const UNSENT_AT_A_TIME: usize = 256;
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
    let machine = Machine::new(surroundings.node.clone(), state.last_sequence + 1);
    let id_prefix = format!("{}-{}", surroundings.node, state.last_sequence + 1);
    let mut appender = Appender::new(broker.clone(), partition, id_prefix);
    appender.push(machine.epoch_entry(), None);
    appender.flush();

    let (messages, read) = mpsc::channel(READ_AHEAD);
    tokio::spawn(read_journal(broker.clone(), partition, messages));
    let (done, jobs) = mpsc::unbounded_channel();
    let (scans, scanned) = mpsc::channel(1);
    let (presences, present) = mpsc::channel(1);
    let mut owner = Owner {
        partition,
        appender,
        machine,
        emitter: Emitter::new(broker.clone(), done),
        watchers: Watchers::default(),
        unsent: Unsent::default(),
        scans,
        presences,
        started: Instant::now(),
        connection: broker.connection(),
        told_refused: false,
        surroundings,
    };
    owner.work(Inputs { messages: read, asks, jobs, scanned, present }, status).await
}

struct Inputs {
    messages: mpsc::Receiver<Result<Read, Ended>>,
    asks: mpsc::Receiver<Ask>,
    jobs: mpsc::UnboundedReceiver<Done>,
    scanned: mpsc::Receiver<Result<Vec<TaskKey>, ScanError>>,
    present: mpsc::Receiver<BTreeSet<WorkerId>>,
}

struct Owner {
    partition: Partition,
    surroundings: Surroundings,
    machine: Machine,
    appender: Appender,
    emitter: Emitter,
    watchers: Watchers,
    /// Tasks that were certainly not stored: they are published as originals once that can succeed.
    unsent: Unsent,
    scans: mpsc::Sender<Result<Vec<TaskKey>, ScanError>>,
    presences: mpsc::Sender<BTreeSet<WorkerId>>,
    started: Instant,
    /// The connection that was last seen; another one means that there was a gap between them.
    connection: Option<u64>,
    told_refused: bool,
}

impl Owner {
    async fn work(
        &mut self,
        mut inputs: Inputs,
        status: &watch::Sender<Status>,
    ) -> Result<std::convert::Infallible, Ended> {
        let mut link = tokio::time::interval(LINK_PERIOD);
        link.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wake = self.wake();
            tokio::select! {
                message = inputs.messages.recv() => {
                    let Read { message, id } = message.ok_or(Ended::ReaderGone)??;
                    self.fold(message, id, status).await?;
                }
                Some(ask) = inputs.asks.recv() => self.answer(ask),
                Some(done) = inputs.jobs.recv() => self.finish(done).await,
                Some(scan) = inputs.scanned.recv() => self.scanned(scan).await,
                Some(workers) = inputs.present.recv() => {
                    let now = self.now();
                    let asks = self.machine.present(&workers, now);
                    self.perform(asks).await;
                }
                Some(failed) = self.appender.settled() => {
                    tracing::warn!(partition = %self.partition, error = %failed.error, "entries were not appended");
                    let now = self.now();
                    let effects = self.machine.not_appended(&failed.entries, now);
                    self.emitter.later(effects);
                    if !self.machine.owns() && failed.entries.iter().any(|e| matches!(e, Entry::Epoch(_))) {
                        self.appender.push(self.machine.epoch_entry(), None);
                    }
                }
                _ = link.tick() => self.look_at_link().await,
                () = tokio::time::sleep_until(wake.into()) => {
                    let now = self.now();
                    let asks = self.machine.tick(now, |task| self.unsent.contains(task) || self.emitter.prepares(task));
                    self.perform(asks).await;
                }
            }
            self.appender.flush();
        }
    }

    async fn fold(
        &mut self,
        message: Message,
        id: Option<String>,
        status: &watch::Sender<Status>,
    ) -> Result<(), Ended> {
        for hash in self.machine.wants(&message) {
            let plan = plan(&self.surroundings.catalog, hash).await?;
            self.machine.install(plan);
        }
        let now = self.now();
        let ignored_before = self.machine.counts().clone();
        let folded = self.machine.fold(message, now)?;
        if let Some(tickets) = id.and_then(|id| self.appender.awaited(&id)) {
            for (ticket, outcome) in tickets.into_iter().zip(&folded.outcomes) {
                if let Some(ticket) = ticket {
                    self.settle_ticket(ticket, *outcome);
                }
            }
        }
        if folded.took_over || ignored_before != *self.machine.counts() {
            let counts = self.machine.counts().clone();
            let caught_up = self.machine.owns();
            status.send_modify(|s| {
                s.caught_up = caught_up;
                s.counts = counts;
            });
        }
        for &touched in &folded.touched {
            if let Some(execution) = self.machine.partition().execution(touched) {
                self.watchers.tell(execution);
            }
        }
        self.perform(folded).await;
        Ok(())
    }

    async fn perform(&mut self, asks: Folded) {
        for entry in asks.appends {
            self.appender.push(entry, None);
        }
        if asks.scan {
            self.scan();
        }
        if asks.presences {
            self.list_presences();
        }
        for effect in asks.effects {
            match effect {
                Effect::Publish(task) => self.attempt(Job::Publish(task)).await,
                Effect::Evaluate(what) => self.attempt(Job::Evaluate(what)).await,
                Effect::Cancel(execution) => self.mark_cancelled(execution),
                Effect::End(execution) => self.end(execution),
            }
        }
    }

    /// Tries a job that is still owed.
    async fn attempt(&mut self, job: Job) {
        let Some(execution) = self.owed(job) else {
            return;
        };
        let execution = self.machine.partition().execution(execution).expect("it was just found");
        let attempted = match job {
            Job::Publish(task) => self.emitter.publish(execution, task).await,
            Job::Evaluate(what) => self.emitter.evaluate(execution, what),
        };
        self.note(attempted);
    }

    /// The execution of a job, when the job is still owed.
    fn owed(&self, job: Job) -> Option<ExecutionId> {
        match job {
            Job::Publish(task) => self.machine.is_outstanding(&task).then_some(task.execution),
            Job::Evaluate(what) => self.machine.is_evaluating(what).then(|| what.execution()),
        }
    }

    fn note(&mut self, attempted: Attempted) {
        match attempted {
            Attempted::Sent => {}
            Attempted::Append(entry) => self.appender.push(entry, None),
            Attempted::NotSent(task, error) => self.unpublished(task, &error),
        }
    }

    /// Background work is done.
    async fn finish(&mut self, done: Done) {
        match done {
            Done::Fetched(wanted, Ok(values)) => {
                for job in self.emitter.keep(&wanted, values) {
                    self.attempt(job).await;
                }
                self.emitter.trim();
            }
            Done::Fetched(wanted, Err(reason)) => {
                for job in self.emitter.keep(&wanted, Vec::new()) {
                    if let Some(execution) = self.owed(job).and_then(|id| self.machine.partition().execution(id)) {
                        let attempted = self.emitter.give_up(execution, job, reason.clone());
                        self.note(attempted);
                    }
                }
            }
            Done::InputStored(task, input) => {
                let owed = self.owed(Job::Publish(task));
                if let Some(execution) = owed.and_then(|id| self.machine.partition().execution(id)) {
                    let attempted = self.emitter.send(execution, task, input).await;
                    self.note(attempted);
                }
            }
            Done::Again(job) => self.attempt(job).await,
            Done::ValueStored(evaluated) => self.appender.push(Entry::Evaluated(*evaluated), None),
            Done::Unpublished(task, error) => self.unpublished(task, &error),
        }
    }

    fn unpublished(&mut self, task: TaskRef, error: &PublishError) {
        if error.is_unknown() {
            self.machine.suspect([task]);
            return;
        }
        if !error.is_retryable() && !std::mem::replace(&mut self.told_refused, true) {
            tracing::error!(partition = %self.partition, %error, "NATS refuses tasks; they are tried again");
        }
        if matches!(error, PublishError::NoStream { .. }) {
            self.machine.suspect_all(|task| self.unsent.contains(task) || self.emitter.prepares(task));
        }
        self.unsent.insert(task);
    }

    async fn look_at_link(&mut self) {
        let connection = self.surroundings.broker.connection();
        let connected = connection.is_some();
        if connection != std::mem::replace(&mut self.connection, connection) {
            self.machine.disconnected();
            if connected {
                let asks = self.machine.reconnected();
                self.perform(asks).await;
            }
        }
        if connected {
            for task in self.unsent.take(UNSENT_AT_A_TIME) {
                self.attempt(Job::Publish(task)).await;
            }
        }
    }

    /// Lists the queue in the background; a stream that is gone is created again.
    fn scan(&self) {
        let (broker, scans, partition) = (self.surroundings.broker.clone(), self.scans.clone(), self.partition);
        let topology = self.surroundings.topology.clone();
        let catalog = self.surroundings.catalog.clone();
        tokio::spawn(async move {
            match broker.ensure_task_stream(&topology).await {
                Ok(true) => {
                    tracing::warn!("the task stream was missing and is created again");
                    if let Err(error) = catalog.restore_task_consumers().await {
                        tracing::error!(%error, "workers cannot pull from the new task stream");
                    }
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the task stream cannot be looked at"),
            }
            // The owner has stopped when nobody listens.
            drop(scans.send(broker.scan_tasks(partition).await).await);
        });
    }

    fn list_presences(&self) {
        let (broker, presences) = (self.surroundings.broker.clone(), self.presences.clone());
        tokio::spawn(async move {
            match broker.workers().await {
                // The owner has stopped, or looks at an earlier answer, when this one does not get through.
                Ok(workers) => drop(presences.try_send(workers.into_iter().map(|worker| worker.id).collect())),
                Err(error) => tracing::debug!(%error, "the workers cannot be listed; they are asked for again"),
            }
        });
    }

    async fn scanned(&mut self, scan: Result<Vec<TaskKey>, ScanError>) {
        match scan {
            Ok(present) => {
                let asks = self.machine.scanned(&present);
                self.perform(asks).await;
            }
            Err(error) => {
                tracing::warn!(partition = %self.partition, %error, "the queue cannot be listed yet");
                let now = self.now();
                self.machine.scan_failed(now);
            }
        }
    }

    fn mark_cancelled(&self, execution: ExecutionId) {
        let broker = self.surroundings.broker.clone();
        tokio::spawn(async move {
            let ttl = Duration::from_millis(CANCELLED_TTL_MS);
            while let Err(error) = broker.mark_cancelled(execution, ttl).await {
                if !error.is_retryable() {
                    tracing::error!(%execution, %error, "workers cannot be told of a cancel");
                    return;
                }
                tokio::time::sleep(RETRY).await;
            }
        });
    }

    fn end(&mut self, id: ExecutionId) {
        self.emitter.forget(id);
        if let Some(execution) = self.machine.partition().execution(id) {
            spans::execution_span(execution);
        }
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Submit(submitted, reply) => {
                let ticket = Ticket::Submit(submitted.execution, reply);
                self.request(Request::Submit(submitted), ticket);
            }
            Ask::Cancel(execution, reason, reply) => {
                let request = Request::Cancel { execution, reason };
                self.request(request, Ticket::Cancel(execution, reply));
            }
            Ask::View(id, reply) => {
                ask::send(reply, self.machine.partition().execution(id).map(|execution| execution.view()));
            }
            Ask::Events(id, after, reply) => {
                let execution = self.machine.partition().execution(id);
                ask::send(reply, execution.map(|execution| self.watchers.follow(execution, after)));
            }
            Ask::Notice(event) => self.watchers.notify(&event),
        }
    }

    fn request(&mut self, request: Request, ticket: Ticket) {
        if !self.machine.owns() {
            ticket.unavailable("the coordinator has not caught up with the journal yet");
            return;
        }
        match self.machine.decide(request, self.now()) {
            Ok(entry) => self.appender.push(entry, Some(ticket)),
            Err(rejection) => ticket.reject(rejection),
        }
    }

    fn settle_ticket(&self, ticket: Ticket, outcome: Outcome) {
        let execution = self.machine.partition().execution(ticket.execution());
        ticket.answer(outcome, || execution.map(|execution| execution.status()));
    }

    fn now(&self) -> Mono {
        Mono(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn wake(&self) -> Instant {
        /// With nothing to wait for, look again now and then.
        const IDLE: Duration = Duration::from_secs(3_600);
        let now = self.now();
        let wait = self.machine.wakes_at().map_or(IDLE, |at| Duration::from_micros(at.0.saturating_sub(now.0)));
        Instant::now() + wait.min(IDLE)
    }
}
