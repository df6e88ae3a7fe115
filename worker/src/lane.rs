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

use crate::protocol::{Pull, Pulling, Standing};
use crate::results::Results;
use crate::run::{Shared, hand_back, work};
use crate::trouble::Trouble;

/// How long a stopping lane waits for what is on its way to it.
const LAST_WORD: Duration = Duration::from_millis(100);
/// More than a pull can bring.
const LAST_MAX: usize = 256;

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

    /// How much of it is in use. A lane whose results are refused has no slots.
    pub(crate) fn slots(&self) -> Slots {
        let total = if self.takes_tasks() { self.slots_total } else { 0 };
        Slots { total, busy: self.busy.load(Ordering::Relaxed) }
    }

    /// Pulls and runs until `stopping`. What runs then, runs on.
    pub(crate) async fn serve(self: Arc<Self>, stopping: CancellationToken) {
        let Some(Some(mut puller)) = stopping.run_until_cancelled(self.puller()).await else { return };
        let mut trouble = Trouble::default();
        let mut pulling = Pulling::default();
        let reception = self.results.reception();
        loop {
            let max = match pulling.next(reception.standing()) {
                Pull::Tasks { max } => max,
                Pull::NotBefore { at_ms } => match stopping.run_until_cancelled(reception.rest(at_ms)).await {
                    Some(()) => continue,
                    None => break,
                },
            };
            let Some(mut permits) = stopping.run_until_cancelled(self.permits(max)).await else { break };
            let contended = self.process.available_permits() == 0;
            let wait = Duration::from_millis(Pulling::wait_ms(contended));
            let Some(pulled) = stopping.run_until_cancelled(puller.pull(permits.len(), wait)).await else { break };
            match pulled {
                Ok(deliveries) => {
                    if trouble.over() {
                        tracing::info!(capability = %self.capability, "tasks are pulled again");
                    }
                    pulling.pulled(deliveries.len());
                    let on_probation = !self.takes_tasks();
                    if on_probation && !deliveries.is_empty() {
                        reception.tried();
                    }
                    for delivery in deliveries {
                        self.start(delivery, permits.pop(), on_probation);
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

    fn takes_tasks(&self) -> bool {
        self.results.reception().standing() == Standing::Accepted
    }

    fn start(self: &Arc<Self>, delivery: Delivery, permit: Option<Permit>, on_probation: bool) {
        let busy = Busy::new(Arc::clone(self));
        self.runs.spawn(async move {
            work(&busy.0.shared, &busy.0.results, delivery, on_probation).await;
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
        let Ok(Ok(deliveries)) = tokio::time::timeout(LAST_WORD, puller.pull(LAST_MAX, Duration::ZERO)).await else {
            return;
        };
        for delivery in deliveries {
            hand_back(&delivery.acker(), None).await;
        }
    }
}
