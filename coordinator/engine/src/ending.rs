//! How an execution ends: with its output, or stopped.

use millstream_model::error::{ErrorCode, StepError};
use millstream_model::limits::CANCEL_GRACE_MS;
use millstream_model::payload::Payload;
use millstream_model::view::{ExecutionError, ExecutionStatus};

use crate::attempt::Attempt;
use crate::effect::{Effect, Evaluate};
use crate::execution::{Execution, Fold, Phase, Verdict};
use crate::outcome::{Ignored, Outcome};
use crate::record::What;
use crate::scope::{Missing, Unfit, Values};
use crate::step::{Settlement, Skip, State};
use crate::timer::Alarm;

impl Execution {
    /// All steps are settled.
    pub(crate) fn conclude(&mut self, fold: &mut Fold<'_>) {
        if self.failure.is_some() {
            self.end(fold, ExecutionStatus::Failed);
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
                self.end(fold, ExecutionStatus::Completed);
            }
            Err(unfit) => {
                self.fail_output(fold, StepError::new(ErrorCode::InvalidInput, format!("output_map: {unfit}")));
            }
        }
    }

    /// There is no output to give.
    pub(crate) fn fail_output(&mut self, fold: &mut Fold<'_>, error: StepError) {
        self.failure = Some(ExecutionError { step: None, error });
        self.end(fold, ExecutionStatus::Failed);
    }

    /// Someone asked to cancel.
    pub(crate) fn cancel(&mut self, fold: &mut Fold<'_>) -> Outcome {
        if self.cancel_requested {
            return Outcome::Ignored(Ignored::AlreadyRequested);
        }
        self.cancel_requested = true;
        if !matches!(self.phase, Phase::Stopping(_)) {
            self.stop(fold, Verdict::Cancelled);
        }
        Outcome::Accepted
    }

    pub(crate) fn time_out(&mut self, fold: &mut Fold<'_>) {
        if !matches!(self.phase, Phase::Stopping(_)) {
            self.stop(fold, Verdict::Timeout);
        }
    }

    /// Starts nothing more, tells the workers, and ends once what runs has acknowledged.
    pub(crate) fn stop(&mut self, fold: &mut Fold<'_>, verdict: Verdict) {
        self.phase = Phase::Stopping(verdict);
        self.ready.clear();
        for step in self.plan.indices() {
            match &self.step(step).state {
                State::Pending { .. } | State::Evaluating(_) | State::Ready(_) => {
                    self.settle(fold, step, Settlement::Skipped(Skip::Ended));
                }
                State::Running { attempt: Attempt::BackingOff { .. } | Attempt::Due { .. }, .. } => {
                    self.settle(fold, step, Settlement::Cancelled { outputs: None });
                }
                State::FanningOut(_) => self.close_fan_out(fold, step),
                State::Running { attempt: Attempt::Outstanding(_), .. } | State::Settled(_) => {}
            }
        }
        if self.active.is_empty() {
            self.end_stopped(fold);
        } else {
            fold.effects.push(Effect::Cancel(self.id()));
            self.alarms.disarm(Alarm::Deadline);
            self.alarms.arm(fold.at.plus_millis(CANCEL_GRACE_MS), Alarm::Grace);
        }
    }

    /// Running steps had their time; what did not acknowledge counts as cancelled.
    pub(crate) fn end_grace(&mut self, fold: &mut Fold<'_>) {
        for step in self.active.clone() {
            match &self.step(step).state {
                State::FanningOut(_) => self.abandon_outstanding_items(fold, step),
                State::Running { .. } => self.settle(fold, step, Settlement::Cancelled { outputs: None }),
                State::Pending { .. } | State::Evaluating(_) | State::Ready(_) | State::Settled(_) => {}
            }
        }
        self.end_stopped(fold);
    }

    /// Ends a stopping execution when nothing is outstanding any more.
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
                self.failure = Some(ExecutionError { step: None, error });
                ExecutionStatus::Cancelled
            }
            Verdict::Timeout => {
                let elapsed = self.deadline().millis_since(self.started_at);
                let error = StepError::new(ErrorCode::Timeout, format!("the execution took longer than {elapsed} ms"));
                self.failure = Some(ExecutionError { step: None, error });
                ExecutionStatus::Timeout
            }
        };
        self.partial = self.steps.iter().any(|s| s.output().is_some());
        self.end(fold, status);
    }

    /// A submission that cannot run: it becomes an execution all the same.
    pub(crate) fn refuse(&mut self, fold: &mut Fold<'_>, message: &str) {
        let error = StepError::new(ErrorCode::InvalidInput, message);
        self.stop(fold, Verdict::Failed(ExecutionError { step: None, error }));
    }

    fn end(&mut self, fold: &mut Fold<'_>, status: ExecutionStatus) {
        if status != ExecutionStatus::Completed {
            self.partial = self.steps.iter().any(|s| s.output().is_some());
        }
        self.phase = Phase::Ended(status);
        self.ended_at = Some(fold.at);
        self.alarms.clear();
        self.claimants.clear();
        fold.settled.clear();
        self.record(fold, What::Ended);
        fold.effects.push(Effect::End(self.id()));
    }
}
