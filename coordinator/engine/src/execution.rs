//! One run of a workflow, from its submission to its end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use millstream_model::entry::{Defaults, ResolvedAgent, Submitted};
use millstream_model::error::StepError;
use millstream_model::ids::{ExecutionId, WorkerId};
use millstream_model::payload::Payload;
use millstream_model::plan::{Plan, StepIndex};
use millstream_model::position::{EventId, Position};
use millstream_model::time::Timestamp;
use millstream_model::trace::{TraceId, TraceParent};
use millstream_model::view::{ExecutionError, ExecutionStatus};

use crate::attempt::{Attempt, Outstanding};
use crate::backoff::Policy;
use crate::effect::{Effect, TaskRef};
use crate::outcome::{Ignored, Outcome};
use crate::record::{Record, What};
use crate::step::{State, Step};
use crate::timer::{Alarm, Alarms};

/// An execution.
#[derive(Debug)]
pub struct Execution {
    pub(crate) submitted: Box<Submitted>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) phase: Phase,
    pub(crate) steps: Vec<Step>,
    /// Steps that wait for a slot.
    pub(crate) ready: BTreeSet<StepIndex>,
    /// Steps that hold a slot.
    pub(crate) active: BTreeSet<StepIndex>,
    /// Steps that are not settled.
    pub(crate) unsettled: usize,
    /// A failure that does not end the execution, but its outcome is not COMPLETED.
    pub(crate) failure: Option<ExecutionError>,
    /// Something was left out.
    pub(crate) partial: bool,
    pub(crate) cancel_requested: bool,
    pub(crate) output: Option<Payload>,
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    /// Time of the last entry; it never goes back.
    pub(crate) clock: Timestamp,
    pub(crate) alarms: Alarms,
    /// Who holds the claims of attempts that another worker found held.
    pub(crate) claimants: BTreeMap<(StepIndex, Option<u32>), WorkerId>,
    pub(crate) records: Vec<Record>,
}

/// Where an execution stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Phase {
    Running,
    /// All steps are settled; the owner evaluates the output.
    Aggregating,
    /// Nothing new is started; running steps may acknowledge.
    Stopping(Verdict),
    Ended(ExecutionStatus),
}

/// How a stopping execution will end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    Failed(ExecutionError),
    Cancelled,
    Timeout,
}

/// One entry on its way through an execution: its place, its time, and what it causes.
pub(crate) struct Fold<'a> {
    pub position: Position,
    pub at: Timestamp,
    pub effects: &'a mut Vec<Effect>,
    /// Events of this entry so far.
    pub events: u32,
    /// Steps whose dependents are to be considered.
    pub settled: VecDeque<StepIndex>,
}

impl<'a> Fold<'a> {
    pub(crate) fn new(position: Position, at: Timestamp, effects: &'a mut Vec<Effect>) -> Self {
        Self { position, at, effects, events: 0, settled: VecDeque::new() }
    }
}

impl Execution {
    /// The execution of a submission, with nothing started.
    pub(crate) fn new(submitted: Box<Submitted>, plan: Arc<Plan>, at: Timestamp) -> Self {
        let steps: Vec<Step> = plan.steps.iter().map(|step| Step::new(step.depends_on.len())).collect();
        Self {
            phase: Phase::Running,
            unsettled: steps.len(),
            steps,
            ready: BTreeSet::new(),
            active: BTreeSet::new(),
            failure: None,
            partial: false,
            cancel_requested: false,
            output: None,
            started_at: at,
            ended_at: None,
            clock: at,
            alarms: Alarms::default(),
            claimants: BTreeMap::new(),
            records: Vec::new(),
            submitted,
            plan,
        }
    }

    /// Its id.
    pub fn id(&self) -> ExecutionId {
        self.submitted.execution
    }

    /// The definition it runs.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Its state. It is RUNNING until it has ended.
    pub fn status(&self) -> ExecutionStatus {
        match self.phase {
            Phase::Running | Phase::Aggregating | Phase::Stopping(_) => ExecutionStatus::Running,
            Phase::Ended(status) => status,
        }
    }

    /// The trace that all its spans belong to.
    pub fn trace(&self) -> TraceId {
        self.submitted.trace.map_or_else(|| TraceId::of(self.id()), |parent| parent.trace)
    }

    /// The trace context of who submitted it.
    pub fn caller(&self) -> Option<TraceParent> {
        self.submitted.trace
    }

    /// Time of its last entry.
    pub fn clock(&self) -> Timestamp {
        self.clock
    }

    /// When it must have ended.
    pub fn deadline(&self) -> Timestamp {
        let timeout = self.plan.definition.timeout_ms.unwrap_or(self.submitted.defaults.workflow_timeout_ms);
        self.started_at.plus_millis(timeout)
    }

    /// Who does the step; `None` for a step without agent.
    pub fn agent(&self, step: StepIndex) -> Option<&ResolvedAgent> {
        let route = *self.submitted.routes.get(usize::from(step.0))?;
        self.submitted.agents.get(usize::from(route?))
    }

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
                        tasks.push((self.task_ref(step, Some(item), fan_out.activation, o.number), o.since));
                    }
                }
                State::Running { .. }
                | State::Pending { .. }
                | State::Evaluating(_)
                | State::Ready(_)
                | State::Settled(_) => {}
            }
        }
        tasks
    }

    /// Attempts whose claim another worker holds, and who that is.
    pub fn held(&self) -> impl Iterator<Item = (TaskRef, &WorkerId)> {
        self.claimants.iter().filter_map(|(&(step, item), claimant)| match self.attempt(step, item) {
            Ok((activation, Attempt::Outstanding(o))) if o.held => {
                Some((self.task_ref(step, item, activation, o.number), claimant))
            }
            Ok(_) | Err(_) => None,
        })
    }

    /// Whether this very attempt is owed to the queue, queued or running.
    pub fn is_outstanding(&self, task: &TaskRef) -> bool {
        self.attempt(task.step, task.item).is_ok_and(|(activation, attempt)| {
            activation == task.activation
                && matches!(attempt, Attempt::Outstanding(o) if o.number == task.attempt && !o.held)
        })
    }

    /// The attempt a reissue of `task` is published as.
    pub fn reissue_of(&self, task: &TaskRef) -> TaskRef {
        let max = self.policy(task.step).max_attempts();
        TaskRef { attempt: crate::attempt::reissue_number(task.attempt, max), ..*task }
    }

    /// Something is always outstanding while an execution runs: a task, a timer beyond its deadline, an evaluation.
    /// Says what contradicts that, or what contradicts itself; for tests and `verify`.
    pub fn contradiction(&self) -> Option<String> {
        let unsettled = self.steps.iter().filter(|s| s.settlement().is_none()).count();
        if unsettled != self.unsettled {
            return Some(format!("{unsettled} steps are not settled, {} are counted", self.unsettled));
        }
        for step in self.plan.indices() {
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
        match self.phase {
            Phase::Running if !waits => Some("it runs and nothing is outstanding".to_owned()),
            Phase::Running | Phase::Aggregating | Phase::Stopping(_) if self.alarms.first().is_none() => {
                Some("it runs and has no deadline".to_owned())
            }
            Phase::Ended(_) if !self.active.is_empty() || self.alarms.first().is_some() || self.unsettled > 0 => {
                Some("it has ended and something is outstanding".to_owned())
            }
            Phase::Running | Phase::Aggregating | Phase::Stopping(_) | Phase::Ended(_) => None,
        }
    }

    /// The alarm went off at journal time `fold.at`.
    pub(crate) fn fire(&mut self, fold: &mut Fold<'_>, alarm: Alarm) -> Outcome {
        let Some(due) = self.alarms.armed(alarm) else {
            return Outcome::Ignored(Ignored::Stale);
        };
        if fold.at < due {
            return Outcome::Ignored(Ignored::Early);
        }
        self.alarms.disarm(alarm);
        match alarm {
            Alarm::Deadline => self.time_out(fold),
            Alarm::Grace => self.end_grace(fold),
            Alarm::Backoff { step, item, activation, attempt } => {
                return self.backoff_elapsed(fold, step, item, activation, attempt);
            }
            Alarm::Claim { step, item, activation, ordinal } => {
                return self.lose(fold, step, item, activation, ordinal);
            }
        }
        Outcome::Accepted
    }

    /// The armed deadlines, earliest first.
    pub fn alarms(&self) -> impl Iterator<Item = (Timestamp, Alarm)> + '_ {
        self.alarms.iter()
    }

    pub(crate) fn step(&self, step: StepIndex) -> &Step {
        &self.steps[usize::from(step.0)]
    }

    pub(crate) fn step_mut(&mut self, step: StepIndex) -> &mut Step {
        &mut self.steps[usize::from(step.0)]
    }

    pub(crate) fn policy(&self, step: StepIndex) -> Policy<'_> {
        Policy::of(self.plan.step(step), &self.submitted.defaults)
    }

    pub(crate) fn defaults(&self) -> &Defaults {
        &self.submitted.defaults
    }

    pub(crate) fn task_ref(&self, step: StepIndex, item: Option<u32>, activation: u32, attempt: u32) -> TaskRef {
        TaskRef { execution: self.id(), step, item, activation, attempt }
    }

    /// The attempts of a step or item that is not settled.
    pub(crate) fn attempt(&self, step: StepIndex, item: Option<u32>) -> Result<(u32, Attempt), Ignored> {
        let state = &self.steps.get(usize::from(step.0)).ok_or(Ignored::UnknownStep)?.state;
        match (state, item) {
            (State::Running { activation, attempt }, None) => Ok((*activation, *attempt)),
            (State::FanningOut(fan_out), Some(item)) => {
                fan_out.attempt(item).map(|attempt| (fan_out.activation, attempt)).ok_or(Ignored::Stale)
            }
            (State::Running { .. } | State::FanningOut(_), _) => Err(Ignored::UnknownStep),
            (State::Pending { .. } | State::Evaluating(_) | State::Ready(_) | State::Settled(_), _) => {
                Err(Ignored::Stale)
            }
        }
    }

    /// Moves a running step or item; the slot follows.
    pub(crate) fn set_attempt(&mut self, step: StepIndex, item: Option<u32>, attempt: Attempt) {
        match (&mut self.step_mut(step).state, item) {
            (State::Running { attempt: state, .. }, None) => {
                *state = attempt;
                match attempt {
                    Attempt::Outstanding(_) => self.active.insert(step),
                    Attempt::BackingOff { .. } | Attempt::Due { .. } => self.active.remove(&step),
                };
            }
            (State::FanningOut(fan_out), Some(item)) => fan_out.set(item, attempt),
            (_, _) => unreachable!("`attempt` found a running step or item"),
        }
    }

    /// Publishes an attempt that has its slot.
    pub(crate) fn publish(
        &mut self,
        fold: &mut Fold<'_>,
        step: StepIndex,
        item: Option<u32>,
        activation: u32,
        number: u32,
    ) {
        let outstanding = Outstanding { number, since: fold.at, held: false };
        self.set_attempt(step, item, Attempt::Outstanding(outstanding));
        let state = self.step_mut(step);
        state.scheduled_at.get_or_insert(fold.at);
        state.attempts = state.attempts.max(number);
        fold.effects.push(Effect::Publish(self.task_ref(step, item, activation, number)));
        self.record(fold, What::Scheduled(crate::record::Subject { step, item, activation, attempt: number }));
    }

    pub(crate) fn record(&mut self, fold: &mut Fold<'_>, what: What) {
        let id = EventId { position: fold.position, n: fold.events };
        fold.events = fold.events.saturating_add(if what.ran().is_some() { 2 } else { 1 });
        self.records.push(Record { id, at: fold.at, what });
    }

    /// The attempt is over: nothing waits for it any more.
    pub(crate) fn forget_attempt(&mut self, step: StepIndex, item: Option<u32>) {
        self.alarms.disarm_attempt(step, item);
        self.claimants.remove(&(step, item));
    }

    pub(crate) fn error_of(&self, step: StepIndex, error: StepError) -> ExecutionError {
        ExecutionError { step: Some(self.plan.step(step).id.clone()), error }
    }
}
