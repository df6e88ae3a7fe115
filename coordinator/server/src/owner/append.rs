//! Group commit: entries that became ready while the previous append was in flight travel together.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use millstream_broker::{AppendError, Broker};
use millstream_model::batch::{BatchBuilder, encode_entry};
use millstream_model::entry::Entry;
use millstream_model::ids::{Namespace, Partition};
use millstream_model::limits::DUPLICATE_WINDOW_MS;

use super::ask::Ticket;

/// How long the first repetition of an append waits; doubled each time.
const BACKOFF: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The control entries of one partition on their way into its journal.
pub struct Appender {
    broker: Broker,
    partition: Partition,
    ns: Namespace,
    /// Starts every message id; nobody else's ids start with it.
    id_prefix: String,
    next_id: u64,
    queue: VecDeque<Pending>,
    in_flight: Option<InFlight>,
    /// Who waits for what, by message id and index in the batch, until the batch is folded.
    awaited: BTreeMap<String, Vec<Option<Ticket>>>,
}

struct Pending {
    entry: Entry,
    text: Vec<u8>,
    ticket: Option<Ticket>,
}

struct InFlight {
    id: String,
    entries: Vec<Entry>,
    append: Pin<Box<dyn Future<Output = Result<(), AppendError>> + Send>>,
}

/// A batch whose fate is not known, or that was refused.
#[derive(Debug)]
pub struct Failed {
    pub error: AppendError,
    pub entries: Vec<Entry>,
}

impl Appender {
    pub fn new(broker: Broker, partition: Partition, id_prefix: String) -> Self {
        Self {
            broker,
            partition,
            ns: Namespace::default(),
            id_prefix,
            next_id: 0,
            queue: VecDeque::new(),
            in_flight: None,
            awaited: BTreeMap::new(),
        }
    }

    pub fn push(&mut self, entry: Entry, ticket: Option<Ticket>) {
        let text = encode_entry(&entry);
        self.queue.push_back(Pending { entry, text, ticket });
    }

    /// Sends the next batch, unless one is in flight.
    pub fn flush(&mut self) {
        if self.in_flight.is_some() || self.queue.is_empty() {
            return;
        }
        let mut batch = BatchBuilder::new(&self.ns, self.broker.max_payload() / 2);
        let mut entries = Vec::new();
        let mut tickets = Vec::new();
        while let Some(pending) = self.queue.pop_front() {
            if !batch.push(&pending.text) {
                self.queue.push_front(pending);
                break;
            }
            entries.push(pending.entry);
            tickets.push(pending.ticket);
        }
        self.next_id += 1;
        let id = format!("{}-{}", self.id_prefix, self.next_id);
        if tickets.iter().any(Option::is_some) {
            self.awaited.insert(id.clone(), tickets);
        }
        let append = append(self.broker.clone(), self.partition, id.clone(), batch.finish());
        self.in_flight = Some(InFlight { id, entries, append: Box::pin(append) });
    }

    /// Waits for the batch in flight; for ever when there is none. Safe to drop and call again.
    pub async fn settled(&mut self) -> Option<Failed> {
        let Some(in_flight) = &mut self.in_flight else {
            return std::future::pending().await;
        };
        let result = in_flight.append.as_mut().await;
        let InFlight { id, entries, .. } = self.in_flight.take()?;
        let error = result.err()?;
        for ticket in self.awaited.remove(&id).into_iter().flatten().flatten() {
            ticket.unavailable(&format!("the journal did not take the entry: {error}"));
        }
        Some(Failed { error, entries })
    }

    /// Who waits for the entries of the batch `id`, which was folded.
    pub fn awaited(&mut self, id: &str) -> Option<Vec<Option<Ticket>>> {
        self.awaited.remove(id)
    }
}

/// Appends, and repeats under the same id while the journal still recognises it as a duplicate.
async fn append(broker: Broker, partition: Partition, id: String, batch: bytes::Bytes) -> Result<(), AppendError> {
    let started = Instant::now();
    let mut backoff = BACKOFF;
    loop {
        match broker.append_control(partition, &id, batch.clone()).await {
            Ok(_) => return Ok(()),
            Err(error)
                if error.is_retryable() && started.elapsed() < Duration::from_millis(DUPLICATE_WINDOW_MS / 2) =>
            {
                tracing::debug!(%partition, %error, "an append is repeated");
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
            Err(error) => return Err(error),
        }
    }
}
