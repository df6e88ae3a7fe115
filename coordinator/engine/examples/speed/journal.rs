//! Journals as workers and coordinators write them, without either.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_engine::partition::{EXPR_REV, FOLD_REV};
use millstream_engine::{Applied, Effect, Origin, Partition, TaskRef};
use millstream_model::batch::{BatchBuilder, Written, encode_entry};
use millstream_model::entry::{Archived, Defaults, Entry, Epoch, ResolvedAgent, Run, Submitted, TaskSucceeded};
use millstream_model::hash::ContentHash;
use millstream_model::ids::{Capability, ExecutionId, Namespace};
use millstream_model::limits::BATCH_ENTRIES_MAX;
use millstream_model::payload::Payload;
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::time::Timestamp;
use millstream_model::token::Secret;
use millstream_model::validate;
use serde_json::value::RawValue;

/// Half of what NATS takes by default.
const BATCH_SIZE_MAX: usize = 512 * 1024;

/// A message of a journal.
pub struct Message {
    pub sequence: u64,
    pub at: Timestamp,
    /// Whether a worker wrote it.
    pub result: bool,
    pub payload: bytes::Bytes,
}

/// Writes a journal and folds it as it goes, for what comes next depends on that.
pub struct Writer {
    pub partition: Partition,
    pub plan: Arc<Plan>,
    pub journal: Vec<Message>,
    /// Tasks that are published.
    pub queue: VecDeque<TaskRef>,
    ended: Vec<(ExecutionId, Position)>,
    now: Timestamp,
    input: String,
    pub entries: u64,
}

pub fn pool() -> Capability {
    "pool".parse().expect("a name")
}

/// A workflow from its steps.
pub fn plan(steps: &str) -> Arc<Plan> {
    let plan = validate::definition(&format!("id: speed\nmax_parallel: 100\nsteps:\n{steps}"));
    Arc::new(plan.unwrap_or_else(|problems| panic!("{}", problems[0])))
}

/// Ten steps, each of which waits for the one before.
pub fn chain() -> Arc<Plan> {
    let step = |n: u32| match n {
        0 => "- {id: s0, agent_id: erp}\n".to_owned(),
        n => format!("- {{id: s{n}, agent_id: erp, depends_on: [s{}]}}\n", n - 1),
    };
    plan(&(0..10).map(step).collect::<String>())
}

/// A step for each element of the input.
pub fn fan_out() -> Arc<Plan> {
    plan("- {id: each, agent_id: erp, fan_out: {items: $.input}, input_map: {row: $.item}}\n")
}

/// Ten steps, each of which runs for each element of the input, one step after the other.
pub fn broad_chain() -> Arc<Plan> {
    let step = |n: u32| {
        let depends = if n == 0 { String::new() } else { format!("depends_on: [s{}], ", n - 1) };
        format!("- {{id: s{n}, agent_id: erp, {depends}fan_out: {{items: $.input}}}}\n")
    };
    plan(&(0..10).map(step).collect::<String>())
}

/// The list of the numbers below `count`.
pub fn list(count: usize) -> String {
    format!("[{}]", (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(","))
}

impl Writer {
    pub fn new(plan: Arc<Plan>, input: String) -> Self {
        let mut partition = Partition::default();
        partition.install(plan.clone());
        let mut writer = Self {
            partition,
            plan,
            journal: Vec::new(),
            queue: VecDeque::new(),
            ended: Vec::new(),
            now: Timestamp::from_millis(1_790_000_000_000),
            input,
            entries: 0,
        };
        let node = "coordinator-a".parse().expect("a name");
        writer.write(false, vec![Entry::Epoch(Epoch { node, epoch: 1, fold_rev: FOLD_REV })]);
        writer
    }

    /// Submits executions of these numbers.
    pub fn submit(&mut self, numbers: std::ops::Range<u32>) {
        let entries = numbers.map(|number| Entry::Submitted(Box::new(self.submission(number)))).collect();
        self.write(false, entries);
    }

    /// The workers do what is queued at the moment, at most `limit`.
    pub fn work(&mut self, limit: usize) {
        let tasks: Vec<TaskRef> = self.queue.drain(..self.queue.len().min(limit)).collect();
        let results = tasks.iter().map(|task| self.result(task)).collect();
        self.write(true, results);
    }

    /// The history has what has ended.
    pub fn archive(&mut self) {
        let executions = std::mem::take(&mut self.ended);
        if !executions.is_empty() {
            self.write(false, vec![Entry::Archived(Archived { executions })]);
        }
    }

    pub fn write(&mut self, result: bool, entries: Vec<Entry>) {
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let mut builder = BatchBuilder::new(&Namespace::default(), BATCH_SIZE_MAX);
            let mut folded = Vec::new();
            while folded.len() < BATCH_ENTRIES_MAX
                && let Some(entry) = entries.peek()
                && builder.push(&encode_entry(entry))
            {
                folded.extend(entries.next());
            }
            self.now = self.now.plus_millis(1);
            let sequence = self.journal.len() as u64 + 1;
            self.entries += folded.len() as u64;
            for (index, entry) in (0..).zip(folded) {
                self.fold(Position { sequence, index }, result, entry);
            }
            self.journal.push(Message { sequence, at: self.now, result, payload: builder.finish() });
        }
    }

    fn fold(&mut self, position: Position, result: bool, entry: Entry) {
        let pool = pool();
        let origin = if result { Origin::Result(&pool) } else { Origin::Control };
        let Applied { effects, .. } = self.partition.apply(position, self.now, origin, entry).expect("it goes on");
        for effect in effects {
            match effect {
                Effect::Publish(task) => self.queue.push_back(task),
                Effect::End(execution) => self.ended.push((execution, position)),
                Effect::Evaluate(_) | Effect::Cancel { .. } => {}
            }
        }
    }

    fn result(&self, task: &TaskRef) -> Entry {
        let key = self.partition.execution(task.execution).expect("it runs").task_key(task);
        let token = secret().token(&key.step, key.item, key.activation, key.attempt);
        let worker = "worker-1".parse().expect("a name");
        let run = Run { ordinal: 1, token, worker, started_at: self.now, ended_at: self.now, span: None };
        let output = json(r#"{"status":"booked","reference":"INV-2026-000123","amount":1299}"#);
        Entry::TaskSucceeded(TaskSucceeded { task: key, run, output, metrics: None })
    }

    fn submission(&self, number: u32) -> Submitted {
        let steps = self.plan.all().count();
        Submitted {
            execution: id(number),
            ns: Namespace::default(),
            workflow: self.plan.definition.id.clone(),
            definition: self.plan.hash,
            input: json(&self.input),
            context: None,
            labels: [("team".to_owned(), "billing".to_owned())].into(),
            idempotency: None,
            secret: secret(),
            agents: vec![ResolvedAgent {
                agent: "erp".parse().expect("a name"),
                capability: pool(),
                manifest: ContentHash::of(b"manifest"),
            }],
            routes: vec![Some(0); steps],
            fallbacks: Vec::new(),
            compensations: Vec::new(),
            defaults: Defaults::default(),
            expr_rev: EXPR_REV,
            trace: None,
            fork: None,
        }
    }
}

/// The entries of a message, as an owner reads them.
pub fn decode(message: &Message) -> impl Iterator<Item = (Position, Written)> {
    let entries = millstream_model::batch::Batch::decode_written(&message.payload).expect("a batch");
    let sequence = message.sequence;
    (0..).zip(entries).map(move |(index, entry)| (Position { sequence, index }, entry.expect("an entry")))
}

pub fn id(number: u32) -> ExecutionId {
    format!("0193a5a0-0000-7000-8000-{number:010x}03").parse().expect("an id")
}

fn secret() -> Secret {
    Secret::new([7; 16])
}

fn json(text: &str) -> Payload {
    Payload::inline(RawValue::from_string(text.to_owned()).expect("JSON"))
}
