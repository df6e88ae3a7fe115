//! Which steps run next: dependencies, conditions, slots (SEMANTICS 2).
//!
//! Readiness is Kahn's algorithm (A. B. Kahn, "Topological sorting of large networks", CACM 5(11), 1962) spread over
//! time: each settled step takes one from the count of its dependents.

use millstream_model::definition::{OnFailure, Require};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::plan::{StepIndex, Work};

use crate::activation::{self, Role};
use crate::attempt::{Attempt, Outstanding};
use crate::effect::{Effect, Evaluate};
use crate::execution::{Execution, Fold, Phase, Verdict};
use crate::fan_out::FanOut;
use crate::record::{Cancel, Ran, Subject, What};
use crate::scope::{Missing, Seen, Unfit, Values};
use crate::step::{Cause, Evaluating, Output, Settlement, Skip, Start, State};

impl Execution {
    /// Starts what may start at the beginning of this phase.
    pub(crate) fn begin(&mut self, fold: &mut Fold<'_>) {
        for step in self.plan.all() {
            if self.runs(step) && matches!(self.step(step).state, State::Pending { missing: 0 }) {
                self.consider(fold, step);
            }
        }
        self.advance(fold);
    }

    /// Whether this phase runs the step.
    fn runs(&self, step: StepIndex) -> bool {
        match self.phase {
            Phase::Running => !self.plan.is_finally(step),
            Phase::Finalizing(_) => self.plan.is_finally(step),
            Phase::Aggregating | Phase::Stopping(_) | Phase::Compensating(_) | Phase::Ended(_) => false,
        }
    }

    /// Considers the dependents of what was settled, fills free slots, and ends the execution when all is settled.
    pub(crate) fn advance(&mut self, fold: &mut Fold<'_>) {
        loop {
            while let Some(settled) = fold.settled.pop_front() {
                self.release_dependents(fold, settled);
            }
            if !self.starts_steps() {
                return;
            }
            self.fill_slots(fold);
            if fold.settled.is_empty() {
                break;
            }
        }
        if self.unsettled == 0 && self.starts_steps() {
            self.conclude(fold);
        }
    }

    fn release_dependents(&mut self, fold: &mut Fold<'_>, settled: StepIndex) {
        let plan = self.plan.clone();
        for &dependent in &plan.planned(settled).dependents {
            let runs = self.runs(dependent);
            if let State::Pending { missing } = &mut self.step_mut(dependent).state {
                *missing = missing.saturating_sub(1);
                if *missing == 0 && runs {
                    self.consider(fold, dependent);
                }
            }
        }
    }

    /// All dependencies are settled: skip, evaluate the condition, or go on.
    fn consider(&mut self, fold: &mut Fold<'_>, step: StepIndex) {
        if let Some(skip) = self.skip_for_dependencies(step) {
            self.settle(fold, step, Settlement::Skipped(skip));
            return;
        }
        let plan = self.plan.clone();
        let Some(condition) = &plan.planned(step).condition else {
            self.expand(fold, step);
            return;
        };
        match self.scope(condition.reads(), Seen::default(), &Values::Inline) {
            Ok(scope) => {
                let holds = condition.evaluate(&scope).map_err(Unfit::from);
                self.decide_condition(fold, step, holds);
            }
            Err(Missing(_)) => self.ask(fold, step, Evaluating::Condition),
        }
    }

    /// What the table of SEMANTICS 2 says of the step's dependencies.
    fn skip_for_dependencies(&self, step: StepIndex) -> Option<Skip> {
        let requires_completed = self.plan.step(step).require == Require::Completed;
        let mut not_completed = None;
        for &dependency in &self.plan.planned(step).depends_on {
            match self.step(dependency).settlement()? {
                Settlement::Completed(_) => {}
                Settlement::Skipped(Skip::Condition | Skip::Fallback | Skip::NotCompleted(_)) => {
                    not_completed.get_or_insert(dependency);
                }
                Settlement::Failed { .. } if !self.plan.step(dependency).critical && !requires_completed => {}
                Settlement::Failed { .. }
                | Settlement::Skipped(Skip::Upstream(_) | Skip::Ended)
                | Settlement::Cancelled { .. } => return Some(Skip::Upstream(self.cause(dependency))),
            }
        }
        not_completed.filter(|_| requires_completed).map(Skip::NotCompleted)
    }

    /// Why what depends on this step does not run.
    fn cause(&self, dependency: StepIndex) -> Cause {
        match self.step(dependency).settlement() {
            Some(Settlement::Skipped(Skip::Upstream(cause))) => Cause { through: dependency, ..*cause },
            _ => Cause { through: dependency, first: dependency, status: self.step(dependency).status() },
        }
    }

    pub(crate) fn decide_condition(&mut self, fold: &mut Fold<'_>, step: StepIndex, holds: Result<bool, Unfit>) {
        match holds {
            Ok(true) => self.expand(fold, step),
            Ok(false) => self.settle(fold, step, Settlement::Skipped(Skip::Condition)),
            Err(error) => self.reject(fold, step, &error.to_string()),
        }
    }

    /// The condition holds: find out what there is to do.
    fn expand(&mut self, fold: &mut Fold<'_>, step: StepIndex) {
        let plan = self.plan.clone();
        match &plan.planned(step).work {
            Work::Single => {
                let activation = activation::number(self.round(), Role::Run);
                self.make_ready(step, Start::Attempt { activation, number: 1 });
            }
            Work::FanOut { .. } => match self.items(step, &Values::Inline) {
                Ok(items) => self.decide_items(fold, step, items.map(|i| i.len())),
                Err(Missing(_)) => self.ask(fold, step, Evaluating::Items),
            },
            Work::FanIn { .. } => match self.aggregate(step, &Values::Inline) {
                Ok(Ok(output)) => self.settle(fold, step, Settlement::Completed(output)),
                Ok(Err(error)) => self.reject(fold, step, &error.to_string()),
                Err(Missing(_)) => self.ask(fold, step, Evaluating::Aggregate),
            },
        }
    }

    pub(crate) fn decide_items(&mut self, fold: &mut Fold<'_>, step: StepIndex, items: Result<usize, Unfit>) {
        let limit = millstream_model::limits::FAN_OUT_ITEMS_MAX;
        match items {
            Ok(0) => self.settle(fold, step, Settlement::Completed(Output::List(Default::default()))),
            Ok(count) if count > limit => {
                self.reject(fold, step, &format!("fan_out: {count} items, the limit is {limit}"));
            }
            Ok(count) => {
                let items = u32::try_from(count).expect("the limit fits");
                self.make_ready(step, Start::FanOut { items });
            }
            Err(error) => self.reject(fold, step, &format!("fan_out.items: {error}")),
        }
    }

    /// Leaves an evaluation to the owner, which can read what is not here.
    fn ask(&mut self, fold: &mut Fold<'_>, step: StepIndex, what: Evaluating) {
        self.step_mut(step).state = State::Evaluating(what);
        fold.effects.push(Effect::Evaluate(self.evaluate_of(step, what)));
    }

    pub(crate) fn evaluate_of(&self, step: StepIndex, what: Evaluating) -> Evaluate {
        match what {
            Evaluating::Condition => Evaluate::Condition(self.id(), step),
            Evaluating::Items => Evaluate::Items(self.id(), step),
            Evaluating::Aggregate => Evaluate::Aggregate(self.id(), step),
        }
    }

    pub(crate) fn make_ready(&mut self, step: StepIndex, start: Start) {
        self.step_mut(step).state = State::Ready(start);
        self.ready.insert(step);
    }

    /// A step whose backoff has elapsed waits for a slot again.
    pub(crate) fn make_due(&mut self, step: StepIndex, next: u32) {
        if let State::Running { activation, .. } = self.step(step).state {
            self.set_attempt(step, None, activation, Attempt::Due { next });
            self.ready.insert(step);
        }
    }

    fn fill_slots(&mut self, fold: &mut Fold<'_>) {
        let slots = self.plan.definition.max_parallel.unwrap_or(self.defaults().max_parallel).max(1) as usize;
        while self.active.len() < slots {
            let Some(step) = self.ready.pop_first() else {
                return;
            };
            self.start(fold, step);
        }
    }

    fn start(&mut self, fold: &mut Fold<'_>, step: StepIndex) {
        match self.step(step).state {
            State::Ready(Start::Attempt { activation, number }) => {
                let outstanding = Outstanding { number, since: fold.at, held: false };
                self.step_mut(step).state = State::Running { activation, attempt: Attempt::Outstanding(outstanding) };
                self.publish(fold, step, None, activation, number);
            }
            State::Running { activation, attempt: Attempt::Due { next } } => {
                self.publish(fold, step, None, activation, next);
            }
            State::Ready(Start::FanOut { items }) => {
                let concurrency = self
                    .plan
                    .fan_out(step)
                    .and_then(|f| f.concurrency)
                    .unwrap_or(self.defaults().fan_out_concurrency)
                    .max(1);
                let kept = self.step_mut(step).kept.take().filter(|kept| kept.len() == items as usize);
                let fan_out = FanOut::new(items, concurrency, self.round(), kept);
                self.step_mut(step).state = State::FanningOut(Box::new(fan_out));
                self.step_mut(step).scheduled_at.get_or_insert(fold.at);
                self.active.insert(step);
                self.record(fold, What::FanOutStarted(step, items));
                self.fill_fan_out(fold, step);
            }
            State::Pending { .. }
            | State::Evaluating(_)
            | State::Running { .. }
            | State::FanningOut(_)
            | State::Settled(_) => unreachable!("only steps that wait for a slot are in `ready`"),
        }
    }

    /// The step cannot run with what it was given.
    pub(crate) fn reject(&mut self, fold: &mut Fold<'_>, step: StepIndex, message: &str) {
        let error = StepError::new(ErrorCode::InvalidInput, message);
        self.settle(fold, step, Settlement::Failed { error, outputs: None });
    }

    /// Ends a step without an attempt of its own.
    pub(crate) fn settle(&mut self, fold: &mut Fold<'_>, step: StepIndex, settlement: Settlement) {
        let activation = match self.step(step).state {
            State::Running { activation, .. } => activation,
            _ => activation::number(self.step(step).round, Role::Run),
        };
        let attempt = self.step(step).attempts.max(1);
        self.settle_attempt(fold, Subject { step, item: None, activation, attempt }, settlement, None);
    }

    /// How a step that is cancelled came to its end: `ran` when its worker reported it.
    fn cancel_of(&self, step: StepIndex, ran: bool) -> Cancel {
        match &self.step(step).state {
            _ if ran => Cancel::Acknowledged,
            State::Running { attempt: Attempt::Outstanding(_), .. } => Cancel::Forced,
            _ => Cancel::NotRunning,
        }
    }

    /// Ends a step. What follows from that is left to `advance`, except that a critical failure under `fail_fast`
    /// stops the execution at once.
    pub(crate) fn settle_attempt(
        &mut self,
        fold: &mut Fold<'_>,
        subject: Subject,
        settlement: Settlement,
        ran: Option<Box<Ran>>,
    ) {
        let step = subject.step;
        if let Some(ran) = &ran {
            self.note_run(step, ran);
        }
        if let State::FanningOut(fan_out) = &self.step(step).state {
            let view = fan_out.view();
            self.step_mut(step).fan_out = Some(view);
            self.record(fold, What::FanOutCompleted(step, view));
        }
        self.forget_activation(step, None);
        self.active.remove(&step);
        self.ready.remove(&step);
        self.unsettled -= 1;
        fold.settled.push_back(step);

        let failed = match &settlement {
            Settlement::Completed(_) => {
                // Without a run there was no effect: a fallback's value, a fan-in, or items that count for themselves.
                if ran.is_some() {
                    self.note_effect(step, None, subject.activation);
                }
                self.record(fold, What::Completed(subject, ran));
                None
            }
            Settlement::Failed { error, .. } => {
                self.record(fold, What::Failed(subject, ran, Box::new(error.clone())));
                Some(error.clone())
            }
            Settlement::Skipped(skip) => {
                self.record(fold, What::Skipped(step, *skip));
                None
            }
            Settlement::Cancelled { .. } => {
                let how = self.cancel_of(step, ran.is_some());
                self.record(fold, What::Cancelled(subject, ran, how));
                None
            }
        };
        let state = self.step_mut(step);
        state.ended_at = Some(fold.at);
        state.state = State::Settled(settlement);
        if let Some(error) = failed {
            self.fail_over(fold, step, error);
        }
    }

    /// What a failed step does to its execution.
    pub(crate) fn fail_over(&mut self, fold: &mut Fold<'_>, step: StepIndex, error: StepError) {
        if self.plan.is_finally(step) {
            return;
        }
        self.partial = true;
        if self.phase != Phase::Running || !self.plan.step(step).critical {
            return;
        }
        let error = self.error_of(step, error);
        match self.plan.definition.on_failure {
            OnFailure::FailFast | OnFailure::Compensate => self.stop(fold, Verdict::Failed(error)),
            OnFailure::Continue => {
                self.failure.get_or_insert(error);
            }
        }
    }

    /// Keeps who ran the step last.
    pub(crate) fn note_run(&mut self, step: StepIndex, ran: &Ran) {
        let state = self.step_mut(step);
        state.worker = Some(ran.worker.clone());
        state.started_at = Some(state.started_at.unwrap_or(ran.started_at).min(ran.started_at));
        state.metrics = ran.metrics.clone();
    }
}
