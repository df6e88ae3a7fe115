//! What each step does: an agent's work, once or for each item, or the joining of other outputs.

use super::Report;
use super::fields::is_meant_to_work;
use super::graph::Graph;
use crate::source::Node;

/// Fields that mean nothing without an agent.
const FOR_AGENTS: [&str; 12] = [
    "agent_id",
    "capability",
    "compensate",
    "fallback",
    "fan_out",
    "heartbeat_ms",
    "input_map",
    "irreversible",
    "retry",
    "schedule_to_close_ms",
    "schedule_to_start_ms",
    "timeout_ms",
];

/// Fields that mean nothing in `finally`, and why.
const NOT_FINALLY: [(&str, &str); 3] = [
    ("compensate", "nothing is undone once its steps run"),
    ("critical", "its steps run after the outcome is decided and cannot change it"),
    ("irreversible", "nothing is undone once its steps run"),
];

pub(super) fn check(i: usize, step: &Node, graph: &Graph<'_>, report: &mut Report) {
    let path = graph.path(i);
    let is_finally = graph.is_finally(i);
    for (name, reason) in NOT_FINALLY.iter().filter(|_| is_finally) {
        if let Some(member) = step.member(name) {
            let message = format!("`{name}` means nothing in `finally`: {reason}");
            report.add(format!("{path}.{name}"), member.place, message, "remove it");
        }
    }
    let Some(fan_in) = step.get("fan_in") else {
        if step.get("agent_id").is_none()
            && step.get("capability").is_none()
            && !step.members().is_empty()
            && !is_meant_to_work(step)
        {
            let help = "add `agent_id` (who does it), `capability` (any agent that can) or `fan_in` (join outputs)";
            report.add(path, step.place, "the step does nothing", help);
        }
        return;
    };
    let twice = |name: &str| is_finally && NOT_FINALLY.iter().any(|(other, _)| *other == name);
    for name in FOR_AGENTS.into_iter().filter(|name| !twice(name)) {
        if let Some(member) = step.member(name) {
            let message = format!("a step with `fan_in` has no agent, so `{name}` means nothing");
            let help = "remove it, or do the agent's work in another step";
            report.add(format!("{path}.{name}"), member.place, message, help);
        }
    }
    let sources = fan_in.get("from").map(Node::elements).unwrap_or_default();
    if let Some(from) = fan_in.get("from")
        && matches!(&from.content, crate::source::Content::List(elements) if elements.is_empty())
    {
        report.add(format!("{path}.fan_in.from"), from.place, "nothing is joined", "name the steps to join");
    }
    for (n, source) in sources.iter().enumerate() {
        let Some(id) = source.as_str() else { continue };
        let path = format!("{path}.fan_in.from[{n}]");
        match graph.find(id) {
            None => report.add(path, source.place, format!("there is no step `{id}`"), graph.suggest(id)),
            Some(other) if other == i => {
                report.add(path, source.place, format!("step `{id}` joins its own output"), "remove it");
            }
            Some(other) if graph.is_finally(other) && !is_finally => {
                let message = format!("step `{id}` is in `finally`: it starts when all of `steps` have ended");
                report.add(path, source.place, message, "remove it");
            }
            Some(other) if !graph.is_upstream(other, i) => {
                let message = format!("step `{id}` may not have ended when its output is joined");
                report.add(path, source.place, message, format!("add `{id}` to `depends_on`"));
            }
            Some(_) => {}
        }
    }
}
