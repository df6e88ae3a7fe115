//! Results on their way into the journal.
//!
//! One queue per partition and capability, with one append in flight: whatever becomes ready
//! meanwhile travels in the next batch, so batches form exactly when there is load.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::{AppendError, Broker};
use millstream_model::batch::BatchBuilder;
use millstream_model::ids::{Capability, Partition};
use millstream_model::task::Task;
use millstream_model::trace::TraceParent;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::protocol::{Acceptance, Refused, Standing};
use crate::trouble::Trouble;

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It is in the journal.
    Yes,
    /// No message of this broker can hold it.
    TooLarge,
    /// The broker does not take it from this worker, and nobody mended that in time.
    Refused,
}

/// The results of one capability.
pub(crate) struct Results {
    broker: Broker,
    capability: Capability,
    /// Ends the appends of a worker that is gone.
    over: CancellationToken,
    queues: Box<[OnceLock<mpsc::UnboundedSender<Item>>]>,
    reception: Arc<Reception>,
}

/// How the results of one capability are received; its writers tell, its lane asks.
#[derive(Debug)]
pub(crate) struct Reception {
    acceptance: watch::Sender<Acceptance>,
    since: Instant,
}

impl Default for Reception {
    fn default() -> Self {
        Self { acceptance: watch::Sender::default(), since: Instant::now() }
    }
}

impl Reception {
    pub(crate) fn standing(&self) -> Standing {
        self.acceptance.borrow().standing(self.now_ms())
    }

    /// Waits until a moment of its clock, or until something was stored or refused.
    pub(crate) async fn rest(&self, until_ms: u64) {
        let mut changes = self.acceptance.subscribe();
        // What was stored since the caller looked is seen before it is waited for.
        if self.standing() == Standing::Accepted {
            return;
        }
        let until = self.since + Duration::from_millis(until_ms);
        // The sender lives as long as this borrow of it.
        drop(tokio::time::timeout_at(until, changes.changed()).await);
    }

    /// A task was taken on probation.
    pub(crate) fn tried(&self) {
        self.acceptance.send_modify(|acceptance| acceptance.tried(self.now_ms()));
    }

    /// `true` when this ends a time of refusals.
    fn accepted(&self) -> bool {
        self.acceptance.send_if_modified(Acceptance::accepted)
    }

    fn refused(&self) -> Refused {
        let mut refused = Refused::TryAgain;
        self.acceptance.send_modify(|acceptance| refused = acceptance.refused(self.now_ms()));
        refused
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[derive(Debug)]
struct Item {
    task: Arc<Task>,
    trace: Option<TraceParent>,
    text: Vec<u8>,
    stored: oneshot::Sender<Stored>,
}

impl Results {
    pub(crate) fn new(broker: Broker, capability: Capability, over: CancellationToken) -> Self {
        let partitions = usize::from(u8::MAX) + 1;
        let queues = (0..partitions).map(|_| OnceLock::new()).collect();
        Self { broker, capability, over, queues, reception: Arc::default() }
    }

    pub(crate) fn reception(&self) -> &Reception {
        &self.reception
    }

    /// Appends an entry's text and waits until it is stored, as long as that may come about.
    pub(crate) async fn append(&self, task: Arc<Task>, trace: Option<TraceParent>, text: Vec<u8>) -> Stored {
        let partition = task.partition;
        let queue = self.queues[usize::from(partition.0)].get_or_init(|| self.open(partition));
        let (stored, answer) = oneshot::channel();
        if queue.send(Item { task, trace, text, stored }).is_ok()
            && let Ok(stored) = answer.await
        {
            return stored;
        }
        // The worker is over, and so is whoever waits here.
        std::future::pending().await
    }

    fn open(&self, partition: Partition) -> mpsc::UnboundedSender<Item> {
        // Bounded by the worker's concurrency: each run waits for its entry.
        let (sender, queue) = mpsc::unbounded_channel();
        let writer = Writer {
            broker: self.broker.clone(),
            capability: self.capability.clone(),
            partition,
            reception: Arc::clone(&self.reception),
            trouble: Trouble::default(),
        };
        tokio::spawn(self.over.clone().run_until_cancelled_owned(writer.write(queue)));
        sender
    }
}

/// Owns the appends of one partition and capability.
struct Writer {
    broker: Broker,
    capability: Capability,
    partition: Partition,
    reception: Arc<Reception>,
    trouble: Trouble,
}

impl Writer {
    async fn write(mut self, mut queue: mpsc::UnboundedReceiver<Item>) {
        let mut ahead = None;
        loop {
            let first = match ahead.take() {
                Some(item) => item,
                None => match queue.recv().await {
                    Some(item) => item,
                    None => return,
                },
            };
            let mut batch = BatchBuilder::new(&first.task.ns, self.broker.max_payload() / 2);
            batch.push(&first.text);
            let mut items = vec![first];
            while let Ok(item) = queue.try_recv() {
                if item.task.ns != items[0].task.ns || !batch.push(&item.text) {
                    ahead = Some(item);
                    break;
                }
                items.push(item);
            }
            match self.append(batch.finish(), items[0].trace.as_ref()).await {
                Stored::TooLarge if items.len() > 1 => self.write_singly(items).await,
                stored => items.into_iter().for_each(|item| item.answer(stored)),
            }
        }
    }

    /// The server takes smaller messages than it said before.
    async fn write_singly(&mut self, items: Vec<Item>) {
        for item in items {
            let mut batch = BatchBuilder::new(&item.task.ns, self.broker.max_payload() / 2);
            batch.push(&item.text);
            let stored = self.append(batch.finish(), item.trace.as_ref()).await;
            item.answer(stored);
        }
    }

    async fn append(&mut self, batch: Bytes, trace: Option<&TraceParent>) -> Stored {
        loop {
            let error = match self.broker.append_results(self.partition, &self.capability, batch.clone(), trace).await {
                Ok(_) => {
                    // Both: a refusal was maybe another writer's.
                    if self.reception.accepted() | self.trouble.over() {
                        tracing::info!(partition = self.partition.0, capability = %self.capability, "results are stored again");
                    }
                    return Stored::Yes;
                }
                Err(AppendError::TooLarge { .. }) => return Stored::TooLarge,
                Err(error) => error,
            };
            let (partition, capability) = (self.partition.0, &self.capability);
            let told = self.trouble.failed();
            if error.is_retryable() {
                if told {
                    tracing::warn!(partition, %capability, %error, "results cannot be stored; trying on");
                }
            } else {
                if told {
                    tracing::error!(
                        partition, %capability, %error,
                        "results are not accepted; no tasks are taken, and what has run is kept for a while"
                    );
                }
                if self.reception.refused() == Refused::GiveUp {
                    return Stored::Refused;
                }
            }
            self.trouble.pause().await;
        }
    }
}

impl Item {
    fn answer(self, stored: Stored) {
        // The run that waited may have been given up meanwhile.
        self.stored.send(stored).ok();
    }
}
