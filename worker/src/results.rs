//! Results on their way into the journal.
//!
//! One queue per partition and capability, with one append in flight: whatever becomes ready
//! meanwhile travels in the next batch, so batches form exactly when there is load.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use millstream_broker::{AppendError, Broker};
use millstream_model::batch::BatchBuilder;
use millstream_model::ids::{Capability, Partition};
use millstream_model::task::Task;
use millstream_model::trace::TraceParent;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::trouble::Trouble;

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It is in the journal.
    Yes,
    /// No message of this broker can hold it.
    TooLarge,
}

/// The results of one capability.
pub(crate) struct Results {
    broker: Broker,
    capability: Capability,
    /// Ends the appends of a worker that is gone.
    over: CancellationToken,
    queues: Box<[OnceLock<mpsc::UnboundedSender<Item>>]>,
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
        Self { broker, capability, over, queues: (0..partitions).map(|_| OnceLock::new()).collect() }
    }

    /// Appends an entry's text and waits until it is stored, however long that takes.
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
                    if self.trouble.over() {
                        tracing::info!(partition = self.partition.0, capability = %self.capability, "results are stored again");
                    }
                    return Stored::Yes;
                }
                Err(AppendError::TooLarge { .. }) => return Stored::TooLarge,
                Err(error) => error,
            };
            if self.trouble.failed() {
                let (partition, capability) = (self.partition.0, &self.capability);
                if error.is_retryable() {
                    tracing::warn!(partition, %capability, %error, "results cannot be stored; trying on");
                } else {
                    // What has run is not run again because of a setting that somebody can mend.
                    tracing::error!(partition, %capability, %error, "results are not accepted; kept until they are");
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
