//! One line of text for every entry, effect and outcome: what tests, the simulator and replay print.

use millstream_model::entry::{Entry, Evaluation, Timer};
use millstream_model::payload::Payload;
use millstream_model::task::TaskKey;
use millstream_model::view::{ExecutionPhase, Held};

use crate::activation::{self, Role};
use crate::effect::{Effect, Evaluate, TaskRef};
use crate::execution::Execution;
use crate::outcome::Outcome;
use crate::timer::Alarm;

/// An entry.
pub fn entry(entry: &Entry) -> String {
    match entry {
        Entry::Epoch(e) => format!("epoch {} of {}, fold revision {}", e.epoch, e.node, e.fold_rev),
        Entry::Scanned(e) => format!("scanned by {} in epoch {}", e.node, e.epoch),
        Entry::Submitted(e) => format!("submitted {} as {}", e.workflow, e.execution),
        Entry::CancelRequested(e) => {
            let what = if e.compensate { "cancel and compensation requested" } else { "cancel requested" };
            match &e.reason {
                Some(reason) => format!("{what}: {reason}"),
                None => what.to_owned(),
            }
        }
        Entry::Resumed(e) => match &e.reason {
            Some(reason) => format!("resumed: {reason}"),
            None => "resumed".to_owned(),
        },
        Entry::TimerFired(e) => format!("timer fired: {}", timer(&e.timer)),
        Entry::Reissued(e) => format!("reissued {}", key(&e.task)),
        Entry::Evaluated(e) => {
            let what = e.step.as_ref().map_or("output", |step| step.as_str());
            match &e.outcome {
                Evaluation::Condition(holds) => format!("evaluated {what}: condition {holds}"),
                Evaluation::Items(count) => format!("evaluated {what}: {count} items"),
                Evaluation::Value(value) => format!("evaluated {what}: {} bytes", value.size()),
                Evaluation::Failed(error) => format!("evaluated {what}: {} {}", error.code, error.message),
            }
        }
        Entry::Unrenderable(e) => format!("unrenderable {}: {}", key(&e.task), e.reason),
        Entry::Unpublishable(e) => format!("unpublishable {}: {} {}", key(&e.task), e.error.code, e.error.message),
        Entry::TaskStarted(e) => format!("started {} ordinal {}", key(&e.task), e.ordinal),
        Entry::ClaimAbandoned(e) => format!("claim abandoned {} ordinal {}", key(&e.task), e.ordinal),
        Entry::TaskSucceeded(e) => format!("succeeded {} ordinal {}", key(&e.task), e.run.ordinal),
        Entry::TaskFailed(e) => {
            format!("failed {} ordinal {}: {} {}", key(&e.task), e.run.ordinal, e.error.code, e.error.message)
        }
        Entry::ClaimHeld(e) => format!("claim held {} ordinal {} by {}", key(&e.task), e.ordinal, e.claimant),
        Entry::Expired(e) => format!("expired {} ordinal {}", key(&e.task), e.ordinal),
        Entry::Archived(e) => format!("archived {} executions", e.executions.len()),
    }
}

/// What became of an entry; empty when it was accepted.
pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted => String::new(),
        Outcome::Repeated(execution) => format!("repeats {execution}"),
        Outcome::Conflict(execution) => format!("conflicts with {execution}"),
        Outcome::Ignored(reason) => format!("ignored: {}", reason.as_str()),
    }
}

/// An effect on `execution`.
pub fn effect(execution: &Execution, effect: &Effect) -> String {
    match effect {
        Effect::Publish(task) => format!("publish {}", task_ref(execution, task)),
        Effect::Evaluate(Evaluate::Condition(_, step)) => {
            format!("evaluate the condition of {}", execution.plan().step(*step).id)
        }
        Effect::Evaluate(Evaluate::Items(_, step)) => {
            format!("evaluate the items of {}", execution.plan().step(*step).id)
        }
        Effect::Evaluate(Evaluate::Aggregate(_, step)) => {
            format!("evaluate the aggregate of {}", execution.plan().step(*step).id)
        }
        Effect::Evaluate(Evaluate::Output(_)) => "evaluate the output".to_owned(),
        Effect::Cancel { below, .. } => format!("cancel activations below {below}"),
        Effect::End(_) => format!("end {}", execution.status().as_str()),
    }
}

/// A deadline of `execution`.
pub fn alarm(execution: &Execution, alarm: Alarm) -> String {
    timer(&alarm.to_timer(execution.plan()))
}

/// The state of an execution: one line for it and one for each step.
pub fn execution(execution: &Execution) -> String {
    let view = execution.view();
    let mut text = view.status.as_str().to_owned();
    if !matches!(view.phase, ExecutionPhase::Running | ExecutionPhase::Ended) {
        text.push(' ');
        text.push_str(view.phase.as_str());
    }
    if view.partial {
        text.push_str(" partial");
    }
    if let Some(output) = &view.output {
        text.push(' ');
        text.push_str(&held(output));
    }
    if let Some(error) = &view.error {
        text.push_str(&format!(" {}: {}", error.error.code, error.error.message));
    }
    for step in &view.steps {
        text.push_str(&format!("\n{} {}", step.id, step.status.as_str()));
        if let Some(output) = &step.output {
            text.push(' ');
            text.push_str(&held(output));
        }
        if let Some(error) = &step.error {
            text.push_str(&format!(" {}: {}", error.code, error.message));
        }
        if let Some(reason) = &step.reason {
            text.push_str(": ");
            text.push_str(reason);
        }
        if step.fallbacks > 0 {
            text.push_str(&format!(", {} fallbacks", step.fallbacks));
        }
    }
    for effect in &view.effects {
        text.push_str(&format!("\neffect {}{} {}", effect.step_id, index(effect.item), effect.state.as_str()));
        if let Some(error) = effect.compensation.as_ref().and_then(|compensation| compensation.error.as_ref()) {
            text.push_str(&format!(" {}: {}", error.code, error.message));
        }
    }
    text
}

fn held(value: &Held) -> String {
    let shown = |payload: &Payload| payload.text().unwrap_or("(stored)").to_owned();
    match value {
        Held::One(payload) => shown(payload),
        Held::List(parts) => {
            let parts: Vec<String> = parts.iter().map(|p| p.as_ref().map_or("null".to_owned(), shown)).collect();
            format!("[{}]", parts.join(","))
        }
    }
}

fn timer(timer: &Timer) -> String {
    match timer {
        Timer::Deadline => "deadline".to_owned(),
        Timer::Grace => "grace".to_owned(),
        Timer::Backoff { step, item, attempt, .. } => format!("backoff {}{} #{attempt}", step, index(*item)),
        Timer::Claim { step, item, ordinal, .. } => format!("claim {}{} #{ordinal}", step, index(*item)),
        Timer::ScheduleToStart { step, item, attempt, .. } => {
            format!("schedule to start {}{} #{attempt}", step, index(*item))
        }
        Timer::ScheduleToClose { step, item, .. } => format!("schedule to close {}{}", step, index(*item)),
    }
}

fn task_ref(execution: &Execution, task: &TaskRef) -> String {
    let step = &execution.plan().step(task.step).id;
    format!("{step}{} #{}{}", index(task.item), task.attempt, role(task.activation))
}

fn key(key: &TaskKey) -> String {
    format!("{}{} #{}{}", key.step, index(key.item), key.attempt, role(key.activation))
}

/// Anything but the first run says what it is.
fn role(activation: u32) -> String {
    let name = match activation::role(activation) {
        Some(Role::Run) => "",
        Some(Role::Fallback) => " fallback",
        Some(Role::Compensation) => " compensation",
        None => " unknown",
    };
    match activation::round(activation) {
        0 => name.to_owned(),
        round => format!("{name} round {round}"),
    }
}

fn index(item: Option<u32>) -> String {
    item.map_or_else(String::new, |item| format!("[{item}]"))
}
