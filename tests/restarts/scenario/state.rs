//! Everything that can be seen of a partition, as lines of JSON.

use millstream_engine::{Execution, Partition, TaskRef, render};
use millstream_model::view::Held;
use serde_json::{Value, json};

/// The state: for each execution its view, its events, its alarms, what it waits for and what is owed to it; last the
/// partition itself.
pub fn state(partition: &Partition) -> Vec<Value> {
    let mut lines: Vec<Value> = partition.executions().flat_map(execution).collect();
    for (task, worker) in partition.held() {
        let execution = partition.execution(task.execution).expect("it is held for an execution");
        lines.push(json!({ "held": task_text(execution, &task), "by": worker }));
    }
    lines.push(json!({
        "epoch": partition.epoch().map(|(epoch, position)| json!([epoch, position.to_string()])),
        "next_deadline": partition.next_deadline(),
    }));
    lines
}

fn execution(execution: &Execution) -> Vec<Value> {
    let mut lines = vec![json!({ "view": view(execution) })];
    lines.push(json!({ "rendered": render::execution(execution) }));
    lines.extend(execution.events(None).iter().map(|event| json!({ "event": event })));
    for (at, alarm) in execution.alarms() {
        lines.push(json!({ "alarm": render::alarm(execution, alarm), "at": at }));
    }
    for (task, since) in execution.outstanding() {
        lines.push(json!({ "outstanding": task_text(execution, &task), "since": since }));
    }
    lines.extend(execution.owed().iter().map(|effect| json!({ "owed": render::effect(execution, effect) })));
    lines
}

fn view(execution: &Execution) -> Value {
    let shown = execution.view().try_map(|held| match held {
        Held::One(payload) => serde_json::to_value(payload),
        Held::List(parts) => serde_json::to_value(&*parts),
    });
    serde_json::to_value(shown.expect("payloads have a JSON form")).expect("a view has a JSON form")
}

fn task_text(execution: &Execution, task: &TaskRef) -> Value {
    serde_json::to_value(execution.task_key(task)).expect("a task key has a JSON form")
}
