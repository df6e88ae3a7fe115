//! What people do: submissions, cancels, resumes, forks.

use std::collections::BTreeMap;

use millstream_engine::partition::EXPR_REV;
use millstream_engine::scope::Values;
use millstream_engine::{Execution, KeptOutput};
use millstream_model::entry::{
    Archived, CancelRequested, Defaults, Entry, Fork, Idempotency, Kept, KeptOutcome, ResolvedAgent, Resumed,
    Submitted, Timer, TimerFired,
};
use millstream_model::hash::{ContentHash, canonical_json};
use millstream_model::ids::{AgentId, Capability, ExecutionId};
use millstream_model::payload::Payload;
use millstream_model::plan::{Plan, StepIndex, Work};
use millstream_model::position::Position;
use millstream_model::token::Secret;
use serde_json::{Value, json};

use super::refold::refolded;
use super::script::Act;
use super::stage::Stage;

impl Stage<'_> {
    pub fn act(&mut self, act: Act) {
        if let Some(text) = act.garbage {
            self.write_garbage(act.on.as_deref().expect("garbage is written somewhere"), text);
        } else if let Some(node) = &act.take_over {
            self.take_over(node, act.epoch, act.revision);
        } else if let Some(name) = &act.archive {
            let execution = self.known(name);
            // One that goes on is named with a place at which it has not ended.
            let found = self.refold.partition.execution(execution);
            let end = found.and_then(Execution::end_position).unwrap_or(Position::start_of(1));
            self.append_control(&[Entry::Archived(Archived { executions: vec![(execution, end)] })]);
        } else if let Some(name) = &act.fire_early {
            let (execution, timer) = (self.known(name), Timer::Deadline);
            self.append_control(&[Entry::TimerFired(TimerFired { execution, timer })]);
        } else if let Some(millis) = act.clock_back {
            self.clock_goes_back(millis);
        } else if let Some(name) = &act.cancel {
            let execution = self.known(name);
            self.append_control(&[Entry::CancelRequested(CancelRequested {
                execution,
                reason: act.reason,
                by: act.by,
                compensate: act.compensate,
            })]);
        } else if let Some(name) = &act.resume {
            let execution = self.known(name);
            let transcript = self.refold.transcript(execution).expect("it was submitted");
            let plan = refolded(&transcript, self.plans).plan().clone();
            let transcript = act.from_history.then(|| self.keep(transcript));
            let Routes { agents, routes, fallbacks, compensations } =
                if act.unrouted { Routes::default() } else { Routes::of(&plan) };
            let (by, reason) = (act.by, act.reason);
            let resumed = Resumed { execution, by, reason, transcript, agents, routes, fallbacks, compensations };
            self.append_control(&[Entry::Resumed(Box::new(resumed))]);
        } else {
            let submitted = self.submission(act);
            self.append_control(&[Entry::Submitted(Box::new(submitted))]);
        }
    }

    fn known(&self, name: &str) -> ExecutionId {
        *self.names.get(name).unwrap_or_else(|| panic!("{}: there is no execution {name}", self.name))
    }

    fn submission(&mut self, act: Act) -> Submitted {
        let number = u8::try_from(self.names.len() + 1).expect("few executions");
        let execution: ExecutionId = format!("0193a5a0-0000-7000-8000-{number:010x}03").parse().expect("an id");
        let forked = act.fork.as_deref().map(|name| self.known(name));
        self.names.insert(act.name.clone().unwrap_or_else(|| "a".to_owned()), execution);
        let plan = match act.submit.as_ref().or(act.workflow.as_ref()) {
            Some(id) => self.plans.iter().find(|plan| plan.definition.id.as_str() == id).expect("a known workflow"),
            None => {
                let old = self.refold.partition.execution(forked.expect("a submission or a fork"));
                old.expect("it was submitted").plan()
            }
        };
        let old = forked.and_then(|id| self.refold.partition.execution(id));
        let input = act.input.clone().unwrap_or_else(|| self.script.input.clone());
        let Routes { agents, routes, fallbacks, compensations } =
            if act.unrouted { Routes::default() } else { Routes::of(plan) };
        let body = json!([plan.definition.id, input, self.script.context]);
        Submitted {
            execution,
            ns: Default::default(),
            workflow: plan.definition.id.clone(),
            definition: plan.hash,
            input: payload(&input),
            context: self.script.context.as_ref().map(payload),
            labels: BTreeMap::new(),
            idempotency: act
                .key
                .as_ref()
                .map(|key| Idempotency { key: ContentHash::of(key.as_bytes()), body: ContentHash::of_json(&body) }),
            secret: Secret::new([number; 16]),
            agents,
            routes,
            fallbacks,
            compensations,
            defaults: Defaults::default(),
            expr_rev: EXPR_REV,
            trace: None,
            fork: old.map(|old| Box::new(self.fork(old, plan, act))),
        }
    }

    fn fork(&self, old: &Execution, plan: &Plan, act: Act) -> Fork {
        let from = act.from.as_ref().map(|from| from.parse().expect("a name"));
        let index = from.as_ref().map(|from| plan.find(from).expect("a step of the new definition"));
        let kept = old.kept_for_fork(plan, index).into_iter();
        let kept = kept.map(|(step, output)| Kept { step, outcome: self.kept(output) }).collect();
        Fork { of: old.id(), from, by: act.by, reason: act.reason, kept }
    }

    fn kept(&self, output: KeptOutput) -> KeptOutcome {
        match output {
            KeptOutput::One(payload) => KeptOutcome::Completed(payload),
            KeptOutput::Whole(list) => KeptOutcome::Items(list),
            KeptOutput::Items(outputs) => {
                let texts = outputs.iter().map(|output| match output.as_ref().map(|payload| self.text_of(payload)) {
                    Some(text) => serde_json::from_str(&text).expect("outputs are JSON"),
                    None => Value::Null,
                });
                KeptOutcome::Items(payload(&texts.collect()))
            }
            KeptOutput::Skipped => KeptOutcome::Skipped,
            KeptOutput::Failed(error) => KeptOutcome::Failed(error),
        }
    }

    fn text_of(&self, payload: &Payload) -> String {
        match (payload.text(), payload.reference()) {
            (Some(text), _) => text.to_owned(),
            (None, Some(reference)) => self.values[&reference].get().to_owned(),
            (None, None) => panic!("a payload is here or in the store"),
        }
    }

    /// What the owner may read.
    pub fn known_values(&self) -> Values<'_> {
        Values::With(&self.values)
    }
}

/// Who does what.
#[derive(Debug, Default)]
struct Routes {
    agents: Vec<ResolvedAgent>,
    routes: Vec<Option<u16>>,
    fallbacks: Vec<Option<u16>>,
    compensations: Vec<Option<u16>>,
}

impl Routes {
    fn of(plan: &Plan) -> Self {
        let mut found = Self::default();
        let steps: Vec<StepIndex> = plan.all().collect();
        for &index in &steps {
            let step = plan.step(index);
            let fans_in = matches!(plan.planned(index).work, Work::FanIn { .. });
            let route = (!fans_in).then(|| found.agent(step.agent_id.as_ref(), step.capability.as_ref()));
            found.routes.push(route);
            let fallback = step.fallback.as_ref().filter(|f| f.agent_id.is_some() || f.capability.is_some());
            let fallback = fallback.map(|f| found.agent(f.agent_id.as_ref(), f.capability.as_ref()));
            found.fallbacks.push(fallback);
            let compensation = step.compensate.as_ref();
            let compensation = compensation.map(|c| found.agent(c.agent_id.as_ref(), c.capability.as_ref()));
            found.compensations.push(compensation);
        }
        for table in [&mut found.fallbacks, &mut found.compensations] {
            if table.iter().all(Option::is_none) {
                table.clear();
            }
        }
        found
    }

    /// An agent without capability is of `pool`, a capability without agent has one of its name.
    fn agent(&mut self, agent: Option<&AgentId>, capability: Option<&Capability>) -> u16 {
        let pool: Capability = "pool".parse().expect("a name");
        let name = agent.map(ToString::to_string).or_else(|| capability.map(ToString::to_string));
        let resolved = ResolvedAgent {
            agent: name.expect("a step names who does it").parse().expect("a name"),
            capability: capability.cloned().unwrap_or(pool),
            manifest: ContentHash::of(b"manifest"),
        };
        let place = self.agents.iter().position(|known| *known == resolved).unwrap_or_else(|| {
            self.agents.push(resolved);
            self.agents.len() - 1
        });
        u16::try_from(place).expect("few agents")
    }
}

/// An inline value with canonical text.
pub fn payload(value: &Value) -> Payload {
    Payload::inline(serde_json::value::RawValue::from_string(canonical_json(value)).expect("JSON"))
}
