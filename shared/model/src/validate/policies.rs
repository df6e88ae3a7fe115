//! Policies of an agent's work: values that are fine each and make no sense together.

use super::{Origin, Report};
use crate::source::{Content, Node};

/// Checks `default_retry`.
pub(super) fn of_workflow(tree: &Node, origin: Origin, report: &mut Report) {
    if let Some(retry) = tree.get("default_retry") {
        backoff(retry, "default_retry", None, origin, report);
    }
}

/// Checks what a step says about its attempts, its clocks, and what happens when they are used up.
pub(super) fn of_step(path: &str, step: &Node, tree: &Node, origin: Origin, report: &mut Report) {
    if step.get("fan_in").is_some() {
        return;
    }
    let default = tree.get("default_retry");
    if let Some(retry) = step.get("retry") {
        backoff(retry, &format!("{path}.retry"), default, origin, report);
    }
    clocks(path, step, tree, report);
    if let Some(fan_out) = step.get("fan_out") {
        share(&format!("{path}.fan_out"), fan_out, step, origin, report);
    }
    if let Some(node) = step.get("fallback") {
        let path = format!("{path}.fallback");
        fallback(&path, node, step, report);
        if let Some(retry) = node.get("retry") {
            backoff(retry, &format!("{path}.retry"), default, origin, report);
        }
    }
    if let Some(node) = step.get("compensate") {
        let path = format!("{path}.compensate");
        if !has_agent(node) && matches!(node.content, Content::Object(_)) {
            let help = "add `agent_id` or `capability`: who undoes it";
            report.add(&path, node.place, "`compensate` has no agent", help);
        }
        if let Some(retry) = node.get("retry") {
            backoff(retry, &format!("{path}.retry"), default, origin, report);
        }
    }
    if let Some(member) = step.member("irreversible")
        && is_true(&member.value)
        && step.get("compensate").is_some()
    {
        let message = "`irreversible` and `compensate` exclude each other";
        let help = "remove `irreversible`, or `compensate` if nothing undoes what the step does";
        report.add(format!("{path}.irreversible"), member.place, message, help);
    }
}

/// A ceiling below the first delay; what `retry` leaves open comes from `default`.
fn backoff(retry: &Node, path: &str, default: Option<&Node>, origin: Origin, report: &mut Report) {
    if origin == Origin::Store {
        return;
    }
    let (own_delay, own_ceiling) = (retry.get("backoff_ms"), retry.get("max_backoff_ms"));
    let inherited = |name: &str| default.and_then(|default| default.get(name));
    let delay = own_delay.or_else(|| inherited("backoff_ms")).and_then(count);
    let ceiling = own_ceiling.or_else(|| inherited("max_backoff_ms")).and_then(count);
    let (Some(first), Some(most)) = (delay, ceiling) else { return };
    if most >= first {
        return;
    }
    match (own_delay, own_ceiling) {
        (Some(_), Some(node)) => {
            let message = format!("`max_backoff_ms` {most} is below `backoff_ms` {first}, the first delay");
            let path = format!("{path}.max_backoff_ms");
            report.add(path, node.place, message, "raise it, or lower `backoff_ms`");
        }
        (None, Some(node)) => {
            let message = format!("`max_backoff_ms` {most} is below `backoff_ms` {first} of `default_retry`");
            let path = format!("{path}.max_backoff_ms");
            report.add(path, node.place, message, "raise it, or write `backoff_ms` here too");
        }
        (Some(node), None) => {
            let message = format!("`backoff_ms` {first} is above `max_backoff_ms` {most} of `default_retry`");
            let path = format!("{path}.backoff_ms");
            report.add(path, node.place, message, "lower it, or write `max_backoff_ms` here too");
        }
        // Both are those of `default_retry`, where it is reported.
        (None, None) => {}
    }
}

fn clocks(path: &str, step: &Node, tree: &Node, report: &mut Report) {
    let own = step.get("timeout_ms").map(|node| (node, "`timeout_ms`"));
    let default = || tree.get("default_step_timeout_ms").map(|node| (node, "`default_step_timeout_ms`"));
    if let Some(node) = step.get("heartbeat_ms")
        && let Some(silence) = count(node)
        && let Some((timeout, name)) = own.or_else(default)
        && let Some(timeout) = count(timeout).filter(|timeout| silence > *timeout)
    {
        let message = format!("`heartbeat_ms` {silence} is above {name} {timeout}: no attempt is silent for so long");
        report.add(format!("{path}.heartbeat_ms"), node.place, message, "lower it, or give the step a longer timeout");
    }
    if let Some(node) = step.get("schedule_to_start_ms")
        && let Some(start) = count(node)
        && let Some(close) = step.get("schedule_to_close_ms").and_then(count).filter(|close| start > *close)
    {
        let message = format!("`schedule_to_start_ms` {start} is above `schedule_to_close_ms` {close}");
        let help = "lower it: a step has to start before it can end";
        report.add(format!("{path}.schedule_to_start_ms"), node.place, message, help);
    }
}

/// A share of items that must succeed, where the first item that fails is the failure of the step. A count is fine
/// there: it asks for a list of that length.
fn share(path: &str, fan_out: &Node, step: &Node, origin: Origin, report: &mut Report) {
    let Some(node) = fan_out.get("min_success") else { return };
    let Content::Number(number) = &node.content else { return };
    let is_share = number.as_f64().is_some_and(|share| share > 0.0 && share < 1.0);
    let goes_on = fan_out.get("on_item_failure").and_then(Node::as_str).is_some_and(|word| word != "fail");
    let leaves_out = step.get("fallback").and_then(|fallback| fallback.get("skip")).is_some_and(is_true);
    if is_share && !goes_on && !leaves_out && origin == Origin::Text {
        let message = format!("`min_success` {number} means nothing here: the first item that fails fails the step");
        let help = "add `on_item_failure: continue`, or remove it";
        report.add(format!("{path}.min_success"), node.place, message, help);
    }
}

fn fallback(path: &str, node: &Node, step: &Node, report: &mut Report) {
    if !matches!(node.content, Content::Object(_)) {
        return;
    }
    let skip = node.member("skip").filter(|member| is_true(&member.value));
    let agent = node.member("agent_id").or_else(|| node.member("capability"));
    let ways: Vec<_> = agent.into_iter().chain(node.member("static_value")).chain(skip).collect();
    match ways.as_slice() {
        [] => {
            let help = "add `agent_id` or `capability` (who does it then), `static_value` (the output then) or \
                        `skip: true`";
            report.add(path, node.place, "`fallback` does not say what to do", help);
        }
        [_] => {}
        [kept, others @ ..] => {
            for other in others {
                let message = format!("`fallback` has `{}` already, so `{}` means nothing", kept.name, other.name);
                report.add(format!("{path}.{}", other.name), other.place, message, "keep one of them");
            }
        }
    }
    for name in ["retry", "timeout_ms"] {
        if let Some(member) = node.member(name).filter(|_| agent.is_none()) {
            let message = format!("`{name}` is for a fallback with an agent; this one has none");
            report.add(format!("{path}.{name}"), member.place, message, "remove it");
        }
    }
    if let Some(agent) = agent
        && is_own(node, step)
    {
        let doer = if agent.name == "agent_id" { "agent" } else { "capability" };
        let message = format!("the {doer} `{}` is the step's own", agent.value.as_str().unwrap_or_default());
        let help = "name another one; more attempts of the same are `retry.max_attempts` of the step";
        report.add(format!("{path}.{}", agent.name), agent.value.place, message, help);
    }
}

/// Whether the step's own agent would be asked again. In another capability it may be another pool of workers.
fn is_own(fallback: &Node, step: &Node) -> bool {
    let is_same = |name: &str| fallback.get(name).and_then(Node::as_str) == step.get(name).and_then(Node::as_str);
    is_same("agent_id") && (fallback.get("capability").is_none() || is_same("capability"))
}

fn has_agent(node: &Node) -> bool {
    node.get("agent_id").is_some() || node.get("capability").is_some()
}

fn is_true(node: &Node) -> bool {
    node.content == Content::Bool(true)
}

fn count(node: &Node) -> Option<u64> {
    match &node.content {
        Content::Number(number) => number.as_u64(),
        _ => None,
    }
}
