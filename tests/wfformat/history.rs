//! Reads the history of an execution against the graph of the recorded workflow it was made of. Knows nothing of
//! the importer and nothing of the engine.

use std::collections::{BTreeMap, BTreeSet};

use millstream_tests::api::{place, text};
use serde_json::Value;

/// What the events tell about one task.
#[derive(Default)]
struct Told {
    scheduled: Vec<Vec<u64>>,
    /// Starts by the worker's clock, of every attempt.
    started: Vec<String>,
    completed: Vec<Vec<u64>>,
    /// The end of the attempt that counted, by the worker's clock.
    ended_at: String,
}

/// Everything in which the history contradicts the recorded graph: each recorded task completes exactly once, and
/// none is scheduled or started before all its parents have ended.
pub(crate) fn violations(document: &Value, execution: &Value, events: &[Value]) -> Vec<String> {
    let (tasks, edges) = graph(document);
    let steps = execution["steps"].as_array().expect("an execution has steps");
    // The sleeping agent answers its input, which names the task as it was recorded.
    let task_of: BTreeMap<String, String> =
        steps.iter().map(|step| (text(step, "/id"), text(step, "/output/task"))).collect();
    let mut told: BTreeMap<&str, Told> = BTreeMap::new();
    for step in steps {
        told.entry(&task_of[step["id"].as_str().expect("an id")]).or_default().ended_at = text(step, "/ended_at");
    }
    for event in events {
        let Some(step) = event["step_id"].as_str() else { continue };
        let task = told.get_mut(task_of[step].as_str()).expect("every step has its task");
        match event["type"].as_str().expect("a type") {
            "step.scheduled" => task.scheduled.push(place(event)),
            "step.started" => task.started.push(text(event, "/time")),
            "step.completed" => task.completed.push(place(event)),
            _ => {}
        }
    }

    let mut violations = Vec::new();
    let known: BTreeSet<String> = told.keys().map(|task| (*task).to_owned()).collect();
    violations.extend(tasks.symmetric_difference(&known).map(|task| format!("{task} is a step or a task, not both")));
    if steps.len() != tasks.len() {
        violations.push(format!("{} steps for {} tasks", steps.len(), tasks.len()));
    }
    for (task, told) in &told {
        if told.completed.len() != 1 {
            violations.push(format!("{task} completed {} times", told.completed.len()));
        }
        if told.scheduled.is_empty() || told.started.is_empty() {
            violations.push(format!("{task} was never started"));
        }
    }
    for (parent, child) in &edges {
        let (Some(before), Some(after)) = (told.get(parent.as_str()), told.get(child.as_str())) else { continue };
        let ended = before.completed.last();
        if after.scheduled.iter().any(|scheduled| Some(scheduled) <= ended) {
            violations.push(format!("{child} was scheduled before {parent} completed"));
        }
        if after.started.iter().any(|started| *started < before.ended_at) {
            violations.push(format!("{child} started before {parent} ended"));
        }
    }
    if events.last().is_none_or(|event| event["type"] != "workflow.completed") {
        violations.push("the last event is not the end".to_owned());
    }
    violations
}

/// All task ids, and the edges of the recorded graph as (parent, child), whichever of the two tells of them.
fn graph(document: &Value) -> (BTreeSet<String>, BTreeSet<(String, String)>) {
    let tasks = document["workflow"]["specification"]["tasks"].as_array().expect("an instance has tasks");
    let names =
        |value: &Value| -> Vec<String> { value.as_array().into_iter().flatten().map(|name| text(name, "")).collect() };
    let mut edges = BTreeSet::new();
    for task in tasks {
        let id = text(task, "/id");
        edges.extend(names(&task["parents"]).into_iter().map(|parent| (parent, id.clone())));
        edges.extend(names(&task["children"]).into_iter().map(|child| (id.clone(), child)));
    }
    (tasks.iter().map(|task| text(task, "/id")).collect(), edges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Two tasks, one after the other.
    fn history() -> (Value, Value, Vec<Value>) {
        let document = json!({"workflow": {"specification": {"tasks": [
            {"id": "p.1", "parents": [], "children": ["c.2"]},
            {"id": "c.2", "parents": [], "children": []}
        ]}}});
        let execution = json!({"steps": [
            {"id": "p", "output": {"task": "p.1"}, "ended_at": "2026-11-20T10:00:01.000000Z"},
            {"id": "c", "output": {"task": "c.2"}, "ended_at": "2026-11-20T10:00:03.000000Z"}
        ]});
        let event = |id: &str, kind: &str, step: Value, time: &str| json!({"id": id, "type": kind, "step_id": step, "time": format!("2026-11-20T10:00:0{time}00000Z")});
        let events = vec![
            event("1.0.0", "step.scheduled", json!("p"), "0.0"),
            event("2.0.0", "step.started", json!("p"), "0.1"),
            event("2.0.1", "step.completed", json!("p"), "1.0"),
            event("2.0.2", "step.scheduled", json!("c"), "1.0"),
            event("3.0.0", "step.started", json!("c"), "1.1"),
            event("3.0.1", "step.completed", json!("c"), "3.0"),
            event("3.0.2", "workflow.completed", json!(null), "3.0"),
        ];
        (document, execution, events)
    }

    fn check(change: impl FnOnce(&mut Value, &mut Vec<Value>), expected: &str) {
        let (mut document, execution, mut events) = history();
        change(&mut document, &mut events);
        assert_eq!(violations(&document, &execution, &events).join("\n"), expected);
    }

    #[test]
    fn a_history_that_keeps_every_edge_has_no_violations() {
        check(|_, _| {}, "");
    }

    #[test]
    fn a_task_that_completes_twice_or_never_is_found() {
        check(
            |_, events| events.insert(6, json!({"id": "3.0.2", "type": "step.completed", "step_id": "c"})),
            "c.2 completed 2 times",
        );
        check(|_, events| drop(events.remove(5)), "c.2 completed 0 times");
    }

    #[test]
    fn a_task_that_overtakes_its_parent_is_found() {
        check(|_, events| events[3]["id"] = json!("1.0.1"), "c.2 was scheduled before p.1 completed");
        check(|_, events| events[4]["time"] = json!("2026-11-20T10:00:00.900000Z"), "c.2 started before p.1 ended");
    }

    #[test]
    fn a_task_that_is_missing_is_found() {
        let more = json!({"id": "lost", "parents": [], "children": []});
        check(
            |document, _| document["workflow"]["specification"]["tasks"].as_array_mut().expect("tasks").push(more),
            "lost is a step or a task, not both\n2 steps for 3 tasks",
        );
    }
}
