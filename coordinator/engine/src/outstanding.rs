//! What an execution waits for: attempts that are owed to the queue, queued or running.

use millstream_model::ids::WorkerId;
use millstream_model::plan::StepIndex;
use millstream_model::time::Timestamp;

use crate::activation::{self, Role};
use crate::attempt::Attempt;
use crate::effect::TaskRef;
use crate::execution::{Execution, Phase};
use crate::outcome::Ignored;
use crate::step::State;
use crate::timer::Alarm;

impl Execution {
    /// Attempts that are owed to the queue, queued or running, and since when; without those whose claim another
    /// worker holds, which the journal carries.
    pub fn outstanding(&self) -> Vec<(TaskRef, Timestamp)> {
        let mut tasks = Vec::new();
        for &step in &self.active {
            match &self.step(step).state {
                State::Running { activation, attempt: Attempt::Outstanding(o) } if !o.held => {
                    tasks.push((self.task_ref(step, None, *activation, o.number), o.since));
                }
                State::FanningOut(fan_out) => {
                    for (&item, o) in fan_out.outstanding.iter().filter(|(_, o)| !o.held) {
                        let activation = fan_out.activation_of(item);
                        tasks.push((self.task_ref(step, Some(item), activation, o.number), o.since));
                    }
                }
                State::Running { .. }
                | State::Pending { .. }
                | State::Evaluating(_)
                | State::Ready(_)
                | State::Settled(_) => {}
            }
        }
        if let Some((effect, activation, Attempt::Outstanding(o))) = self.saga.current()
            && !o.held
        {
            tasks.push((self.task_ref(effect.step, effect.item, activation, o.number), o.since));
        }
        tasks
    }

    /// Attempts whose claim another worker holds, and who that is.
    pub fn held(&self) -> impl Iterator<Item = (TaskRef, &WorkerId)> {
        self.claimants.iter().filter_map(|(&(step, item), claimant)| match self.any_attempt(step, item) {
            Some((activation, Attempt::Outstanding(o))) if o.held => {
                Some((self.task_ref(step, item, activation, o.number), claimant))
            }
            Some(_) | None => None,
        })
    }

    /// Whether this very attempt is owed to the queue, queued or running.
    pub fn is_outstanding(&self, task: &TaskRef) -> bool {
        matches!(
            self.attempt(task.step, task.item, task.activation),
            Ok(Attempt::Outstanding(o)) if o.number == task.attempt && !o.held
        )
    }

    /// The attempt a reissue of `task` is published as.
    pub fn reissue_of(&self, task: &TaskRef) -> TaskRef {
        let max = self.policy(task.step, task.activation).max_attempts();
        TaskRef { attempt: crate::attempt::reissue_number(task.attempt, max), ..*task }
    }

    /// Something is always outstanding while an execution runs: a task, a timer beyond its deadline, an evaluation.
    /// Says what contradicts that, or what contradicts itself; for tests and `verify`.
    pub fn contradiction(&self) -> Option<String> {
        let unsettled = match self.phase {
            Phase::Running | Phase::Aggregating | Phase::Stopping(_) => self.count_unsettled(self.plan.indices()),
            Phase::Finalizing(_) => self.count_unsettled(self.plan.finally()),
            Phase::Compensating(_) | Phase::Ended(_) => 0,
        };
        if unsettled != self.unsettled {
            return Some(format!("{unsettled} steps are not settled, {} are counted", self.unsettled));
        }
        for step in self.plan.all() {
            let holds_slot = match &self.step(step).state {
                State::Running { attempt, .. } => matches!(attempt, Attempt::Outstanding(_)),
                State::FanningOut(_) => true,
                State::Pending { .. } | State::Evaluating(_) | State::Ready(_) | State::Settled(_) => false,
            };
            if holds_slot != self.active.contains(&step) {
                return Some(format!("step {} and the slots disagree", self.plan.step(step).id));
            }
        }
        let waits = self.steps.iter().any(|s| match &s.state {
            State::Evaluating(_) | State::Running { .. } | State::FanningOut(_) => true,
            State::Pending { .. } | State::Ready(_) | State::Settled(_) => false,
        });
        if let Some(stray) = self.stray() {
            return Some(stray);
        }
        let undoes = self.saga.current().is_some();
        match self.phase {
            Phase::Running | Phase::Finalizing(_) if !waits => Some("it runs and nothing is outstanding".to_owned()),
            Phase::Compensating(_) if !undoes => Some("it compensates and nothing is outstanding".to_owned()),
            Phase::Running | Phase::Aggregating | Phase::Stopping(_) | Phase::Finalizing(_)
                if self.alarms.first().is_none() =>
            {
                Some("it runs and has no deadline".to_owned())
            }
            Phase::Ended(_) if !self.active.is_empty() || self.alarms.first().is_some() || undoes => {
                Some("it has ended and something is outstanding".to_owned())
            }
            Phase::Running
            | Phase::Aggregating
            | Phase::Stopping(_)
            | Phase::Compensating(_)
            | Phase::Finalizing(_)
            | Phase::Ended(_) => None,
        }
    }

    /// An alarm or a claim that belongs to no attempt.
    fn stray(&self) -> Option<String> {
        let stray = self.alarms().map(|(_, alarm)| alarm).find(|&alarm| !self.is_awaited(alarm));
        if let Some(alarm) = stray {
            return Some(format!("nothing waits for the alarm {alarm:?}"));
        }
        let claimed = self.held().count();
        (claimed != self.claimants.len())
            .then(|| format!("{} claims are known, {claimed} are waited for", self.claimants.len()))
    }

    fn is_awaited(&self, alarm: Alarm) -> bool {
        match alarm {
            Alarm::Deadline | Alarm::Grace => true,
            Alarm::Backoff { step, item, activation, attempt } => {
                self.attempt(step, item, activation) == Ok(Attempt::BackingOff { next: attempt })
            }
            Alarm::Claim { step, item, activation, ordinal } => {
                matches!(self.attempt(step, item, activation), Ok(Attempt::Outstanding(o)) if o.held && o.number == ordinal)
            }
            Alarm::ScheduleToStart { step, item, activation, attempt } => {
                self.is_outstanding(&self.task_ref(step, item, activation, attempt))
            }
            Alarm::ScheduleToClose { step, item, activation } => self.attempt(step, item, activation).is_ok(),
        }
    }

    fn count_unsettled(&self, steps: impl Iterator<Item = StepIndex>) -> usize {
        steps.filter(|&step| self.step(step).settlement().is_none()).count()
    }

    /// Where the attempts of an activation of a step or item stand, if it is the current one.
    pub(crate) fn attempt(&self, step: StepIndex, item: Option<u32>, activation: u32) -> Result<Attempt, Ignored> {
        if activation::role(activation) == Some(Role::Compensation) {
            return match self.saga.current() {
                Some((effect, current, attempt)) if (effect.step, effect.item, current) == (step, item, activation) => {
                    Ok(attempt)
                }
                Some(_) | None => Err(Ignored::Stale),
            };
        }
        let (current, attempt) = self.step_attempt(step, item)?;
        if current == activation { Ok(attempt) } else { Err(Ignored::Stale) }
    }

    /// What the step or item does at the moment, with its activation; its compensation included.
    fn any_attempt(&self, step: StepIndex, item: Option<u32>) -> Option<(u32, Attempt)> {
        match self.saga.current() {
            Some((effect, activation, attempt)) if (effect.step, effect.item) == (step, item) => {
                Some((activation, attempt))
            }
            Some(_) | None => self.step_attempt(step, item).ok(),
        }
    }

    fn step_attempt(&self, step: StepIndex, item: Option<u32>) -> Result<(u32, Attempt), Ignored> {
        let state = &self.steps.get(usize::from(step.0)).ok_or(Ignored::UnknownStep)?.state;
        match (state, item) {
            (State::Running { activation, attempt }, None) => Ok((*activation, *attempt)),
            (State::FanningOut(fan_out), Some(item)) => {
                fan_out.attempt(item).map(|attempt| (fan_out.activation_of(item), attempt)).ok_or(Ignored::Stale)
            }
            (State::Running { .. } | State::FanningOut(_), _) => Err(Ignored::UnknownStep),
            (State::Pending { .. } | State::Evaluating(_) | State::Ready(_) | State::Settled(_), _) => {
                Err(Ignored::Stale)
            }
        }
    }
}
