//! Deliveries that are not acked, and when and in which order they come again.
//!
//! ```text
//!            first delivery                 deadline passed, NAK
//!   (none) ────────────────▶ waiting ──────────────────────────────▶ queued
//!                             ▲  │ ▲ progress, NAK with delay          │
//!                             │  └─┘ (deadline moves)                  │
//!                             └────────────────────────────────────────┘
//!                                            redelivery
//! ```
//! An ack ends it from either state. A NAK with a delay takes it back from `queued` to `waiting`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_model::time::Timestamp;

use super::dedupe::micros;
use super::message::StoredMessage;
use super::retained::Moment;

/// One message that was delivered and not acked.
#[derive(Debug, Clone)]
struct Outstanding {
    /// Consumer sequence of its first delivery: redeliveries do not change it (server/consumer.go, `trackPending`).
    consumer_sequence: u64,
    /// What its deadline counts from.
    since: Timestamp,
    /// The same as the server writes it down for its next start: for a delivery not its time but that of the message
    /// itself (server/consumer.go, `deliverMsg`). Seen with `kill -9` and an ack_wait of 10 s: a message that had
    /// waited 6 s was delivered again 4 s after its delivery, one that had waited 12 s at once, and one with
    /// progress 10 s after that.
    written: Timestamp,
    /// When each delivery was, as changes of the server.
    deliveries: Vec<Moment>,
    /// Its place in the redelivery queue.
    ticket: Option<u64>,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    /// In microseconds.
    ack_wait: u64,
    outstanding: BTreeMap<u64, Outstanding>,
    /// Deadlines of what waits, each with its sequence.
    deadlines: BTreeSet<(Timestamp, u64)>,
    /// Sequences by ticket.
    queue: BTreeMap<u64, u64>,
    tickets: u64,
}

impl Pending {
    pub(crate) fn new(ack_wait: Duration) -> Self {
        Self {
            ack_wait: micros(ack_wait),
            outstanding: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            queue: BTreeMap::new(),
            tickets: 0,
        }
    }

    pub(crate) fn set_ack_wait(&mut self, ack_wait: Duration) {
        self.ack_wait = micros(ack_wait);
        let waiting = self.outstanding.iter().filter(|(_, outstanding)| outstanding.ticket.is_none());
        self.deadlines =
            waiting.map(|(sequence, outstanding)| (later(outstanding.since, self.ack_wait), *sequence)).collect();
    }

    pub(crate) fn len(&self) -> usize {
        self.outstanding.len()
    }

    pub(crate) fn contains(&self, sequence: u64) -> bool {
        self.outstanding.contains_key(&sequence)
    }

    /// Messages that were delivered more than once.
    pub(crate) fn redelivered(&self) -> usize {
        self.outstanding.values().filter(|outstanding| outstanding.deliveries.len() > 1).count()
    }

    pub(crate) fn lowest_consumer_sequence(&self) -> Option<u64> {
        self.outstanding.values().map(|outstanding| outstanding.consumer_sequence).min()
    }

    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        !self.queue.is_empty() || self.deadlines.first().is_some_and(|(deadline, _)| *deadline <= now)
    }

    /// The first deadline of what waits.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Queues what is due, oldest deadline first; what is due at the same time in the order of the sequences
    /// (server/consumer.go, `checkPending` sorts what it finds expired).
    pub(crate) fn queue_due(&mut self, now: Timestamp) {
        while let Some(&(deadline, sequence)) = self.deadlines.first()
            && deadline <= now
        {
            self.queue(sequence);
        }
    }

    /// Queues a message for redelivery, behind those that are queued; one that is queued keeps its place.
    pub(crate) fn queue(&mut self, sequence: u64) {
        let Some(outstanding) = self.outstanding.get_mut(&sequence) else { return };
        if outstanding.ticket.is_none() {
            self.tickets += 1;
            outstanding.ticket = Some(self.tickets);
            self.queue.insert(self.tickets, sequence);
            self.deadlines.remove(&(later(outstanding.since, self.ack_wait), sequence));
        }
    }

    pub(crate) fn first_queued(&self) -> Option<u64> {
        self.queue.values().next().copied()
    }

    /// A delivery; returns the number of deliveries so far, this one included.
    pub(crate) fn deliver(
        &mut self,
        message: &StoredMessage,
        consumer_sequence: u64,
        now: Timestamp,
        moment: Moment,
    ) -> u64 {
        let sequence = message.sequence;
        let outstanding = self.outstanding.entry(sequence).or_insert_with(|| Outstanding {
            consumer_sequence,
            since: now,
            written: message.time,
            deliveries: Vec::with_capacity(1),
            ticket: None,
        });
        outstanding.deliveries.push(moment);
        let count = outstanding.deliveries.len() as u64;
        self.unqueue(sequence);
        self.wait_from(sequence, now, message.time);
        count
    }

    /// Progress: the deadline of a message counts from now. One in the redelivery queue stays there.
    pub(crate) fn renew(&mut self, sequence: u64, now: Timestamp) {
        self.wait_from(sequence, now, now);
    }

    fn wait_from(&mut self, sequence: u64, since: Timestamp, written: Timestamp) {
        let Some(outstanding) = self.outstanding.get_mut(&sequence) else { return };
        if outstanding.ticket.is_none() {
            self.deadlines.remove(&(later(outstanding.since, self.ack_wait), sequence));
            self.deadlines.insert((later(since, self.ack_wait), sequence));
        }
        outstanding.since = since;
        outstanding.written = written;
    }

    /// Lets a message, queued or not, come again at a time.
    pub(crate) fn wait_until(&mut self, sequence: u64, due: Timestamp) {
        let since = Timestamp::from_micros(due.as_micros().saturating_sub(self.ack_wait));
        self.unqueue(sequence);
        self.wait_from(sequence, since, since);
    }

    fn unqueue(&mut self, sequence: u64) {
        if let Some(outstanding) = self.outstanding.get_mut(&sequence)
            && let Some(ticket) = outstanding.ticket.take()
        {
            self.queue.remove(&ticket);
        }
    }

    pub(crate) fn remove(&mut self, sequence: u64) {
        if let Some(outstanding) = self.outstanding.remove(&sequence) {
            self.deadlines.remove(&(later(outstanding.since, self.ack_wait), sequence));
            if let Some(ticket) = outstanding.ticket {
                self.queue.remove(&ticket);
            }
        }
    }

    /// What a start reads back: the redelivery queue is not kept, deliveries after `kept` never were, and deadlines
    /// count from what was written, in whole seconds. Returns the lowest sequence that was never delivered thereby.
    pub(crate) fn restart(&mut self, kept: Moment) -> Option<u64> {
        self.queue.clear();
        self.deadlines.clear();
        let mut undelivered = None;
        let (ack_wait, deadlines) = (self.ack_wait, &mut self.deadlines);
        self.outstanding.retain(|sequence, outstanding| {
            outstanding.ticket = None;
            outstanding.deliveries.retain(|delivery| *delivery <= kept);
            if outstanding.deliveries.is_empty() {
                undelivered = undelivered.or(Some(*sequence));
                return false;
            }
            let seconds = outstanding.written.as_micros() / 1_000_000;
            outstanding.since = Timestamp::from_micros(seconds * 1_000_000);
            outstanding.written = outstanding.since;
            deadlines.insert((later(outstanding.since, ack_wait), *sequence));
            true
        });
        undelivered
    }
}

fn later(since: Timestamp, micros: u64) -> Timestamp {
    Timestamp::from_micros(since.as_micros().saturating_add(micros))
}
