//! Which effects an execution must have undone, computed from its journal alone.

use std::collections::BTreeSet;

use millstream_engine::TaskRef;
use millstream_model::definition::OnFailure;
use millstream_model::entry::Entry;
use millstream_model::plan::{Plan, StepIndex};
use millstream_model::view::{EffectState, ExecutionStatus, ExecutionView, Held};

/// The effects in the order of their completion.
#[derive(Default)]
pub struct Ledger {
    effects: Vec<Effect>,
    /// What is being undone.
    undoing: Option<usize>,
    /// Something was undone, or tried to, since the start or the last resume.
    begun: bool,
}

struct Effect {
    step: StepIndex,
    item: Option<u32>,
    undoable: bool,
    state: EffectState,
    /// What had it has not been made to run again since.
    live: bool,
}

impl Ledger {
    /// A step or item was completed by an agent.
    pub fn complete(&mut self, plan: &Plan, task: &TaskRef) {
        let step = plan.step(task.step);
        let undoable = step.compensate.is_some();
        if !undoable && !step.irreversible {
            return;
        }
        let twice = self.effects.iter().any(|e| e.live && (e.step, e.item) == (task.step, task.item) && e.undoable);
        assert!(!twice, "{task:?} is done again though what it did stands");
        let state = if undoable { EffectState::Standing } else { EffectState::Irreversible };
        self.effects.push(Effect { step: task.step, item: task.item, undoable, state, live: true });
    }

    /// A compensation is published for the first time: it is the last of what still stands.
    pub fn undo(&mut self, task: &TaskRef, entry: &Entry) {
        self.settle(entry);
        let next = self.effects.iter().rposition(Effect::is_to_be_undone);
        let named = next.map(|at| (self.effects[at].step, self.effects[at].item));
        assert_eq!(named, Some((task.step, task.item)), "effects are undone in reverse order of completion");
        self.undoing = next;
        self.begun = true;
    }

    /// The compensation is published again: it is the one that runs.
    pub fn undo_again(&self, task: &TaskRef) {
        let undoing = self.undoing.map(|at| (self.effects[at].step, self.effects[at].item));
        assert_eq!(undoing, Some((task.step, task.item)), "only the compensation that runs is repeated");
    }

    /// `entry` ended the compensation that ran, if one did.
    pub fn settle(&mut self, entry: &Entry) {
        if let Some(at) = self.undoing.take() {
            let succeeded = matches!(entry, Entry::TaskSucceeded(_));
            self.effects[at].state = if succeeded { EffectState::Compensated } else { EffectState::CompensationFailed };
        }
    }

    /// The execution goes on; `keeps` are the steps that it said it would not run again.
    pub fn resume(&mut self, plan: &Plan, keeps: &BTreeSet<StepIndex>) {
        self.begun = false;
        for effect in self.effects.iter_mut().filter(|effect| effect.live) {
            let items_stay = effect.item.is_some()
                && plan.planned(effect.step).depends_on.iter().all(|dependency| keeps.contains(dependency));
            match effect.state {
                EffectState::Compensated => effect.live = false,
                EffectState::CompensationFailed if keeps.contains(&effect.step) || items_stay => {
                    effect.state = EffectState::Standing;
                }
                EffectState::CompensationFailed => effect.live = false,
                _ => {}
            }
        }
    }

    /// The execution has ended.
    pub fn check(&self, plan: &Plan, view: &ExecutionView<Held>) {
        let asked = view.cancel.as_ref().is_some_and(|cancel| cancel.compensate);
        let wanted = match view.status {
            ExecutionStatus::Completed => false,
            ExecutionStatus::Cancelled => asked,
            _ => asked || plan.definition.on_failure == OnFailure::Compensate,
        };
        assert!(wanted || !self.begun, "nobody asked to undo anything");
        assert!(!wanted || !self.effects.iter().any(Effect::is_to_be_undone), "something was not undone");
        if view.status == ExecutionStatus::Completed && view.resumes.is_empty() {
            assert_eq!(view.effects, [], "it stands by its effects");
            return;
        }
        let told: Vec<_> = view.effects.iter().filter(|effect| effect.state != EffectState::Unknown).collect();
        let told: Vec<_> = told.iter().map(|e| (e.step_id.as_str(), e.item, e.state)).collect();
        let known: Vec<_> = self.effects.iter().map(|e| (plan.step(e.step).id.as_str(), e.item, e.state)).collect();
        assert_eq!(told, known, "the ledger says what happened");
    }
}

impl Effect {
    fn is_to_be_undone(&self) -> bool {
        self.live && self.undoable && self.state == EffectState::Standing
    }
}
