//! The workers' part: they take tasks, claim what they must, run what the script says, and report.

use std::collections::BTreeMap;

use millstream_engine::TaskRef;
use millstream_model::entry::{ClaimHeld, Entry, Expired, Run as Ran, TaskFailed, TaskStarted, TaskSucceeded};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::ids::{ExecutionId, WorkerId};
use millstream_model::limits::ACK_WAIT_MS;
use millstream_model::task::{Purpose, Task, TaskKey, claim_key};
use millstream_model::time::Timestamp;
use serde_json::{Value, json};

use super::requests::payload;
use super::script::{Forgery, Run, Vanish};
use super::stage::{Due, Stage};

/// What a run takes when the script does not say.
const RUN_MS: u64 = 20;
/// What a worker takes to acknowledge a cancel.
const ACKNOWLEDGE_MS: u64 = 5;
/// How long the presence of a claim's holder is gone until its claim counts as abandoned.
const ABSENCE_MS: u64 = 20_000;

/// A task on its way to a worker.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub task: Task,
    /// From 1.
    pub delivered: u64,
}

/// The workers together.
#[derive(Debug, Default)]
pub struct Pool {
    /// How many runs of the script each agent has used.
    used: BTreeMap<String, usize>,
    claims: BTreeMap<String, Claimed>,
    under_way: BTreeMap<u64, UnderWay>,
    started: u64,
    cancelled: BTreeMap<ExecutionId, u32>,
}

#[derive(Debug)]
struct Claimed {
    by: WorkerId,
    at: Timestamp,
    gone: bool,
}

/// A run that has begun.
#[derive(Debug)]
struct UnderWay {
    task: Task,
    ordinal: u32,
    worker: WorkerId,
    began: Timestamp,
    run: Run,
    output: Value,
    /// How the worker's own clocks end it.
    timeout: Option<StepError>,
}

impl Stage<'_> {
    /// What the script says of the next run.
    pub fn peek(&self, key: &TaskKey) -> Run {
        let used = self.pool.used.get(&agent_of(key)).copied().unwrap_or_default();
        let names = [agent_of(key), agent_of(&TaskKey { item: None, ..key.clone() })];
        let runs = names.iter().find_map(|name| self.script.agents.get(name));
        match runs {
            Some(runs) => runs[used.min(runs.len() - 1)].clone(),
            None => Run { ok: json!({ agent_of(key): used + 1 }), ..Run::default() },
        }
    }

    /// The next run of the script is used.
    pub fn skip_run(&mut self, key: &TaskKey) -> Run {
        let run = self.peek(key);
        *self.pool.used.entry(agent_of(key)).or_default() += 1;
        run
    }

    /// A task comes to a worker.
    pub fn deliver(&mut self, delivery: Delivery) {
        let Delivery { task, delivered } = &delivery;
        let ordinal = task.ordinal(*delivered);
        let worker: WorkerId = format!("worker-{delivered}").parse().expect("a name");
        let report = |stage: &mut Self, after, entry| stage.after(after, Due::Result(task.capability.clone(), entry));
        if self.is_cancelled(task) {
            let under_way = UnderWay::new(task, ordinal, worker, self.now, Run::default());
            report(self, ACKNOWLEDGE_MS, under_way.failed(self.now, cancelled()));
            return;
        }
        let (next, token) = (self.peek(&task.key), task.token);
        if next.unseen {
            self.skip_run(&task.key);
            return;
        }
        if next.late {
            self.skip_run(&task.key);
            let late = task.not_after.expect("what can be late has a limit").plus_millis(1);
            let expired = Entry::Expired(Expired { task: task.key.clone(), ordinal, token, worker });
            self.at(late, Due::Result(task.capability.clone(), expired));
            return;
        }
        if task.needs_claim(ordinal) {
            let key = claim_key(&task.capability, &task.key, ordinal);
            if let Some(Claimed { by, at, gone }) = self.pool.claims.get(&key) {
                let (claimant, claimed_at, gone) = (by.clone(), *at, *gone);
                let held = ClaimHeld { task: task.key.clone(), ordinal, token, claimant, claimed_at };
                report(self, 1, Entry::ClaimHeld(held));
                if gone {
                    let task = self.task_ref(task, ordinal);
                    self.after(ABSENCE_MS, Due::Presence(task));
                }
                return;
            }
            self.pool.claims.insert(key, Claimed { by: worker.clone(), at: self.now, gone: false });
        }
        if task.announce_start {
            let started = TaskStarted { task: task.key.clone(), ordinal, token, worker: worker.clone() };
            report(self, 0, Entry::TaskStarted(started));
        }
        self.start(delivery, ordinal, worker);
    }

    fn start(&mut self, delivery: Delivery, ordinal: u32, worker: WorkerId) {
        let Delivery { task, delivered } = delivery;
        let run = self.skip_run(&task.key);
        if let Some(vanish) = run.vanish {
            let key = claim_key(&task.capability, &task.key, ordinal);
            if let Some(claim) = self.pool.claims.get_mut(&key) {
                claim.gone = vanish == Vanish::Worker;
            }
            if run.delayed.is_some() {
                self.report(&UnderWay::new(&task, ordinal, worker, self.now, run.clone()));
            }
            let delivered = if run.forgotten { delivered } else { delivered + 1 };
            self.after(ACK_WAIT_MS, Due::Deliver(Box::new(Delivery { task, delivered })));
            return;
        }
        let mut under_way = UnderWay::new(&task, ordinal, worker, self.now, run);
        let takes = if under_way.run.hang { u64::MAX } else { under_way.run.after.unwrap_or(RUN_MS) };
        let silence = task.heartbeat_ms.filter(|_| under_way.run.hang).unwrap_or(u64::MAX);
        let limit = task.timeout_ms.min(silence);
        if takes > limit {
            let why = if limit == silence { "no heartbeat" } else { "no answer" };
            under_way.timeout = Some(StepError::new(ErrorCode::Timeout, format!("{why} within {limit} ms")));
        }
        self.pool.started += 1;
        self.pool.under_way.insert(self.pool.started, under_way);
        self.after(takes.min(limit), Due::Finish(self.pool.started));
    }

    /// A run ends, unless it was stopped before.
    pub fn finish(&mut self, run: u64) {
        let Some(under_way) = self.pool.under_way.remove(&run) else {
            return;
        };
        if let Some(forgery) = under_way.run.forged {
            self.forge(&under_way, forgery);
        }
        self.report(&under_way);
    }

    fn report(&mut self, under_way: &UnderWay) {
        let entry = match (&under_way.timeout, under_way.run.fail) {
            (Some(timeout), _) => under_way.failed(self.now, timeout.clone()),
            (None, Some(code)) => under_way.failed(self.now, under_way.error(code)),
            (None, None) => {
                let mut output = payload(&under_way.output);
                if under_way.run.stored {
                    output = self.stored(output);
                }
                let metrics = under_way.run.metrics.as_ref().map(payload);
                let (task, run) = (under_way.task.key.clone(), under_way.ran(self.now));
                Entry::TaskSucceeded(TaskSucceeded { task, run, output, metrics })
            }
        };
        let delay = under_way.run.delayed.unwrap_or_default();
        for _ in 0..if under_way.run.twice { 2 } else { 1 } {
            self.after(delay, Due::Result(under_way.task.capability.clone(), entry.clone()));
        }
    }

    /// Somebody reports a success who was not given the task.
    fn forge(&mut self, under_way: &UnderWay, forgery: Forgery) {
        let (mut task, mut run) = (under_way.task.key.clone(), under_way.ran(self.now));
        let mut capability = under_way.task.capability.clone();
        match forgery {
            Forgery::Token => run.token = serde_json::from_value(json!("00".repeat(16))).expect("a token"),
            Forgery::Capability => capability = "elsewhere".parse().expect("a name"),
            Forgery::Ordinal => run.ordinal = under_way.task.max_attempts + 1,
            Forgery::Step => task.step = "nowhere".parse().expect("a name"),
            Forgery::Execution => {
                task.execution = "0193a5a0-0000-7000-8000-00000000ff03".parse().expect("an id");
            }
            Forgery::Control => {}
        }
        let entry = Entry::TaskSucceeded(TaskSucceeded { task, run, output: payload(&json!("forged")), metrics: None });
        let due = if forgery == Forgery::Control { Due::Control(entry) } else { Due::Result(capability, entry) };
        self.after(0, due);
    }

    /// The workers hear of a cancel.
    pub fn mark_cancelled(&mut self, execution: ExecutionId, below: u32) {
        self.pool.cancelled.insert(execution, below);
        let stopped: Vec<u64> = self
            .pool
            .under_way
            .iter()
            .filter(|(_, under_way)| self.is_cancelled(&under_way.task) && !under_way.run.deaf)
            .map(|(&run, _)| run)
            .collect();
        for run in stopped {
            let under_way = self.pool.under_way.remove(&run).expect("it was there");
            let ended = self.now.plus_millis(ACKNOWLEDGE_MS);
            let entry = under_way.failed(ended, cancelled());
            self.after(ACKNOWLEDGE_MS, Due::Result(under_way.task.capability.clone(), entry));
        }
    }

    fn is_cancelled(&self, task: &Task) -> bool {
        let below = self.pool.cancelled.get(&task.key.execution).copied().unwrap_or_default();
        task.purpose == Purpose::Run && task.key.activation < below
    }

    fn task_ref(&self, task: &Task, ordinal: u32) -> TaskRef {
        let execution = self.refold.partition.execution(task.key.execution).expect("it was submitted");
        let found = execution.find_task(&task.key).expect("a task of its plan");
        TaskRef { attempt: ordinal, ..found }
    }
}

impl UnderWay {
    fn new(task: &Task, ordinal: u32, worker: WorkerId, began: Timestamp, run: Run) -> Self {
        let output = run.ok.clone();
        Self { task: task.clone(), ordinal, worker, began, run, output, timeout: None }
    }

    fn ran(&self, ended_at: Timestamp) -> Ran {
        let (ordinal, token, worker) = (self.ordinal, self.task.token, self.worker.clone());
        Ran { ordinal, token, worker, started_at: self.began, ended_at, span: None }
    }

    fn failed(&self, at: Timestamp, error: StepError) -> Entry {
        Entry::TaskFailed(TaskFailed { task: self.task.key.clone(), run: self.ran(at), error })
    }

    fn error(&self, code: ErrorCode) -> StepError {
        let Run { message, retryable, details, trace, .. } = self.run.clone();
        let message = message.unwrap_or_else(|| "it failed".to_owned());
        StepError { retryable, details, trace, ..StepError::new(code, message) }
    }
}

fn cancelled() -> StepError {
    StepError::new(ErrorCode::Cancelled, "the execution was cancelled")
}

/// How the script names who does a task.
fn agent_of(key: &TaskKey) -> String {
    let item = key.item.map_or_else(String::new, |item| format!("[{item}]"));
    let role = match key.activation % 4 {
        1 => " fallback",
        2 => " compensation",
        _ => "",
    };
    format!("{}{item}{role}", key.step)
}
