//! An execution as the API shows it.

use millstream_model::plan::StepIndex;
use millstream_model::view::{
    CancelPhase, CancelView, ExecutionPhase, ExecutionView, FanOutView, ForkView, Held, StepStatus, StepView,
};

use crate::execution::{Cancellation, Execution, Phase};
use crate::step::{Cause, Output, Outputs, Settlement, Skip, State};

impl Execution {
    /// Everything there is to see.
    pub fn view(&self) -> ExecutionView<Held> {
        let ended = matches!(self.phase, Phase::Ended(_));
        let undone = self.saga.undone_steps();
        let mut compensations = self.step_compensations();
        ExecutionView {
            id: self.id(),
            workflow_id: self.submitted.workflow.clone(),
            definition: self.submitted.definition,
            status: self.status(),
            phase: self.phase_shown(),
            partial: self.partial,
            cancel_requested: self.cancel.is_some(),
            cancel: self.cancel_view(),
            input: Held::One(self.submitted.input.clone()),
            context: self.submitted.context.clone().map(Held::One),
            output: self.output.clone().map(Held::One),
            error: self.failure.clone().filter(|_| ended),
            partial_result: self.partial_result(),
            effects: self.ledger(),
            counts: self.counts,
            labels: self.submitted.labels.clone(),
            started_at: self.started_at,
            ended_at: self.ended_at,
            deadline: self.deadline(),
            resumes: self.resumes.clone(),
            fork: self.submitted.fork.as_ref().map(|fork| ForkView {
                of: fork.of,
                from: fork.from.clone(),
                by: fork.by.clone(),
                reason: fork.reason.clone(),
            }),
            trace_id: self.trace(),
            steps: self
                .plan
                .all()
                .map(|step| StepView {
                    status: self.status_of(step, &undone),
                    compensation: compensations.remove(&step),
                    ..self.step_view(step)
                })
                .collect(),
            links: Default::default(),
        }
    }

    fn phase_shown(&self) -> ExecutionPhase {
        match self.phase {
            Phase::Running => ExecutionPhase::Running,
            Phase::Aggregating => ExecutionPhase::Aggregating,
            Phase::Stopping(_) => ExecutionPhase::Stopping,
            Phase::Compensating(_) => ExecutionPhase::Compensating,
            Phase::Finalizing(_) => ExecutionPhase::Finalizing,
            Phase::Ended(_) => ExecutionPhase::Ended,
        }
    }

    /// How far the cancel is that somebody asked for.
    fn cancel_view(&self) -> Option<CancelView> {
        let Cancellation { request, acknowledged, forced } = self.cancel.as_ref()?;
        let stopping = matches!(self.phase, Phase::Stopping(_));
        let outstanding = if stopping { self.outstanding().len() + self.held().count() } else { 0 };
        Some(CancelView {
            phase: match forced {
                _ if stopping => CancelPhase::Requested,
                0 => CancelPhase::Acknowledged,
                _ => CancelPhase::Forced,
            },
            requested_at: request.at,
            by: request.by.clone(),
            reason: request.reason.clone(),
            compensate: request.compensate,
            outstanding: u32::try_from(outstanding).unwrap_or(u32::MAX),
            acknowledged: *acknowledged,
            forced: *forced,
        })
    }

    /// The step alone, without what was undone of it.
    fn step_view(&self, index: StepIndex) -> StepView<Held> {
        let step = self.step(index);
        let agent = self.agent(index);
        let outputs = step.item_outputs();
        let output = match step.output() {
            Some(Output::One(payload) | Output::Whole(payload)) => Some(Held::One(payload.clone())),
            Some(Output::List(_)) | None => outputs.cloned().map(Held::List),
        };
        StepView {
            id: self.plan.step(index).id.clone(),
            status: step.status(),
            agent_id: agent.map(|a| a.agent.clone()),
            capability: agent.map(|a| a.capability.clone()),
            attempts: step.attempts,
            retries: step.retries,
            fallbacks: step.fallbacks,
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
            finally: self.plan.is_finally(index),
            compensation: None,
        }
    }

    fn fan_out_view(&self, index: StepIndex, outputs: Option<&Outputs>) -> Option<FanOutView> {
        self.plan.fan_out(index)?;
        let step = self.step(index);
        if let State::FanningOut(fan_out) = &step.state {
            return Some(fan_out.view());
        }
        step.fan_out.or_else(|| {
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let outputs = outputs?;
            let completed = outputs.iter().flatten().count();
            Some(FanOutView {
                total: count(outputs.len()),
                completed: count(completed),
                failed: count(outputs.len() - completed),
                skipped: 0,
                outstanding: 0,
            })
        })
    }

    /// Why a step was skipped, in a sentence that names the first cause.
    pub(crate) fn reason(&self, skip: Skip) -> String {
        match skip {
            Skip::Condition => "its condition is false".to_owned(),
            Skip::Fallback => "its attempts are used up, and its fallback is to go on without it".to_owned(),
            Skip::NotCompleted(dependency) => {
                format!("it requires {} to be completed, which was skipped", self.plan.step(dependency).id)
            }
            Skip::Ended => "the execution ended before it could start".to_owned(),
            Skip::Upstream(Cause { through, first, status }) => {
                let why = match status {
                    StepStatus::Skipped => self.reason(Skip::Ended),
                    _ => format!("{} ended {}", self.plan.step(first).id, status.as_str()),
                };
                if through == first && status != StepStatus::Skipped {
                    return why;
                }
                format!("{} was skipped: {why}", self.plan.step(through).id)
            }
        }
    }
}
