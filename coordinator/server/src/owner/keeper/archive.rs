//! Executions that have ended: their records go to the history, then the partition forgets them.
//!
//! ```text
//!   ended ─▶ Record ─▶ recorded ─▶ (a while, for company) ─▶ the entry Archived
//! ```

use std::collections::BTreeMap;

use millstream_engine::Partition;
use millstream_model::entry::{Archived, Entry};
use millstream_model::ids::ExecutionId;
use millstream_model::position::Position;

use crate::owner::clock::Mono;

/// How long a recorded execution waits for others to be forgotten with.
const COMPANY_MS: u64 = 1_000;
/// Executions of one entry.
const TOGETHER_MAX: usize = 256;
/// Executions whose records are not stored yet; beyond it submissions are refused.
pub const RECORDING_MAX: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Archive {
    /// On their way into the history, with the place of the entry that ended them.
    recording: BTreeMap<ExecutionId, Position>,
    /// In the history.
    recorded: Vec<(ExecutionId, Position)>,
    since: Option<Mono>,
    /// Records that a later one of the same execution replaces.
    replaced: BTreeMap<ExecutionId, u64>,
}

impl Archive {
    pub fn in_mind(&self) -> usize {
        self.recording.len() + self.recorded.len()
    }

    /// Executions whose records are not stored yet.
    pub fn recording(&self) -> usize {
        self.recording.len()
    }

    /// The execution has ended; where, if its record is to be written.
    pub fn ended(&mut self, execution: ExecutionId, partition: &Partition) -> Option<Position> {
        let end = partition.execution(execution)?.end_position()?;
        self.recording.insert(execution, end);
        Some(end)
    }

    /// Where the execution ended whose record is still to be written.
    pub fn owed(&self, execution: ExecutionId) -> Option<Position> {
        self.recording.get(&execution).copied()
    }

    /// The history has the record. Returns an earlier one that it replaces.
    pub fn recorded(&mut self, execution: ExecutionId, end: Position, now: Mono) -> Option<u64> {
        if self.recording.get(&execution) == Some(&end) {
            self.recording.remove(&execution);
        }
        self.push(execution, end, now);
        self.replaced.remove(&execution)
    }

    /// A parked execution came back; its record stays until another one is there. Returns an older one that nobody needs.
    pub fn replaces(&mut self, execution: ExecutionId, record: u64) -> Option<u64> {
        self.replaced.insert(execution, record)
    }

    /// Another record of the parked execution is there. Returns the one that it replaces.
    pub fn forget_replaced(&mut self, execution: ExecutionId) -> Option<u64> {
        self.replaced.remove(&execution)
    }

    /// The entry was not appended.
    pub fn not_appended(&mut self, archived: &Archived, now: Mono) {
        for &(execution, end) in &archived.executions {
            self.push(execution, end, now);
        }
    }

    /// The entry that forgets what was recorded, once it is time.
    pub fn take(&mut self, now: Mono) -> Option<Entry> {
        let due = self.since.is_some_and(|since| now >= since.plus_millis(COMPANY_MS));
        if !due && self.recorded.len() < TOGETHER_MAX {
            return None;
        }
        let rest = self.recorded.split_off(self.recorded.len().min(TOGETHER_MAX));
        let executions = std::mem::replace(&mut self.recorded, rest);
        self.since = (!self.recorded.is_empty()).then_some(now);
        (!executions.is_empty()).then_some(Entry::Archived(Archived { executions }))
    }

    /// When there is something to take.
    pub fn wakes_at(&self) -> Option<Mono> {
        self.since.map(|since| since.plus_millis(COMPANY_MS))
    }

    fn push(&mut self, execution: ExecutionId, end: Position, now: Mono) {
        self.recorded.push((execution, end));
        self.since.get_or_insert(now);
    }
}
