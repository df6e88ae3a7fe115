//! What workers and the owner report about attempts.

use millstream_model::entry::{
    ClaimAbandoned, ClaimHeld, Evaluated, Evaluation, Expired, Reissued, Run, TaskFailed, TaskStarted, TaskSucceeded,
    Unrenderable,
};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::ids::Capability;
use millstream_model::limits::CLAIM_GRACE_MS;
use millstream_model::plan::StepIndex;
use millstream_model::task::TaskKey;
use millstream_model::token::Token;

use crate::activation::{self, Role};
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
        if self.agent_of(step, task.activation).is_none_or(|agent| agent.capability != *capability) {
            return Err(Ignored::Forbidden);
        }
        let expected = self.submitted.secret.token(&task.step, task.item, task.activation, task.attempt);
        let max = self.policy(step, task.activation).max_attempts();
        if expected != *token || !(task.attempt..=max).contains(&ordinal) {
            return Err(Ignored::WrongToken);
        }
        Ok(step)
    }

    /// A worker is about to run the task: its start is in time.
    pub(crate) fn task_started(&mut self, step: StepIndex, entry: &TaskStarted) -> Outcome {
        match self.current(step, &entry.task, entry.ordinal) {
            Ok((subject, Attempt::Outstanding(current))) if entry.ordinal >= current.number => {
                self.alarms.disarm_start(step, subject.item);
                self.note_ordinal(&subject);
                Outcome::Accepted
            }
            Ok((_, Attempt::Outstanding(_) | Attempt::BackingOff { .. } | Attempt::Due { .. })) => {
                Outcome::Ignored(Ignored::Stale)
            }
            Err(reason) => Outcome::Ignored(reason),
        }
    }

    pub(crate) fn succeeded(&mut self, fold: &mut Fold<'_>, step: StepIndex, entry: TaskSucceeded) -> Outcome {
        let subject = match self.current(step, &entry.task, entry.run.ordinal) {
            Ok((subject, attempt)) => match attempt.next(Happening::Succeeded, self.max_attempts(&subject)) {
                Next::Complete => subject,
                next => return stale(next),
            },
            Err(reason) => return Outcome::Ignored(reason),
        };
        let ran = Box::new(Ran::of(&entry.run, entry.metrics));
        self.note_ordinal(&subject);
        if is_compensation(&subject) {
            self.compensated(fold, subject, Some(ran));
            return Outcome::Accepted;
        }
        match subject.item {
            Some(item) => self.complete_item(fold, subject, item, entry.output, Some(ran)),
            None => self.settle_attempt(fold, subject, Settlement::Completed(Output::One(entry.output)), Some(ran)),
        }
        self.go_on(fold);
        Outcome::Accepted
    }

    pub(crate) fn failed(&mut self, fold: &mut Fold<'_>, step: StepIndex, entry: TaskFailed) -> Outcome {
        let retryable = self.retries(step, entry.task.activation, &entry.error);
        let happening = Happening::Failed { ordinal: entry.run.ordinal, retryable };
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
        let error = StepError::new(ErrorCode::InvalidInput, format!("input_map: {}", entry.reason));
        self.not_published(fold, &entry.task, error)
    }

    /// The attempt cannot be published.
    pub(crate) fn not_published(&mut self, fold: &mut Fold<'_>, task: &TaskKey, error: StepError) -> Outcome {
        let Some(step) = self.plan.find(&task.step) else {
            return Outcome::Ignored(Ignored::UnknownStep);
        };
        let happening = Happening::Failed { ordinal: task.attempt, retryable: false };
        self.fails(fold, step, task, happening, error, None)
    }

    /// The task was not started in time.
    pub(crate) fn start_overdue(
        &mut self,
        fold: &mut Fold<'_>,
        step: StepIndex,
        item: Option<u32>,
        activation: u32,
        attempt: u32,
    ) -> Outcome {
        let limit = self.plan.step(step).schedule_to_start_ms.unwrap_or_default();
        let error = StepError::new(ErrorCode::Timeout, format!("no worker started the task within {limit} ms"));
        let task = self.task_key(&self.task_ref(step, item, activation, attempt));
        self.fails(fold, step, &task, Happening::TimeUp, error, None)
    }

    /// The attempts took too long together.
    pub(crate) fn close_overdue(
        &mut self,
        fold: &mut Fold<'_>,
        step: StepIndex,
        item: Option<u32>,
        activation: u32,
    ) -> Outcome {
        let limit = self.plan.step(step).schedule_to_close_ms.unwrap_or_default();
        let error = StepError::new(ErrorCode::Timeout, format!("all attempts together took longer than {limit} ms"));
        let number = match self.attempt(step, item, activation) {
            Ok(Attempt::Outstanding(Outstanding { number, .. })) => number,
            Ok(Attempt::BackingOff { next } | Attempt::Due { next }) => next.saturating_sub(1),
            Err(reason) => return Outcome::Ignored(reason),
        };
        let task = self.task_key(&self.task_ref(step, item, activation, number));
        self.fails(fold, step, &task, Happening::TimeUp, error, None)
    }

    /// A redelivery found the claim of its ordinal taken: wait for its holder.
    pub(crate) fn found_held(&mut self, fold: &mut Fold<'_>, step: StepIndex, entry: &ClaimHeld) -> Outcome {
        let (subject, attempt) = match self.current(step, &entry.task, entry.ordinal) {
            Ok(current) => current,
            Err(reason) => return Outcome::Ignored(reason),
        };
        let max = self.max_attempts(&subject);
        match attempt.next(Happening::HeldByOther { ordinal: entry.ordinal }, max) {
            Next::Hold { ordinal } => {
                let outstanding = Outstanding { number: ordinal, since: fold.at, held: true };
                self.set_attempt(step, subject.item, subject.activation, Attempt::Outstanding(outstanding));
                self.note_ordinal(&subject);
                let timeout_ms = self.timeout_ms(step, subject.activation);
                let due = entry.claimed_at.min(fold.at).plus_millis(timeout_ms.saturating_add(CLAIM_GRACE_MS));
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
        let happening = Happening::Lost { ordinal, retryable: self.retries(step, activation, &error) };
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
        match attempt.next(happening, self.max_attempts(&subject)) {
            Next::Publish { number } => {
                self.counts.reissues = self.counts.reissues.saturating_add(1);
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
        let state = match self.attempt(step, item, activation) {
            Ok(state) => state,
            Err(reason) => return Outcome::Ignored(reason),
        };
        let max = self.policy(step, activation).max_attempts();
        match state.next(Happening::BackoffElapsed { attempt }, max) {
            Next::Due { next } => {
                if activation::role(activation) == Some(Role::Compensation) {
                    self.publish(fold, step, item, activation, next);
                } else if item.is_some() {
                    self.set_attempt(step, item, activation, Attempt::Due { next });
                    self.fill_fan_out(fold, step);
                } else {
                    self.make_due(step, next);
                }
                self.go_on(fold);
                Outcome::Accepted
            }
            next => stale(next),
        }
    }

    /// The owner evaluated what reads values that are not in the state.
    pub(crate) fn evaluated(&mut self, fold: &mut Fold<'_>, entry: Evaluated) -> Outcome {
        if entry.round != self.round() {
            return Outcome::Ignored(Ignored::Stale);
        }
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
            owed.push(Effect::Cancel { execution: self.id(), below: self.cancelled_below() });
        }
        owed
    }

    /// What is evaluated outside at this moment.
    pub fn evaluations(&self) -> Vec<crate::effect::Evaluate> {
        let mut owed: Vec<_> = self
            .plan
            .all()
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
            | Happening::Reissued { .. }
            | Happening::TimeUp => task.attempt,
        };
        let (subject, attempt) = match self.current(step, task, ordinal) {
            Ok(current) => current,
            Err(reason) => return Outcome::Ignored(reason),
        };
        let ran = run.map(|run| Box::new(Ran::of(run, None)));
        match attempt.next(happening, self.max_attempts(&subject)) {
            Next::BackOff { failed } if !self.is_closed(subject) && self.comes_in_time(fold, subject, failed) => {
                self.note_ordinal(&subject);
                self.note_failure(&subject, &error);
                self.back_off(fold, subject, failed, error, ran);
            }
            Next::Fail | Next::BackOff { .. } => {
                self.note_ordinal(&subject);
                self.note_failure(&subject, &error);
                self.fail_for_good(fold, subject, error, ran);
            }
            next => return stale(next),
        }
        self.go_on(fold);
        Outcome::Accepted
    }

    /// Of an attempt that came to an early end nobody knows whether it had its effect.
    fn note_failure(&mut self, subject: &Subject, error: &StepError) {
        if !is_compensation(subject)
            && matches!(error.code, ErrorCode::Timeout | ErrorCode::Lost | ErrorCode::Cancelled)
        {
            self.note_doubt(subject.step, subject.item, subject.activation);
        }
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
        let delay_ms = self.delay_ms(subject, failed);
        let next = failed + 1;
        self.forget_attempt(step, item);
        self.set_attempt(step, item, activation, Attempt::BackingOff { next });
        let alarm = Alarm::Backoff { step, item, activation, attempt: next };
        self.alarms.arm(fold.at.plus_millis(delay_ms), alarm);
        self.counts.retries = self.counts.retries.saturating_add(1);
        let retrying = Box::new(Retrying { error, delay_ms, next_attempt: next });
        if is_compensation(&subject) {
            self.record(fold, What::CompensationRetrying(subject, ran, retrying));
            return;
        }
        if let Some(ran) = &ran {
            self.note_run(step, ran);
        }
        let state = self.step_mut(step);
        state.retries = state.retries.saturating_add(1);
        self.record(fold, What::Retrying(subject, ran, retrying));
        if item.is_some() {
            self.fill_fan_out(fold, step);
        } else {
            self.ready.remove(&step);
        }
    }

    /// No attempt is left: the fallback takes their place, or the step or item has failed.
    fn fail_for_good(&mut self, fold: &mut Fold<'_>, subject: Subject, error: StepError, ran: Option<Box<Ran>>) {
        if is_compensation(&subject) {
            self.compensation_failed(fold, subject, error, ran);
            return;
        }
        let stopping = matches!(self.phase, Phase::Stopping(_));
        let cancelled = stopping && error.code == ErrorCode::Cancelled;
        if cancelled && let Some(cancel) = &mut self.cancel {
            cancel.acknowledged = cancel.acknowledged.saturating_add(1);
        }
        if let Some(way) = self.fallback_for(&subject, &error) {
            self.fall_back(fold, subject, way, error, ran);
            return;
        }
        match subject.item {
            Some(item) => self.fail_item(fold, subject, item, error, ran),
            None if cancelled => {
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
        let attempt = self.attempt(step, task.item, task.activation)?;
        Ok((Subject { step, item: task.item, activation: task.activation, attempt: ordinal }, attempt))
    }

    /// The ordinal is known to have been started.
    fn note_ordinal(&mut self, subject: &Subject) {
        if is_compensation(subject) {
            self.saga.note_ordinal(subject.attempt);
        } else {
            let state = self.step_mut(subject.step);
            state.attempts = state.attempts.max(subject.attempt);
        }
    }

    fn max_attempts(&self, subject: &Subject) -> u32 {
        self.policy(subject.step, subject.activation).max_attempts()
    }

    fn retries(&self, step: StepIndex, activation: u32, error: &StepError) -> bool {
        self.repeats(activation) && self.policy(step, activation).retries(error)
    }
}

fn is_compensation(subject: &Subject) -> bool {
    activation::role(subject.activation) == Some(Role::Compensation)
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
