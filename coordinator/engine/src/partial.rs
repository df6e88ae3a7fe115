//! The partial result of an execution that did not complete, and what can be done about it (F105–F107).

use millstream_model::ids::StepId;
use millstream_model::plan::StepIndex;
use millstream_model::view::{ExecutionStatus, PartialResult, RecoveryPlan};

use crate::execution::{Execution, Phase};
use crate::step::Settlement;

impl Execution {
    /// What there is of an execution that has ended without completing.
    pub(crate) fn partial_result(&self) -> Option<PartialResult> {
        let Phase::Ended(status) = self.phase else {
            return None;
        };
        if status == ExecutionStatus::Completed {
            return None;
        }
        let completed =
            self.plan.indices().filter(|&s| matches!(self.step(s).settlement(), Some(Settlement::Completed(_))));
        let failure = self.failure.as_ref();
        Some(PartialResult {
            completed_steps: self.names(completed),
            failed_step: failure.and_then(|failure| failure.step.clone()),
            error: failure.map(|failure| failure.error.clone()),
            failure_mode: failure.map(|failure| failure.failure_mode),
            recovery_plan: self.recovery_plan(status),
        })
    }

    fn recovery_plan(&self, status: ExecutionStatus) -> RecoveryPlan {
        let resumable = self.is_resumable();
        let kept = self.kept();
        let (keeps, runs): (Vec<StepIndex>, Vec<StepIndex>) =
            self.plan.indices().partition(|step| kept[usize::from(step.0)]);
        RecoveryPlan {
            advice: self.advice(status, keeps.len(), runs.len()),
            resumable,
            keeps: self.names(keeps.into_iter()),
            runs: self.names(runs.into_iter()),
            standing_effects: self.names(self.standing_effects().into_iter()),
        }
    }

    fn advice(&self, status: ExecutionStatus, keeps: usize, runs: usize) -> String {
        let id = self.id();
        let undone = match self.count_effects() {
            (0, _) => String::new(),
            (undone, 0) => format!("Effects undone: {undone}. "),
            (undone, standing) => format!("Effects undone: {undone}, standing: {standing}. "),
        };
        let way = match status {
            ExecutionStatus::Cancelled => {
                format!("It was cancelled; fork it to run it again: POST /executions/{id}/fork.")
            }
            _ if runs == 0 => {
                format!("No step is left to run; fork it with a changed definition: POST /executions/{id}/fork.")
            }
            _ => match self.failure.as_ref().and_then(|failure| failure.step.as_ref()) {
                Some(step) => format!(
                    "Mend what made {step} fail, then resume: POST /executions/{id}/resume keeps {keeps} steps and runs {runs}."
                ),
                None => format!("Resume it: POST /executions/{id}/resume keeps {keeps} steps and runs {runs}."),
            },
        };
        undone + &way
    }

    fn names(&self, steps: impl Iterator<Item = StepIndex>) -> Vec<StepId> {
        steps.map(|step| self.plan.step(step).id.clone()).collect()
    }
}
