//! A valid definition of 1 to 60 steps that uses everything the language has.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_model::ids::Capability;
use millstream_model::validate;
use serde_json::{Map, Value, json};

use super::script::{Script, Shape};
use super::{FINALLY_PREFIX, Routing, Scripts, Workflow, agent};
use crate::simulation::dice::Dice;

/// The lists and the number that conditions and fan-outs read.
pub fn input() -> Value {
    json!({ "a": [1, 2, 3], "b": [], "c": [1, 2, 3, 4, 5, 6, 7, 8], "x": 1 })
}

/// A step that others may read.
struct Made {
    id: String,
    shape: Shape,
}

/// What a generator knows while it goes on.
struct Draft<'a> {
    dice: &'a mut Dice,
    pools: usize,
    compensates: bool,
    trouble: u32,
    scripts: BTreeMap<String, Scripts>,
    truths: BTreeMap<String, bool>,
}

/// A workflow; those of one world have different numbers.
pub fn random(number: usize, capabilities: &[Capability], dice: &mut Dice) -> Workflow {
    let on_failure = dice.pick(&["fail_fast", "continue", "compensate", "compensate"]);
    let mut draft = Draft {
        pools: capabilities.len(),
        compensates: on_failure == "compensate" || dice.chance(300),
        trouble: dice.pick(&[0, 50, 150, 300, 500]),
        scripts: BTreeMap::new(),
        truths: BTreeMap::new(),
        dice,
    };
    let steps = draft.count_of_steps();
    let main = draft.steps("step_", steps, false);
    let last = if draft.dice.chance(350) { 1 + draft.dice.index(3) } else { 0 };
    let finally = draft.steps(FINALLY_PREFIX, last, true);
    let mut definition = json!({
        "id": format!("flow_{number}"),
        "on_failure": on_failure,
        "max_parallel": 1 + draft.dice.below(5),
        "default_step_timeout_ms": draft.dice.between(500, 6_000),
        "steps": main,
    });
    if !finally.is_empty() {
        definition["finally"] = Value::Array(finally);
    }
    if draft.dice.chance(150) {
        definition["timeout_ms"] = json!(draft.dice.between(1_000, 40_000));
    }
    if draft.dice.chance(250) {
        definition["default_retry"] = draft.retry();
    }
    let text = definition.to_string();
    let plan = validate::definition(&text)
        .unwrap_or_else(|problems| panic!("the definition has problems, the first: {}\n{text}", problems[0]));
    let Draft { scripts, truths, .. } = draft;
    let id = |name: String| name.parse().expect("a name");
    Workflow {
        routing: Routing::of(&plan, capabilities),
        plan: Arc::new(plan),
        text,
        scripts: scripts.into_iter().map(|(name, scripts)| (id(name), scripts)).collect(),
        truths: truths.into_iter().map(|(name, truth)| (id(name), truth)).collect(),
    }
}

impl Draft<'_> {
    fn count_of_steps(&mut self) -> usize {
        match self.dice.below(40) {
            0 => 20 + self.dice.index(41),
            1..=5 => 8 + self.dice.index(8),
            _ => 1 + self.dice.index(6),
        }
    }

    fn steps(&mut self, prefix: &str, count: usize, is_finally: bool) -> Vec<Value> {
        let mut made: Vec<Made> = Vec::new();
        let mut steps = Vec::new();
        for number in 0..count {
            let id = format!("{prefix}{number}");
            let near = made.len().saturating_sub(6);
            let dependencies: Vec<usize> = (near..made.len()).filter(|_| self.dice.chance(400)).collect();
            let (step, shape) = self.step(&id, &made, &dependencies, is_finally);
            steps.push(step);
            made.push(Made { id, shape });
        }
        steps
    }

    fn step(&mut self, id: &str, made: &[Made], dependencies: &[usize], is_finally: bool) -> (Value, Shape) {
        let mut step = Map::new();
        step.insert("id".to_owned(), json!(id));
        let names: Vec<&str> = dependencies.iter().map(|index| made[*index].id.as_str()).collect();
        if !names.is_empty() {
            step.insert("depends_on".to_owned(), json!(names));
        }
        if !is_finally && self.dice.chance(250) {
            step.insert("critical".to_owned(), json!(false));
        }
        if self.dice.chance(150) {
            step.insert("require".to_owned(), json!("completed"));
        }
        if self.dice.chance(250) {
            self.condition(id, &names, is_finally, &mut step);
        }
        if !names.is_empty() && self.dice.chance(150) {
            let aggregate = self.dice.pick(&["list", "list", "first", "merge"]);
            step.insert("fan_in".to_owned(), json!({ "from": names, "aggregate": aggregate }));
            return (Value::Object(step), Shape::Null);
        }
        let pool = self.dice.index(self.pools);
        step.insert("agent_id".to_owned(), json!(agent(pool, false)));
        let mut shape = self.shape();
        if self.dice.chance(300) {
            let lists: Vec<&Made> = dependencies
                .iter()
                .map(|index| &made[*index])
                .filter(|made| matches!(made.shape, Shape::List(_)))
                .collect();
            let items = if !lists.is_empty() && self.dice.chance(700) {
                format!("$.steps.{}.output", lists[self.dice.index(lists.len())].id)
            } else {
                self.dice.pick(&["$.input.a", "$.input.a", "$.input.c", "$.input.b"]).to_owned()
            };
            step.insert("fan_out".to_owned(), self.fan_out(&items));
            shape = if shape == Shape::Huge { Shape::Number } else { shape };
        } else if !names.is_empty() && self.dice.chance(400) {
            let reads = self.dice.pick(&names);
            step.insert("input_map".to_owned(), json!({ "read": format!("$.steps.{reads}.output"), "n": "$.input.x" }));
        } else if is_finally && self.dice.chance(500) {
            step.insert("input_map".to_owned(), json!({ "how": "$.outcome" }));
        }
        self.policies(&mut step);
        self.clocks(&mut step);
        self.fallback(pool, &mut step);
        if !is_finally {
            self.compensation(&mut step);
        }
        let trouble = self.trouble;
        let scripts = Scripts {
            step: Script::random(self.dice, shape, trouble),
            fallback: Script::random(self.dice, shape, trouble / 2),
            compensation: Script::random(self.dice, Shape::Number, trouble / 2),
        };
        self.scripts.insert(id.to_owned(), scripts);
        let fans_out = step.contains_key("fan_out");
        (Value::Object(step), if fans_out { Shape::List(0) } else { shape })
    }

    fn shape(&mut self) -> Shape {
        match self.dice.below(300) {
            0 => Shape::Huge,
            1..=90 => Shape::List(u8::try_from(self.dice.below(5)).expect("it is small")),
            91..=180 => Shape::Object,
            181..=220 => Shape::Null,
            _ => Shape::Number,
        }
    }

    fn condition(&mut self, id: &str, names: &[&str], is_finally: bool, step: &mut Map<String, Value>) {
        let (text, truth) = match self.dice.below(if names.is_empty() { 4 } else { 6 }) {
            0 => ("$.input.x == 1".to_owned(), Some(true)),
            1 => ("$.input.x == 2".to_owned(), Some(false)),
            2 => ("size($.input.a) > 1".to_owned(), Some(true)),
            3 if is_finally => ("$.outcome.status == \"COMPLETED\"".to_owned(), None),
            3 => ("$.input.a < 2".to_owned(), None),
            4 => (format!("$.steps.{}.output != null", self.dice.pick(names)), None),
            _ => (format!("$.steps.{}.status == \"COMPLETED\"", self.dice.pick(names)), None),
        };
        step.insert("condition".to_owned(), json!(text));
        if let Some(truth) = truth {
            self.truths.insert(id.to_owned(), truth);
        }
    }

    fn fan_out(&mut self, items: &str) -> Value {
        let mut fan_out = json!({ "items": items });
        if self.dice.chance(700) {
            fan_out["concurrency"] = json!(1 + self.dice.below(4));
        }
        if self.dice.chance(600) {
            fan_out["on_item_failure"] = json!("continue");
            if self.dice.chance(500) {
                fan_out["min_success"] = self.dice.pick(&[1.0, 2.0, 0.5, 0.9]).into();
            }
        }
        fan_out
    }

    fn retry(&mut self) -> Value {
        let backoff = self.dice.pick(&[0, 10, 200, 500, 1_000]);
        let mut retry = json!({
            "max_attempts": 1 + self.dice.below(4),
            "backoff_ms": backoff,
            "max_backoff_ms": backoff + self.dice.pick(&[0, 500, 5_000]),
            "jitter": self.dice.chance(500),
        });
        if self.dice.chance(400) {
            retry["strategy"] = json!(self.dice.pick(&["exponential", "linear", "fixed"]));
        }
        if self.dice.chance(300) {
            retry["backoff_multiplier"] = json!(self.dice.pick(&[1.0, 1.5, 3.0]));
        }
        if self.dice.chance(200) {
            retry["retry_on"] = json!(["TIMEOUT", "LOST", "EXTERNAL_SERVICE_ERROR"]);
        }
        retry
    }

    fn policies(&mut self, step: &mut Map<String, Value>) {
        if self.dice.chance(700) {
            let retry = self.retry();
            step.insert("retry".to_owned(), retry);
        }
    }

    fn clocks(&mut self, step: &mut Map<String, Value>) {
        if self.dice.chance(500) {
            let timeout = self.dice.between(400, 8_000);
            step.insert("timeout_ms".to_owned(), json!(timeout));
            if self.dice.chance(200) {
                step.insert("heartbeat_ms".to_owned(), json!(self.dice.between(200, timeout)));
            }
        }
        if self.dice.chance(100) {
            let start = self.dice.between(500, 20_000);
            step.insert("schedule_to_start_ms".to_owned(), json!(start));
            if self.dice.chance(300) {
                step.insert("schedule_to_close_ms".to_owned(), json!(start + self.dice.between(0, 10_000)));
            }
        } else if self.dice.chance(100) {
            step.insert("schedule_to_close_ms".to_owned(), json!(self.dice.between(500, 20_000)));
        }
    }

    fn fallback(&mut self, pool: usize, step: &mut Map<String, Value>) {
        if !self.dice.chance(250) {
            return;
        }
        let fallback = match self.dice.below(4) {
            0 => json!({ "static_value": { "k": 0, "instead": true } }),
            1 => json!({ "skip": true }),
            _ => {
                let mut fallback = json!({ "agent_id": agent(pool, true) });
                if self.dice.chance(500) {
                    fallback["retry"] = self.retry();
                }
                if self.dice.chance(300) {
                    fallback["timeout_ms"] = json!(self.dice.between(400, 4_000));
                }
                fallback
            }
        };
        step.insert("fallback".to_owned(), fallback);
    }

    fn compensation(&mut self, step: &mut Map<String, Value>) {
        if self.dice.chance(40) {
            step.insert("irreversible".to_owned(), json!(true));
            return;
        }
        if !self.compensates || !self.dice.chance(650) {
            return;
        }
        let pool = self.dice.index(self.pools);
        let mut compensate = json!({ "agent_id": agent(pool, self.dice.chance(500)) });
        if self.dice.chance(500) {
            compensate["input_map"] = json!({ "ref": "$.self.output", "n": "$.input.x" });
        }
        if self.dice.chance(500) {
            compensate["retry"] = self.retry();
        }
        if self.dice.chance(300) {
            compensate["timeout_ms"] = json!(self.dice.between(400, 4_000));
        }
        step.insert("compensate".to_owned(), compensate);
    }
}
