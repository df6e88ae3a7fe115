//! The work of one capability: pulls as much as can start at once, and no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use millstream_broker::{Delivery, PullError, TaskPuller};
use millstream_model::ids::Capability;
use millstream_model::view::Slots;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::results::Results;
use crate::run::{Shared, hand_back, work};
use crate::trouble::Trouble;

/// Tasks of one pull.
const PULL_MAX: usize = 256;
/// How long a pull waits for the first task.
const PULL_WAIT: Duration = Duration::from_secs(5);
/// How long it waits while other capabilities could use the permit it holds.
const PULL_WAIT_CONTENDED: Duration = Duration::from_millis(100);
/// How long a stopping lane waits for what is on its way to it.
const LAST_WORD: Duration = Duration::from_millis(100);

/// One capability of a worker: a bulkhead within the worker's own.
pub(crate) struct Lane {
    pub(crate) capability: Capability,
    shared: Arc<Shared>,
    results: Results,
    slots: Arc<Semaphore>,
    slots_total: u32,
    process: Arc<Semaphore>,
    busy: AtomicU32,
    runs: TaskTracker,
}

/// Permission to run one task; given back when it is dropped.
struct Permit {
    _slot: OwnedSemaphorePermit,
    _process: OwnedSemaphorePermit,
}

/// A run, as it shows in [`Lane::slots`].
struct Busy(Arc<Lane>);

impl Busy {
    fn new(lane: Arc<Lane>) -> Self {
        lane.busy.fetch_add(1, Ordering::Relaxed);
        Self(lane)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lane {
    pub(crate) fn new(
        capability: Capability,
        slots_total: u32,
        shared: Arc<Shared>,
        process: Arc<Semaphore>,
        runs: TaskTracker,
    ) -> Self {
        let results = Results::new(shared.broker.clone(), capability.clone(), shared.over.clone());
        let slots = Arc::new(Semaphore::new(slots_total as usize));
        Self { capability, shared, results, slots, slots_total, process, busy: AtomicU32::new(0), runs }
    }

    /// How much of it is in use.
    pub(crate) fn slots(&self) -> Slots {
        Slots { total: self.slots_total, busy: self.busy.load(Ordering::Relaxed) }
    }

    /// Pulls and runs until `stopping`. What runs then, runs on.
    pub(crate) async fn serve(self: Arc<Self>, stopping: CancellationToken) {
        let Some(Some(mut puller)) = stopping.run_until_cancelled(self.puller()).await else { return };
        let mut trouble = Trouble::default();
        let mut wanted = 1;
        loop {
            let Some(mut permits) = stopping.run_until_cancelled(self.permits(wanted)).await else { break };
            let contended = self.process.available_permits() == 0;
            let wait = if contended { PULL_WAIT_CONTENDED } else { PULL_WAIT };
            let Some(pulled) = stopping.run_until_cancelled(puller.pull(permits.len(), wait)).await else { break };
            match pulled {
                Ok(deliveries) => {
                    if trouble.over() {
                        tracing::info!(capability = %self.capability, "tasks are pulled again");
                    }
                    // Twice what came: room to grow, and little that other capabilities miss.
                    wanted = (deliveries.len() * 2).clamp(1, PULL_MAX);
                    for delivery in deliveries {
                        self.start(delivery, permits.pop());
                    }
                }
                Err(error) => {
                    drop(permits);
                    if trouble.failed() {
                        tracing::warn!(capability = %self.capability, %error, "tasks are not pulled at the moment");
                    }
                    if stopping.run_until_cancelled(trouble.pause()).await.is_none() {
                        break;
                    }
                }
            }
        }
        self.return_the_last(puller).await;
    }

    fn start(self: &Arc<Self>, delivery: Delivery, permit: Option<Permit>) {
        let busy = Busy::new(Arc::clone(self));
        self.runs.spawn(async move {
            work(&busy.0.shared, &busy.0.results, delivery).await;
            drop(permit);
        });
    }

    /// As many permits as are free now, at least one and at most `wanted`.
    async fn permits(&self, wanted: usize) -> Vec<Permit> {
        let (slots, process) = (|| Arc::clone(&self.slots), || Arc::clone(&self.process));
        let slot = slots().acquire_owned().await.expect("the semaphore is never closed");
        let first = process().acquire_owned().await.expect("the semaphore is never closed");
        let mut permits = vec![Permit { _slot: slot, _process: first }];
        while permits.len() < wanted {
            let (Ok(slot), Ok(process)) = (slots().try_acquire_owned(), process().try_acquire_owned()) else { break };
            permits.push(Permit { _slot: slot, _process: process });
        }
        permits
    }

    /// Waits until the coordinator has made the capability's queue.
    async fn puller(&self) -> Option<TaskPuller> {
        let mut trouble = Trouble::default();
        loop {
            let error = match self.shared.broker.task_puller(&self.capability).await {
                Ok(puller) => return Some(puller),
                Err(error) => error,
            };
            if trouble.failed() {
                match &error {
                    PullError::NoConsumer { .. } => {
                        tracing::info!(capability = %self.capability, "waiting for a coordinator to make the queue");
                    }
                    PullError::Request { .. } => {
                        tracing::warn!(capability = %self.capability, %error, "tasks cannot be pulled yet");
                    }
                }
            }
            trouble.pause().await;
        }
    }

    /// What was delivered and not started goes back at once, not after ack_wait.
    async fn return_the_last(&self, mut puller: TaskPuller) {
        let Ok(Ok(deliveries)) = tokio::time::timeout(LAST_WORD, puller.pull(PULL_MAX, Duration::ZERO)).await else {
            return;
        };
        for delivery in deliveries {
            hand_back(&delivery.acker(), None).await;
        }
    }
}
