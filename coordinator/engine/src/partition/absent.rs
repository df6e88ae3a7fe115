//! Executions that are not in memory: those that wait for long (parked), and those that have ended and whose records
//! the history has (archived). What the fold makes of an entry is the same as if they had never left.
//!
//! ```text
//!              park                        archived
//!   in memory ──────▶ parked    in memory ──────────▶ forgotten
//!       ▲               │           ▲                     │
//!       └─── unpark ────┘           └── recall, resumed ──┘
//! ```

use std::sync::Arc;

use millstream_model::entry::Archived;
use millstream_model::ids::ExecutionId;
use millstream_model::position::Position;
use millstream_model::time::Timestamp;

use crate::execution::Execution;
use crate::outcome::Halt;
use crate::record::What;

use super::Partition;

/// What is kept of an execution that waits for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parked {
    /// Sequence of its record in the history.
    pub record: u64,
    /// When its next alarm is due.
    pub next: Option<Timestamp>,
}

impl Partition {
    /// Takes an execution out of memory whose transcript is in the history, and answers with it. Only what
    /// [`Execution::waits_until`] something should be parked.
    pub fn park(&mut self, id: ExecutionId, record: u64) -> Option<Box<Execution>> {
        let execution = self.executions.remove(&id)?;
        self.parked.insert(id, Parked { record, next: execution.alarms.first() });
        Some(execution)
    }

    /// Whether the execution is parked.
    pub fn is_parked(&self, id: ExecutionId) -> bool {
        self.parked.contains_key(&id)
    }

    /// Where the history has the record of a parked execution.
    pub fn parked_record(&self, id: ExecutionId) -> Option<u64> {
        self.parked.get(&id).map(|parked| parked.record)
    }

    /// How many executions are parked.
    pub fn parked_count(&self) -> usize {
        self.parked.len()
    }

    /// Parked executions whose next alarm is due at `now`, with the sequences of their records, at most `limit`.
    pub fn asleep(&self, now: Timestamp, limit: usize) -> Vec<(ExecutionId, u64)> {
        let due = self.deadlines.range(..=(now, super::max_id()));
        due.filter_map(|(_, id)| Some((*id, self.parked.get(id)?.record))).take(limit).collect()
    }

    /// Brings a parked execution back into memory; others are left as they are.
    pub fn unpark(&mut self, execution: Box<Execution>) {
        let id = execution.id();
        if let Some(Parked { next, .. }) = self.parked.remove(&id) {
            if let Some(next) = next {
                self.deadlines.remove(&(next, id));
            }
            self.put(id, execution);
        }
    }

    /// Brings an archived execution, for the entry that resumes it.
    pub fn recall(&mut self, execution: Box<Execution>) {
        self.recalled.insert(execution.id(), execution);
    }

    /// What was recalled is in its place if the partition has forgotten it.
    pub(super) fn bring_back(&mut self, id: ExecutionId) -> Result<(), Halt> {
        let recalled = self.recalled.remove(&id);
        if self.executions.contains_key(&id) {
            return Ok(());
        }
        let execution = recalled.ok_or(Halt::MissingExecution { execution: id })?;
        self.put(id, execution);
        Ok(())
    }

    /// The history has the records of these.
    pub(super) fn forget(&mut self, archived: &Archived) {
        for &(id, end) in &archived.executions {
            if self.execution(id).and_then(Execution::end_position) == Some(end) {
                self.executions.remove(&id);
            }
        }
    }

    /// Drops definitions that no execution in memory runs, where there are many; they are wanted again when one does.
    /// To be called between messages: what [`Self::wants`] did not ask for must stay until its message is applied.
    pub fn forget_plans(&mut self) {
        /// Below it nobody looks.
        const PLANS_KEPT: usize = 256;
        if self.plans.len() > PLANS_KEPT {
            self.plans.retain(|_, plan| Arc::strong_count(plan) > 1);
        }
    }

    pub(super) fn put(&mut self, id: ExecutionId, execution: Box<Execution>) {
        if let Some(next) = execution.alarms.first() {
            self.deadlines.insert((next, id));
        }
        if !execution.claimants.is_empty() {
            self.held.insert(id);
        }
        self.executions.insert(id, execution);
    }
}

impl Execution {
    /// When its next alarm is due, if it waits for nothing else: neither for a task that is owed to the queue, queued
    /// or running, nor for the owner.
    pub fn waits_until(&self) -> Option<Timestamp> {
        let waits = !self.status().is_terminal()
            && self.claimants.is_empty()
            && self.outstanding().is_empty()
            && self.evaluations().is_empty();
        if waits { self.alarms.first() } else { None }
    }

    /// Place of the entry that ended it.
    pub fn end_position(&self) -> Option<Position> {
        let last = self.records.last().filter(|_| self.status().is_terminal())?;
        matches!(last.what, What::Ended(_)).then_some(last.id.position)
    }
}
