//! The saga: which effects were had, and undoing them in reverse order of completion (H. Garcia-Molina, K. Salem,
//! "Sagas", SIGMOD 1987).
//!
//! ```text
//!   Standing ─▶ Undoing ─┬─▶ Compensated
//!                        └─▶ Failed          (recorded; the next one follows)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use millstream_model::error::StepError;
use millstream_model::plan::StepIndex;
use millstream_model::time::Timestamp;
use millstream_model::view::{CompensationView, EffectState, EffectView, ExecutionStatus, StepStatus};

use crate::activation::{self, Role};
use crate::attempt::{Attempt, Outstanding};
use crate::execution::{Execution, Fold, Phase};
use crate::record::{Ran, Subject, What};
use crate::state::{self, StateText};
use crate::step::State;

/// The effects of an execution, in the order of their completion.
#[derive(Debug, Default)]
pub(crate) struct Saga {
    effects: Vec<Done>,
    undoing: Option<Undoing>,
    /// What lies at or behind it is undone, or will not be.
    cursor: usize,
    /// What became of compensations that were tried, by effect.
    undone: BTreeMap<usize, Undone>,
    /// Activations of which nobody knows whether they had their effect.
    doubts: BTreeSet<(StepIndex, Option<u32>, u32)>,
}

/// A completed step or item that has an effect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub step: StepIndex,
    pub item: Option<u32>,
    state: DoneState,
    /// The step has not been made to run again since.
    current: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DoneState {
    Standing,
    Compensated,
    Failed,
}

/// The effect that is being undone.
#[derive(Debug)]
struct Undoing {
    effect: usize,
    activation: u32,
    attempt: Attempt,
    /// Ordinals that were started, as far as is known.
    attempts: u32,
}

#[derive(Debug)]
struct Undone {
    round: u32,
    attempts: u32,
    error: Option<StepError>,
    ended_at: Timestamp,
}

impl Saga {
    /// The compensation that runs, its activation and where its attempts stand.
    pub(crate) fn current(&self) -> Option<(&Done, u32, Attempt)> {
        let undoing = self.undoing.as_ref()?;
        Some((&self.effects[undoing.effect], undoing.activation, undoing.attempt))
    }

    pub(crate) fn set_attempt(&mut self, attempt: Attempt) {
        if let Some(undoing) = &mut self.undoing {
            undoing.attempt = attempt;
            if let Attempt::Outstanding(Outstanding { number, .. }) = attempt {
                undoing.attempts = undoing.attempts.max(number);
            }
        }
    }

    /// All of it that is state: see [`Execution::state_hash`].
    pub(crate) fn write_state(&self, text: &mut StateText) {
        for Done { step, item, state, current } in &self.effects {
            let state = match state {
                DoneState::Standing => "standing",
                DoneState::Compensated => "compensated",
                DoneState::Failed => "failed",
            };
            text.line(format_args!("effect {} {} {state} {current}", step.0, state::item(*item)));
        }
        if let Some(Undoing { effect, activation, attempt, attempts }) = &self.undoing {
            text.attempt(format_args!("undoing {effect} {activation} {attempts}"), *attempt);
        }
        text.line(format_args!("undo below {}", self.cursor));
        for (effect, Undone { round, attempts, error, ended_at }) in &self.undone {
            let error = error.as_ref().map_or("-", |error| error.code.as_str());
            text.line(format_args!("undone {effect} {round} {attempts} {error} {}", ended_at.as_micros()));
        }
        for (step, item, activation) in &self.doubts {
            text.line(format_args!("doubt {} {} {activation}", step.0, state::item(*item)));
        }
    }

    /// An ordinal of the compensation is known to have been started.
    pub(crate) fn note_ordinal(&mut self, ordinal: u32) {
        if let Some(undoing) = &mut self.undoing {
            undoing.attempts = undoing.attempts.max(ordinal);
        }
    }

    /// The steps that have an effect that was undone and that were not run again since.
    pub(crate) fn compensated_steps(&self) -> BTreeSet<StepIndex> {
        self.compensated().map(|done| done.step).collect()
    }

    /// Effects that were undone, of steps that were not run again since.
    pub(crate) fn compensated(&self) -> impl Iterator<Item = &Done> {
        self.effects.iter().filter(|done| done.current && done.state == DoneState::Compensated)
    }

    /// Steps whose effects were all undone.
    pub(crate) fn undone_steps(&self) -> BTreeSet<StepIndex> {
        if self.undone.is_empty() {
            return BTreeSet::new();
        }
        let standing = self.standing_steps();
        self.compensated_steps().into_iter().filter(|step| !standing.contains(step)).collect()
    }

    /// Steps of which some effect stands.
    fn standing_steps(&self) -> BTreeSet<StepIndex> {
        let stands = |done: &&Done| done.current && done.state != DoneState::Compensated;
        self.effects.iter().filter(stands).map(|done| done.step).collect()
    }

    /// It goes on. What was undone runs again; what could not be undone stands where the step or item `stays` as it is.
    pub(crate) fn resume(&mut self, stays: impl Fn(StepIndex, Option<u32>) -> bool) {
        for (index, done) in self.effects.iter_mut().enumerate().filter(|(_, done)| done.current) {
            match done.state {
                DoneState::Compensated => done.current = false,
                DoneState::Failed if stays(done.step, done.item) => {
                    done.state = DoneState::Standing;
                    self.undone.remove(&index);
                }
                DoneState::Failed => done.current = false,
                DoneState::Standing => {}
            }
        }
    }

    fn finish(&mut self, round: u32, at: Timestamp, error: Option<StepError>) {
        let Some(undoing) = self.undoing.take() else {
            return;
        };
        self.effects[undoing.effect].state = match error {
            None => DoneState::Compensated,
            Some(_) => DoneState::Failed,
        };
        let undone = Undone { round, attempts: undoing.attempts, error, ended_at: at };
        self.undone.insert(undoing.effect, undone);
    }
}

impl Execution {
    /// An agent completed a step or item: remembers its effect, if it has one.
    pub(crate) fn note_effect(&mut self, step: StepIndex, item: Option<u32>, activation: u32) {
        if self.has_effect(step) {
            self.saga.doubts.remove(&(step, item, activation));
            self.saga.effects.push(Done { step, item, state: DoneState::Standing, current: true });
        }
    }

    /// Nobody knows whether an attempt that was under way had its effect.
    pub(crate) fn note_doubt(&mut self, step: StepIndex, item: Option<u32>, activation: u32) {
        if self.has_effect(step) {
            self.saga.doubts.insert((step, item, activation));
        }
    }

    fn has_effect(&self, step: StepIndex) -> bool {
        let definition = self.plan.step(step);
        definition.compensate.is_some() || definition.irreversible
    }

    /// The outcome is decided: undoes what was completed, if that is what happens on such an outcome.
    pub(crate) fn compensate(&mut self, fold: &mut Fold<'_>, status: ExecutionStatus, wanted: bool) {
        let effects = self.saga.effects.iter();
        let undoable = effects.filter(|done| self.is_undoable(done)).count();
        if !wanted || undoable == 0 {
            self.finalize(fold, status);
            return;
        }
        self.phase = Phase::Compensating(status);
        self.saga.cursor = self.saga.effects.len();
        self.record(fold, What::Compensating(u32::try_from(undoable).unwrap_or(u32::MAX)));
        self.undo_next(fold);
    }

    fn is_undoable(&self, done: &Done) -> bool {
        done.current && done.state == DoneState::Standing && self.plan.step(done.step).compensate.is_some()
    }

    fn undo_next(&mut self, fold: &mut Fold<'_>) {
        let Phase::Compensating(status) = self.phase else {
            return;
        };
        while self.saga.cursor > 0 {
            self.saga.cursor -= 1;
            let effect = self.saga.cursor;
            let done = self.saga.effects[effect];
            if self.is_undoable(&done) {
                let activation = activation::number(self.round(), Role::Compensation);
                self.saga.undoing =
                    Some(Undoing { effect, activation, attempt: Attempt::Due { next: 1 }, attempts: 0 });
                self.counts.compensations = self.counts.compensations.saturating_add(1);
                self.publish(fold, done.step, done.item, activation, 1);
                return;
            }
        }
        self.finalize(fold, status);
    }

    /// The effect is undone.
    pub(crate) fn compensated(&mut self, fold: &mut Fold<'_>, subject: Subject, ran: Option<Box<Ran>>) {
        self.forget_activation(subject.step, subject.item);
        self.saga.note_ordinal(subject.attempt);
        self.saga.finish(self.round(), fold.at, None);
        self.record(fold, What::Compensated(subject, ran));
        self.undo_next(fold);
    }

    /// The effect stands: that is recorded, and the others are undone all the same.
    pub(crate) fn compensation_failed(
        &mut self,
        fold: &mut Fold<'_>,
        subject: Subject,
        error: StepError,
        ran: Option<Box<Ran>>,
    ) {
        self.forget_activation(subject.step, subject.item);
        self.saga.note_ordinal(subject.attempt);
        self.saga.finish(self.round(), fold.at, Some(error.clone()));
        self.record(fold, What::CompensationFailed(subject, ran, Box::new(error)));
        self.undo_next(fold);
    }

    /// The ledger: each effect and what became of it. Empty while nothing asks for it: an execution that runs or
    /// has completed stands by its effects.
    pub(crate) fn ledger(&self) -> Vec<EffectView> {
        match self.phase {
            Phase::Running | Phase::Aggregating | Phase::Stopping(_) if self.resumes.is_empty() => return Vec::new(),
            Phase::Finalizing(ExecutionStatus::Completed) | Phase::Ended(ExecutionStatus::Completed)
                if self.resumes.is_empty() =>
            {
                return Vec::new();
            }
            _ => {}
        }
        let known = self.saga.effects.iter().enumerate().map(|(index, done)| EffectView {
            step_id: self.plan.step(done.step).id.clone(),
            item: done.item,
            state: self.effect_state(index, done),
            compensation: self.compensation_of(index),
        });
        let doubts: BTreeSet<_> = self.saga.doubts.iter().map(|&(step, item, _)| (step, item)).collect();
        let unknown = doubts.into_iter().map(|(step, item)| EffectView {
            step_id: self.plan.step(step).id.clone(),
            item,
            state: EffectState::Unknown,
            compensation: None,
        });
        known.chain(unknown).collect()
    }

    fn effect_state(&self, index: usize, done: &Done) -> EffectState {
        let undoing = self.saga.undoing.as_ref().is_some_and(|undoing| undoing.effect == index);
        match done.state {
            DoneState::Compensated => EffectState::Compensated,
            DoneState::Failed => EffectState::CompensationFailed,
            DoneState::Standing if undoing => EffectState::Compensating,
            DoneState::Standing if self.plan.step(done.step).compensate.is_none() => EffectState::Irreversible,
            DoneState::Standing if matches!(self.phase, Phase::Compensating(_)) && done.current => EffectState::Pending,
            DoneState::Standing => EffectState::Standing,
        }
    }

    fn compensation_of(&self, index: usize) -> Option<CompensationView> {
        let done = &self.saga.effects[index];
        let agent = |round| self.agent_of(done.step, activation::number(round, Role::Compensation));
        let agent_id = |round| agent(round).map(|agent| agent.agent.clone());
        if let Some(undoing) = self.saga.undoing.as_ref().filter(|undoing| undoing.effect == index) {
            let agent_id = agent_id(activation::round(undoing.activation));
            return Some(CompensationView { agent_id, attempts: undoing.attempts, error: None, ended_at: None });
        }
        let undone = self.saga.undone.get(&index)?;
        Some(CompensationView {
            agent_id: agent_id(undone.round),
            attempts: undone.attempts,
            error: undone.error.clone(),
            ended_at: Some(undone.ended_at),
        })
    }

    /// The compensations of steps that do not fan out: that of the last effect of each.
    pub(crate) fn step_compensations(&self) -> BTreeMap<StepIndex, CompensationView> {
        if self.saga.undone.is_empty() && self.saga.undoing.is_none() {
            return BTreeMap::new();
        }
        let single = self.saga.effects.iter().enumerate().filter(|(_, done)| done.item.is_none());
        let last: BTreeMap<StepIndex, usize> = single.map(|(index, done)| (done.step, index)).collect();
        last.into_iter().filter_map(|(step, index)| Some((step, self.compensation_of(index)?))).collect()
    }

    /// How many effects were undone, and how many stand though the outcome is not COMPLETED.
    pub(crate) fn count_effects(&self) -> (u32, u32) {
        let count = |state: DoneState| {
            let effects = self.saga.effects.iter().filter(|done| done.current && done.state == state);
            u32::try_from(effects.count()).unwrap_or(u32::MAX)
        };
        let standing = count(DoneState::Standing).saturating_add(count(DoneState::Failed));
        (count(DoneState::Compensated), standing)
    }

    /// Completed steps whose effects stand.
    pub(crate) fn standing_effects(&self) -> BTreeSet<StepIndex> {
        self.saga.standing_steps()
    }

    /// The step as people see it, what is undone of it included; `undone` are the [`Saga::undone_steps`].
    pub(crate) fn status_of(&self, step: StepIndex, undone: &BTreeSet<StepIndex>) -> StepStatus {
        let state = self.step(step);
        if self.saga.current().is_some_and(|(done, _, _)| done.step == step) {
            return StepStatus::Compensating;
        }
        if matches!(state.state, State::Settled(_)) && undone.contains(&step) {
            return StepStatus::Compensated;
        }
        state.status()
    }
}
