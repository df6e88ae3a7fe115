//! What is recorded of each kind of decision.

use std::collections::{BTreeMap, BTreeSet};

use millstream_model::agent::AgentStatus;
use millstream_model::audit::{AuditKind, Decision};
use millstream_model::definition::Step;
use millstream_model::ids::{AgentId, Capability, ExecutionId, StepId};
use millstream_model::plan::Plan;
use millstream_model::trace::TraceId;
use serde::Serialize;
use serde_json::{Value, json};

use super::now;
use crate::catalog::{AgentsView, Routing};

/// Steps that one record lists.
const STEPS_LISTED: usize = 250;
/// Agents that one record names as its target or as alternatives.
const AGENTS_LISTED: usize = 50;

/// Why a step has its agent, as `step.scheduled` tells it too.
const NAMED: &str = "the step names the agent";
const FIRST: &str = "first active agent with the capability";

/// How a definition was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// It is the one in force of the workflow that was asked for.
    InForce,
    /// The execution that was forked has it.
    Inherited,
    /// The request brought it along.
    Brought,
}

/// Who asks for something, and why.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    pub by: Option<&'a str>,
    pub reason: Option<&'a str>,
}

/// Something that is done to a workflow, an agent or an execution: `action` as `workflow.put`.
pub fn admin(action: &str, target: String, asked: Asked<'_>, mut context: Value) -> Decision {
    context["action"] = json!(action);
    Decision {
        at: now(),
        trace_id: None,
        execution: None,
        kind: AuditKind::Admin,
        actor: asked.by.map(ToOwned::to_owned),
        target,
        reasoning: asked.reason.unwrap_or("the request gives no reason").to_owned(),
        alternatives: Vec::new(),
        context,
    }
}

/// As [`admin`], about an execution.
pub fn admin_of_execution(
    action: &str,
    execution: ExecutionId,
    trace: Option<TraceId>,
    asked: Asked<'_>,
    context: Value,
) -> Decision {
    let target = format!("execution {execution}");
    Decision { execution: Some(execution), trace_id: trace, ..admin(action, target, asked, context) }
}

/// A request that was refused by the rule `rule`.
pub fn refusal(rule: &str, request: &str, why: &str) -> Decision {
    Decision {
        at: now(),
        trace_id: None,
        execution: None,
        kind: AuditKind::Policy,
        actor: None,
        target: request.to_owned(),
        reasoning: why.to_owned(),
        alternatives: Vec::new(),
        context: json!({"rule": rule, "outcome": "refused"}),
    }
}

/// Which definition an execution follows.
pub fn plan(plan: &Plan, chosen: Chosen) -> Decision {
    let definition = &plan.definition;
    let all = || definition.steps.iter().chain(&definition.finally);
    let steps: Vec<&StepId> = all().take(STEPS_LISTED).map(|step| &step.id).collect();
    let reasoning = match chosen {
        Chosen::InForce => "the definition in force of the workflow that was asked for",
        Chosen::Inherited => "the definition of the execution that was forked",
        Chosen::Brought => "the definition that the request brought along",
    };
    Decision {
        at: now(),
        trace_id: None,
        execution: None,
        kind: AuditKind::Plan,
        actor: None,
        target: format!("workflow {}", definition.id),
        reasoning: reasoning.to_owned(),
        alternatives: Vec::new(),
        context: json!({
            "definition": plan.hash, "version": definition.version, "steps": steps, "steps_total": all().count(),
        }),
    }
}

/// One step and its agent.
#[derive(Serialize)]
struct Routed<'a> {
    step: &'a StepId,
    role: &'static str,
    target: &'a AgentId,
    capability: &'a Capability,
    reason: &'static str,
    alternatives: Vec<&'a AgentId>,
}

/// Which agents do the steps of an execution, in as many records as it takes to name all of them.
pub fn routing(plan: &Plan, routing: &Routing, view: &AgentsView) -> Vec<Decision> {
    let routed = routed(plan, routing, view);
    let parts = routed.len().div_ceil(STEPS_LISTED);
    let part = |(i, routed): (usize, &[Routed<'_>])| {
        let targets: BTreeSet<&AgentId> = routed.iter().map(|routed| routed.target).collect();
        let alternatives: BTreeSet<&AgentId> = routed.iter().flat_map(|routed| &routed.alternatives).copied().collect();
        let mut context = json!({ "workflow": plan.definition.id, "steps": routed });
        if parts > 1 {
            context["part"] = json!(i + 1);
            context["parts"] = json!(parts);
        }
        Decision {
            at: now(),
            trace_id: None,
            execution: None,
            kind: AuditKind::Routing,
            actor: None,
            target: listed(&targets).join(", "),
            reasoning: reasoning(routed),
            alternatives: listed(&alternatives),
            context,
        }
    };
    routed.chunks(STEPS_LISTED).enumerate().map(part).collect()
}

fn routed<'a>(plan: &'a Plan, routing: &'a Routing, view: &'a AgentsView) -> Vec<Routed<'a>> {
    let mut others: BTreeMap<&Capability, Vec<&AgentId>> = BTreeMap::new();
    let mut routed = Vec::new();
    let steps = plan.definition.steps.iter().chain(&plan.definition.finally);
    for (i, step) in steps.enumerate() {
        let roles = [
            ("run", &routing.routes, step.agent_id.is_some()),
            ("fallback", &routing.fallbacks, names_fallback(step)),
            ("compensation", &routing.compensations, names_compensation(step)),
        ];
        for (role, routes, named) in roles {
            let Some(agent) = routes.get(i).copied().flatten() else { continue };
            let agent = &routing.agents[usize::from(agent)];
            let alternatives = if named {
                Vec::new()
            } else {
                let able = others.entry(&agent.capability).or_insert_with(|| able(view, &agent.capability));
                able.iter().copied().filter(|other| **other != agent.agent).collect()
            };
            let (target, capability) = (&agent.agent, &agent.capability);
            let reason = if named { NAMED } else { FIRST };
            routed.push(Routed { step: &step.id, role, target, capability, reason, alternatives });
        }
    }
    routed
}

fn names_fallback(step: &Step) -> bool {
    step.fallback.as_ref().is_some_and(|fallback| fallback.agent_id.is_some())
}

fn names_compensation(step: &Step) -> bool {
    step.compensate.as_ref().is_some_and(|compensate| compensate.agent_id.is_some())
}

/// Active agents that have the capability.
fn able<'a>(view: &'a AgentsView, capability: &Capability) -> Vec<&'a AgentId> {
    let agents = view.iter().map(|registered| &registered.agent);
    let able = agents.filter(|agent| agent.status == AgentStatus::Active && agent.capabilities.contains(capability));
    able.map(|agent| &agent.id).take(AGENTS_LISTED).collect()
}

fn reasoning(routed: &[Routed<'_>]) -> String {
    let named = routed.iter().filter(|routed| routed.reason == NAMED).count();
    match (named, routed.len() - named) {
        (1, 0) => NAMED.to_owned(),
        (_, 0) => "each step names its agent".to_owned(),
        (0, _) => FIRST.to_owned(),
        (named, first) => format!("{named} named by their steps, {first} first active agent with the capability"),
    }
}

fn listed(agents: &BTreeSet<&AgentId>) -> Vec<String> {
    let mut listed: Vec<String> = agents.iter().take(AGENTS_LISTED).map(ToString::to_string).collect();
    if agents.len() > AGENTS_LISTED {
        listed.push(format!("and {} more", agents.len() - AGENTS_LISTED));
    }
    listed
}

#[cfg(test)]
mod tests {
    use millstream_model::agent::Agent;
    use millstream_model::validate;

    use super::*;
    use crate::catalog::resolve;

    #[test]
    fn a_route_tells_target_reason_and_what_else_there_was() {
        let view = agents(&["near", "far", "named"]);
        let plan = validate::definition(
            "
id: w
steps:
  - {id: one, agent_id: named}
  - {id: two, capability: http, depends_on: [one]}
  - {id: both, depends_on: [one, two], fan_in: {from: [one, two], aggregate: list}}
",
        )
        .expect("a definition");
        let chosen = resolve(&plan, &view).expect("agents");
        let decisions = routing(&plan, &chosen, &view);
        assert_eq!(decisions.len(), 1);
        let decision = &decisions[0];
        assert_eq!((decision.kind, decision.target.as_str()), (AuditKind::Routing, "far, named"));
        assert_eq!(decision.reasoning, "1 named by their steps, 1 first active agent with the capability");
        assert_eq!(decision.alternatives, ["named", "near"]);
        assert_eq!(
            decision.context,
            json!({"workflow": "w", "steps": [
                {"step": "one", "role": "run", "target": "named", "capability": "http", "reason": NAMED,
                 "alternatives": []},
                {"step": "two", "role": "run", "target": "far", "capability": "http", "reason": FIRST,
                 "alternatives": ["named", "near"]},
            ]})
        );
    }

    #[test]
    fn the_routes_of_many_steps_take_several_records() {
        let view = agents(&["a"]);
        let steps: String = (0..600).map(|n| format!("  - {{id: s{n}, agent_id: a}}\n")).collect();
        let definition = validate::definition(&format!("id: w\nsteps:\n{steps}")).expect("a definition");
        let chosen = resolve(&definition, &view).expect("agents");
        let decisions = routing(&definition, &chosen, &view);
        let listed: Vec<usize> =
            decisions.iter().map(|decision| decision.context["steps"].as_array().expect("a list").len()).collect();
        assert_eq!(listed, [250, 250, 100]);
        assert_eq!(decisions[2].context["part"], 3);
        let whole = plan(&definition, Chosen::InForce);
        assert_eq!((whole.context["steps_total"].as_u64(), whole.target.as_str()), (Some(600), "workflow w"));
    }

    fn agents(ids: &[&str]) -> AgentsView {
        let mut view = AgentsView::default();
        for id in ids {
            let agent = json!({"id": id, "framework": "http", "capabilities": ["http"]});
            view.put(serde_json::from_value::<Agent>(agent).expect("an agent"));
        }
        view
    }
}
