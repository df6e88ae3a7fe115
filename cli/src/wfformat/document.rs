//! The workflow as YAML that people can read and change.

use std::fmt::Write as _;

use millstream_model::limits::{DURATION_MS_MAX, STEP_TIMEOUT_MS, WORKFLOW_TIMEOUT_MS};
use serde_json::{Value, json};

use super::{ImportOptions, Work};

pub(super) fn write(id: &str, name: &str, options: &ImportOptions, work: &[Work<'_>]) -> String {
    let mut text = String::new();
    let total: f64 = work.iter().map(|work| work.seconds).sum();
    let edges: usize = work.iter().map(|work| work.depends_on.len()).sum();
    let heading = format!(
        "# Imported from WfFormat: {} tasks, {edges} dependencies; run times times {}, {total:.1} s of sleep in all.\n\
         id: {}\nname: {}\nmax_parallel: {}\ntimeout_ms: {}\nsteps:\n",
        work.len(),
        options.time_scale,
        scalar(id),
        flow(&json!(name)),
        work.len(),
        generous(total, WORKFLOW_TIMEOUT_MS),
    );
    text.push_str(&heading);
    for work in work {
        step(&mut text, work).expect("a string takes any text");
    }
    text
}

fn step(text: &mut String, work: &Work<'_>) -> std::fmt::Result {
    writeln!(text, "  - id: {}\n    agent_id: builtin-sleep", scalar(&work.step))?;
    if !work.depends_on.is_empty() {
        let depends_on: Vec<String> = work.depends_on.iter().map(|step| scalar(step)).collect();
        writeln!(text, "    depends_on: [{}]", depends_on.join(", "))?;
    }
    let timeout = generous(work.seconds, STEP_TIMEOUT_MS);
    if timeout > STEP_TIMEOUT_MS {
        writeln!(text, "    timeout_ms: {timeout}")?;
    }
    // Microseconds are more than any timer keeps, and read better than what a product of two floats leaves.
    let seconds = (work.seconds * 1e6).round() / 1e6;
    let (task, name) = (flow(&json!(work.task)), flow(&json!(work.name)));
    let (inputs, outputs) = (flow(&json!(work.inputs)), flow(&json!(work.outputs)));
    writeln!(
        text,
        "    input_map: {{literal: {{seconds: {seconds:?}, task: {task}, name: {name}, inputs: {inputs}, outputs: {outputs}}}}}"
    )
}

/// A name as a plain scalar, quoted where YAML would read something else.
fn scalar(name: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"];
    if WORDS.iter().any(|word| name.eq_ignore_ascii_case(word)) { format!("\"{name}\"") } else { name.to_owned() }
}

/// JSON as YAML takes it: the characters that only YAML minds are escaped.
fn flow(value: &Value) -> String {
    let mut text = String::new();
    for c in value.to_string().chars() {
        match c {
            '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text
}

/// Twice the time and half the default more, at least the default: a busy machine must not fail a recorded workflow.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturates")]
fn generous(seconds: f64, default_ms: u64) -> u64 {
    let millis = (seconds * 2_000.0).ceil() as u64;
    millis.saturating_add(default_ms / 2).clamp(default_ms, DURATION_MS_MAX)
}
