//! Resuming: a failed or timed-out execution goes on from where it stopped.
//!
//! Kept is what completed and was not undone, was skipped by its own condition or fallback, or failed without being
//! critical, as long as all that it depends on is kept. Everything else runs again, in a new round.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use millstream_model::entry::Resumed;
use millstream_model::plan::{Plan, StepIndex, Work};
use millstream_model::view::{ExecutionStatus, ResumeView};

use crate::execution::{Execution, Fold, Phase, Routing};
use crate::outcome::{Ignored, Outcome};
use crate::record::What;
use crate::step::{Outputs, Settlement, Skip, Step};
use crate::timer::Alarm;

impl Execution {
    /// Whether somebody may ask it to go on.
    pub fn is_resumable(&self) -> bool {
        matches!(self.phase, Phase::Ended(ExecutionStatus::Failed | ExecutionStatus::Timeout))
    }

    pub(crate) fn resume(&mut self, fold: &mut Fold<'_>, entry: Resumed) -> Outcome {
        if !self.is_resumable() {
            return Outcome::Ignored(Ignored::NotResumable);
        }
        let Resumed { by, reason, agents, routes, fallbacks, compensations, .. } = entry;
        let routing = Routing { agents, routes, fallbacks, compensations };
        if routing.unroutable(&self.plan).is_some() {
            return Outcome::Ignored(Ignored::Unroutable);
        }
        let kept = self.kept();
        self.routings.push(routing);
        self.restart_steps(&kept);
        let steps = &self.steps;
        self.saga.resume(|step, item| {
            let index = usize::from(step.0);
            kept[index] || item.is_some_and(|item| steps[index].keeps(item))
        });
        self.phase = Phase::Running;
        self.failure = None;
        self.cancel = None;
        self.partial = self.steps.iter().any(|step| {
            matches!(step.settlement(), Some(Settlement::Failed { .. })) || step.fan_out.is_some_and(|f| f.failed > 0)
        });
        self.ended_at = None;
        self.deadline = fold.at.plus_millis(self.timeout_of_execution_ms());
        self.alarms.arm(self.deadline, Alarm::Deadline);
        let view = ResumeView { at: fold.at, by, reason };
        self.resumes.push(view.clone());
        self.record(fold, What::Resumed(Box::new(view)));
        self.begin(fold);
        Outcome::Accepted
    }

    /// By step, whether a resume keeps it.
    pub(crate) fn kept(&self) -> Vec<bool> {
        let compensated = self.saga.compensated_steps();
        let mut kept: Vec<bool> = self.plan.all().map(|_| false).collect();
        for step in self.plan.indices() {
            kept[usize::from(step.0)] = !compensated.contains(&step) && self.is_worth_keeping(step);
        }
        drop_downstream(&self.plan, &mut kept);
        kept
    }

    /// Whether the step ended in a way that it need not run again for.
    pub(crate) fn is_worth_keeping(&self, step: StepIndex) -> bool {
        match self.step(step).settlement() {
            Some(
                Settlement::Completed(_)
                | Settlement::Skipped(Skip::Condition | Skip::Fallback | Skip::NotCompleted(_)),
            ) => true,
            Some(Settlement::Failed { .. }) => !self.plan.step(step).critical,
            Some(Settlement::Skipped(Skip::Upstream(_) | Skip::Ended) | Settlement::Cancelled { .. }) | None => false,
        }
    }

    fn restart_steps(&mut self, kept: &[bool]) {
        let plan = self.plan.clone();
        let round = self.round();
        let compensated: BTreeSet<_> = self.saga.compensated().map(|done| (done.step, done.item)).collect();
        self.unsettled = 0;
        for step in plan.all() {
            if kept[usize::from(step.0)] {
                continue;
            }
            if !plan.is_finally(step) {
                self.unsettled += 1;
            }
            let missing = plan.planned(step).depends_on.iter().filter(|d| !kept[usize::from(d.0)]).count();
            let outputs = self.outputs_to_keep(step, kept, &compensated);
            let old = std::mem::replace(self.step_mut(step), Step { kept: outputs, ..Step::new(missing, round) });
            if let Some(output) = old.into_output() {
                self.archive.insert((step, round - 1), output);
            }
        }
    }

    /// The outputs of a fan-out that failed in part, for which nothing that it reads has changed.
    fn outputs_to_keep(
        &self,
        step: StepIndex,
        kept: &[bool],
        compensated: &BTreeSet<(StepIndex, Option<u32>)>,
    ) -> Option<Outputs> {
        let planned = self.plan.planned(step);
        if !matches!(planned.work, Work::FanOut { .. })
            || self.plan.is_finally(step)
            || planned.depends_on.iter().any(|dependency| !kept[usize::from(dependency.0)])
        {
            return None;
        }
        let mut outputs = self.step(step).known_outputs()?.clone();
        for &(_, item) in compensated.range((step, None)..=(step, Some(u32::MAX))) {
            if let Some(output) = item.and_then(|item| Arc::make_mut(&mut outputs).get_mut(item as usize)) {
                *output = None;
            }
        }
        Some(outputs)
    }
}

/// What depends on something that runs again runs again.
pub(crate) fn drop_downstream(plan: &Plan, kept: &mut [bool]) {
    let mut queue: VecDeque<StepIndex> = plan.all().filter(|step| !kept[usize::from(step.0)]).collect();
    while let Some(step) = queue.pop_front() {
        for &dependent in &plan.planned(step).dependents {
            if std::mem::replace(&mut kept[usize::from(dependent.0)], false) {
                queue.push_back(dependent);
            }
        }
    }
}

impl Routing {
    /// Why it does not fit the definition.
    pub(crate) fn unroutable(&self, plan: &Plan) -> Option<String> {
        if self.routes.len() != plan.steps.len() {
            return Some("the submission does not route every step of its definition".to_owned());
        }
        let has = |table: &[Option<u16>], step: StepIndex| {
            let agent = table.get(usize::from(step.0)).copied().flatten();
            agent.is_some_and(|agent| usize::from(agent) < self.agents.len())
        };
        for step in plan.all() {
            let definition = plan.step(step);
            let id = &definition.id;
            if !matches!(plan.planned(step).work, Work::FanIn { .. }) && !has(&self.routes, step) {
                return Some(format!("the submission names no agent for step {id}"));
            }
            let fallback = definition.fallback.as_ref().is_some_and(|f| f.agent_id.is_some() || f.capability.is_some());
            if fallback && !has(&self.fallbacks, step) {
                return Some(format!("the submission names no agent for the fallback of step {id}"));
            }
            if definition.compensate.is_some() && !has(&self.compensations, step) {
                return Some(format!("the submission names no agent for the compensation of step {id}"));
            }
        }
        None
    }
}
