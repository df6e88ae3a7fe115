//! The engine with what surrounds it, and what holds after every entry.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_engine::partition::FOLD_REV_OLDEST;
use millstream_engine::scope::Values;
use millstream_engine::{Applied, Effect, Evaluate, Execution, Origin, Outcome, Partition, TaskRef, render};
use millstream_model::definition::Retry;
use millstream_model::entry::{Entry, Resumed, Run, Submitted};
use millstream_model::event::Event;
use millstream_model::ids::WorkerId;
use millstream_model::limits::MAX_ATTEMPTS;
use millstream_model::plan::{Plan, StepIndex};
use millstream_model::position::Position;
use millstream_model::task::{Purpose, TaskKey};
use millstream_model::time::Timestamp;
use millstream_model::token::Token;
use millstream_model::view::{ExecutionPhase, ExecutionView, Held, StepStatus, StepView};
use serde_json::value::RawValue;

use super::definition::INPUT;
use super::dice::Dice;
use super::ledger::Ledger;
use super::promises;
use crate::check;

/// The partition, its journal and the queue.
pub struct World {
    pub dice: Dice,
    pub partition: Partition,
    pub plan: Arc<Plan>,
    pub fold_rev: u16,
    pub now: Timestamp,
    /// The journal so far.
    pub journal: Vec<(Position, Timestamp, Entry)>,
    /// What was seen after each entry, in histories that are watched.
    pub seen: Vec<Seen>,
    pub watched: bool,
    /// Tasks that no worker has answered; a task may be in it twice.
    pub queue: Vec<TaskRef>,
    /// Tasks that a worker has pulled at least once.
    pub pulled: Vec<TaskRef>,
    /// What is to be evaluated.
    pub evaluations: BTreeSet<Evaluate>,
    /// How often the end was announced.
    pub ends: u32,
    /// How often it was resumed.
    pub round: u32,
    submitted: Submitted,
    resumed: Resumed,
    position: Position,
    /// Every task that was published.
    published: BTreeSet<TaskRef>,
    ledger: Ledger,
    /// What there is to see at the moment.
    now_seen: Option<(Seen, ExecutionView<Held>)>,
    /// What there was to see when it ended.
    end: Option<(ExecutionView<Held>, Vec<Event>)>,
    /// What the last resume kept.
    kept: Vec<StepView<Held>>,
}

/// What is seen of an execution, and what it waits for.
#[derive(Clone, PartialEq, Debug)]
pub struct Seen {
    text: String,
    outstanding: Vec<(TaskRef, Timestamp)>,
    held: Vec<TaskRef>,
    alarms: Vec<(Timestamp, String)>,
}

impl Seen {
    pub fn of(execution: &Execution) -> Self {
        Self {
            text: render::execution(execution),
            outstanding: execution.outstanding(),
            held: execution.held().map(|(task, _)| task).collect(),
            alarms: execution.alarms().map(|(at, alarm)| (at, render::alarm(execution, alarm))).collect(),
        }
    }
}

impl World {
    /// A world in which the definition was submitted, with its input at hand or stored elsewhere.
    pub fn new(definition: &str, mut dice: Dice) -> Self {
        let fixture = check::World::new(definition);
        let fold_rev = FOLD_REV_OLDEST + u16::from(dice.chance(60));
        let input = if dice.chance(25) { "stored" } else { INPUT };
        let submitted = Submitted { input: check::payload(input), ..fixture.submitted("{}") };
        let plan = plan(definition);
        let mut world = Self {
            watched: dice.chance(30),
            dice,
            partition: check::empty(fold_rev, &plan),
            fold_rev,
            plan,
            now: fixture.now,
            journal: Vec::new(),
            seen: Vec::new(),
            queue: Vec::new(),
            pulled: Vec::new(),
            evaluations: BTreeSet::new(),
            ends: 0,
            round: 0,
            submitted: submitted.clone(),
            resumed: fixture.resumed(),
            position: Position::start_of(1),
            published: BTreeSet::new(),
            ledger: Ledger::default(),
            now_seen: None,
            end: None,
            kept: Vec::new(),
        };
        world.apply(Entry::Submitted(Box::new(submitted)));
        world
    }

    pub fn execution(&self) -> &Execution {
        self.partition.execution(check::id()).expect("it was submitted")
    }

    pub fn resumed(&self) -> Entry {
        Entry::Resumed(Box::new(self.resumed.clone()))
    }

    /// How often a task may be attempted.
    pub fn max_attempts(&self, task: &TaskRef) -> u32 {
        let step = self.plan.step(task.step);
        let own = match task.activation % 4 {
            0 => step.retry.as_ref(),
            1 => step.fallback.as_ref().and_then(|fallback| fallback.retry.as_ref()).or(step.retry.as_ref()),
            _ => step.compensate.as_ref().and_then(|compensate| compensate.retry.as_ref()),
        };
        let policy = own.unwrap_or(&Retry::default()).or(self.plan.definition.default_retry.as_ref());
        policy.max_attempts.unwrap_or(MAX_ATTEMPTS)
    }

    pub fn token(&self, task: &TaskRef) -> Token {
        let step = &self.plan.step(task.step).id;
        self.submitted.secret.token(step, task.item, task.activation, task.attempt)
    }

    pub fn run(&self, task: &TaskRef, ordinal: u32) -> Run {
        let token = self.token(task);
        Run { ordinal, token, worker: worker(), started_at: self.now, ended_at: self.now, span: None }
    }

    /// Folds one entry, does what it causes and checks what holds after every entry.
    pub fn apply(&mut self, entry: Entry) {
        self.position = self.next_position();
        let before = self.now_seen.take();
        let Applied { outcome, effects } = fold(&mut self.partition, self.position, self.now, entry.clone());
        let (seen, view) = (Seen::of(self.execution()), self.execution().view());
        if let (Outcome::Ignored(_), Some((seen_before, _))) = (outcome, &before) {
            assert_eq!(effects, [], "an ignored entry has no effects");
            assert_eq!(seen, *seen_before, "an ignored entry changes nothing");
        }
        if self.watched {
            self.seen.push(seen.clone());
        }
        if outcome == Outcome::Accepted {
            self.note(&entry, before.as_ref().map(|(_, view)| view));
        }
        let phase_before = before.map(|(_, view)| view.phase);
        for effect in effects {
            self.perform(effect, &view, phase_before, &entry);
        }
        if view.phase != ExecutionPhase::Compensating {
            self.ledger.settle(&entry);
        }
        assert_eq!(self.execution().contradiction(), None);
        assert_eq!(self.partition.next_deadline(), self.execution().alarms().next().map(|(at, _)| at));
        assert!(self.execution().held().eq(self.partition.held()), "the partition knows what is held");
        if view.status.is_terminal() {
            self.check_that_the_end_is_final(&view);
        } else {
            self.check_that_it_is_not_stuck();
        }
        self.now_seen = Some((seen, view));
        self.journal.push((self.position, self.now, entry));
    }

    /// What an accepted entry means for what comes later.
    fn note(&mut self, entry: &Entry, before: Option<&ExecutionView<Held>>) {
        if let Entry::TaskSucceeded(succeeded) = entry {
            let task = self.task(&succeeded.task);
            if task.activation % 4 != 2 {
                self.ledger.complete(&self.plan, &task);
            }
        }
        if let (Entry::Resumed(_), Some(before)) = (entry, before) {
            let plan = before.partial_result.as_ref().map(|result| &result.recovery_plan).expect("it had failed");
            let keeps: BTreeSet<StepIndex> = plan.keeps.iter().filter_map(|id| self.plan.find(id)).collect();
            for &step in &keeps {
                let status = before.steps[usize::from(step.0)].status;
                let fit = match status {
                    StepStatus::Completed | StepStatus::Skipped => true,
                    StepStatus::Failed | StepStatus::Timeout => !self.plan.step(step).critical,
                    _ => false,
                };
                assert!(fit, "{step:?} is {} and is kept", status.as_str());
                let dependencies = &self.plan.planned(step).depends_on;
                assert!(dependencies.iter().all(|dependency| keeps.contains(dependency)), "{step:?} is kept too long");
            }
            self.ledger.resume(&self.plan, &keeps);
            self.round += 1;
            self.kept = before.steps.iter().filter(|step| plan.keeps.contains(&step.id)).cloned().collect();
            let (_, events) = self.end.take().expect("it had ended");
            promises::check_history(&events, &self.execution().events(None));
        }
    }

    fn perform(&mut self, effect: Effect, view: &ExecutionView<Held>, before: Option<ExecutionPhase>, entry: &Entry) {
        match effect {
            Effect::Publish(task) => {
                self.check_publication(&task, view, before, entry);
                self.queue.push(task);
            }
            Effect::Evaluate(evaluate) => {
                self.evaluations.insert(evaluate);
            }
            Effect::End(_) => self.ends += 1,
            Effect::Cancel { below, .. } => assert_eq!(below, 4 * (self.round + 1), "all of this round is stopped"),
        }
    }

    fn check_publication(
        &mut self,
        task: &TaskRef,
        view: &ExecutionView<Held>,
        before: Option<ExecutionPhase>,
        entry: &Entry,
    ) {
        let execution = self.execution();
        assert!(
            execution.is_outstanding(task) || execution.status().is_terminal(),
            "{task:?} is published and not outstanding"
        );
        let max = self.max_attempts(task);
        assert!((1..=max).contains(&task.attempt), "{task:?} is published, it may be attempted {max} times");
        assert_eq!(task.activation / 4, self.round, "{task:?} belongs to the round that runs");
        let settled = |step: StepIndex| view.steps[usize::from(step.0)].status.is_settled();
        for &dependency in &self.plan.planned(task.step).depends_on {
            assert!(settled(dependency), "{task:?} starts before {dependency:?} is settled");
        }
        let reissued = matches!(entry, Entry::Reissued(_));
        let (purpose, bounded) = match (task.activation % 4, self.plan.is_finally(task.step)) {
            (2, _) => {
                assert_eq!(view.phase, ExecutionPhase::Compensating);
                if reissued || task.attempt > 1 {
                    self.ledger.undo_again(task);
                } else {
                    self.ledger.undo(task, entry);
                }
                (Purpose::Compensation, false)
            }
            (_, true) => {
                assert!(matches!(view.phase, ExecutionPhase::Finalizing | ExecutionPhase::Ended));
                assert!(self.plan.indices().all(settled), "{task:?} waits for all steps");
                (Purpose::Finally, true)
            }
            (_, false) => {
                let runs = matches!(before, None | Some(ExecutionPhase::Running)) || matches!(entry, Entry::Resumed(_));
                assert!(runs || reissued && before == Some(ExecutionPhase::Stopping), "{task:?} starts in {before:?}");
                (Purpose::Run, true)
            }
        };
        assert!(self.published.insert(*task) || reissued, "{task:?} is published twice");
        let execution = self.execution();
        let item = task.item.map(|_| Arc::from(RawValue::from_string("1".to_owned()).expect("JSON")));
        if let Ok(Ok(input)) = execution.render_input(task, item, &Values::Inline) {
            let (message, _) = execution.task(task, input).expect("it has an agent");
            assert_eq!((message.purpose, message.max_attempts, message.token), (purpose, max, self.token(task)));
            assert_eq!(message.capability, check::capability(task.activation));
            assert!(message.timeout_ms >= 1 && message.not_after <= message.deadline);
            assert_eq!(message.deadline.is_some(), bounded, "only compensations have no deadline");
        }
    }

    fn task(&self, key: &TaskKey) -> TaskRef {
        self.execution().find_task(key).expect("a step of the definition")
    }

    /// Nothing changes after the end but by a resume, and what was kept is as it was.
    fn check_that_the_end_is_final(&mut self, view: &ExecutionView<Held>) {
        let events = self.execution().events(None);
        match &self.end {
            Some((end, told)) => {
                let same = end == view && *told == events;
                assert!(same, "it changes after its end:\n{}", render::execution(self.execution()));
            }
            None => {
                self.ledger.check(&self.plan, view);
                for kept in &self.kept {
                    let step = view.steps.iter().find(|step| step.id == kept.id).expect("a step of the definition");
                    let same = (&step.output, &step.error, step.attempts) == (&kept.output, &kept.error, kept.attempts);
                    assert!(same, "{} was kept and is another one", kept.id);
                }
                self.end = Some((view.clone(), events));
            }
        }
    }

    /// What it waits for will come: its tasks are in the queue, its evaluations are asked for, or an alarm is armed
    /// beside the deadline of the whole execution.
    fn check_that_it_is_not_stuck(&self) {
        let execution = self.execution();
        for (task, _) in execution.outstanding() {
            assert!(self.queue.contains(&task), "{task:?} is outstanding and not in the queue");
        }
        for evaluate in execution.evaluations() {
            assert!(self.evaluations.contains(&evaluate), "{evaluate:?} is owed and nobody was asked");
        }
        let answered = self.queue.is_empty() && self.evaluations.is_empty();
        let mut alarms = execution.alarms().map(|(_, alarm)| render::alarm(execution, alarm));
        assert!(
            !answered || alarms.any(|name| name != "deadline"),
            "it is stuck: everything is answered and only its deadline is left\n{}",
            render::execution(execution)
        );
    }

    fn next_position(&mut self) -> Position {
        let Position { sequence, index } = self.position;
        if index < 200 && self.dice.chance(50) {
            Position { sequence, index: index + 1 }
        } else {
            Position::start_of(sequence + 1)
        }
    }
}

/// Folds an entry as the one who may write it.
pub fn fold(partition: &mut Partition, position: Position, at: Timestamp, entry: Entry) -> Applied {
    let pool = check::task_of_result(&entry).map(|task| check::capability(task.activation));
    let origin = pool.as_ref().map_or(Origin::Control, Origin::Result);
    partition.apply(position, at, origin, entry).expect("no reason to halt")
}

pub fn worker() -> WorkerId {
    "worker-1".parse().expect("a name")
}

fn plan(definition: &str) -> Arc<Plan> {
    let plan = millstream_model::validate::definition(definition);
    Arc::new(plan.unwrap_or_else(|problems| panic!("the definition has problems, the first: {}", problems[0])))
}
