//! Idempotency keys: a repeated request is the same request, for 24 h of journal time.

use std::collections::{BTreeMap, VecDeque};

use millstream_model::entry::Idempotency;
use millstream_model::hash::ContentHash;
use millstream_model::ids::ExecutionId;
use millstream_model::limits::IDEMPOTENCY_TTL_MS;
use millstream_model::time::Timestamp;

/// What the partition remembers of keys.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    by_key: BTreeMap<ContentHash, (ExecutionId, ContentHash, Timestamp)>,
    /// In the order of journal time, for forgetting.
    remembered: VecDeque<(Timestamp, ContentHash)>,
}

/// Who used a key before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Earlier {
    Same(ExecutionId),
    Other(ExecutionId),
}

impl Keys {
    pub(crate) fn find(&self, idempotency: &Idempotency, now: Timestamp) -> Option<Earlier> {
        let &(execution, body, at) = self.by_key.get(&idempotency.key)?;
        if now.millis_since(at) >= IDEMPOTENCY_TTL_MS {
            return None;
        }
        Some(if body == idempotency.body { Earlier::Same(execution) } else { Earlier::Other(execution) })
    }

    pub(crate) fn remember(&mut self, at: Timestamp, idempotency: &Idempotency, execution: ExecutionId) {
        self.by_key.insert(idempotency.key, (execution, idempotency.body, at));
        self.remembered.push_back((at, idempotency.key));
    }

    pub(crate) fn forget(&mut self, now: Timestamp) {
        while let Some(&(at, key)) = self.remembered.front() {
            if now.millis_since(at) < IDEMPOTENCY_TTL_MS {
                break;
            }
            self.remembered.pop_front();
            self.by_key.remove(&key);
        }
    }
}
