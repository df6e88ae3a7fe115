//! How an execution ends: with its output, or stopped; then what was completed is undone, and `finally` runs.

use millstream_model::definition::OnFailure;
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::limits::CANCEL_GRACE_MS;
use millstream_model::payload::Payload;
use millstream_model::plan::StepIndex;
use millstream_model::view::{ExecutionError, ExecutionStatus};

use crate::activation::{self, Role};
use crate::attempt::Attempt;
use crate::effect::{Effect, Evaluate};
use crate::execution::{Cancellation, Execution, Fold, Phase, Verdict};
use crate::outcome::{Ignored, Outcome};
use crate::record::{CancelRequest, End, What};
use crate::scope::{Missing, Unfit, Values};
use crate::step::{Settlement, Skip, Start, State, Step};
use crate::timer::Alarm;

impl Execution {
    /// All steps of this phase are settled.
    pub(crate) fn conclude(&mut self, fold: &mut Fold<'_>) {
        if let Phase::Finalizing(status) = self.phase {
            self.end(fold, status);
            return;
        }
        if self.failure.is_some() {
            self.decide_outcome(fold, ExecutionStatus::Failed);
            return;
        }
        match self.render_output(&Values::Inline) {
            Ok(output) => self.decide_output(fold, output),
            Err(Missing(_)) => {
                self.phase = Phase::Aggregating;
                fold.effects.push(Effect::Evaluate(Evaluate::Output(self.id())));
            }
        }
    }

    pub(crate) fn decide_output(&mut self, fold: &mut Fold<'_>, output: Result<Payload, Unfit>) {
        match output {
            Ok(output) => {
                self.output = Some(output);
                self.record(fold, What::Aggregated);
                self.decide_outcome(fold, ExecutionStatus::Completed);
            }
            Err(unfit) => {
                self.fail_output(fold, StepError::new(ErrorCode::InvalidInput, format!("output_map: {unfit}")));
            }
        }
    }

    /// There is no output to give.
    pub(crate) fn fail_output(&mut self, fold: &mut Fold<'_>, error: StepError) {
        self.failure = Some(ExecutionError::new(None, error));
        self.decide_outcome(fold, ExecutionStatus::Failed);
    }

    /// Someone asked to cancel.
    pub(crate) fn cancel(&mut self, fold: &mut Fold<'_>, request: CancelRequest) -> Outcome {
        if self.cancel.is_some() {
            return Outcome::Ignored(Ignored::AlreadyRequested);
        }
        match self.phase {
            Phase::Running | Phase::Aggregating | Phase::Stopping(_) => {}
            Phase::Compensating(_) | Phase::Finalizing(_) | Phase::Ended(_) => {
                return Outcome::Ignored(Ignored::OutcomeDecided);
            }
        }
        self.record(fold, What::CancelRequested(Box::new(request.clone())));
        self.cancel = Some(Cancellation { request, acknowledged: 0, forced: 0 });
        if !matches!(self.phase, Phase::Stopping(_)) {
            self.stop(fold, Verdict::Cancelled);
        }
        Outcome::Accepted
    }

    /// The execution's time is up, or that of its `finally`.
    pub(crate) fn time_out(&mut self, fold: &mut Fold<'_>) {
        match self.phase {
            Phase::Running | Phase::Aggregating => self.stop(fold, Verdict::Timeout),
            Phase::Finalizing(status) => self.abandon_finally(fold, status),
            Phase::Stopping(_) | Phase::Compensating(_) | Phase::Ended(_) => {}
        }
    }

    /// Starts nothing more, tells the workers, and goes on once what runs has acknowledged.
    pub(crate) fn stop(&mut self, fold: &mut Fold<'_>, verdict: Verdict) {
        let may_be_queued = self.may_be_queued(&verdict);
        self.phase = Phase::Stopping(verdict);
        self.ready.clear();
        for step in self.plan.indices() {
            match &self.step(step).state {
                State::Pending { .. } | State::Evaluating(_) | State::Ready(_) => self.leave_out(fold, step),
                State::Running { attempt: Attempt::BackingOff { .. } | Attempt::Due { .. }, .. } => {
                    self.settle(fold, step, Settlement::Cancelled { outputs: None });
                }
                State::FanningOut(_) => self.close_fan_out(fold, step),
                State::Running { attempt: Attempt::Outstanding(_), .. } | State::Settled(_) => {}
            }
        }
        self.alarms.disarm(Alarm::Deadline);
        if may_be_queued {
            fold.effects.push(Effect::Cancel { execution: self.id(), below: self.cancelled_below() });
        }
        if self.active.is_empty() {
            self.end_stopped(fold);
        } else {
            self.alarms.arm(fold.at.plus_millis(CANCEL_GRACE_MS), Alarm::Grace);
        }
    }

    /// Whether a task may still be queued or run: of a step that is not settled, or of one that was given up while a
    /// worker may have it. An attempt that backs off may come back when the ack of its failure was lost.
    fn may_be_queued(&self, verdict: &Verdict) -> bool {
        let given_up = match verdict {
            Verdict::Failed(failure) => matches!(failure.error.code, ErrorCode::Timeout | ErrorCode::Lost),
            Verdict::Cancelled | Verdict::Timeout => false,
        };
        given_up || self.steps.iter().any(|step| matches!(step.state, State::Running { .. } | State::FanningOut(_)))
    }

    /// Running steps had their time; what did not acknowledge counts as cancelled.
    pub(crate) fn end_grace(&mut self, fold: &mut Fold<'_>) {
        let forced = u32::try_from(self.outstanding().len() + self.held().count()).unwrap_or(u32::MAX);
        if let Some(cancel) = &mut self.cancel {
            cancel.forced = forced;
        }
        for step in self.active.clone() {
            self.abandon(fold, step);
        }
        self.end_stopped(fold);
    }

    /// Gives up what runs of a step.
    fn abandon(&mut self, fold: &mut Fold<'_>, step: StepIndex) {
        match &self.step(step).state {
            State::FanningOut(_) => self.abandon_outstanding_items(fold, step),
            State::Running { activation, attempt } => {
                if matches!(attempt, Attempt::Outstanding(_)) {
                    self.note_doubt(step, None, *activation);
                }
                self.settle(fold, step, Settlement::Cancelled { outputs: None });
            }
            State::Pending { .. } | State::Evaluating(_) | State::Ready(_) => self.leave_out(fold, step),
            State::Settled(_) => {}
        }
    }

    /// Settles a step that waits: it could not start, unless it waits for its fallback.
    fn leave_out(&mut self, fold: &mut Fold<'_>, step: StepIndex) {
        let waits_for_fallback = matches!(
            self.step(step).state,
            State::Ready(Start::Attempt { activation, .. }) if activation::role(activation) == Some(Role::Fallback)
        );
        let settlement = match waits_for_fallback {
            true => Settlement::Cancelled { outputs: None },
            false => Settlement::Skipped(Skip::Ended),
        };
        self.settle(fold, step, settlement);
    }

    /// Decides the outcome of a stopping execution when nothing is outstanding any more.
    pub(crate) fn end_stopped(&mut self, fold: &mut Fold<'_>) {
        if !self.active.is_empty() {
            return;
        }
        let Phase::Stopping(verdict) = self.phase.clone() else {
            return;
        };
        let status = match verdict {
            Verdict::Failed(error) => {
                self.failure = Some(error);
                ExecutionStatus::Failed
            }
            Verdict::Cancelled => {
                let error = StepError::new(ErrorCode::Cancelled, "the execution was cancelled");
                self.failure = Some(ExecutionError::new(None, error));
                ExecutionStatus::Cancelled
            }
            Verdict::Timeout => {
                let timeout_ms = self.timeout_of_execution_ms();
                let error =
                    StepError::new(ErrorCode::Timeout, format!("the execution took longer than {timeout_ms} ms"));
                self.failure = Some(ExecutionError::new(None, error));
                ExecutionStatus::Timeout
            }
        };
        self.decide_outcome(fold, status);
    }

    /// A submission that cannot run: it becomes an execution all the same.
    pub(crate) fn refuse(&mut self, fold: &mut Fold<'_>, message: &str) {
        let error = ExecutionError::new(None, StepError::new(ErrorCode::InvalidInput, message));
        for step in self.plan.indices() {
            if self.step(step).settlement().is_none() {
                self.settle(fold, step, Settlement::Skipped(Skip::Ended));
            }
        }
        self.failure = Some(error);
        self.end(fold, ExecutionStatus::Failed);
    }

    /// Nothing that follows changes the status.
    fn decide_outcome(&mut self, fold: &mut Fold<'_>, status: ExecutionStatus) {
        if status != ExecutionStatus::Completed {
            self.partial = self.steps.iter().any(Step::has_output);
        }
        self.alarms.clear();
        self.claimants.clear();
        self.unsettled = 0;
        let asked = self.cancel.as_ref().is_some_and(|cancel| cancel.request.compensate);
        let wanted = match status {
            ExecutionStatus::Failed | ExecutionStatus::Timeout => {
                asked || self.plan.definition.on_failure == OnFailure::Compensate
            }
            ExecutionStatus::Cancelled => asked,
            ExecutionStatus::Completed | ExecutionStatus::Pending | ExecutionStatus::Running => false,
        };
        self.compensate(fold, status, wanted);
    }

    /// Everything is undone that is to be undone: runs `finally`.
    pub(crate) fn finalize(&mut self, fold: &mut Fold<'_>, status: ExecutionStatus) {
        if self.plan.definition.finally.is_empty() {
            self.end(fold, status);
            return;
        }
        self.phase = Phase::Finalizing(status);
        self.unsettled = self.plan.definition.finally.len();
        self.deadline = fold.at.plus_millis(self.timeout_of_execution_ms());
        self.alarms.arm(self.deadline, Alarm::Deadline);
        fold.settled.clear();
        self.begin(fold);
    }

    /// The time of `finally` is up.
    fn abandon_finally(&mut self, fold: &mut Fold<'_>, status: ExecutionStatus) {
        self.ready.clear();
        for step in self.plan.finally() {
            if matches!(self.step(step).state, State::FanningOut(_)) {
                self.close_fan_out(fold, step);
            }
            self.abandon(fold, step);
        }
        self.end(fold, status);
    }

    fn end(&mut self, fold: &mut Fold<'_>, status: ExecutionStatus) {
        self.phase = Phase::Ended(status);
        self.ended_at = Some(fold.at);
        self.unsettled = 0;
        self.alarms.clear();
        self.claimants.clear();
        fold.settled.clear();
        for step in self.plan.finally() {
            let state = self.step_mut(step);
            if state.settlement().is_none() {
                state.state = State::Settled(Settlement::Skipped(Skip::Ended));
            }
        }
        let (compensated, uncompensated) = self.count_effects();
        let end = End {
            status,
            partial: self.partial,
            failure: self.failure.clone(),
            result: self.partial_result(),
            compensated,
            uncompensated: if status == ExecutionStatus::Completed { 0 } else { uncompensated },
        };
        self.record(fold, What::Ended(Box::new(end)));
        fold.effects.push(Effect::End(self.id()));
    }

    /// Activations that a stop covers are below this number.
    pub(crate) fn cancelled_below(&self) -> u32 {
        crate::activation::end_of(self.round())
    }

    /// How long its steps may take together.
    pub(crate) fn timeout_of_execution_ms(&self) -> u64 {
        self.plan.definition.timeout_ms.unwrap_or(self.submitted.defaults.workflow_timeout_ms)
    }
}
