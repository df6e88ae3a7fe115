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
use millstream_model::transcript::Revisions;
use millstream_model::view::{Counts, ExecutionError, ExecutionStatus, ResumeView};

use crate::activation::{self, Role};
use crate::attempt::{Attempt, Outstanding};
use crate::backoff::Policy;
use crate::effect::{Effect, TaskRef};
use crate::outcome::{Ignored, Outcome};
use crate::record::{CancelRequest, Record, Subject, What};
use crate::saga::Saga;
use crate::step::{Output, State, Step};
use crate::timer::{Alarm, Alarms};

/// An execution.
#[derive(Debug)]
pub struct Execution {
    pub(crate) submitted: Box<Submitted>,
    pub(crate) plan: Arc<Plan>,
    /// Revision of the fold that it is folded under for ever.
    pub(crate) fold_rev: u16,
    /// Who does what, by round.
    pub(crate) routings: Vec<Routing>,
    pub(crate) phase: Phase,
    /// Those of `steps`, then those of `finally`.
    pub(crate) steps: Vec<Step>,
    /// Steps that wait for a slot.
    pub(crate) ready: BTreeSet<StepIndex>,
    /// Steps that hold a slot.
    pub(crate) active: BTreeSet<StepIndex>,
    /// Steps that are not settled, of those that this phase runs.
    pub(crate) unsettled: usize,
    /// A failure that does not end the execution, but its outcome is not COMPLETED.
    pub(crate) failure: Option<ExecutionError>,
    /// Something was left out.
    pub(crate) partial: bool,
    pub(crate) cancel: Option<Cancellation>,
    pub(crate) output: Option<Payload>,
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    /// When its steps, or those of `finally`, must have ended.
    pub(crate) deadline: Timestamp,
    /// Time of the last entry; it never goes back.
    pub(crate) clock: Timestamp,
    pub(crate) alarms: Alarms,
    /// Who holds the claims of attempts that another worker found held.
    pub(crate) claimants: BTreeMap<(StepIndex, Option<u32>), WorkerId>,
    pub(crate) saga: Saga,
    pub(crate) counts: Counts,
    pub(crate) resumes: Vec<ResumeView>,
    /// Outputs of earlier rounds, for their events.
    pub(crate) archive: BTreeMap<(StepIndex, u32), Output>,
    pub(crate) records: Vec<Record>,
}

/// The agents of a round, each found by the number of a step.
#[derive(Debug)]
pub(crate) struct Routing {
    pub agents: Vec<ResolvedAgent>,
    pub routes: Vec<Option<u16>>,
    pub fallbacks: Vec<Option<u16>>,
    pub compensations: Vec<Option<u16>>,
}

/// Where an execution stands.
///
/// ```text
///   Running ─▶ Aggregating ──────────────────┐
///      │            │                        ▼
///      └────────────┴─▶ Stopping ─▶ Compensating ─▶ Finalizing ─▶ Ended
///   Running ◀────────────────────────── resume ──────────────────────┘
/// ```
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Phase {
    Running,
    /// All steps are settled; the owner evaluates the output.
    Aggregating,
    /// Nothing new is started; running steps may acknowledge.
    Stopping(Verdict),
    /// What was completed is undone; the outcome is decided.
    Compensating(ExecutionStatus),
    /// The steps of `finally` run; the outcome is decided.
    Finalizing(ExecutionStatus),
    Ended(ExecutionStatus),
}

/// How a stopping execution will end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    Failed(ExecutionError),
    Cancelled,
    Timeout,
}

/// A cancel and how far it is.
#[derive(Debug)]
pub(crate) struct Cancellation {
    pub request: CancelRequest,
    pub acknowledged: u32,
    pub forced: u32,
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
    pub(crate) fn new(submitted: Box<Submitted>, plan: Arc<Plan>, at: Timestamp, fold_rev: u16) -> Self {
        let mut submitted = submitted;
        let steps: Vec<Step> = plan.steps.iter().map(|step| Step::new(step.depends_on.len(), 0)).collect();
        let timeout_ms = plan.definition.timeout_ms.unwrap_or(submitted.defaults.workflow_timeout_ms);
        let routing = Routing {
            agents: std::mem::take(&mut submitted.agents),
            routes: std::mem::take(&mut submitted.routes),
            fallbacks: std::mem::take(&mut submitted.fallbacks),
            compensations: std::mem::take(&mut submitted.compensations),
        };
        Self {
            routings: vec![routing],
            phase: Phase::Running,
            unsettled: plan.definition.steps.len(),
            steps,
            ready: BTreeSet::new(),
            active: BTreeSet::new(),
            failure: None,
            partial: false,
            cancel: None,
            output: None,
            started_at: at,
            ended_at: None,
            deadline: at.plus_millis(timeout_ms),
            clock: at,
            alarms: Alarms::default(),
            claimants: BTreeMap::new(),
            saga: Saga::default(),
            counts: Counts::default(),
            resumes: Vec::new(),
            archive: BTreeMap::new(),
            records: Vec::new(),
            submitted,
            plan,
            fold_rev,
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

    /// The revisions that it is folded under.
    pub fn revisions(&self) -> Revisions {
        Revisions { fold: self.fold_rev, expressions: self.submitted.expr_rev }
    }

    /// Its submission; what a routing was resolved to is not in it any more.
    pub fn submitted(&self) -> &Submitted {
        &self.submitted
    }

    /// Its state. It is RUNNING until it has ended.
    pub fn status(&self) -> ExecutionStatus {
        match self.phase {
            Phase::Running
            | Phase::Aggregating
            | Phase::Stopping(_)
            | Phase::Compensating(_)
            | Phase::Finalizing(_) => ExecutionStatus::Running,
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

    /// When its steps must have ended.
    pub fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// Who does the step, in this round; `None` for a step without agent.
    pub fn agent(&self, step: StepIndex) -> Option<&ResolvedAgent> {
        self.agent_of(step, activation::number(self.round(), Role::Run))
    }

    /// Who is called in an activation of the step.
    pub(crate) fn agent_of(&self, step: StepIndex, activation: u32) -> Option<&ResolvedAgent> {
        let routing = self.routings.get(activation::round(activation) as usize)?;
        let routes = match activation::role(activation)? {
            Role::Run => &routing.routes,
            Role::Fallback => &routing.fallbacks,
            Role::Compensation => &routing.compensations,
        };
        routing.agents.get(usize::from((*routes.get(usize::from(step.0))?)?))
    }

    /// How often it was resumed.
    pub fn round(&self) -> u32 {
        u32::try_from(self.routings.len() - 1).unwrap_or(u32::MAX)
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
            Alarm::ScheduleToStart { step, item, activation, attempt } => {
                return self.start_overdue(fold, step, item, activation, attempt);
            }
            Alarm::ScheduleToClose { step, item, activation } => {
                return self.close_overdue(fold, step, item, activation);
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

    pub(crate) fn policy(&self, step: StepIndex, activation: u32) -> Policy<'_> {
        let role = activation::role(activation).unwrap_or(Role::Run);
        Policy::of(&self.plan.definition, self.plan.step(step), role, &self.submitted.defaults)
    }

    /// Whether this phase starts steps: those of `steps`, or of `finally`.
    pub(crate) fn starts_steps(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Finalizing(_))
    }

    /// Whether attempts of this activation may still be repeated.
    pub(crate) fn repeats(&self, activation: u32) -> bool {
        match activation::role(activation) {
            Some(Role::Compensation) => matches!(self.phase, Phase::Compensating(_)),
            Some(Role::Run | Role::Fallback) | None => self.starts_steps(),
        }
    }

    pub(crate) fn defaults(&self) -> &Defaults {
        &self.submitted.defaults
    }

    pub(crate) fn task_ref(&self, step: StepIndex, item: Option<u32>, activation: u32, attempt: u32) -> TaskRef {
        TaskRef { execution: self.id(), step, item, activation, attempt }
    }

    /// Moves a running step or item, or a compensation; the slot follows.
    pub(crate) fn set_attempt(&mut self, step: StepIndex, item: Option<u32>, activation: u32, attempt: Attempt) {
        if activation::role(activation) == Some(Role::Compensation) {
            self.saga.set_attempt(attempt);
            return;
        }
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
        self.set_attempt(step, item, activation, Attempt::Outstanding(outstanding));
        fold.effects.push(Effect::Publish(self.task_ref(step, item, activation, number)));
        let subject = Subject { step, item, activation, attempt: number };
        if activation::role(activation) == Some(Role::Compensation) {
            self.record(fold, What::CompensationScheduled(subject));
            return;
        }
        let state = self.step_mut(step);
        state.scheduled_at.get_or_insert(fold.at);
        state.attempts = state.attempts.max(number);
        self.arm_schedule(fold, subject);
        self.record(fold, What::Scheduled(subject));
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

    /// The activation is over.
    pub(crate) fn forget_activation(&mut self, step: StepIndex, item: Option<u32>) {
        self.forget_attempt(step, item);
        self.alarms.disarm_close(step, item);
    }

    pub(crate) fn error_of(&self, step: StepIndex, error: StepError) -> ExecutionError {
        ExecutionError::new(Some(self.plan.step(step).id.clone()), error)
    }
}
