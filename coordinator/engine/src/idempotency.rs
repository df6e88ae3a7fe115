//! Idempotency keys: a repeated request is the same request, for 24 h of journal time.

use std::collections::{BTreeMap, VecDeque};

use millstream_model::entry::Idempotency;
use millstream_model::hash::ContentHash;
use millstream_model::ids::ExecutionId;
use millstream_model::limits::IDEMPOTENCY_TTL_MS;
use millstream_model::snapshot::RememberedKey;
use millstream_model::time::Timestamp;

use crate::partition::FOLD_REV_KEYS_BY_USE;

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

    /// Remembers a key as a snapshot has it, after all that are older.
    pub(crate) fn restore(&mut self, key: &RememberedKey) {
        self.by_key.insert(key.key, (key.execution, key.body, key.at));
        self.remembered.push_back((key.at, key.key));
    }

    /// How many keys are remembered.
    pub(crate) fn count(&self) -> usize {
        self.by_key.len()
    }

    /// Every key that is remembered, the oldest first.
    pub(crate) fn remembered(&self) -> impl Iterator<Item = RememberedKey> + '_ {
        self.remembered.iter().filter_map(|&(at, key)| {
            let &(execution, body, remembered) = self.by_key.get(&key)?;
            (remembered == at).then_some(RememberedKey { key, body, execution, at })
        })
    }

    pub(crate) fn forget(&mut self, now: Timestamp, fold_rev: u16) {
        while let Some(&(at, key)) = self.remembered.front() {
            if now.millis_since(at) < IDEMPOTENCY_TTL_MS {
                break;
            }
            self.remembered.pop_front();
            let used_again = self.by_key.get(&key).is_some_and(|&(.., last)| last != at);
            if !used_again || fold_rev < FOLD_REV_KEYS_BY_USE {
                self.by_key.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    /// The broker's clock was 20 hours ahead for a moment, so that what was remembered then goes late.
    fn keys_used_twice(fold_rev: u16) -> Keys {
        let id: ExecutionId = "0193a5a0-0000-7000-8000-000000000003".parse().expect("an id");
        let mut keys = Keys::default();
        for (hour, key) in [(120, "other"), (100, "key"), (125, "key")] {
            let at = Timestamp::from_millis(hour * HOUR);
            keys.forget(at, fold_rev);
            keys.remember(at, &used(key), id);
        }
        keys.forget(Timestamp::from_millis(145 * HOUR), fold_rev);
        keys
    }

    fn used(key: &str) -> Idempotency {
        Idempotency { key: ContentHash::of(key.as_bytes()), body: ContentHash::of(b"body") }
    }

    #[test]
    fn an_old_use_of_a_key_ends_the_memory_of_a_newer_one_under_the_first_revision_only() {
        let now = Timestamp::from_millis(145 * HOUR);
        for (fold_rev, remembered) in [(1, false), (2, true)] {
            let keys = keys_used_twice(fold_rev);
            assert_eq!(keys.find(&used("key"), now).is_some(), remembered, "{fold_rev}");
            assert_eq!((keys.count(), keys.remembered().count()), (usize::from(remembered), usize::from(remembered)));
        }
    }
}
