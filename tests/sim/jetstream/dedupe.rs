//! The duplicate window of a stream: which message ids it has seen lately.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use millstream_model::time::Timestamp;

use super::message::StoredMessage;

/// Message ids, oldest first.
#[derive(Debug, Clone)]
pub(crate) struct Dedupe {
    window: u64,
    sequences: BTreeMap<Arc<str>, u64>,
    order: VecDeque<(Timestamp, Arc<str>)>,
}

impl Dedupe {
    pub(crate) fn new(window: Duration) -> Self {
        Self { window: micros(window), sequences: BTreeMap::new(), order: VecDeque::new() }
    }

    /// The sequence under which an id was stored within the window, acked or purged since or not.
    pub(crate) fn find(&mut self, id: &str, now: Timestamp) -> Option<u64> {
        // As on the server, an id whose turn has not come keeps all younger ones.
        while let Some((stored, _)) = self.order.front()
            && now.as_micros().saturating_sub(stored.as_micros()) >= self.window
        {
            let (_, id) = self.order.pop_front().expect("there is a front");
            self.sequences.remove(&id);
        }
        self.sequences.get(id).copied()
    }

    pub(crate) fn add(&mut self, id: Arc<str>, sequence: u64, at: Timestamp) {
        self.sequences.insert(Arc::clone(&id), sequence);
        self.order.push_back((at, id));
    }

    /// What a start knows: ids of messages that are still stored (reference, reliability T2g).
    pub(crate) fn rebuild<'a>(&mut self, messages: impl Iterator<Item = &'a StoredMessage>) {
        self.sequences.clear();
        self.order.clear();
        for message in messages {
            if let Some(id) = &message.msg_id {
                self.add(Arc::clone(id), message.sequence, message.time);
            }
        }
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
