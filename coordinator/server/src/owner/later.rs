//! What failed for a passing reason and is tried again in a while.

use std::collections::{BTreeMap, BTreeSet};

use millstream_engine::TaskRef;
use millstream_model::ids::ExecutionId;

use super::clock::Mono;
use super::command::Job;

/// One thing to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chore {
    /// Take the partition.
    TakeOver,
    /// Tell the workers of a cancel.
    MarkCancelled { execution: ExecutionId, below: u32 },
    /// Put the value of a job into the payload store.
    Store(Job),
    /// Write the record of an execution that has ended.
    Record(ExecutionId),
    /// Render or evaluate, and go on from there.
    Attempt(Job),
}

/// Chores by the time they are due.
#[derive(Debug, Default)]
pub struct Later {
    due: BTreeMap<Mono, BTreeSet<Chore>>,
}

impl Later {
    pub fn push(&mut self, at: Mono, chore: Chore) {
        self.due.entry(at).or_default().insert(chore);
    }

    pub fn len(&self) -> usize {
        self.due.values().map(BTreeSet::len).sum()
    }

    /// Takes out what is due, the oldest first.
    pub fn take(&mut self, now: Mono) -> Vec<Chore> {
        let mut chores = Vec::new();
        while let Some(entry) = self.due.first_entry().filter(|entry| *entry.key() <= now) {
            chores.extend(entry.remove());
        }
        chores
    }

    /// When the next chore is due.
    pub fn wakes_at(&self) -> Option<Mono> {
        self.due.first_key_value().map(|(at, _)| *at)
    }

    /// Whether a task will be tried again.
    pub fn contains(&self, task: &TaskRef) -> bool {
        self.due.values().any(|chores| chores.contains(&Chore::Attempt(Job::Publish(*task))))
    }
}
