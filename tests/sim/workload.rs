//! What the world is asked to do: workflows of every kind, the agents that do their steps, the wishes of clients.

pub mod agents;
pub mod definition;
pub mod script;
pub mod wishes;

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_model::definition::Step;
use millstream_model::entry::ResolvedAgent;
use millstream_model::hash::ContentHash;
use millstream_model::ids::{AgentId, Capability, StepId, WorkflowId};
use millstream_model::plan::{Plan, StepIndex, Work};

use super::dice::Dice;
use script::Script;

/// Names of steps that run after the outcome start with this.
pub const FINALLY_PREFIX: &str = "last_";

/// One workflow and how its agents behave.
#[derive(Debug)]
pub struct Workflow {
    pub text: String,
    pub plan: Arc<Plan>,
    /// By step: the agent of the step, of its fallback, of its compensation.
    pub scripts: BTreeMap<StepId, Scripts>,
    /// What the conditions that read nothing but the input come to.
    pub truths: BTreeMap<StepId, bool>,
    pub routing: Routing,
}

/// The agents of one step.
#[derive(Debug, Clone, Copy)]
pub struct Scripts {
    pub step: Script,
    pub fallback: Script,
    pub compensation: Script,
}

/// Agents, resolved as the API resolves them.
#[derive(Debug, Clone, Default)]
pub struct Routing {
    pub agents: Vec<ResolvedAgent>,
    pub routes: Vec<Option<u16>>,
    pub fallbacks: Vec<Option<u16>>,
    pub compensations: Vec<Option<u16>>,
}

/// See the module.
#[derive(Debug)]
pub struct Workload {
    pub seed: u64,
    pub capabilities: Vec<Capability>,
    pub workflows: Vec<Workflow>,
    by_id: BTreeMap<WorkflowId, usize>,
}

impl Workload {
    /// The workload of a seed.
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::of(seed, "workload");
        let pools = 1 + dice.index(3);
        let capabilities: Vec<Capability> =
            (0..pools).map(|pool| format!("pool_{pool}").parse().expect("a name")).collect();
        let count = 1 + dice.index(3);
        let workflows: Vec<Workflow> =
            (0..count).map(|number| definition::random(number, &capabilities, &mut dice)).collect();
        let by_id = workflows.iter().enumerate().map(|(i, w)| (w.plan.definition.id.clone(), i)).collect();
        Self { seed, capabilities, workflows, by_id }
    }

    pub fn workflow(&self, id: &WorkflowId) -> Option<&Workflow> {
        self.by_id.get(id).map(|index| &self.workflows[*index])
    }

    /// All plans by hash.
    pub fn plans(&self) -> BTreeMap<ContentHash, Arc<Plan>> {
        self.workflows.iter().map(|workflow| (workflow.plan.hash, Arc::clone(&workflow.plan))).collect()
    }
}

/// The agents of a pool: two each, so that a fallback is another one.
pub(super) fn agent(pool: usize, second: bool) -> String {
    format!("agent_{pool}_{}", if second { "b" } else { "a" })
}

impl Routing {
    /// The routing of a plan.
    pub(super) fn of(plan: &Plan, capabilities: &[Capability]) -> Self {
        let mut routing = Self::default();
        for (pool, capability) in capabilities.iter().enumerate() {
            for second in [false, true] {
                let name = agent(pool, second);
                routing.agents.push(ResolvedAgent {
                    manifest: ContentHash::of(name.as_bytes()),
                    agent: name.parse().expect("a name"),
                    capability: capability.clone(),
                });
            }
        }
        let route = |agent: Option<&AgentId>| {
            let index = routing.agents.iter().position(|resolved| Some(&resolved.agent) == agent)?;
            u16::try_from(index).ok()
        };
        let each = |of: &dyn Fn(&Step) -> Option<u16>| -> Vec<Option<u16>> {
            plan.all().map(|step: StepIndex| of(plan.step(step))).collect()
        };
        let routes: Vec<Option<u16>> = plan
            .all()
            .map(|step| match plan.planned(step).work {
                Work::FanIn { .. } => None,
                Work::Single | Work::FanOut { .. } => route(plan.step(step).agent_id.as_ref()),
            })
            .collect();
        let some_or_none =
            |routes: Vec<Option<u16>>| if routes.iter().any(Option::is_some) { routes } else { Vec::new() };
        let fallbacks = some_or_none(each(&|step| route(step.fallback.as_ref()?.agent_id.as_ref())));
        let compensations = some_or_none(each(&|step| route(step.compensate.as_ref()?.agent_id.as_ref())));
        Self { routes, fallbacks, compensations, ..routing }
    }
}
