//! What workers and the owner report about attempts.

use millstream_model::entry::{
    ClaimAbandoned, ClaimHeld, Evaluated, Evaluation, Expired, Reissued, Run, TaskFailed, TaskSucceeded, Unrenderable,
};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::ids::Capability;
use millstream_model::limits::CLAIM_GRACE_MS;
use millstream_model::plan::StepIndex;
use millstream_model::task::TaskKey;
use millstream_model::token::Token;

use crate::attempt::{Attempt, Happening, Next, Outstanding};
use crate::execution::{Execution, Fold, Phase};
use crate::outcome::{Ignored, Outcome};
use crate::record::{Ran, Retrying, Subject, What};
use crate::step::{Evaluating, Output, Settlement, State};
use crate::timer::Alarm;

impl Execution {
    /// Whether a worker of `capability` may report on the task at all.
    pub(crate) fn admits(
        &self,
        task: &TaskKey,
        token: &Token,
        ordinal: u32,
        capability: &Capability,
    ) -> Result<StepIndex, Ignored> {
        let step = self.plan.find(&task.step).ok_or(Ignored::UnknownStep)?;
        if self.agent(step).is_none_or(|agent| agent.capability != *capability) {
            return Err(Ignored::Forbidden);
        }
        let expected = self.submitted.secret.token(&task.step, task.item, task.activation, task.attempt);
        if expected != *token || !(task.attempt..=self.policy(step).max_attempts()).contains(&ordinal) {
            return Err(Ignored::WrongToken);
        }
        Ok(step)
    }

    pub(crate) fn succeeded(&mut self, fold: &mut Fold<'_>, step: StepIndex, entry: TaskSucceeded) -> Outcome {
        let subject = match self.current(step, &entry.task, entry.run.ordinal) {
            Ok((subject, attempt)) => match attempt.next(Happening::Succeeded, self.policy(step).max_attempts()) {
                Next::Complete => subject,
                next => return stale(next),
            },
            Err(reason) => return Outcome::Ignored(reason),
        };
        let ran = Box::new(Ran::of(&entry.run, entry.metrics));
        let state = self.step_mut(step);
        state.attempts = state.attempts.max(entry.run.ordinal);
        match subject.item {
            Some(item) => self.complete_item(fold, subject, item, entry.output, ran),
            None => self.settle_attempt(fold, subject, Settlement::Completed(Output::One(entry.output)), Some(ran)),
        }
        self.go_on(fold);
        Outcome::Accepted
    }

    pub(crate) fn failed(&mut self, fold: &mut Fold<'_>, step: StepIndex, entry: TaskFailed) -> Outcome {
        let happening = Happening::Failed { ordinal: entry.run.ordinal, retryable: self.retries(step, &entry.error) };
        self.fails(fold, step, &entry.task, happening, entry.error, Some(&entry.run))
    }

    /// A worker met the task when it was too late to start it.
    pub(crate) fn expired(&mut self, fold: &mut Fold<'_>, step: StepIndex, entry: &Expired) -> Outcome {
        let error = StepError::new(ErrorCode::Timeout, "no worker started the task in time");
        let happening = Happening::Failed { ordinal: entry.ordinal, retryable: false };
        self.fails(fold, step, &entry.task, happening, error, None)
    }

    /// The owner could not build the input.
    pub(crate) fn unrenderable(&mut self, fold: &mut Fold<'_>, entry: &Unrenderable) -> Outcome {
        let Some(step) = self.plan.find(&entry.task.step) else {
            return Outcome::Ignored(Ignored::UnknownStep);
        };
        let error = StepError::new(ErrorCode::InvalidInput, format!("input_map: {}", entry.reason));
        let happening = Happening::Failed { ordinal: entry.task.attempt, retryable: false };
        self.fails(fold, step, &entry.task, happening, error, None)
    }

    /// A redelivery found the claim of its ordinal taken: wait for its holder.
    pub(crate) fn found_held(&mut self, fold: &mut Fold<'_>, step: StepIndex, entry: &ClaimHeld) -> Outcome {
        let (subject, attempt) = match self.current(step, &entry.task, entry.ordinal) {
            Ok(current) => current,
            Err(reason) => return Outcome::Ignored(reason),
        };
        let max = self.policy(step).max_attempts();
        match attempt.next(Happening::HeldByOther { ordinal: entry.ordinal }, max) {
            Next::Hold { ordinal } => {
                let outstanding = Outstanding { number: ordinal, since: fold.at, held: true };
                self.set_attempt(step, subject.item, Attempt::Outstanding(outstanding));
                let state = self.step_mut(step);
                state.attempts = state.attempts.max(ordinal);
                let due = entry.claimed_at.min(fold.at).plus_millis(self.timeout_ms(step) + CLAIM_GRACE_MS);
                let alarm = Alarm::Claim { step, item: subject.item, activation: subject.activation, ordinal };
                self.alarms.disarm_attempt(step, subject.item);
                self.alarms.arm(due, alarm);
                self.claimants.insert((step, subject.item), entry.claimant.clone());
                Outcome::Accepted
            }
            next => stale(next),
        }
    }

    /// The presence of a claim's holder is gone.
    pub(crate) fn abandoned(&mut self, fold: &mut Fold<'_>, entry: &ClaimAbandoned) -> Outcome {
        let Some(step) = self.plan.find(&entry.task.step) else {
            return Outcome::Ignored(Ignored::UnknownStep);
        };
        let (item, activation) = (entry.task.item, entry.task.activation);
        let alarm = Alarm::Claim { step, item, activation, ordinal: entry.ordinal };
        if self.alarms.armed(alarm).is_none() {
            return Outcome::Ignored(Ignored::Stale);
        }
        self.lose(fold, step, item, activation, entry.ordinal)
    }

    /// The holder of a claim had its time: the ordinal is LOST.
    pub(crate) fn lose(
        &mut self,
        fold: &mut Fold<'_>,
        step: StepIndex,
        item: Option<u32>,
        activation: u32,
        ordinal: u32,
    ) -> Outcome {
        let task = self.task_key(&self.task_ref(step, item, activation, ordinal));
        let error = StepError::new(ErrorCode::Lost, format!("the worker of attempt {ordinal} vanished"));
        let happening = Happening::Lost { ordinal, retryable: self.retries(step, &error) };
        self.fails(fold, step, &task, happening, error, None)
    }

    /// A task was missing from the queue.
    pub(crate) fn reissued(&mut self, fold: &mut Fold<'_>, entry: &Reissued) -> Outcome {
        let Some(step) = self.plan.find(&entry.task.step) else {
            return Outcome::Ignored(Ignored::UnknownStep);
        };
        let (subject, attempt) = match self.current(step, &entry.task, entry.task.attempt) {
            Ok(current) => current,
            Err(reason) => return Outcome::Ignored(reason),
        };
        let happening = Happening::Reissued { attempt: entry.task.attempt };
        match attempt.next(happening, self.policy(step).max_attempts()) {
            Next::Publish { number } => {
                self.publish(fold, step, subject.item, subject.activation, number);
                Outcome::Accepted
            }
            next => stale(next),
        }
    }

    /// The backoff of an attempt has elapsed.
    pub(crate) fn backoff_elapsed(
        &mut self,
        fold: &mut Fold<'_>,
        step: StepIndex,
        item: Option<u32>,
        activation: u32,
        attempt: u32,
    ) -> Outcome {
        let (current, state) = match self.attempt(step, item) {
            Ok(current) => current,
            Err(reason) => return Outcome::Ignored(reason),
        };
        let max = self.policy(step).max_attempts();
        match state.next(Happening::BackoffElapsed { attempt }, max) {
            Next::Due { next } if current == activation => {
                match item {
                    Some(_) => {
                        self.set_attempt(step, item, Attempt::Due { next });
                        self.fill_fan_out(fold, step);
                    }
                    None => self.make_due(step, next),
                }
                self.go_on(fold);
                Outcome::Accepted
            }
            next => stale(next),
        }
    }

    /// The owner evaluated what reads values that are not in the state.
    pub(crate) fn evaluated(&mut self, fold: &mut Fold<'_>, entry: Evaluated) -> Outcome {
        let Some(id) = &entry.step else {
            if self.phase != Phase::Aggregating {
                return Outcome::Ignored(Ignored::Stale);
            }
            match entry.outcome {
                Evaluation::Value(output) => self.decide_output(fold, Ok(output)),
                Evaluation::Failed(error) => self.fail_output(fold, error),
                Evaluation::Condition(_) | Evaluation::Items(_) => return Outcome::Ignored(Ignored::Stale),
            }
            return Outcome::Accepted;
        };
        let Some(step) = self.plan.find(id) else {
            return Outcome::Ignored(Ignored::UnknownStep);
        };
        let State::Evaluating(what) = self.step(step).state else {
            return Outcome::Ignored(Ignored::Stale);
        };
        match (what, entry.outcome) {
            (Evaluating::Condition, Evaluation::Condition(holds)) => self.decide_condition(fold, step, Ok(holds)),
            (Evaluating::Items, Evaluation::Items(count)) => self.decide_items(fold, step, Ok(count as usize)),
            (Evaluating::Aggregate, Evaluation::Value(output)) => {
                self.settle(fold, step, Settlement::Completed(Output::One(output)));
            }
            (_, Evaluation::Failed(error)) => {
                self.settle(fold, step, Settlement::Failed { error, outputs: None });
            }
            (_, _) => return Outcome::Ignored(Ignored::Stale),
        }
        self.go_on(fold);
        Outcome::Accepted
    }

    /// What the owner owes this execution at this moment beside its tasks: after a take-over nobody knows what the
    /// owner before has done of it, and doing it twice is harmless.
    pub fn owed(&self) -> Vec<crate::effect::Effect> {
        use crate::effect::Effect;
        let mut owed: Vec<Effect> = self.evaluations().into_iter().map(Effect::Evaluate).collect();
        if matches!(self.phase, Phase::Stopping(_)) {
            owed.push(Effect::Cancel(self.id()));
        }
        owed
    }

    /// What is evaluated outside at this moment.
    pub fn evaluations(&self) -> Vec<crate::effect::Evaluate> {
        let mut owed: Vec<_> = self
            .plan
            .indices()
            .filter_map(|step| match self.step(step).state {
                State::Evaluating(what) => Some(self.evaluate_of(step, what)),
                State::Pending { .. }
                | State::Ready(_)
                | State::Running { .. }
                | State::FanningOut(_)
                | State::Settled(_) => None,
            })
            .collect();
        if self.phase == Phase::Aggregating {
            owed.push(crate::effect::Evaluate::Output(self.id()));
        }
        owed
    }

    fn fails(
        &mut self,
        fold: &mut Fold<'_>,
        step: StepIndex,
        task: &TaskKey,
        happening: Happening,
        error: StepError,
        run: Option<&Run>,
    ) -> Outcome {
        let ordinal = match happening {
            Happening::Failed { ordinal, .. } | Happening::Lost { ordinal, .. } => ordinal,
            Happening::Succeeded
            | Happening::HeldByOther { .. }
            | Happening::BackoffElapsed { .. }
            | Happening::Reissued { .. } => task.attempt,
        };
        let (subject, attempt) = match self.current(step, task, ordinal) {
            Ok(current) => current,
            Err(reason) => return Outcome::Ignored(reason),
        };
        let ran = run.map(|run| Box::new(Ran::of(run, None)));
        match attempt.next(happening, self.policy(step).max_attempts()) {
            Next::BackOff { failed } if self.phase == Phase::Running && !self.is_closed(subject) => {
                self.back_off(fold, subject, failed, error, ran);
            }
            Next::Fail | Next::BackOff { .. } => self.fail_for_good(fold, subject, error, ran),
            next => return stale(next),
        }
        let state = self.step_mut(step);
        state.attempts = state.attempts.max(ordinal);
        self.go_on(fold);
        Outcome::Accepted
    }

    fn back_off(
        &mut self,
        fold: &mut Fold<'_>,
        subject: Subject,
        failed: u32,
        error: StepError,
        ran: Option<Box<Ran>>,
    ) {
        let Subject { step, item, activation, .. } = subject;
        if let Some(ran) = &ran {
            self.note_run(step, ran);
        }
        let delay_ms = self.policy(step).delay_ms(failed, self.id(), &self.plan.step(step).id, item);
        let next = failed + 1;
        self.forget_attempt(step, item);
        self.set_attempt(step, item, Attempt::BackingOff { next });
        if item.is_none() {
            self.ready.remove(&step);
        }
        let alarm = Alarm::Backoff { step, item, activation, attempt: next };
        self.alarms.arm(fold.at.plus_millis(delay_ms), alarm);
        self.record(fold, What::Retrying(subject, ran, Box::new(Retrying { error, delay_ms, next_attempt: next })));
        if item.is_some() {
            self.fill_fan_out(fold, step);
        }
    }

    fn fail_for_good(&mut self, fold: &mut Fold<'_>, subject: Subject, error: StepError, ran: Option<Box<Ran>>) {
        let stopping = matches!(self.phase, Phase::Stopping(_));
        match subject.item {
            Some(item) => self.fail_item(fold, subject, item, error, ran),
            None if stopping && error.code == ErrorCode::Cancelled => {
                self.settle_attempt(fold, subject, Settlement::Cancelled { outputs: None }, ran);
            }
            None => self.settle_attempt(fold, subject, Settlement::Failed { error, outputs: None }, ran),
        }
    }

    /// After something changed: schedule what follows, or end what stops.
    fn go_on(&mut self, fold: &mut Fold<'_>) {
        self.advance(fold);
        if matches!(self.phase, Phase::Stopping(_)) {
            self.end_stopped(fold);
        }
    }

    /// The step or item a report is about, if it is of the current activation.
    fn current(&self, step: StepIndex, task: &TaskKey, ordinal: u32) -> Result<(Subject, Attempt), Ignored> {
        let (activation, attempt) = self.attempt(step, task.item)?;
        if activation != task.activation {
            return Err(Ignored::Stale);
        }
        Ok((Subject { step, item: task.item, activation, attempt: ordinal }, attempt))
    }

    fn retries(&self, step: StepIndex, error: &StepError) -> bool {
        self.phase == Phase::Running && self.policy(step).retries(error)
    }
}

fn stale(next: Next) -> Outcome {
    match next {
        Next::Ignore(reason) => Outcome::Ignored(reason),
        Next::Complete
        | Next::BackOff { .. }
        | Next::Fail
        | Next::Due { .. }
        | Next::Publish { .. }
        | Next::Hold { .. } => Outcome::Ignored(Ignored::Stale),
    }
}
