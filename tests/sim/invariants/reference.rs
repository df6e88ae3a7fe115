//! The fold of everything that was stored, by the engine alone, which keeps what partitions may forget: nobody parks or
//! drops an execution here, and still every outcome is the one of an owner who does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_coordinator::owner::machine::Message;
use millstream_engine::{Applied, Execution, Halt, Ignored, Origin, Outcome, Partition, Want};
use millstream_model::entry::{Archived, Entry};
use millstream_model::hash::ContentHash;
use millstream_model::ids::ExecutionId;
use millstream_model::names::JournalSubject;
use millstream_model::plan::Plan;
use millstream_model::position::Position;

use crate::simulation::plants::Plant;
use crate::simulation::tamper::Tamper;

/// See the module.
#[derive(Debug)]
pub(super) struct Reference {
    partition: Partition,
    tamper: Tamper,
    /// Ended executions that the partition does not know any more.
    forgotten: BTreeSet<ExecutionId>,
    plans: Arc<BTreeMap<ContentHash, Arc<Plan>>>,
}

impl Reference {
    pub(super) fn new(plans: Arc<BTreeMap<ContentHash, Arc<Plan>>>, plant: Option<Plant>) -> Self {
        Self { partition: Partition::default(), tamper: Tamper::new(plant), forgotten: BTreeSet::new(), plans }
    }

    /// A fold that goes on from a snapshot.
    pub(super) fn restored(&self, partition: Partition, plant: Option<Plant>) -> Self {
        Self { partition, tamper: Tamper::new(plant), forgotten: BTreeSet::new(), plans: Arc::clone(&self.plans) }
    }

    pub(super) fn partition(&self) -> &Partition {
        &self.partition
    }

    pub(super) fn partition_mut(&mut self) -> &mut Partition {
        &mut self.partition
    }

    pub(super) fn execution(&self, id: ExecutionId) -> Option<&Execution> {
        self.partition.execution(id)
    }

    /// Whether partitions do not know the execution any more.
    pub(super) fn has_forgotten(&self, id: ExecutionId) -> bool {
        self.forgotten.contains(&id)
    }

    /// The message as bugs of the fold make it.
    pub(super) fn tampered(&mut self, message: Message) -> Message {
        self.tamper.message(message, &self.partition)
    }

    /// Whether bugs of the fold leave entries in their places.
    pub(super) fn rewrites(&self) -> bool {
        self.tamper.rewrites()
    }

    /// Executions that an entry lets partitions forget.
    pub(super) fn forgets(&self, archived: &Archived) -> Vec<(ExecutionId, Position)> {
        let ends = |id: ExecutionId| self.execution(id).and_then(Execution::end_position);
        let known = archived.executions.iter().filter(|(id, _)| !self.has_forgotten(*id));
        known.filter(|(id, end)| ends(*id) == Some(*end)).copied().collect()
    }

    /// Folds an entry.
    pub(super) fn apply(
        &mut self,
        position: Position,
        message: &Message,
        subject: &JournalSubject,
        entry: Entry,
    ) -> Result<Applied, Halt> {
        let origin = match subject {
            JournalSubject::Control => Origin::Control,
            JournalSubject::Result(capability) => Origin::Result(capability),
        };
        let answered = |outcome| Ok(Applied { outcome, effects: Vec::new() });
        if let (Entry::Archived(archived), Origin::Control) = (&entry, origin) {
            let forgets = self.forgets(archived);
            self.forgotten.extend(forgets.into_iter().map(|(id, _)| id));
            return answered(Outcome::Accepted);
        }
        let is_foreign = matches!(origin, Origin::Result(_)) != entry.is_result();
        if let Some(id) = entry.execution().filter(|id| !is_foreign && self.has_forgotten(*id)) {
            match &entry {
                Entry::Resumed(resumed) if resumed.transcript.is_some() => drop(self.forgotten.remove(&id)),
                Entry::Submitted(_) => {}
                _ => return answered(Outcome::Ignored(Ignored::UnknownExecution)),
            }
        }
        if let Some(Want::Definition(hash)) = self.partition.wants(origin, &entry)
            && let Some(plan) = self.plans.get(&hash)
        {
            self.partition.install(Arc::clone(plan));
        }
        self.partition.apply(position, message.time, origin, entry)
    }
}
