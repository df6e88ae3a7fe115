//! The fixture.
//!
//! A history has one entry per line. `+500` first lets 500 ms pass; entries that follow each other have the same time.
//!
//! ```text
//! submit {"n": 1}              submit key=k {"n": 1}
//! ok fetch #1 {"a": 1}         ok book[3] #1 ordinal=2 {"a": 1}
//! fail fetch #1 TIMEOUT slow   fail fetch #1 retryable=false INTERNAL_ERROR no
//! held fetch #1 ordinal=2      expired fetch #1        abandoned fetch #1 ordinal=2
//! reissue fetch #2             unrenderable fetch #1   unpublishable fetch #1 PERMISSION_DENIED no
//! started fetch #1             cancel                  cancel compensate          resume
//! ok fetch #1 fallback {}      ok fetch #1 compensation ordinal=2 {}      ok fetch #1 round=1 compensation {}
//! evaluated fetch condition true | items 3 | failed TIMEOUT slow | value {"a": 1}      evaluated output value 1
//! due                          (fires every alarm that is due)
//! timer deadline               (fires this one, due or not; also grace and, as in `timer claim fetch #2`,
//!                              backoff, claim, start and close)
//! ```
//!
//! The answer has, for each line, what it caused, numbered by line; then `--` and the state in the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_engine::partition::{EXPR_REV, FOLD_REV};
use millstream_engine::scope::Values;
use millstream_engine::{Applied, Effect, Execution, KeptOutput, Origin, Outcome, Partition, render};
use millstream_model::entry::{
    CancelRequested, ClaimAbandoned, ClaimHeld, Defaults, Entry, Epoch, Evaluated, Evaluation, Expired, Fork,
    Idempotency, Kept, KeptOutcome, Reissued, ResolvedAgent, Resumed, Run, Submitted, TaskFailed, TaskStarted,
    TaskSucceeded, Timer, TimerFired, Unpublishable, Unrenderable,
};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::hash::ContentHash;
use millstream_model::ids::{Capability, ExecutionId};
use millstream_model::payload::{Payload, PayloadRef};
use millstream_model::plan::{Plan, StepIndex, Work};
use millstream_model::position::Position;
use millstream_model::task::{Task, TaskKey};
use millstream_model::time::Timestamp;
use millstream_model::token::{Secret, Token};
use millstream_model::validate;
use serde_json::value::RawValue;

/// Folds `history` and compares what it causes with `expected`.
pub fn check(steps: &str, history: &str, expected: &str) {
    check_under(FOLD_REV, steps, history, expected);
}

/// Likewise, under a revision of the fold.
pub fn check_under(fold_rev: u16, steps: &str, history: &str, expected: &str) {
    let mut world = World::under(fold_rev, &definition(steps));
    let mut actual = world.tell(history);
    actual.push("--".to_owned());
    actual.extend(world.state().lines().map(str::to_owned));
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert!(actual == expected, "this happened:\n{}\n", actual.join("\n"));
}

/// A whole definition from its steps, or itself when it has an id.
pub fn definition(steps: &str) -> String {
    if steps.trim_start().starts_with("id:") { steps.to_owned() } else { format!("id: w\nsteps:\n{steps}") }
}

/// A partition that knows a definition and in which a revision of the fold is in force, and nothing else.
pub fn empty(fold_rev: u16, plan: &Arc<Plan>) -> Partition {
    let mut partition = Partition::default();
    partition.install(plan.clone());
    let epoch = Entry::Epoch(Epoch { node: "nobody".parse().expect("a name"), epoch: 0, fold_rev });
    let before_all = Position { sequence: 0, index: 1 };
    let raised = partition.apply(before_all, Timestamp::default(), Origin::Control, epoch);
    assert!(raised.is_ok_and(|applied| applied.outcome == Outcome::Accepted));
    partition
}

pub struct World {
    pub partition: Partition,
    plan: Arc<Plan>,
    sequence: u64,
    pub now: Timestamp,
    /// The journal so far, for folding it again.
    pub journal: Vec<(Position, Timestamp, Option<Capability>, Entry)>,
}

impl World {
    pub fn new(definition: &str) -> Self {
        Self::under(FOLD_REV, definition)
    }

    /// A world under a revision of the fold.
    pub fn under(fold_rev: u16, definition: &str) -> Self {
        let plan = validate::definition(definition).unwrap_or_else(|problems| {
            panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        });
        let plan = Arc::new(plan);
        let partition = empty(fold_rev, &plan);
        Self { partition, plan, sequence: 0, now: Timestamp::from_millis(1_000_000), journal: Vec::new() }
    }

    /// Folds the lines and returns what each caused.
    pub fn tell(&mut self, history: &str) -> Vec<String> {
        let mut told = Vec::new();
        for (number, line) in history.lines().map(str::trim).filter(|l| !l.is_empty()).enumerate() {
            for caused in self.line(line) {
                told.push(format!("{} {caused}", number + 1));
            }
        }
        told
    }

    pub fn state(&self) -> String {
        render::execution(self.execution())
    }

    pub fn execution(&self) -> &Execution {
        self.partition.execution(id()).expect("it was submitted")
    }

    fn line(&mut self, line: &str) -> Vec<String> {
        let mut line = line;
        if let Some(rest) = line.strip_prefix('+') {
            let (millis, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            self.now = self.now.plus_millis(millis.parse().expect("milliseconds"));
            line = rest.trim();
        }
        match line {
            "" => Vec::new(),
            "due" => {
                let due = self.partition.due(self.now, 1_000);
                due.into_iter().flat_map(|fired| self.apply(Entry::TimerFired(fired))).collect()
            }
            _ => {
                let entry = self.parse(line);
                self.apply(entry)
            }
        }
    }

    /// Folds one entry and returns what it caused, alarms it armed included.
    pub fn apply(&mut self, entry: Entry) -> Vec<String> {
        match task_of_result(&entry).map(|task| capability(task.activation)) {
            Some(capability) => self.apply_from(Origin::Result(&capability), entry),
            None => self.apply_from(Origin::Control, entry),
        }
    }

    pub fn apply_from(&mut self, origin: Origin<'_>, entry: Entry) -> Vec<String> {
        self.sequence += 1;
        let position = Position::start_of(self.sequence);
        let armed = self.alarms();
        let capability = match origin {
            Origin::Control => None,
            Origin::Result(capability) => Some(capability.clone()),
        };
        self.journal.push((position, self.now, capability, entry.clone()));
        let Applied { outcome, effects } =
            self.partition.apply(position, self.now, origin, entry).expect("no reason to halt");
        let mut caused: Vec<String> = Some(render::outcome(&outcome)).filter(|o| !o.is_empty()).into_iter().collect();
        if let Some(execution) = self.partition.execution(id()) {
            caused.extend(effects.iter().map(|effect: &Effect| render::effect(execution, effect)));
            assert_eq!(execution.contradiction(), None);
        }
        let after = self.alarms();
        let new = after.into_iter().filter(|alarm| !armed.contains(alarm) && alarm.1 != "deadline");
        caused.extend(new.map(|(at, name)| format!("arm {name} in {} ms", at.millis_since(self.now))));
        caused
    }

    fn alarms(&self) -> Vec<(Timestamp, String)> {
        let Some(execution) = self.partition.execution(id()) else {
            return Vec::new();
        };
        execution.alarms().map(|(at, alarm)| (at, render::alarm(execution, alarm))).collect()
    }

    fn parse(&self, line: &str) -> Entry {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "submit" => Entry::Submitted(Box::new(self.submitted(rest))),
            "cancel" => Entry::CancelRequested(CancelRequested {
                execution: id(),
                reason: None,
                by: None,
                compensate: rest == "compensate",
            }),
            "resume" => Entry::Resumed(Box::new(self.resumed())),
            "timer" => Entry::TimerFired(TimerFired { execution: id(), timer: timer(rest) }),
            "evaluated" => Entry::Evaluated(evaluated(rest, self.execution().round())),
            _ => {
                let words = Words::of(rest);
                let (task, ordinal) = (words.task.clone(), words.ordinal);
                let token = self.token(&task);
                match verb {
                    "ok" => Entry::TaskSucceeded(TaskSucceeded {
                        task,
                        run: self.run(ordinal, token),
                        output: payload(words.rest),
                        metrics: None,
                    }),
                    "fail" => {
                        let error = StepError { retryable: words.retryable, ..error(words.rest) };
                        Entry::TaskFailed(TaskFailed { task, run: self.run(ordinal, token), error })
                    }
                    "held" => Entry::ClaimHeld(ClaimHeld {
                        task,
                        ordinal,
                        token,
                        claimant: "other".parse().expect("a name"),
                        claimed_at: self.now,
                    }),
                    "expired" => Entry::Expired(Expired { task, ordinal, token, worker: worker() }),
                    "abandoned" => Entry::ClaimAbandoned(ClaimAbandoned { task, ordinal }),
                    "reissue" => Entry::Reissued(Reissued { task }),
                    "started" => Entry::TaskStarted(TaskStarted { task, ordinal, token, worker: worker() }),
                    "unpublishable" => Entry::Unpublishable(Unpublishable { task, error: error(words.rest) }),
                    "unrenderable" => Entry::Unrenderable(Unrenderable { task, reason: words.rest.to_owned() }),
                    _ => panic!("unknown line: {line}"),
                }
            }
        }
    }

    /// The message of a task, which is named as in a history.
    pub fn message(&self, task: &str) -> Task {
        let task = self.execution().find_task(&Words::of(task).task).expect("a step of the definition");
        self.execution().task(&task, Payload::null()).expect("it has an agent").0
    }

    /// The input of a task, for this element when it is of a fan-out.
    pub fn input(&self, task: &str, item: Option<&str>) -> String {
        let task = self.execution().find_task(&Words::of(task).task).expect("a step of the definition");
        let item = item.map(|text| Arc::from(RawValue::from_string(text.to_owned()).expect("JSON")));
        match self.execution().render_input(&task, item, &Values::Inline).expect("all values are inline") {
            Ok(payload) => payload.text().expect("inline").to_owned(),
            Err(unfit) => unfit.to_string(),
        }
    }

    /// What a fork of this execution takes over that runs `definition` anew from a step.
    pub fn kept_for_fork(&self, definition: &str, from: Option<&str>) -> Vec<Kept> {
        let plan = World::new(definition).plan;
        let from = from.map(|id| plan.find(&id.parse().expect("a name")).expect("a step of the definition"));
        let kept = self.execution().kept_for_fork(&plan, from).into_iter();
        kept.map(|(step, output)| Kept { step, outcome: outcome(output) }).collect()
    }

    /// A world in which the definition was submitted as a fork that takes this over, and what that caused.
    pub fn forked(definition: &str, input: &str, kept: Vec<Kept>) -> (Self, Vec<String>) {
        let mut world = Self::new(definition);
        let fork = Fork { of: id(), from: None, by: Some("ada".to_owned()), reason: None, kept };
        let submitted = Submitted { fork: Some(Box::new(fork)), ..world.submitted(input) };
        let caused = world.apply(Entry::Submitted(Box::new(submitted)));
        (world, caused)
    }

    pub fn submitted(&self, text: &str) -> Submitted {
        let (key, input) = match text.strip_prefix("key=") {
            Some(rest) => {
                let (key, input) = rest.split_once(' ').unwrap_or((rest, "null"));
                (Some(key), input)
            }
            None => (None, text),
        };
        let input = if input.is_empty() { "null" } else { input };
        let Routes { agents, routes, fallbacks, compensations } = self.routes();
        Submitted {
            execution: id(),
            ns: Default::default(),
            workflow: self.plan.definition.id.clone(),
            definition: self.plan.hash,
            input: payload(input),
            context: Some(payload(r#"{"user":"ada"}"#)),
            labels: BTreeMap::new(),
            idempotency: key.map(|key| Idempotency {
                key: ContentHash::of(key.as_bytes()),
                body: ContentHash::of(input.as_bytes()),
            }),
            secret: secret(),
            agents,
            routes,
            fallbacks,
            compensations,
            defaults: Defaults::default(),
            expr_rev: EXPR_REV,
            trace: None,
            fork: None,
        }
    }

    pub fn resumed(&self) -> Resumed {
        let Routes { agents, routes, fallbacks, compensations } = self.routes();
        Resumed { execution: id(), by: None, reason: None, transcript: None, agents, routes, fallbacks, compensations }
    }

    /// One agent does everything, another one all fallbacks, a third one undoes.
    fn routes(&self) -> Routes {
        let agent = |name: &str, role: u32| ResolvedAgent {
            agent: name.parse().expect("a name"),
            capability: capability(role),
            manifest: ContentHash::of(name.as_bytes()),
        };
        let plan = &self.plan;
        let table = |agent: u16, routed: &dyn Fn(StepIndex) -> bool| {
            plan.all().map(|step| routed(step).then_some(agent)).collect()
        };
        Routes {
            agents: vec![agent("agent", 0), agent("spare", 1), agent("undoer", 2)],
            routes: table(0, &|step| !matches!(plan.planned(step).work, Work::FanIn { .. })),
            fallbacks: table(1, &|step| plan.step(step).fallback.as_ref().is_some_and(|f| f.agent_id.is_some())),
            compensations: table(2, &|step| plan.step(step).compensate.is_some()),
        }
    }

    fn token(&self, task: &TaskKey) -> Token {
        secret().token(&task.step, task.item, task.activation, task.attempt)
    }

    fn run(&self, ordinal: u32, token: Token) -> Run {
        Run { ordinal, token, worker: worker(), started_at: self.now, ended_at: self.now, span: None }
    }
}

struct Routes {
    agents: Vec<ResolvedAgent>,
    routes: Vec<Option<u16>>,
    fallbacks: Vec<Option<u16>>,
    compensations: Vec<Option<u16>>,
}

/// `fetch #1 ordinal=2 rest`
struct Words<'a> {
    task: TaskKey,
    ordinal: u32,
    retryable: Option<bool>,
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Self {
        let (name, rest) = text.split_once(' ').expect("a step and an attempt");
        let (attempt, mut rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let attempt: u32 = attempt.trim_start_matches('#').parse().expect("an attempt");
        let (step, item) = match name.trim_end_matches(']').split_once('[') {
            Some((step, item)) => (step, Some(item.parse().expect("an index"))),
            None => (name, None),
        };
        let mut ordinal = attempt;
        let mut retryable = None;
        let mut activation = 0;
        while let Some((word, after)) = rest.split_once(' ').or((!rest.is_empty()).then_some((rest, ""))) {
            if let Some(number) = word.strip_prefix("ordinal=") {
                ordinal = number.parse().expect("an ordinal");
            } else if let Some(flag) = word.strip_prefix("retryable=") {
                retryable = Some(flag == "true");
            } else if let Some(round) = word.strip_prefix("round=") {
                activation += 4 * round.parse::<u32>().expect("a round");
            } else if word == "fallback" {
                activation += 1;
            } else if word == "compensation" {
                activation += 2;
            } else {
                break;
            }
            rest = after;
        }
        let task = TaskKey { execution: id(), step: step.parse().expect("a name"), item, activation, attempt };
        Self { task, ordinal, retryable, rest }
    }
}

/// `TIMEOUT slow`
fn error(text: &str) -> StepError {
    let (code, message) = text.split_once(' ').unwrap_or((text, "it failed"));
    let code: ErrorCode = serde_json::from_str(&format!("\"{code}\"")).expect("a code");
    StepError::new(code, message)
}

/// What the server makes of it.
fn outcome(output: KeptOutput) -> KeptOutcome {
    match output {
        KeptOutput::One(output) => KeptOutcome::Completed(output),
        KeptOutput::Items(outputs) => {
            let texts = outputs.iter().map(|output| output.as_ref().map_or("null", |o| o.text().expect("inline")));
            KeptOutcome::Items(payload(&format!("[{}]", texts.collect::<Vec<_>>().join(","))))
        }
        KeptOutput::Whole(list) => KeptOutcome::Items(list),
        KeptOutput::Skipped => KeptOutcome::Skipped,
        KeptOutput::Failed(error) => KeptOutcome::Failed(error),
    }
}

fn timer(text: &str) -> Timer {
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    if rest.is_empty() {
        return if kind == "grace" { Timer::Grace } else { Timer::Deadline };
    }
    let TaskKey { step, item, activation, attempt, .. } = Words::of(rest).task;
    match kind {
        "backoff" => Timer::Backoff { step, item, activation, attempt },
        "claim" => Timer::Claim { step, item, activation, ordinal: attempt },
        "start" => Timer::ScheduleToStart { step, item, activation, attempt },
        "close" => Timer::ScheduleToClose { step, item, activation },
        _ => panic!("unknown timer: {text}"),
    }
}

/// `round=0` first for an evaluation of an earlier round.
fn evaluated(text: &str, current: u32) -> Evaluated {
    let (round, text) = match text.strip_prefix("round=").and_then(|rest| rest.split_once(' ')) {
        Some((round, rest)) => (round.parse().expect("a round"), rest),
        None => (current, text),
    };
    let (step, rest) = text.split_once(' ').expect("a step or `output`");
    let (kind, value) = rest.split_once(' ').expect("a kind and a value");
    let outcome = match kind {
        "condition" => Evaluation::Condition(value == "true"),
        "items" => Evaluation::Items(value.parse().expect("a count")),
        "value" => Evaluation::Value(payload(value)),
        "failed" => Evaluation::Failed(error(value)),
        _ => panic!("unknown evaluation: {kind}"),
    };
    let step = (step != "output").then(|| step.parse().expect("a name"));
    Evaluated { execution: id(), step, round, outcome }
}

/// JSON text, or `stored` for a value that is elsewhere.
pub fn payload(text: &str) -> Payload {
    match text {
        "stored" => Payload::stored(PayloadRef::to("elsewhere")),
        "" => Payload::null(),
        text => Payload::inline(RawValue::from_string(text.to_owned()).expect("JSON")),
    }
}

/// The task that a worker reports on.
pub fn task_of_result(entry: &Entry) -> Option<&TaskKey> {
    match entry {
        Entry::TaskStarted(e) => Some(&e.task),
        Entry::TaskSucceeded(e) => Some(&e.task),
        Entry::TaskFailed(e) => Some(&e.task),
        Entry::ClaimHeld(e) => Some(&e.task),
        Entry::Expired(e) => Some(&e.task),
        _ => None,
    }
}

/// Which pool of workers an activation is for: a pool for each role.
pub fn capability(activation: u32) -> Capability {
    let pools = ["pool", "spare", "undo", "nobody"];
    pools[activation as usize % pools.len()].parse().expect("a name")
}

pub fn id() -> ExecutionId {
    "0193a5a0-0000-7000-8000-000000000003".parse().expect("an id")
}

fn secret() -> Secret {
    Secret::new([7; 16])
}

fn worker() -> millstream_model::ids::WorkerId {
    "worker-1".parse().expect("a name")
}
