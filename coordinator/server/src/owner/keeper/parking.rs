//! Executions that wait for long leave memory.
//!
//! ```text
//!   waits, idle ─▶ Park ─▶ parked ─▶ (its next entry, or its alarm: Wake) ─▶ in memory
//! ```

use std::collections::BTreeMap;
use std::ops::Bound;

use millstream_engine::Partition;
use millstream_model::ids::ExecutionId;
use millstream_model::time::Timestamp;

use crate::owner::clock::Mono;

/// Between two looks.
const PERIOD_MS: u64 = 1_000;
/// Executions that are looked at in one look.
const LOOK_MAX: usize = 10_000;
/// Records of waiting executions on their way at a time.
const UNDER_WAY_MAX: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub struct Parking {
    /// Where the last look ended.
    last: Option<ExecutionId>,
    next_look: Mono,
    /// On their way into the history, with the length of the transcript that is.
    under_way: BTreeMap<ExecutionId, u32>,
}

impl Parking {
    pub fn in_mind(&self) -> usize {
        self.under_way.len()
    }

    /// The executions that are to be parked, if it is time for a look.
    pub fn look(&mut self, partition: &Partition, at: Timestamp, after_ms: u64, now: Mono) -> Vec<ExecutionId> {
        if now < self.next_look {
            return Vec::new();
        }
        self.next_look = now.plus_millis(PERIOD_MS);
        let room = UNDER_WAY_MAX - self.under_way.len().min(UNDER_WAY_MAX);
        let from = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = Vec::new();
        let mut looked = 0;
        for execution in partition.executions_from(from).take(LOOK_MAX) {
            if found.len() == room {
                break;
            }
            looked += 1;
            self.last = Some(execution.id());
            let idle = at.millis_since(execution.clock()) >= after_ms;
            let waits = |until: Timestamp| until.millis_since(at) >= after_ms;
            if idle && execution.waits_until().is_some_and(waits) && !self.under_way.contains_key(&execution.id()) {
                found.push(execution.id());
            }
        }
        if looked < LOOK_MAX && found.len() < room {
            self.last = None;
        }
        found
    }

    /// Its record, of so many entries, is on its way into the history.
    pub fn begins(&mut self, execution: ExecutionId, entries: u32) {
        self.under_way.insert(execution, entries);
    }

    /// The history has the record or does not take it. Returns how many entries the record has.
    pub fn ends(&mut self, execution: ExecutionId) -> Option<u32> {
        self.under_way.remove(&execution)
    }

    /// When the next look is, while there is somebody to look at.
    pub fn wakes_at(&self, partition: &Partition) -> Option<Mono> {
        partition.executions_from(Bound::Unbounded).next().map(|_| self.next_look)
    }
}
