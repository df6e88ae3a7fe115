//! A transcript to test with.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_model::entry::{Entry, ResolvedAgent, Run, Submitted, TaskSucceeded};
use millstream_model::hash::{self, ContentHash};
use millstream_model::ids::{Capability, ExecutionId, StepId};
use millstream_model::payload::{Payload, PayloadRef};
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::task::TaskKey;
use millstream_model::time::Timestamp;
use millstream_model::token::Secret;
use millstream_model::transcript::{Revisions, Transcribed, Transcript};
use millstream_model::{batch, validate};
use serde_json::{Value, json};

use crate::export_file::compile;

pub(super) const DEFINITION: &str = "
id: greet
steps:
  - {id: first, agent_id: a}
  - {id: second, agent_id: a, depends_on: [first], condition: '$.steps.first.output.n > 1'}
";
pub(super) const SECRET: Secret = Secret::new([7; 16]);

pub(super) fn stored(definition: &str) -> String {
    let plan = validate::definition(definition).expect("a good definition");
    hash::canonical_json(&serde_json::to_value(&*plan.definition).expect("JSON"))
}

fn id() -> ExecutionId {
    "0193a5a0-0000-7000-8000-000000000003".parse().expect("an id")
}

fn http() -> Capability {
    "http".parse().expect("a name")
}

fn submitted(definition: &str) -> Entry {
    Entry::Submitted(Box::new(Submitted {
        execution: id(),
        ns: Default::default(),
        workflow: "greet".parse().expect("a name"),
        definition: ContentHash::of(stored(definition).as_bytes()),
        input: Payload::stored(PayloadRef::to("[\"a\\nsecret\",\n1]")),
        context: Some(Payload::from_value(&json!({"who": "Ada"}))),
        labels: BTreeMap::new(),
        idempotency: None,
        secret: SECRET,
        agents: vec![ResolvedAgent {
            agent: "a".parse().expect("a name"),
            capability: http(),
            manifest: ContentHash::of(b"a"),
        }],
        routes: vec![Some(0), Some(0)],
        fallbacks: Vec::new(),
        compensations: Vec::new(),
        defaults: Default::default(),
        expr_rev: 1,
        trace: None,
        fork: None,
    }))
}

fn succeeded(step: &str, output: &Value) -> Entry {
    let step: StepId = step.parse().expect("a name");
    let run = Run {
        ordinal: 1,
        token: SECRET.token(&step, None, 0, 1),
        worker: "w".parse().expect("a name"),
        started_at: Timestamp::default(),
        ended_at: Timestamp::default(),
        span: None,
    };
    let task = TaskKey { execution: id(), step, item: None, activation: 0, attempt: 1 };
    Entry::TaskSucceeded(TaskSucceeded { task, run, output: Payload::from_value(output), metrics: None })
}

/// An execution of a definition with two steps, one after the other, and a result that was sent twice.
pub(super) fn transcribed(definition: &str) -> Transcribed {
    let first = succeeded("first", &json!({"n": 2, "name": "Ada"}));
    let second = succeeded("second", &json!("done"));
    let http = http();
    let entries = [
        ((4, 0), 1, None, submitted(definition)),
        ((5, 0), 2, Some(&http), first.clone()),
        ((5, 1), 2, Some(&http), first),
        ((7, 0), 3, Some(&http), second),
    ];
    let mut transcript = Transcript::new(Revisions { fold: 1, expressions: 1 });
    for ((sequence, index), seconds, by, entry) in entries {
        let text = batch::encode_entry(&entry);
        transcript.push(Position { sequence, index }, Timestamp::from_millis(seconds * 1_000), by, &text);
    }
    Transcribed::read(&transcript.finish()).expect("a transcript")
}

pub(super) fn plan_of(definition: &str) -> Arc<Plan> {
    let text = stored(definition);
    compile(ContentHash::of(text.as_bytes()), &text).expect("a plan")
}
