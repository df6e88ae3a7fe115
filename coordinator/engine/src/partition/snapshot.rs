//! A partition as a snapshot has it, beside the transcripts, which the owner keeps.

use std::sync::Arc;

use millstream_model::entry::Epoch;
use millstream_model::hash::ContentHash;
use millstream_model::ids::ExecutionId;
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::snapshot::{ParkedExecution, RememberedKey, Snapshot};

use crate::execution::Execution;
use crate::outcome::Halt;

use super::absent::Parked;
use super::{FOLD_REV, Partition};

impl Partition {
    /// An empty partition in which a revision of the fold is in force.
    pub(crate) fn of_revision(fold_rev: u16) -> Self {
        Self { fold_rev, ..Self::default() }
    }

    /// The partition of a snapshot, whose executions were folded from its transcripts.
    pub fn restore(snapshot: &Snapshot, executions: impl IntoIterator<Item = Box<Execution>>) -> Result<Self, Halt> {
        let head = &snapshot.head;
        if head.fold_rev > FOLD_REV {
            return Err(Halt::FoldRevision { found: head.fold_rev, known: FOLD_REV });
        }
        let mut partition = Self {
            applied: head.applied,
            fold_rev: head.fold_rev,
            epoch: head.epoch.clone().map(|epoch| (epoch, head.epoch_at)),
            ..Self::default()
        };
        for key in &snapshot.keys {
            partition.keys.restore(key);
        }
        for &ParkedExecution { execution, record, next } in &snapshot.parked {
            if let Some(next) = next {
                partition.deadlines.insert((next, execution));
            }
            partition.parked.insert(execution, Parked { record, next });
        }
        for execution in executions {
            partition.install(Arc::clone(&execution.plan));
            partition.put(execution.id(), execution);
        }
        Ok(partition)
    }

    /// The keys that are remembered, the oldest first.
    pub fn remembered_keys(&self) -> Vec<RememberedKey> {
        self.keys.remembered().collect()
    }

    /// How many keys are remembered.
    pub fn key_count(&self) -> usize {
        self.keys.count()
    }

    /// The executions that are parked, oldest first.
    pub fn parked(&self) -> Vec<ParkedExecution> {
        let parked = self.parked.iter();
        parked
            .map(|(&execution, parked)| ParkedExecution { execution, record: parked.record, next: parked.next })
            .collect()
    }

    /// The epoch in force and where it began, as a snapshot has it.
    pub fn epoch_in_force(&self) -> Option<(Epoch, Position)> {
        self.epoch.clone()
    }

    /// Hash of all that is in memory; the same for everyone who folded the same journal with the same executions in
    /// memory.
    pub fn state_hash(&self) -> ContentHash {
        let mut text = format!("{} fold {}\n", self.applied, self.fold_rev);
        if let Some((epoch, at)) = &self.epoch {
            text += &format!("epoch {} of {} at {at}\n", epoch.epoch, epoch.node);
        }
        for execution in self.executions.values() {
            text += &format!("{} {}\n", execution.id(), execution.state_hash());
        }
        for key in self.keys.remembered() {
            text += &format!("{} {} {}\n", key.key, key.execution, key.at.as_micros());
        }
        ContentHash::of(text.as_bytes())
    }

    /// The plan of a definition that is known here.
    pub fn plan(&self, hash: ContentHash) -> Option<&Arc<Plan>> {
        self.plans.get(&hash)
    }

    /// Takes an execution out, for those who fold one alone.
    pub(crate) fn take(&mut self, id: ExecutionId) -> Option<Box<Execution>> {
        self.executions.remove(&id)
    }
}
