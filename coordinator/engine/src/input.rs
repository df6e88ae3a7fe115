//! What the owner renders with the engine's pure functions: inputs of tasks, items of fan-outs, the output.

use std::sync::Arc;

use millstream_model::elements::Elements;
use millstream_model::entry::{Evaluated, Evaluation};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::ids::{Namespace, Partition};
use millstream_model::payload::{Body, Payload};
use millstream_model::plan::{StepIndex, Work};
use millstream_model::task::{PROTOCOL, Purpose, Task, TaskKey};
use millstream_model::trace::{SpanId, TraceParent};
use serde_json::value::RawValue;

use crate::activation::{self, Role};
use crate::effect::{Evaluate, TaskRef};
use crate::execution::Execution;
use crate::scope::{Missing, Seen, Unfit, Values};
use crate::step::Output;

impl Execution {
    /// The elements that a step fans out over.
    pub fn items(&self, step: StepIndex, values: &Values<'_>) -> Result<Result<Elements, Unfit>, Missing> {
        let Work::FanOut { items } = &self.plan.planned(step).work else {
            return Ok(Err(Unfit("the step does not fan out".to_owned())));
        };
        let scope = self.scope(items.reads(), Seen::default(), values)?;
        Ok(items
            .evaluate_raw(&scope)
            .map_err(Unfit::from)
            .and_then(|list| Elements::parse(list).map_err(|error| Unfit(format!("{}: {error}", items.text())))))
    }

    /// The input of a task. `item` is the element of a fan-out.
    pub fn render_input(
        &self,
        task: &TaskRef,
        item: Option<Arc<RawValue>>,
        values: &Values<'_>,
    ) -> Result<Result<Payload, Unfit>, Missing> {
        let item = task.item.zip(item);
        let planned = self.plan.planned(task.step);
        if activation::role(task.activation) == Some(Role::Compensation) {
            return self.render_compensation(task, item.as_ref(), values);
        }
        let Some(template) = &planned.input else {
            return Ok(Ok(match item {
                Some((_, text)) => Payload { enc: None, body: Body::Inline(text) },
                None => self.submitted.input.clone(),
            }));
        };
        let seen = Seen { item: item.as_ref().map(|(i, text)| (*i, text)), own: None };
        let scope = self.scope(template.reads(), seen, values)?;
        Ok(template.render(&scope).map(Payload::inline).map_err(Unfit::from))
    }

    /// What undoes an effect gets the output of what had it, unless the definition says otherwise.
    fn render_compensation(
        &self,
        task: &TaskRef,
        item: Option<&(u32, Arc<RawValue>)>,
        values: &Values<'_>,
    ) -> Result<Result<Payload, Unfit>, Missing> {
        let own = (task.step, task.item);
        let Some(template) = &self.plan.planned(task.step).compensation else {
            return Ok(Ok(match self.own_output(own) {
                Some(Output::One(payload) | Output::Whole(payload)) => payload,
                Some(list @ Output::List(_)) => Payload { enc: None, body: Body::Inline(values.output(&list)?) },
                None => Payload::null(),
            }));
        };
        let seen = Seen { item: item.map(|(i, text)| (*i, text)), own: Some(own) };
        let scope = self.scope(template.reads(), seen, values)?;
        Ok(template.render(&scope).map(Payload::inline).map_err(Unfit::from))
    }

    /// The execution's output: `output_map`, or the output of the last COMPLETED step.
    pub fn render_output(&self, values: &Values<'_>) -> Result<Result<Payload, Unfit>, Missing> {
        if let Some(template) = &self.plan.output {
            let scope = self.scope(template.reads(), Seen::default(), values)?;
            return Ok(template.render(&scope).map(Payload::inline).map_err(Unfit::from));
        }
        let last = self.plan.indices().rev().find_map(|step| self.step(step).output());
        Ok(Ok(match last {
            None => Payload::null(),
            Some(Output::One(payload) | Output::Whole(payload)) => payload.clone(),
            Some(list @ Output::List(_)) => Payload { enc: None, body: Body::Inline(values.output(list)?) },
        }))
    }

    /// Answers an [`Evaluate`] with values the owner has fetched. A value that is too large to travel inline is
    /// left for the owner to store.
    pub fn evaluate(&self, what: Evaluate, values: &Values<'_>) -> Result<Evaluated, Missing> {
        let (step, outcome) = match what {
            Evaluate::Condition(_, step) => (Some(step), self.evaluate_condition(step, values)?),
            Evaluate::Items(_, step) => {
                let count = self.items(step, values)?.map(|items| items.len());
                (Some(step), count.map(|count| Evaluation::Items(u32::try_from(count).unwrap_or(u32::MAX))))
            }
            Evaluate::Aggregate(_, step) => {
                let output = match self.aggregate(step, values)? {
                    Ok(output) => Ok(inline(&output, values)?),
                    Err(error) => Err(error),
                };
                (Some(step), output.map(Evaluation::Value))
            }
            Evaluate::Output(_) => (None, self.render_output(values)?.map(Evaluation::Value)),
        };
        let outcome = outcome
            .unwrap_or_else(|error| Evaluation::Failed(StepError::new(ErrorCode::InvalidInput, error.to_string())));
        let step = step.map(|step| self.plan.step(step).id.clone());
        Ok(Evaluated { execution: self.id(), step, round: self.round(), outcome })
    }

    fn evaluate_condition(&self, step: StepIndex, values: &Values<'_>) -> Result<Result<Evaluation, Unfit>, Missing> {
        let Some(condition) = &self.plan.planned(step).condition else {
            return Ok(Ok(Evaluation::Condition(true)));
        };
        let scope = self.scope(condition.reads(), Seen::default(), values)?;
        Ok(condition.evaluate(&scope).map(Evaluation::Condition).map_err(Unfit::from))
    }

    /// The wire name of a task.
    pub fn task_key(&self, task: &TaskRef) -> TaskKey {
        TaskKey {
            execution: task.execution,
            step: self.plan.step(task.step).id.clone(),
            item: task.item,
            activation: task.activation,
            attempt: task.attempt,
        }
    }

    /// Finds what a wire name stands for.
    pub fn find_task(&self, key: &TaskKey) -> Option<TaskRef> {
        Some(TaskRef {
            execution: key.execution,
            step: self.plan.find(&key.step)?,
            item: key.item,
            activation: key.activation,
            attempt: key.attempt,
        })
    }

    /// The message to publish for an attempt, and the trace context that travels with it. `None` for a step
    /// without agent, which has no task.
    pub fn task(&self, task: &TaskRef, input: Payload) -> Option<(Task, TraceParent)> {
        let agent = self.agent_of(task.step, task.activation)?;
        let step = self.plan.step(task.step);
        let key = self.task_key(task);
        let clocks = self.task_clocks(task);
        let role = activation::role(task.activation)?;
        let is_run = role != Role::Compensation;
        let span = SpanId::of_attempt(key.execution, &key.step, key.item, key.activation, key.attempt);
        let sampled = self.submitted.trace.is_none_or(|parent| parent.sampled);
        let message = Task {
            v: PROTOCOL,
            ns: Namespace::clone(&self.submitted.ns),
            partition: self.partition(),
            token: self.submitted.secret.token(&key.step, key.item, key.activation, key.attempt),
            idempotency_key: idempotency_key(&key),
            workflow: self.submitted.workflow.clone(),
            capability: agent.capability.clone(),
            agent: agent.agent.clone(),
            manifest: agent.manifest,
            purpose: match role {
                Role::Compensation => Purpose::Compensation,
                Role::Run | Role::Fallback if self.plan.is_finally(task.step) => Purpose::Finally,
                Role::Run | Role::Fallback => Purpose::Run,
            },
            max_attempts: self.policy(task.step, task.activation).max_attempts(),
            timeout_ms: clocks.timeout_ms,
            heartbeat_ms: step.heartbeat_ms.filter(|_| is_run),
            announce_start: is_run && step.schedule_to_start_ms.is_some(),
            not_after: clocks.not_after,
            deadline: clocks.deadline,
            input,
            key,
        };
        Some((message, TraceParent { trace: self.trace(), span, sampled }))
    }

    fn partition(&self) -> Partition {
        self.id().partition()
    }
}

fn inline(output: &Output, values: &Values<'_>) -> Result<Payload, Missing> {
    Ok(match output {
        Output::One(payload) | Output::Whole(payload) => payload.clone(),
        Output::List(_) => Payload { enc: None, body: Body::Inline(values.output(output)?) },
    })
}

/// Stable over the attempts of one activation.
fn idempotency_key(key: &TaskKey) -> String {
    match key.item {
        Some(item) => format!("{}/{}/{item}/{}", key.execution, key.step, key.activation),
        None => format!("{}/{}/{}", key.execution, key.step, key.activation),
    }
}
