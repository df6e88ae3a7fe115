//! Group commit: entries that became ready while the previous append was in flight travel together.
//!
//! ```text
//!   push ─▶ queue ─▶ batch, Sent ──── stored, or read back ──▶ (the next batch)
//!                      ▲    │
//!               backoff│    │ a passing failure, within half of the duplicate window
//!                      └─ Waiting        any other failure ──▶ not appended: reconsidered
//! ```

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use millstream_model::batch::{BatchBuilder, encode_entry};
use millstream_model::entry::Entry;
use millstream_model::ids::Namespace;
use millstream_model::limits::DUPLICATE_WINDOW_MS;

use super::clock::Mono;
use super::command::AskId;
use super::failure::AppendFailure;

/// How long the first repetition of an append waits; doubled each time.
const BACKOFF_MS: u64 = 20;
const BACKOFF_MS_MAX: u64 = 1_000;
/// How long a batch is repeated: the journal must still recognise it when it arrives.
const REPEAT_MS_MAX: u64 = DUPLICATE_WINDOW_MS / 2;

/// The control entries of one partition on their way into its journal.
#[derive(Debug)]
pub struct Appends {
    ns: Namespace,
    /// Starts every message id; nobody else's ids start with it.
    id_prefix: String,
    next_id: u64,
    batch_size_max: usize,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    in_flight: Option<InFlight>,
    /// Who waits for what, by message id and index in the batch, until the batch is folded.
    awaited: BTreeMap<String, Vec<Option<AskId>>>,
}

#[derive(Debug)]
struct Queued {
    entry: Entry,
    text: Vec<u8>,
    ask: Option<AskId>,
}

#[derive(Debug)]
struct InFlight {
    id: String,
    batch: Bytes,
    entries: Vec<Entry>,
    since: Mono,
    backoff_ms: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Sent,
    Waiting { until: Mono, failure: AppendFailure },
}

/// What is to be done for the entries.
#[derive(Debug)]
pub enum Next {
    /// Send this message under this id, for the first time or once more.
    Send { id: String, batch: Bytes },
    /// Reconsider what was not appended.
    GiveUp(NotAppended),
}

/// A batch whose fate is not known, or that was refused.
#[derive(Debug)]
pub struct NotAppended {
    pub failure: AppendFailure,
    pub entries: Vec<Entry>,
    /// Who waits for them.
    pub asks: Vec<AskId>,
}

impl Appends {
    /// Batches have ids of this prefix, and at most this many bytes.
    pub fn new(id_prefix: String, batch_size_max: usize) -> Self {
        Self {
            ns: Namespace::default(),
            id_prefix,
            next_id: 0,
            batch_size_max,
            queue: VecDeque::new(),
            queued_bytes: 0,
            in_flight: None,
            awaited: BTreeMap::new(),
        }
    }

    /// Bytes of the entries that wait for the batch in flight.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Entries that are not known to be stored, and batches whose entries somebody waits for.
    pub fn in_mind(&self) -> usize {
        self.queue.len() + usize::from(self.in_flight.is_some()) + self.awaited.len()
    }

    pub fn push(&mut self, entry: Entry, ask: Option<AskId>) {
        let text = encode_entry(&entry);
        self.queued_bytes += text.len();
        self.queue.push_back(Queued { entry, text, ask });
    }

    /// The next batch when none is in flight, or the one in flight when it is to be repeated.
    pub fn next(&mut self, now: Mono) -> Option<Next> {
        match &self.in_flight {
            None => self.next_batch(now),
            Some(InFlight { stage: Stage::Waiting { until, .. }, .. }) if now >= *until => self.repeat(now),
            Some(InFlight { stage: Stage::Waiting { .. } | Stage::Sent, .. }) => None,
        }
    }

    /// What became of the message that was sent last under `id`. Returns the batch when it is given up.
    pub fn settled(&mut self, id: &str, result: Result<(), AppendFailure>, now: Mono) -> Option<NotAppended> {
        let mut in_flight = self.in_flight.take_if(|in_flight| in_flight.id == id)?;
        let failure = result.err()?;
        let until = now.plus_millis(in_flight.backoff_ms);
        if !failure.is_passing() || until >= in_flight.since.plus_millis(REPEAT_MS_MAX) {
            return Some(self.give_up(in_flight, failure));
        }
        in_flight.backoff_ms = (in_flight.backoff_ms * 2).min(BACKOFF_MS_MAX);
        in_flight.stage = Stage::Waiting { until, failure };
        self.in_flight = Some(in_flight);
        None
    }

    /// The batch `id` was read from the journal: it is there, whatever its publisher was told. Returns who waits for
    /// its entries.
    pub fn read_back(&mut self, id: &str) -> Option<Vec<Option<AskId>>> {
        self.in_flight.take_if(|in_flight| in_flight.id == id);
        self.awaited.remove(id)
    }

    /// When a message is to be repeated.
    pub fn wakes_at(&self) -> Option<Mono> {
        match &self.in_flight.as_ref()?.stage {
            Stage::Waiting { until, .. } => Some(*until),
            Stage::Sent => None,
        }
    }

    fn next_batch(&mut self, now: Mono) -> Option<Next> {
        if self.queue.is_empty() {
            return None;
        }
        let mut batch = BatchBuilder::new(&self.ns, self.batch_size_max);
        let mut entries = Vec::new();
        let mut asks = Vec::new();
        while let Some(queued) = self.queue.pop_front() {
            if !batch.push(&queued.text) {
                self.queue.push_front(queued);
                break;
            }
            self.queued_bytes -= queued.text.len();
            entries.push(queued.entry);
            asks.push(queued.ask);
        }
        self.next_id += 1;
        let id = format!("{}-{}", self.id_prefix, self.next_id);
        if asks.iter().any(Option::is_some) {
            self.awaited.insert(id.clone(), asks);
        }
        let batch = batch.finish();
        let send = Next::Send { id: id.clone(), batch: batch.clone() };
        self.in_flight = Some(InFlight { id, batch, entries, since: now, backoff_ms: BACKOFF_MS, stage: Stage::Sent });
        Some(send)
    }

    /// A process that was paused wakes up when it is too late to repeat anything.
    fn repeat(&mut self, now: Mono) -> Option<Next> {
        let mut in_flight = self.in_flight.take()?;
        if let Stage::Waiting { failure, .. } = std::mem::replace(&mut in_flight.stage, Stage::Sent)
            && now >= in_flight.since.plus_millis(REPEAT_MS_MAX)
        {
            return Some(Next::GiveUp(self.give_up(in_flight, failure)));
        }
        let send = Next::Send { id: in_flight.id.clone(), batch: in_flight.batch.clone() };
        self.in_flight = Some(in_flight);
        Some(send)
    }

    fn give_up(&mut self, in_flight: InFlight, failure: AppendFailure) -> NotAppended {
        let asks = self.awaited.remove(&in_flight.id).into_iter().flatten().flatten().collect();
        NotAppended { failure, entries: in_flight.entries, asks }
    }
}
