//! Forking: a new execution that takes over what an old one had done up to some step.

use millstream_model::entry::KeptOutcome;
use millstream_model::error::StepError;
use millstream_model::ids::StepId;
use millstream_model::payload::Payload;
use millstream_model::plan::{Plan, StepIndex};

use crate::execution::Execution;
use crate::resume::drop_downstream;
use crate::step::{Output, Outputs, Settlement, Skip, State};

/// What a fork takes over of a step.
#[derive(Debug, Clone)]
pub enum KeptOutput {
    One(Payload),
    /// Outputs by index; `None` reads as null.
    Items(Outputs),
    /// All outputs of a fan-out, as one list.
    Whole(Payload),
    Skipped,
    Failed(StepError),
}

impl Execution {
    /// What an execution of `plan` that runs anew from `from` takes over: what this one had settled, in steps of the
    /// same name, that is neither `from` nor downstream of it. What was undone runs anew, and what failed where that is
    /// critical. Without `from` everything runs anew.
    pub fn kept_for_fork(&self, plan: &Plan, from: Option<StepIndex>) -> Vec<(StepId, KeptOutput)> {
        let compensated = self.saga.compensated_steps();
        let mut kept: Vec<bool> = plan.all().map(|_| false).collect();
        for step in plan.indices().filter(|step| from.is_some_and(|from| from != *step)) {
            let own = self.plan.find(&plan.step(step).id).filter(|&own| !self.plan.is_finally(own));
            kept[usize::from(step.0)] = own.is_some_and(|own| {
                let failed = matches!(self.step(own).settlement(), Some(Settlement::Failed { .. }));
                !compensated.contains(&own) && self.is_worth_keeping(own) && !(failed && plan.step(step).critical)
            });
        }
        drop_downstream(plan, &mut kept);
        plan.indices()
            .filter(|step| kept[usize::from(step.0)])
            .filter_map(|step| {
                let id = &plan.step(step).id;
                Some((id.clone(), self.kept_output(self.plan.find(id)?)?))
            })
            .collect()
    }

    fn kept_output(&self, step: StepIndex) -> Option<KeptOutput> {
        Some(match self.step(step).settlement()? {
            Settlement::Completed(Output::One(output)) => KeptOutput::One(output.clone()),
            Settlement::Completed(Output::List(outputs)) => KeptOutput::Items(outputs.clone()),
            Settlement::Completed(Output::Whole(list)) => KeptOutput::Whole(list.clone()),
            Settlement::Skipped(_) => KeptOutput::Skipped,
            Settlement::Failed { error, .. } => KeptOutput::Failed(error.clone()),
            Settlement::Cancelled { .. } => return None,
        })
    }

    /// Takes over what the submission keeps of the execution it was forked from. What depends on something that is
    /// not kept runs, whatever the submission says, and so does what failed and is critical.
    pub(crate) fn take_over(&mut self) {
        let Some(fork) = self.submitted.fork.take() else {
            return;
        };
        let plan = self.plan.clone();
        let mut kept: Vec<bool> = plan.all().map(|_| false).collect();
        for known in &fork.kept {
            if let Some(step) = plan.find(&known.step) {
                let failed = matches!(known.outcome, KeptOutcome::Failed(_));
                kept[usize::from(step.0)] = !(plan.is_finally(step) || failed && plan.step(step).critical);
            }
        }
        drop_downstream(&plan, &mut kept);
        for known in &fork.kept {
            let Some(step) = plan.find(&known.step).filter(|step| kept[usize::from(step.0)]) else {
                continue;
            };
            let settlement = match &known.outcome {
                KeptOutcome::Completed(output) => Settlement::Completed(Output::One(output.clone())),
                KeptOutcome::Items(list) => Settlement::Completed(Output::Whole(list.clone())),
                KeptOutcome::Skipped => Settlement::Skipped(Skip::Condition),
                KeptOutcome::Failed(error) => Settlement::Failed { error: error.clone(), outputs: None },
            };
            self.partial |= matches!(settlement, Settlement::Failed { .. });
            let state = self.step_mut(step);
            if state.settlement().is_none() {
                state.state = State::Settled(settlement);
                self.unsettled -= 1;
            }
        }
        for step in plan.indices().filter(|step| !kept[usize::from(step.0)]) {
            let missing = plan.planned(step).depends_on.iter().filter(|d| !kept[usize::from(d.0)]).count();
            self.step_mut(step).state = State::Pending { missing: u32::try_from(missing).unwrap_or(u32::MAX) };
        }
        self.submitted.fork = Some(fork);
    }
}
