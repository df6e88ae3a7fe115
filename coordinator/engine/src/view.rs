//! An execution as the API shows it.

use millstream_model::plan::StepIndex;
use millstream_model::view::{ExecutionView, FanOutView, Held, StepView};

use crate::execution::{Execution, Phase};
use crate::scope::Values;
use crate::step::{Output, Outputs, Settlement, Skip, State};

impl Execution {
    /// Everything there is to see.
    pub fn view(&self) -> ExecutionView<Held> {
        let ended = matches!(self.phase, Phase::Ended(_));
        ExecutionView {
            id: self.id(),
            workflow_id: self.submitted.workflow.clone(),
            definition: self.submitted.definition,
            status: self.status(),
            partial: self.partial,
            cancel_requested: self.cancel_requested,
            input: Held::One(self.submitted.input.clone()),
            context: self.submitted.context.clone().map(Held::One),
            output: self.output.clone().map(Held::One),
            error: self.failure.clone().filter(|_| ended),
            labels: self.submitted.labels.clone(),
            started_at: self.started_at,
            ended_at: self.ended_at,
            deadline: self.deadline(),
            trace_id: self.trace(),
            steps: self.plan.indices().map(|step| self.step_view(step)).collect(),
            links: Default::default(),
        }
    }

    fn step_view(&self, index: StepIndex) -> StepView<Held> {
        let step = self.step(index);
        let agent = self.agent(index);
        let outputs = match step.settlement() {
            Some(
                Settlement::Failed { outputs: Some(outputs), .. } | Settlement::Cancelled { outputs: Some(outputs) },
            ) => Some(outputs),
            Some(Settlement::Completed(Output::List(outputs))) => Some(outputs),
            _ => None,
        };
        let output = match step.output() {
            Some(Output::One(payload)) => Some(Held::One(payload.clone())),
            Some(Output::List(_)) | None => outputs.cloned().map(Held::List),
        };
        StepView {
            id: self.plan.step(index).id.clone(),
            status: step.status(),
            agent_id: agent.map(|a| a.agent.clone()),
            capability: agent.map(|a| a.capability.clone()),
            attempts: step.attempts,
            output,
            error: step.error().cloned(),
            reason: match step.settlement() {
                Some(Settlement::Skipped(skip)) => Some(self.reason(*skip)),
                _ => None,
            },
            worker_id: step.worker.clone(),
            scheduled_at: step.scheduled_at,
            started_at: step.started_at,
            ended_at: step.ended_at,
            metrics: step.metrics.clone().map(Held::One),
            fan_out: self.fan_out_view(index, outputs),
        }
    }

    pub(crate) fn fan_out_view(&self, index: StepIndex, outputs: Option<&Outputs>) -> Option<FanOutView> {
        self.plan.fan_out(index)?;
        if let State::FanningOut(fan_out) = &self.step(index).state {
            return Some(fan_out.view());
        }
        let outputs = outputs?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let completed = outputs.iter().flatten().count();
        Some(FanOutView {
            total: count(outputs.len()),
            completed: count(completed),
            failed: count(outputs.len() - completed),
            outstanding: 0,
        })
    }

    /// Why a step was skipped, in a sentence; the reason cascades to its first cause.
    pub(crate) fn reason(&self, skip: Skip) -> String {
        match skip {
            Skip::Condition => "its condition is false".to_owned(),
            Skip::NotCompleted(dependency) => {
                format!("it requires {} to be completed, which was skipped", self.plan.step(dependency).id)
            }
            Skip::Ended => "the execution ended before it could start".to_owned(),
            Skip::Upstream(dependency) => {
                let id = &self.plan.step(dependency).id;
                match self.step(dependency).settlement() {
                    Some(Settlement::Skipped(cause)) => format!("{id} was skipped: {}", self.reason(*cause)),
                    Some(settlement) => format!("{id} ended {}", settlement.status().as_str()),
                    None => format!("{id} did not complete"),
                }
            }
        }
    }

    /// The JSON text of an output, if it is here.
    pub(crate) fn inline_output(&self, step: StepIndex) -> Option<std::sync::Arc<serde_json::value::RawValue>> {
        self.step(step).output().and_then(|output| Values::Inline.output(output).ok())
    }
}
