//! The end of a world.

use std::sync::Arc;

use millstream_coordinator::owner::core::Core;
use millstream_coordinator::owner::machine::Message;
use millstream_model::ids::Partition;
use millstream_model::position::{EventId, Position};
use millstream_model::view::{ExecutionStatus, StepStatus};

use super::reference::Reference;
use super::{Checker, Violation, owners, violated};
use crate::simulation::broker::PARTITION;
use crate::simulation::coordinator::{Coordinator, PARTITIONS};
use crate::simulation::world::World;

impl World {
    /// Everything is done: what must hold in the end does.
    pub fn finish(&mut self) -> Result<(), Violation> {
        for owner in self.coordinators() {
            self.checker.compare(owner, &self.broker)?;
        }
        for execution in self.clients().accepted() {
            if self.checker.execution(*execution).is_none() {
                return violated("an accepted submission becomes an execution", execution.to_string());
            }
        }
        for owner in self.coordinators().filter(|owner| owner.owns()) {
            let in_mind = owner.core().map_or(0, Core::in_mind);
            if in_mind > 0 {
                return violated("owners remember nothing of what is done", format!("{}: {in_mind}", owner.life));
            }
        }
        self.check_owners()?;
        self.checker.check_refold(self.physics.plant)?;
        self.checker.check_ends()?;
        if self.coordinators().any(Coordinator::owns) {
            self.checker.check_archived()?;
        }
        self.checker.rehearse(&self.broker, self.physics.plant)?;
        if self.checker.calm {
            self.check_calm_day()?;
        }
        Ok(())
    }

    /// The journal went backwards: where that can be seen nobody owns the partition any more.
    pub fn finish_regressed(&self) -> Result<(), Violation> {
        let shows = self.regressed.is_some_and(|regressed| regressed.shows);
        match self.coordinators().find(|process| process.owns()).filter(|_| shows) {
            Some(owner) => violated("after a regression the partition halts", format!("{} owns it", owner.life)),
            None => Ok(()),
        }
    }

    /// Each partition is owned by the one whose lease it is, and nothing is left in memory.
    fn check_owners(&self) -> Result<(), Violation> {
        for number in 0..u8::try_from(PARTITIONS).expect("there are few") {
            let partition = Partition(number);
            let owns = |process: &&Coordinator| {
                if partition == PARTITION { process.owns() } else { process.others.contains(&partition) }
            };
            let owners: Vec<&Coordinator> = self.coordinators().filter(owns).collect();
            let lease = self.broker.lease_of(partition);
            // Leases run out by the clock of the broker, which may have gone back.
            let late = owners.is_empty() && self.physics.clocks.set_back_ms() > 0;
            let leased = late || owners.len() == 1 && lease.as_ref() == Some(owners[0].node());
            if !leased {
                let lives: Vec<String> = owners.iter().map(|owner| owner.life.to_string()).collect();
                let what = format!("{partition} is owned by {lives:?}, its lease is {lease:?}");
                return violated("every partition has one owner again", what);
            }
        }
        for owner in self.coordinators().filter_map(Coordinator::partition) {
            let (in_memory, parked) = (owner.in_memory(), owner.parked_count());
            if in_memory + parked > 0 {
                let what = format!("{in_memory} in memory, {parked} parked");
                return violated("what is done leaves memory", what);
            }
        }
        let owned = self.coordinators().any(Coordinator::owns);
        let newest = self.coordinators().map(|process| process.fold_rev).min().filter(|_| owned);
        if newest.is_some_and(|newest| self.checker.fold_rev() < newest) {
            let what = format!("{} is in force, all fold {newest:?}", self.checker.fold_rev());
            return violated("a revision that all fold comes into force", what);
        }
        Ok(())
    }

    /// Nothing has been accepted for too long: says what is outstanding.
    pub fn stuck(&self) -> Result<(), Violation> {
        violated("everything accepted ends", self.checker.outstanding(self))
    }

    /// When nothing went wrong, every attempt had its effect exactly once.
    fn check_calm_day(&self) -> Result<(), Violation> {
        for (subject, effects) in self.outside.witness.all() {
            for (index, effect) in effects.iter().enumerate() {
                if effect.ordinal as usize != index + 1 || effect.attempt != effect.ordinal {
                    let ordinals: Vec<u32> = effects.iter().map(|effect| effect.ordinal).collect();
                    let what = format!("{subject:?}: ordinals {ordinals:?}");
                    return violated("on a calm day every attempt runs once, in order", what);
                }
            }
        }
        Ok(())
    }
}

impl Checker {
    /// Folding the journal again from its first message gives the same state.
    fn check_refold(&self, plant: Option<crate::simulation::plants::Plant>) -> Result<(), Violation> {
        let mut again = Reference::new(Arc::clone(&self.plans), plant);
        for stored in &self.journal {
            let subject = self.names.parse_journal(&stored.subject);
            let Ok(message) = Message::decode(stored.sequence, stored.time, subject, &stored.payload) else {
                return violated("owners write what can be read", stored.sequence.to_string());
            };
            let mut message = again.tampered(message);
            let Some(subject) = message.subject.clone() else { continue };
            for (index, written) in std::mem::take(&mut message.entries).into_iter().enumerate() {
                let Some(written) = written else { continue };
                let index = u16::try_from(index).expect("a batch is small");
                let position = Position { sequence: stored.sequence, index };
                if let Err(halt) = again.apply(position, &message, &subject, written.entry) {
                    return violated("the fold never halts", halt.to_string());
                }
            }
        }
        for reference in self.reference.partition().executions() {
            let found = again.execution(reference.id()).map(owners::state);
            if found.as_deref() != Some(owners::state(reference).as_str()) {
                let what = format!("{}:\n{}", reference.id(), found.unwrap_or_default());
                return violated("a refold gives the same state", what);
            }
        }
        Ok(())
    }

    /// Every execution that has ended is in the history, as it ended.
    fn check_archived(&self) -> Result<(), Violation> {
        for (id, record) in &self.records {
            let last = record.ends.last_key_value().map(|(end, _)| *end);
            if last.is_none_or(|end| !record.recorded.contains_key(&end)) || !self.reference.has_forgotten(*id) {
                let what = format!("{id}: ends {:?}, records {:?}", record.ends.keys(), record.recorded);
                return violated("what has ended is archived", what);
            }
        }
        Ok(())
    }

    /// What holds of every execution that has ended.
    fn check_ends(&self) -> Result<(), Violation> {
        for execution in self.reference.partition().executions() {
            let (id, view) = (execution.id(), execution.view());
            if !view.status.is_terminal() {
                return violated("everything accepted ends", format!("{id} is {}", view.status.as_str()));
            }
            if !execution.outstanding().is_empty() || execution.alarms().next().is_some() {
                return violated("slots are given back", format!("{id}:\n{}", owners::state(execution)));
            }
            for step in &view.steps {
                let at_rest = step.status.is_settled();
                if !at_rest {
                    let what = format!("{id}: {} is {}", step.id, step.status.as_str());
                    return violated("at the end every step is settled", what);
                }
                let failed = matches!(step.status, StepStatus::Failed | StepStatus::Timeout | StepStatus::Cancelled);
                let index = execution.plan().find(&step.id).expect("steps are those of the definition");
                let critical = execution.plan().step(index).critical && !execution.plan().is_finally(index);
                if view.status == ExecutionStatus::Completed && failed && critical {
                    let what = format!("{id}: {} is {}", step.id, step.status.as_str());
                    return violated("with a critical failure nothing is COMPLETED", what);
                }
            }
            self.check_events(execution)?;
            let record = &self.records[&id];
            self.check_ledger(record, view.status, &view.effects)?;
        }
        Ok(())
    }

    /// Events have ids of their own that grow, and the last one is the end.
    fn check_events(&self, execution: &millstream_engine::Execution) -> Result<(), Violation> {
        let events = execution.events(None);
        let ids: Vec<Option<EventId>> = events.iter().map(|event| event.id).collect();
        let grows = ids.iter().all(Option::is_some) && ids.is_sorted_by(|one, other| one < other);
        if !grows {
            return violated("events have ids that grow", format!("{}: {ids:?}", execution.id()));
        }
        if !events.last().is_some_and(|event| event.kind.is_terminal()) {
            return violated("the last event is the end", execution.id().to_string());
        }
        Ok(())
    }

    fn outstanding(&self, world: &World) -> String {
        let mut text = format!(
            "{} in the queue, clients {}",
            world.broker.queued(),
            if world.clients().is_idle() { "are done" } else { "wait" }
        );
        for owner in world.coordinators() {
            let wakes = owner.core().map(|core| core.wakes_at());
            text.push_str(&format!(
                "\n{} runs {} owns {} folded {} of {} idle {} wakes {wakes:?}",
                owner.life,
                owner.runs(),
                owner.owns(),
                owner.folded(),
                self.last_sequence(),
                owner.is_idle()
            ));
        }
        for execution in self.running.iter().filter_map(|id| self.reference.execution(*id)) {
            text.push_str(&format!("\n{}\n{}", execution.id(), owners::state(execution)));
        }
        text
    }
}
