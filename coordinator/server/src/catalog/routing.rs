//! Which agent does which step, decided when an execution is submitted (SEMANTICS 3).

use std::collections::BTreeMap;

use millstream_model::agent::{Agent, AgentStatus};
use millstream_model::definition::Definition;
use millstream_model::entry::ResolvedAgent;
use millstream_model::ids::{AgentId, Capability};
use millstream_model::plan::Plan;
use millstream_model::validate::Problem;

use super::agents::{AgentsView, Registered};

/// The agents of an execution.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Routing {
    /// Each agent and capability once.
    pub agents: Vec<ResolvedAgent>,
    /// For each step in definition order, those of `finally` last, its index in `agents`; `None` for a step without
    /// agent.
    pub routes: Vec<Option<u16>>,
    /// Likewise for `fallback`; empty when no step has a fallback agent.
    pub fallbacks: Vec<Option<u16>>,
    /// Likewise for `compensate`; empty when no step has one.
    pub compensations: Vec<Option<u16>>,
}

/// Finds an agent for every step of `plan`, for what takes its place and for what undoes it, or says of each that has
/// none what is wrong.
pub fn resolve(plan: &Plan, view: &AgentsView) -> Result<Routing, Vec<Problem>> {
    resolve_definition(&plan.definition, view)
}

fn resolve_definition(definition: &Definition, view: &AgentsView) -> Result<Routing, Vec<Problem>> {
    let mut resolver = Resolver { view, agents: Vec::new(), places: BTreeMap::new(), problems: Vec::new() };
    let mut routing = Routing::default();
    let numbered = |list: &'static str| move |(i, step)| (format!("{list}[{i}]"), step);
    let main = definition.steps.iter().enumerate().map(numbered("steps"));
    let finally = definition.finally.iter().enumerate().map(numbered("finally"));
    for (path, step) in main.chain(finally) {
        let own = Wanted { agent: step.agent_id.as_ref(), capability: step.capability.as_ref() };
        routing.routes.push(resolver.place(own, || (path.clone(), format!("step {}", step.id))));

        let fallback = step.fallback.as_ref();
        let instead = Wanted {
            agent: fallback.and_then(|fallback| fallback.agent_id.as_ref()),
            capability: fallback.and_then(|fallback| fallback.capability.as_ref()),
        };
        let subject = || (format!("{path}.fallback"), format!("the fallback of step {}", step.id));
        routing.fallbacks.push(resolver.place(instead, subject));

        let compensate = step.compensate.as_ref();
        let undoing = Wanted {
            agent: compensate.and_then(|compensate| compensate.agent_id.as_ref()),
            capability: compensate.and_then(|compensate| compensate.capability.as_ref()),
        };
        let subject = || (format!("{path}.compensate"), format!("the compensation of step {}", step.id));
        routing.compensations.push(resolver.place(undoing, subject));
    }
    if !resolver.problems.is_empty() {
        return Err(resolver.problems);
    }
    routing.agents = resolver.agents;
    for optional in [&mut routing.fallbacks, &mut routing.compensations] {
        if optional.iter().all(Option::is_none) {
            optional.clear();
        }
    }
    Ok(routing)
}

/// What a definition says about who does something.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    agent: Option<&'a AgentId>,
    capability: Option<&'a Capability>,
}

/// What was found so far.
struct Resolver<'a> {
    view: &'a AgentsView,
    agents: Vec<ResolvedAgent>,
    places: BTreeMap<(&'a AgentId, &'a Capability), u16>,
    problems: Vec<Problem>,
}

impl<'a> Resolver<'a> {
    /// The index of the agent that was found, or a problem at the path and with the name that `subject` gives.
    fn place(&mut self, wanted: Wanted<'a>, subject: impl FnOnce() -> (String, String)) -> Option<u16> {
        match choose(wanted, self.view) {
            Ok(found) => found.map(|(registered, capability)| self.index(registered, capability)),
            Err(refusal) => {
                let (path, name) = subject();
                self.problems.push(Problem {
                    path: format!("{path}.{}", refusal.field),
                    line: 0,
                    column: 0,
                    message: format!("{name}: {}", refusal.message),
                    help: refusal.help,
                });
                None
            }
        }
    }

    fn index(&mut self, registered: &'a Registered, capability: &'a Capability) -> u16 {
        *self.places.entry((&registered.agent.id, capability)).or_insert_with(|| {
            self.agents.push(ResolvedAgent {
                agent: registered.agent.id.clone(),
                capability: capability.clone(),
                manifest: registered.hash,
            });
            u16::try_from(self.agents.len() - 1).expect("a workflow has at most STEPS_MAX steps with three agents each")
        })
    }
}

struct Refusal {
    field: &'static str,
    message: String,
    help: String,
}

fn choose<'a>(wanted: Wanted<'a>, view: &'a AgentsView) -> Result<Option<(&'a Registered, &'a Capability)>, Refusal> {
    match (wanted.agent, wanted.capability) {
        (None, None) => Ok(None),
        (Some(id), wanted) => named(id, wanted, view).map(Some),
        (None, Some(capability)) => any(capability, view).map(Some),
    }
}

fn named<'a>(
    id: &AgentId,
    wanted: Option<&'a Capability>,
    view: &'a AgentsView,
) -> Result<(&'a Registered, &'a Capability), Refusal> {
    let Some(registered) = view.get(id) else {
        return Err(Refusal {
            field: "agent_id",
            message: format!("no agent is registered as {id}"),
            help: match nearest(id.as_str(), view.ids().map(AgentId::as_str)) {
                Some(name) => format!("did you mean {name}? GET /agents lists all of them"),
                None => format!("register it with PUT /agents/{id}; GET /agents lists those that are"),
            },
        });
    };
    let agent = &registered.agent;
    if agent.status == AgentStatus::Inactive {
        return Err(Refusal {
            field: "agent_id",
            message: format!("agent {id} is INACTIVE"),
            help: format!("PUT /agents/{id} with status ACTIVE, or name another agent"),
        });
    }
    let Some(wanted) = wanted else {
        return agent.capabilities.first().map(|first| (registered, first)).ok_or_else(|| Refusal {
            field: "agent_id",
            message: format!("agent {id} has no capability"),
            help: format!("PUT /agents/{id} with the pool of workers that runs it"),
        });
    };
    if agent.capabilities.contains(wanted) {
        return Ok((registered, wanted));
    }
    Err(Refusal {
        field: "capability",
        message: format!("agent {id} does not have the capability {wanted}"),
        help: format!("it has {}", listed(agent)),
    })
}

fn any<'a>(capability: &'a Capability, view: &'a AgentsView) -> Result<(&'a Registered, &'a Capability), Refusal> {
    let mut inactive = None;
    for registered in view.iter().filter(|registered| registered.agent.capabilities.contains(capability)) {
        if registered.agent.status == AgentStatus::Active {
            return Ok((registered, capability));
        }
        inactive.get_or_insert(&registered.agent.id);
    }
    let capabilities = view.capabilities();
    Err(match inactive {
        Some(id) => Refusal {
            field: "capability",
            message: format!("every agent with the capability {capability} is INACTIVE"),
            help: format!("PUT /agents/{id} with status ACTIVE"),
        },
        None => Refusal {
            field: "capability",
            message: format!("no agent with the capability {capability} is registered"),
            help: match nearest(capability.as_str(), capabilities.iter().map(|known| known.as_str())) {
                Some(name) => format!("did you mean {name}? GET /agents shows what agents have"),
                None => {
                    "register an agent that has it with POST /agents, or start the worker that brings it".to_owned()
                }
            },
        },
    })
}

fn listed(agent: &Agent) -> String {
    agent.capabilities.iter().map(Capability::as_str).collect::<Vec<_>>().join(", ")
}

/// The known name that was probably meant: the one with the fewest changed letters, if these are few.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (name.len() / 3).clamp(1, 3);
    known.map(|candidate| (changes(name, candidate), candidate)).filter(|(n, _)| *n <= most).min().map(|(_, name)| name)
}

/// Letters to insert, delete or replace between two names (Levenshtein).
fn changes(from: &str, to: &str) -> usize {
    let to = to.as_bytes();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, letter) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_agent_alone_runs_under_its_first_capability() {
        check(&["mailer: http smtp"], json!([{"id": "a", "agent_id": "mailer"}]), "a -> mailer/http");
    }

    #[test]
    fn an_agent_and_one_of_its_capabilities_are_both_kept() {
        check(
            &["mailer: http smtp"],
            json!([{"id": "a", "agent_id": "mailer", "capability": "smtp"}]),
            "a -> mailer/smtp",
        );
    }

    #[test]
    fn a_capability_alone_goes_to_the_first_active_agent_that_has_it() {
        check(&["c: gpu", "b: cpu gpu", "a: gpu INACTIVE"], json!([{"id": "x", "capability": "gpu"}]), "x -> b/gpu");
    }

    #[test]
    fn a_step_without_agent_has_no_route_and_equal_routes_are_shared() {
        check(
            &["a: cpu", "b: gpu"],
            json!([
                {"id": "x", "agent_id": "a"},
                {"id": "y", "agent_id": "b"},
                {"id": "z", "capability": "cpu"},
                {"id": "all", "fan_in": {"from": ["x"]}},
            ]),
            "x -> a/cpu\ny -> b/gpu\nz -> a/cpu\nall -> nobody\n2 agents",
        );
    }

    #[test]
    fn every_step_that_cannot_run_is_named_with_what_would_mend_it() {
        check(
            &["mailer: http", "sleeper: http INACTIVE", "lonely: gpu INACTIVE", "idle: ACTIVE"],
            json!([
                {"id": "a", "agent_id": "mialer"},
                {"id": "b", "agent_id": "sleeper"},
                {"id": "c", "agent_id": "mailer", "capability": "smtp"},
                {"id": "d", "capability": "tpu-cluster"},
                {"id": "e", "capability": "gpu"},
                {"id": "f", "agent_id": "mailer"},
                {"id": "g", "agent_id": "somebody"},
                {"id": "h", "agent_id": "idle"},
            ]),
            "steps[0].agent_id: step a: no agent is registered as mialer; did you mean mailer? GET /agents lists all of them
             steps[1].agent_id: step b: agent sleeper is INACTIVE; PUT /agents/sleeper with status ACTIVE, or name another agent
             steps[2].capability: step c: agent mailer does not have the capability smtp; it has http
             steps[3].capability: step d: no agent with the capability tpu-cluster is registered; register an agent that has it with POST /agents, or start the worker that brings it
             steps[4].capability: step e: every agent with the capability gpu is INACTIVE; PUT /agents/lonely with status ACTIVE
             steps[6].agent_id: step g: no agent is registered as somebody; register it with PUT /agents/somebody; GET /agents lists those that are
             steps[7].agent_id: step h: agent idle has no capability; PUT /agents/idle with the pool of workers that runs it",
        );
    }

    #[test]
    fn fallbacks_compensations_and_final_steps_have_agents_of_their_own() {
        check_definition(
            &["bill: cpu", "spare: cpu", "undo: cpu", "chat: net"],
            json!({
                "id": "w",
                "steps": [
                    {"id": "x", "agent_id": "bill", "fallback": {"agent_id": "spare"}},
                    {"id": "y", "agent_id": "bill", "compensate": {"agent_id": "undo"}, "fallback": {"skip": true}},
                ],
                "finally": [{"id": "tell", "capability": "net"}],
            }),
            "x -> bill/cpu, else spare/cpu
             y -> bill/cpu, undone by undo/cpu
             tell -> chat/net
             4 agents",
        );
    }

    #[test]
    fn nobody_to_fall_back_to_or_to_undo_is_no_list_at_all() {
        let mut view = AgentsView::default();
        let agent = json!({"id": "a", "framework": "native", "capabilities": ["cpu"]});
        view.put(serde_json::from_value(agent).expect("an agent"));
        let definition = json!({"id": "w", "steps": [{"id": "x", "agent_id": "a", "fallback": {"static_value": 1}}]});
        let definition = serde_json::from_value(definition).expect("a definition");
        let routing = resolve_definition(&definition, &view).expect("a routing");
        assert_eq!((routing.fallbacks, routing.compensations), (vec![], vec![]));
    }

    #[test]
    fn a_missing_fallback_compensation_or_final_agent_is_named_by_its_path() {
        check_definition(
            &["a: cpu", "off: cpu INACTIVE"],
            json!({
                "id": "w",
                "steps": [
                    {"id": "x", "agent_id": "a"},
                    {"id": "y", "agent_id": "a", "fallback": {"agent_id": "off"}, "compensate": {"capability": "gpus"}},
                ],
                "finally": [{"id": "tell", "agent_id": "somebody"}],
            }),
            "steps[1].fallback.agent_id: the fallback of step y: agent off is INACTIVE; PUT /agents/off with status ACTIVE, or name another agent
             steps[1].compensate.capability: the compensation of step y: no agent with the capability gpus is registered; register an agent that has it with POST /agents, or start the worker that brings it
             finally[0].agent_id: step tell: no agent is registered as somebody; register it with PUT /agents/somebody; GET /agents lists those that are",
        );
    }

    fn check(agents: &[&str], steps: serde_json::Value, expected: &str) {
        let mut definition = json!({"id": "w"});
        definition["steps"] = steps;
        check_definition(agents, definition, expected);
    }

    /// `agents` are written `id: capability… [ACTIVE | INACTIVE]`.
    fn check_definition(agents: &[&str], definition: serde_json::Value, expected: &str) {
        let mut view = AgentsView::default();
        for text in agents {
            let (id, rest) = text.split_once(": ").expect("id: capabilities");
            let (status, capabilities): (Vec<&str>, Vec<&str>) =
                rest.split(' ').partition(|word| word.ends_with("ACTIVE"));
            let status = status.first().unwrap_or(&"ACTIVE");
            let agent = json!({"id": id, "framework": "native", "capabilities": capabilities, "status": status});
            view.put(serde_json::from_value(agent).expect("an agent"));
        }
        let definition: Definition = serde_json::from_value(definition).expect("a definition");
        let text = match resolve_definition(&definition, &view) {
            Ok(routing) => told(&definition, &routing),
            Err(problems) => {
                let line = |problem: &Problem| format!("{}: {}; {}", problem.path, problem.message, problem.help);
                problems.iter().map(line).collect::<Vec<_>>().join("\n")
            }
        };
        let expected: Vec<&str> = expected.lines().map(str::trim).collect();
        assert_eq!(text, expected.join("\n"));
    }

    fn told(definition: &Definition, routing: &Routing) -> String {
        let target = |routes: &[Option<u16>], i: usize| {
            let place = routes.get(i).copied().flatten()?;
            let to = &routing.agents[usize::from(place)];
            Some(format!("{}/{}", to.agent, to.capability))
        };
        let mut lines: Vec<String> = Vec::new();
        for (i, step) in definition.steps.iter().chain(&definition.finally).enumerate() {
            let own = target(&routing.routes, i).unwrap_or_else(|| "nobody".to_owned());
            let instead = target(&routing.fallbacks, i).map(|to| format!(", else {to}")).unwrap_or_default();
            let undone = target(&routing.compensations, i).map(|to| format!(", undone by {to}")).unwrap_or_default();
            lines.push(format!("{} -> {own}{instead}{undone}", step.id));
        }
        if routing.agents.len() > 1 {
            lines.push(format!("{} agents", routing.agents.len()));
        }
        lines.join("\n")
    }
}
