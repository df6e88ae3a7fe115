//! Values the owner has fetched from the payload store, within a budget.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use millstream_engine::scope::Values;
use millstream_model::payload::PayloadRef;
use serde_json::value::RawValue;

/// Bytes of values that are kept.
const BUDGET: u64 = 64 * 1024 * 1024;

/// Fetched values, oldest out first. They are content-addressed, so they never go stale.
#[derive(Debug, Default)]
pub struct Fetched {
    values: BTreeMap<PayloadRef, Arc<RawValue>>,
    order: VecDeque<PayloadRef>,
    size: u64,
}

impl Fetched {
    /// What expressions can read: the state and all that is here.
    pub fn values(&self) -> Values<'_> {
        Values::With(&self.values)
    }

    pub fn insert(&mut self, reference: PayloadRef, value: Arc<RawValue>) {
        if self.values.insert(reference, value).is_none() {
            self.order.push_back(reference);
            self.size += reference.size;
        }
    }

    /// Drops the oldest values beyond the budget; called once what needed them is done.
    pub fn trim(&mut self) {
        while self.size > BUDGET
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
            self.size -= oldest.size;
        }
    }
}
