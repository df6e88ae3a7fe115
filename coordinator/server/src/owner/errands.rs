//! What takes its time and is done beside the owner: values, lists of the queue and of workers, marks of cancels,
//! PubAcks, records, snapshots. Each ends with a [`Done`]; nothing is decided here.

pub mod records;
pub mod snapshots;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{Broker, JournalState, PublishedTask, Topology};
use millstream_engine::{Execution, TaskRef};
use millstream_model::ids::{ExecutionId, Partition, WorkerId};
use millstream_model::limits::CANCELLED_TTL_MS;
use millstream_model::payload::PayloadRef;
use millstream_model::position::Position;
use millstream_model::task::TaskKey;
use millstream_model::transcript::Transcript;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc};

use super::command::{Job, Wanted};
use super::failure::{PublishFailure, ScanFailure, StoreFailure};
use super::keeper::Taken;
use crate::catalog::Catalog;

use records::{Beginning, tell_beginnings};

/// Exchanges with the payload store at a time; each may hold a value of the largest size.
const PAYLOADS_MAX: usize = 8;
/// Records on their way into the history at a time.
const RECORDS_MAX: usize = 256;
/// Task publishes whose PubAck is awaited.
const UNCONFIRMED_MAX: usize = 16_384;

/// What an errand gave.
#[derive(Debug)]
pub enum Done {
    /// The values that were had, and why there are not more.
    Fetched(Wanted, Vec<(PayloadRef, Arc<RawValue>)>, Result<(), StoreFailure>),
    Stored(Job, Result<PayloadRef, StoreFailure>),
    Scanned(Result<Vec<TaskKey>, ScanFailure>),
    Present(BTreeSet<WorkerId>),
    CancelMarked(ExecutionId, u32, Result<(), StoreFailure>),
    Unpublished(TaskRef, PublishFailure),
    Recorded(ExecutionId, Position, Result<(), StoreFailure>),
    Parked(ExecutionId, Result<u64, StoreFailure>),
    /// A parked execution was brought back, or never will be.
    Woken(ExecutionId, u64, Result<(Box<Execution>, Transcript), String>),
    SnapshotStored(Box<Taken>, Result<(), StoreFailure>),
    Trimmed(u64, Result<(), StoreFailure>),
    Journal(JournalState),
}

/// Runs errands.
pub struct Errands {
    broker: Broker,
    catalog: Catalog,
    topology: Topology,
    partition: Partition,
    unconfirmed: mpsc::Sender<(TaskRef, PublishedTask)>,
    done: mpsc::UnboundedSender<Done>,
    beginnings: mpsc::UnboundedSender<Beginning>,
    payloads: Arc<Semaphore>,
    records: Arc<Semaphore>,
}

impl Errands {
    /// Errands whose ends are told on the channel that is returned with them.
    pub fn new(
        broker: Broker,
        catalog: Catalog,
        topology: Topology,
        partition: Partition,
    ) -> (Self, mpsc::UnboundedReceiver<Done>) {
        let (done, ends) = mpsc::unbounded_channel();
        let (unconfirmed, published) = mpsc::channel(UNCONFIRMED_MAX);
        tokio::spawn(confirm(published, done.clone()));
        let (beginnings, begun) = mpsc::unbounded_channel();
        tokio::spawn(tell_beginnings(broker.clone(), partition, begun));
        let payloads = Arc::new(Semaphore::new(PAYLOADS_MAX));
        let records = Arc::new(Semaphore::new(RECORDS_MAX));
        (Self { broker, catalog, topology, partition, unconfirmed, done, beginnings, payloads, records }, ends)
    }

    /// Waits for a task's PubAck.
    pub async fn confirm(&self, task: TaskRef, published: PublishedTask) {
        if self.unconfirmed.send((task, published)).await.is_err() {
            tracing::debug!("the collector of PubAcks has stopped");
        }
    }

    pub fn fetch(&self, wanted: Wanted) {
        self.exchange(async move |broker| {
            let mut values = Vec::with_capacity(wanted.references.len());
            for &reference in &wanted.references {
                match broker.get_payload(wanted.execution, reference).await {
                    Ok(value) => values.push((reference, Arc::from(value))),
                    Err(error) => return Done::Fetched(wanted, values, Err(error.into())),
                }
            }
            Done::Fetched(wanted, values, Ok(()))
        });
    }

    pub fn store(&self, job: Job, text: Arc<RawValue>) {
        self.exchange(async move |broker| {
            let stored = broker.put_payload(job.execution(), text.get()).await;
            Done::Stored(job, stored.map_err(StoreFailure::from))
        });
    }

    /// Lists the queue; a stream that is gone is created again.
    pub fn scan(&self) {
        let (broker, catalog, topology) = (self.broker.clone(), self.catalog.clone(), self.topology.clone());
        let (partition, done) = (self.partition, self.done.clone());
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
            let scan = broker.scan_tasks(partition).await.map_err(|error| {
                tracing::warn!(%partition, %error, "the queue cannot be listed yet");
                ScanFailure
            });
            end(&done, Done::Scanned(scan));
        });
    }

    pub fn list_presences(&self) {
        let (broker, done) = (self.broker.clone(), self.done.clone());
        tokio::spawn(async move {
            match broker.workers().await {
                Ok(workers) => end(&done, Done::Present(workers.into_iter().map(|worker| worker.id).collect())),
                Err(error) => tracing::debug!(%error, "the workers cannot be listed; they are asked for again"),
            }
        });
    }

    pub fn mark_cancelled(&self, execution: ExecutionId, below: u32) {
        let (broker, done) = (self.broker.clone(), self.done.clone());
        tokio::spawn(async move {
            let ttl = Duration::from_millis(CANCELLED_TTL_MS);
            let marked = broker.mark_cancelled(execution, below, ttl).await.map_err(|error| {
                if !error.is_retryable() {
                    tracing::error!(%execution, %error, "workers cannot be told of a cancel");
                }
                StoreFailure::from(error)
            });
            end(&done, Done::CancelMarked(execution, below, marked));
        });
    }

    fn exchange<F, R>(&self, work: F)
    where
        F: FnOnce(Broker) -> R + Send + 'static,
        R: Future<Output = Done> + Send,
    {
        let (broker, done, payloads) = (self.broker.clone(), self.done.clone(), self.payloads.clone());
        tokio::spawn(async move {
            let _permit = payloads.acquire().await;
            end(&done, work(broker).await);
        });
    }
}

/// The owner has stopped when nobody listens; the next one does the work again.
fn end(done: &mpsc::UnboundedSender<Done>, what: Done) {
    drop(done.send(what));
}

/// Waits for PubAcks in the order of the publishes, and tells of those that are refusals or missing.
async fn confirm(mut published: mpsc::Receiver<(TaskRef, PublishedTask)>, done: mpsc::UnboundedSender<Done>) {
    while let Some((task, ack)) = published.recv().await {
        if let Err(error) = ack.await
            && done.send(Done::Unpublished(task, error.into())).is_err()
        {
            return;
        }
    }
}
