//! Scripted agents: what a run comes to depends on the seed and on which run it is, not on when or where it runs.

use std::sync::Arc;

use millstream_model::error::{ErrorCode, StepError};
use millstream_model::task::Task;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::Workload;
use super::script::{Fate, Script, Shape};
use crate::simulation::dice::Dice;

/// What agents say when they fail.
pub const AS_WRITTEN: &str = "as it is written";

/// What one run does.
#[derive(Debug)]
pub struct Act {
    /// How long it takes; `None` is for ever.
    pub duration_ms: Option<u64>,
    /// The output and whether it goes to the payload store, or an error.
    pub answer: Result<(Arc<RawValue>, bool), StepError>,
    /// It gives signs of life.
    pub beats: bool,
}

/// What the agent of a task does in its run of this ordinal.
pub fn act(workload: &Workload, task: &Task, ordinal: u32) -> Act {
    let key = &task.key;
    let purpose = format!("{}/{}/{:?}/{}/{ordinal}", key.execution, key.step, key.item, key.activation);
    let mut dice = Dice::of(workload.seed, &purpose);
    let (role, round) = (key.activation % 4, key.activation / 4);
    let scripts = workload.workflow(&task.workflow).and_then(|workflow| workflow.scripts.get(&key.step));
    let Some(scripts) = scripts else {
        let error = StepError::new(ErrorCode::AgentNotFound, "nobody has heard of this step");
        return Act { duration_ms: Some(1), answer: Err(error), beats: true };
    };
    let script = match role {
        1 => scripts.fallback,
        2 => scripts.compensation,
        _ => scripts.step,
    };
    let succeeds = || Ok((output(&script, task), script.stored || script.shape == Shape::Huge));
    let fails = |code, retryable| Err(StepError { retryable, ..StepError::new(code, AS_WRITTEN) });
    let (answer, hangs) = match script.fate {
        Fate::Succeeds => (succeeds(), false),
        Fate::FailsFirst { times, code, retryable } if ordinal <= times => (fails(code, retryable), false),
        Fate::Fails { code, retryable } => (fails(code, retryable), false),
        Fate::FailsAtFirst { code } if round == 0 => (fails(code, None), false),
        Fate::Hangs { times } if ordinal <= times => (succeeds(), true),
        Fate::FailsSometimes { one_of, code } if dice.below(u64::from(one_of)) == 0 => (fails(code, None), false),
        Fate::FailsFirst { .. } | Fate::FailsAtFirst { .. } | Fate::Hangs { .. } | Fate::FailsSometimes { .. } => {
            (succeeds(), false)
        }
    };
    let duration_ms = (!hangs).then(|| dice.between(script.fastest_ms, script.slowest_ms));
    Act { duration_ms, answer, beats: script.beats }
}

fn output(script: &Script, task: &Task) -> Arc<RawValue> {
    let value = match script.shape {
        Shape::Number => json!(7),
        Shape::Object => json!({ "k": 1, "by": task.key.step.as_str(), "item": task.key.item }),
        Shape::List(length) => json!((0..length).collect::<Vec<u8>>()),
        Shape::Null => json!(null),
        Shape::Huge => json!({ "k": 1, "text": "x".repeat(140_000) }),
    };
    Arc::from(to_raw_value(&value).expect("a JSON value always has a text"))
}
