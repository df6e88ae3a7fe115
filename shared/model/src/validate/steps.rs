//! What each step does: an agent's work, once or for each item, or the joining of other outputs.

use super::Report;
use super::fields::is_meant_to_work;
use super::graph::Graph;
use crate::source::Node;

/// Fields that mean nothing without an agent.
const FOR_AGENTS: [&str; 6] = ["agent_id", "capability", "fan_out", "input_map", "retry", "timeout_ms"];

pub(super) fn check(i: usize, step: &Node, graph: &Graph<'_>, report: &mut Report) {
    let Some(fan_in) = step.get("fan_in") else {
        if step.get("agent_id").is_none()
            && step.get("capability").is_none()
            && !step.members().is_empty()
            && !is_meant_to_work(step)
        {
            let help = "add `agent_id` (who does it), `capability` (any agent that can) or `fan_in` (join outputs)";
            report.add(format!("steps[{i}]"), step.place, "the step does nothing", help);
        }
        return;
    };
    for name in FOR_AGENTS {
        if let Some(member) = step.member(name) {
            let message = format!("a step with `fan_in` has no agent, so `{name}` means nothing");
            let help = "remove it, or do the agent's work in another step";
            report.add(format!("steps[{i}].{name}"), member.place, message, help);
        }
    }
    let sources = fan_in.get("from").map(Node::elements).unwrap_or_default();
    if let Some(from) = fan_in.get("from")
        && matches!(&from.content, crate::source::Content::List(elements) if elements.is_empty())
    {
        report.add(format!("steps[{i}].fan_in.from"), from.place, "nothing is joined", "name the steps to join");
    }
    for (n, source) in sources.iter().enumerate() {
        let Some(id) = source.as_str() else { continue };
        let path = format!("steps[{i}].fan_in.from[{n}]");
        match graph.find(id) {
            None => report.add(path, source.place, format!("there is no step `{id}`"), graph.suggest(id)),
            Some(other) if other == i => {
                report.add(path, source.place, format!("step `{id}` joins its own output"), "remove it");
            }
            Some(other) if !graph.is_upstream(other, i) => {
                let message = format!("step `{id}` may not have ended when its output is joined");
                report.add(path, source.place, message, format!("add `{id}` to `depends_on`"));
            }
            Some(_) => {}
        }
    }
}
