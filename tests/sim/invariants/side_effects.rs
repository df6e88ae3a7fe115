//! Side effects, as the witness saw them.

use std::collections::BTreeMap;

use millstream_model::task::Purpose;
use millstream_model::view::{ExecutionPhase, StepStatus};

use super::record::COMPENSATION;
use super::{Checker, Violation, violated};
use crate::simulation::broker::Broker;
use crate::simulation::network::Node;
use crate::simulation::witness::{SideEffect, Subject};
use crate::simulation::worker::{Outside, Worker};

impl Checker {
    /// The witness saw a side effect.
    pub fn seen(
        &mut self,
        subject: &Subject,
        effect: &SideEffect,
        workers: &BTreeMap<u8, Worker>,
        outside: &Outside,
        broker: &Broker,
    ) -> Result<(), Violation> {
        self.within_policy(subject, effect, outside, broker)?;
        if effect.not_after.is_some_and(|not_after| effect.started_at > not_after) {
            let what = format!("{subject:?} at {}, not after {:?}", effect.started_at, effect.not_after);
            return violated("no task starts after its time", what);
        }
        if let (Purpose::Run, Node::Worker(index)) = (effect.purpose, effect.life.node)
            && let Some(worker) = workers.get(&index).filter(|worker| worker.life == effect.life)
            && worker.knows_cancelled_below(subject.execution) > subject.activation
        {
            let what = format!("{subject:?} on {}", effect.life);
            return violated("a worker starts nothing that it has seen to be cancelled", what);
        }
        match effect.purpose {
            Purpose::Compensation => self.compensates(subject, effect, outside),
            Purpose::Run | Purpose::Finally => self.may_run(subject, effect, outside),
        }
    }

    /// At most `max_attempts` runs, one for each ordinal, and one more first run for each crash of the broker that
    /// forgot the first delivery (DESIGN section 6).
    fn within_policy(
        &self,
        subject: &Subject,
        effect: &SideEffect,
        outside: &Outside,
        broker: &Broker,
    ) -> Result<(), Violation> {
        let runs = outside.witness.of(subject);
        let claimed = effect.ordinal > 1 || effect.max_attempts <= 1;
        let same = runs.iter().filter(|run| run.ordinal == effect.ordinal).count();
        let first = runs.first().map_or(effect.at, |run| run.at);
        // A delivery that was on its way when the broker died counts as one that it forgot.
        let forgotten = broker.forgot.iter().filter(|at| at.plus_millis(20_000) >= first).count();
        let may = if claimed { 1 } else { 1 + forgotten };
        if same > may {
            let what = format!("{subject:?} ordinal {}: {same} runs, {may} may be", effect.ordinal);
            return violated("a run has its side effect once", what);
        }
        let all = effect.max_attempts as usize + forgotten;
        if runs.len() > all {
            let what = format!("{subject:?}: {} runs, {all} may be", runs.len());
            return violated("side effects stay within the policy", what);
        }
        if effect.ordinal > effect.max_attempts {
            let what = format!("{subject:?}: ordinal {} of {}", effect.ordinal, effect.max_attempts);
            return violated("side effects stay within the policy", what);
        }
        Ok(())
    }

    /// A step runs only when all it depends on is settled and its condition is not false.
    fn may_run(&self, subject: &Subject, effect: &SideEffect, outside: &Outside) -> Result<(), Violation> {
        let Some(execution) = self.reference.execution(subject.execution) else {
            return violated("only tasks of known executions are run", format!("{subject:?}"));
        };
        let record = &self.records[&subject.execution];
        if subject.activation / 4 < record.round() {
            // What was stopped may run on here and there while the next round has begun.
            return Ok(());
        }
        let plan = execution.plan();
        let step = subject.step.parse().expect("it was a step's name");
        let Some(index) = plan.find(&step) else {
            return violated("only steps of the definition run", format!("{subject:?}"));
        };
        let view = execution.view();
        for dependency in &plan.planned(index).depends_on {
            let status = view.steps[usize::from(dependency.0)].status;
            if !status.is_settled() && status != StepStatus::Compensating {
                let what = format!("{subject:?}: {} is {}", plan.step(*dependency).id, status.as_str());
                return violated("no step starts before what it depends on is settled", what);
            }
        }
        let workflow = outside.workload.workflow(&view.workflow_id).expect("only known workflows are submitted");
        if workflow.truths.get(&step) == Some(&false) {
            return violated("no step runs whose condition is false", format!("{subject:?}"));
        }
        let fork_keeps = record.submitted.fork.as_ref().is_some_and(|fork| fork.kept.iter().any(|k| k.step == step));
        let kept = if record.round() == 0 { fork_keeps } else { record.kept.contains(&subject.step) };
        if kept {
            return violated("what is kept does not run again", format!("{subject:?}"));
        }
        if effect.purpose == Purpose::Finally
            && !matches!(view.phase, ExecutionPhase::Finalizing | ExecutionPhase::Ended)
        {
            return violated("what is last runs after the outcome", format!("{subject:?} in {:?}", view.phase));
        }
        if effect.purpose == Purpose::Run && subject.activation % 4 == COMPENSATION {
            return violated("a compensation says that it is one", format!("{subject:?}"));
        }
        Ok(())
    }
}
