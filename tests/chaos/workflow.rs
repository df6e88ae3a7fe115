//! The workflow of the chaos: a chain of calls with a diamond and a small fan-out, whose output proves the way of the
//! data through it.
//!
//! ```text
//!  s1 ─ s2 ─┬─ s3 ─┬─ s5 ─ s6 ×3 ─ s7 ─ … ─ sN
//!           └─ s4 ─┘
//! ```

use std::fmt::Write as _;

use serde_json::{Value, json};

/// Its id.
pub const WORKFLOW: &str = "chaos";
/// The step that fans out over the input's `items`.
pub const FAN: usize = 6;
/// How often the side effect of one step may run.
pub const ATTEMPTS_MAX: usize = 6;
/// Items of the fan-out.
const ITEMS: usize = 3;
/// What every step adds to the number that it is given.
const ADDED: u64 = 1;
/// What an item of the fan-out adds.
const ADDED_BY_ITEM: u64 = 1_000;

/// The definition with so many steps, at least 8.
pub fn definition(steps: usize) -> String {
    let mut text = format!(
        "id: {WORKFLOW}\nmax_parallel: 10\ndefault_step_timeout_ms: 8000\noutput_map: {{n: $.steps.s{steps}.output.n, \
         items: $.steps.s{FAN}.output}}\nsteps:\n"
    );
    for step in 1..=steps {
        let depends_on = dependencies(step).iter().map(|step| format!("s{step}")).collect::<Vec<_>>().join(", ");
        let what = if step == FAN {
            "fan_out: {items: $.input.items, concurrency: 2}".to_owned()
        } else {
            let ballast = if step == 2 { ", ballast: $.input.ballast" } else { "" };
            format!("input_map: {{n: {}{ballast}}}", source(step))
        };
        writeln!(
            text,
            "  - {{id: s{step}, agent_id: witness, depends_on: [{depends_on}], {what}, \
             retry: {{max_attempts: {ATTEMPTS_MAX}, backoff_ms: 200, backoff_multiplier: 1.5}}}}"
        )
        .expect("a string grows");
    }
    text
}

/// The steps that one waits for.
pub fn dependencies(step: usize) -> Vec<usize> {
    match step {
        1 => Vec::new(),
        4 => vec![2],
        5 => vec![3, 4],
        _ => vec![step - 1],
    }
}

/// The step whose number a step is given; `None` for the input's.
fn taken_from(step: usize) -> Option<usize> {
    match step {
        1 => None,
        4 => Some(2),
        7 => Some(5),
        _ => Some(step - 1),
    }
}

fn source(step: usize) -> String {
    taken_from(step).map_or_else(|| "$.input.n".to_owned(), |from| format!("$.steps.s{from}.output.n"))
}

/// The input of the execution with this number; `ballast` makes it too large to travel in messages.
pub fn input(number: usize, ballast: bool) -> Value {
    let items: Vec<usize> = (0..ITEMS).map(|item| number + item).collect();
    let mut input = json!({"n": number, "items": items});
    if ballast {
        input["ballast"] = json!("x".repeat(200 * 1_024));
    }
    input
}

/// What the witness answers to the body of a call.
pub fn answer(body: &Value) -> Value {
    match body.as_u64() {
        Some(item) => json!(item + ADDED_BY_ITEM),
        None => json!({"n": body["n"].as_u64().map(|n| n + ADDED)}),
    }
}

/// The output of the execution with this number.
pub fn output(number: usize, steps: usize) -> Value {
    let mut length = 1;
    let mut step = steps;
    while let Some(from) = taken_from(step) {
        length += ADDED;
        step = from;
    }
    let items: Vec<u64> = (0..ITEMS).map(|item| (number + item) as u64 + ADDED_BY_ITEM).collect();
    json!({"n": number as u64 + length, "items": items})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_tells_how_many_steps_its_number_went_through() {
        assert_eq!(output(5, 10), json!({"n": 5 + 8, "items": [1005, 1006, 1007]}));
        assert_eq!(answer(&json!({"n": 3, "ballast": "x"})), json!({"n": 4}));
    }
}
