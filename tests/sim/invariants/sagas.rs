//! Compensations: of what, when, in which order.

use millstream_model::definition::OnFailure;
use millstream_model::view::{EffectState, EffectView, ExecutionPhase, ExecutionStatus};

use super::record::{COMPENSATION, Record};
use super::{Checker, Violation, violated};
use crate::simulation::witness::{SideEffect, Subject};
use crate::simulation::worker::Outside;

impl Checker {
    /// A compensation was run: of something that completed, after everything that completed later was dealt with.
    pub(super) fn compensates(
        &self,
        subject: &Subject,
        effect: &SideEffect,
        outside: &Outside,
    ) -> Result<(), Violation> {
        let Some(execution) = self.reference.execution(subject.execution) else {
            return violated("only tasks of known executions are run", format!("{subject:?}"));
        };
        let record = &self.records[&subject.execution];
        let round = subject.activation / 4;
        if round < record.round() {
            return Ok(());
        }
        let earlier = outside.witness.of(subject);
        if earlier.len() > 1 || effect.ordinal > 1 {
            return Ok(());
        }
        let view = execution.view();
        if matches!(view.phase, ExecutionPhase::Running | ExecutionPhase::Aggregating | ExecutionPhase::Stopping) {
            return violated("compensations follow the outcome", format!("{subject:?} in {:?}", view.phase));
        }
        let Some(own) = completed(record, subject) else {
            let step = subject.step.parse().expect("it was a step's name");
            let kept = record.submitted.fork.as_ref().is_some_and(|fork| fork.kept.iter().any(|k| k.step == step));
            if kept {
                return Ok(());
            }
            return violated("only what completed is undone", format!("{subject:?}"));
        };
        // Whatever completed later and has a compensation is settled before this one starts.
        for other in record.successes.keys() {
            let Some(&at) = record.completed.get(other) else { continue };
            if other.activation % 4 == COMPENSATION || at <= own {
                continue;
            }
            let has_compensation = execution
                .plan()
                .find(&other.step.parse().expect("it was a step's name"))
                .is_some_and(|step| execution.plan().step(step).compensate.is_some());
            if !has_compensation || completed(record, other) != Some(at) {
                continue;
            }
            let state = view
                .effects
                .iter()
                .find(|effect| effect.step_id.as_str() == other.step && effect.item == other.item)
                .map(|effect| effect.state);
            if matches!(state, Some(EffectState::Pending | EffectState::Compensating)) {
                let what = format!("{subject:?} is undone and {other:?}, which completed later, is {state:?}");
                return violated("effects are undone in reverse order of completion", what);
            }
        }
        // One at a time: what runs in the journal is this one, or nothing any more.
        let others = view.effects.iter().filter(|effect| effect.state == EffectState::Compensating);
        for other in others {
            if other.step_id.as_str() != subject.step || other.item != subject.item {
                let what = format!("{subject:?} while {} {:?}", other.step_id, other.item);
                return violated("compensations run one at a time", what);
            }
        }
        Ok(())
    }

    /// The ledger of an execution that has ended tells what became of each effect.
    pub(super) fn check_ledger(
        &self,
        record: &Record,
        status: ExecutionStatus,
        effects: &[EffectView],
    ) -> Result<(), Violation> {
        let id = record.submitted.execution;
        self.check_that_all_is_undone(record, status, effects)?;
        for effect in effects {
            let subject =
                |activation| Subject { execution: id, step: effect.step_id.to_string(), item: effect.item, activation };
            let undone =
                (0..=record.round()).any(|round| record.successes.contains_key(&subject(round * 4 + COMPENSATION)));
            let truth = match effect.state {
                EffectState::Pending | EffectState::Compensating => false,
                EffectState::Compensated => undone,
                EffectState::CompensationFailed | EffectState::Irreversible | EffectState::Unknown => true,
                EffectState::Standing => true,
            };
            if !truth {
                let what = format!(
                    "{id} {}: {} {:?} is {}",
                    status.as_str(),
                    effect.step_id,
                    effect.item,
                    effect.state.as_str()
                );
                return violated("the ledger tells the truth", what);
            }
        }
        Ok(())
    }
}

impl Checker {
    /// Each effect that was completed is in the ledger, and undone where that was asked for.
    fn check_that_all_is_undone(
        &self,
        record: &Record,
        status: ExecutionStatus,
        effects: &[EffectView],
    ) -> Result<(), Violation> {
        if status == ExecutionStatus::Completed {
            return Ok(());
        }
        let plan = self.plan(record)?;
        let undoes = match status {
            ExecutionStatus::Failed | ExecutionStatus::Timeout => plan.definition.on_failure == OnFailure::Compensate,
            _ => false,
        };
        for subject in record.successes.keys().filter(|subject| subject.activation % 4 != COMPENSATION) {
            let Some(index) = plan.find(&subject.step.parse().expect("it was a step's name")) else { continue };
            let step = plan.step(index);
            if step.compensate.is_none() && !step.irreversible || plan.is_finally(index) {
                continue;
            }
            let states: Vec<EffectState> = effects
                .iter()
                .filter(|effect| effect.step_id.as_str() == subject.step && effect.item == subject.item)
                .map(|effect| effect.state)
                // An attempt of a later round of which nobody knows whether it had its effect.
                .filter(|state| *state != EffectState::Unknown)
                .collect();
            let tells = match states.last() {
                None => false,
                Some(EffectState::Compensated | EffectState::CompensationFailed | EffectState::Irreversible) => true,
                Some(EffectState::Standing) => !undoes,
                Some(EffectState::Pending | EffectState::Compensating | EffectState::Unknown) => false,
            };
            if !tells {
                let what = format!("{} {subject:?}: {states:?}", status.as_str());
                return violated("every completed effect is in the ledger, and undone if that was asked for", what);
            }
        }
        Ok(())
    }
}

/// The message in which the effect of a subject of a compensation was completed last.
fn completed(record: &Record, subject: &Subject) -> Option<u64> {
    let same = |other: &Subject| {
        other.step == subject.step && other.item == subject.item && other.activation % 4 != COMPENSATION
    };
    let settled = record.successes.keys().filter(|other| same(other));
    settled.filter_map(|other| record.completed.get(other)).max().copied()
}
