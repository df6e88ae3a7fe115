//! The engine with what surrounds it, and what holds after every entry.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_engine::{Applied, Effect, Evaluate, Execution, Origin, Outcome, Partition, TaskRef, render};
use millstream_model::entry::{Entry, Run, Submitted};
use millstream_model::event::Event;
use millstream_model::ids::{Capability, WorkerId};
use millstream_model::limits::MAX_ATTEMPTS;
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::time::Timestamp;
use millstream_model::token::Token;
use millstream_model::view::{ExecutionView, Held};

use super::definition::INPUT;
use super::dice::Dice;
use crate::check;

/// The partition, its journal and the queue.
pub struct World {
    pub dice: Dice,
    pub partition: Partition,
    pub plan: Arc<Plan>,
    pub now: Timestamp,
    /// The journal so far.
    pub journal: Vec<(Position, Timestamp, Entry)>,
    /// Tasks that no worker has answered; a task may be in it twice.
    pub queue: Vec<TaskRef>,
    /// Tasks that a worker has pulled at least once.
    pub pulled: Vec<TaskRef>,
    /// What is to be evaluated.
    pub evaluations: BTreeSet<Evaluate>,
    /// How often the end was announced.
    pub ends: u32,
    submitted: Submitted,
    position: Position,
    /// What there was to see when it ended.
    end: Option<(ExecutionView<Held>, Vec<Event>)>,
}

impl World {
    /// A world in which the definition was submitted, with its input at hand or stored elsewhere.
    pub fn new(definition: &str, mut dice: Dice) -> Self {
        let fixture = check::World::new(definition);
        let input = if dice.chance(25) { "stored" } else { INPUT };
        let submitted = Submitted { input: check::payload(input), ..fixture.submitted("{}") };
        let plan = plan(definition);
        let mut world = Self {
            dice,
            partition: empty(&plan),
            plan,
            now: fixture.now,
            journal: Vec::new(),
            queue: Vec::new(),
            pulled: Vec::new(),
            evaluations: BTreeSet::new(),
            ends: 0,
            submitted: submitted.clone(),
            position: Position::start_of(1),
            end: None,
        };
        world.apply(Entry::Submitted(Box::new(submitted)));
        world
    }

    pub fn execution(&self) -> &Execution {
        self.partition.execution(check::id()).expect("it was submitted")
    }

    /// How often a task may be attempted.
    pub fn max_attempts(&self, task: &TaskRef) -> u32 {
        let retry = self.plan.step(task.step).retry.as_ref();
        retry.and_then(|retry| retry.max_attempts).unwrap_or(MAX_ATTEMPTS)
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
        self.journal.push((self.position, self.now, entry.clone()));
        let before = self.partition.execution(check::id()).map(|execution| (state(execution), alarms(execution)));
        let Applied { outcome, effects } = fold(&mut self.partition, self.position, self.now, entry);
        if let (Outcome::Ignored(_), Some((state_before, alarms_before))) = (outcome, before) {
            assert_eq!(effects, [], "an ignored entry has no effects");
            assert_eq!(state(self.execution()), state_before, "an ignored entry changes nothing");
            assert_eq!(alarms(self.execution()), alarms_before, "an ignored entry changes no alarm");
        }
        for effect in effects {
            self.perform(effect);
        }
        assert_eq!(self.execution().contradiction(), None);
        if self.execution().status().is_terminal() {
            self.check_that_the_end_is_final();
        } else {
            self.check_that_it_is_not_stuck();
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Publish(task) => {
                let execution = self.execution();
                assert!(
                    execution.is_outstanding(&task) || execution.status().is_terminal(),
                    "{task:?} is published and not outstanding"
                );
                let max = self.max_attempts(&task);
                assert!((1..=max).contains(&task.attempt), "{task:?} is published, it may be attempted {max} times");
                self.queue.push(task);
            }
            Effect::Evaluate(evaluate) => {
                self.evaluations.insert(evaluate);
            }
            Effect::End(_) => self.ends += 1,
            Effect::Cancel(_) => {}
        }
    }

    /// Nothing changes after the end.
    fn check_that_the_end_is_final(&mut self) {
        let seen = (self.execution().view(), self.execution().events(None));
        match &self.end {
            Some(end) => assert!(*end == seen, "it changes after its end:\n{}", render::execution(self.execution())),
            None => self.end = Some(seen),
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
        assert!(
            !answered || alarms(execution).iter().any(|(_, name)| name != "deadline"),
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

/// A partition that knows the definition and nothing else.
pub fn empty(plan: &Arc<Plan>) -> Partition {
    let mut partition = Partition::default();
    partition.install(plan.clone());
    partition
}

/// Folds an entry as the one who may write it.
pub fn fold(partition: &mut Partition, position: Position, at: Timestamp, entry: Entry) -> Applied {
    let capability: Capability = "pool".parse().expect("a name");
    let origin = if entry.is_result() { Origin::Result(&capability) } else { Origin::Control };
    partition.apply(position, at, origin, entry).expect("no reason to halt")
}

pub fn worker() -> WorkerId {
    "worker-1".parse().expect("a name")
}

/// What is seen of it, and what it waits for in the queue.
fn state(execution: &Execution) -> (String, Vec<(TaskRef, Timestamp)>) {
    (render::execution(execution), execution.outstanding())
}

fn alarms(execution: &Execution) -> Vec<(Timestamp, String)> {
    execution.alarms().map(|(at, alarm)| (at, render::alarm(execution, alarm))).collect()
}

fn plan(definition: &str) -> Arc<Plan> {
    let plan = millstream_model::validate::definition(definition);
    Arc::new(plan.unwrap_or_else(|problems| panic!("the definition has problems, the first: {}", problems[0])))
}
