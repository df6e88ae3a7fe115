//! Events, expanded from the records of an execution when someone asks.

use millstream_model::event::{Event, EventType};
use millstream_model::payload::{Body, Payload};
use millstream_model::plan::StepIndex;
use millstream_model::position::EventId;
use millstream_model::time::Timestamp;
use millstream_model::trace::SpanId;
use millstream_model::view::{ExecutionStatus, StepStatus};
use serde_json::{Map, Value, json};

use crate::execution::{Execution, Phase};
use crate::record::{Ran, Record, Subject, What};
use crate::step::{Settlement, State, failed_status};

impl Execution {
    /// The events after `after`, oldest first.
    pub fn events(&self, after: Option<EventId>) -> Vec<Event> {
        // A record may hold two events, so the one that contains `after` is looked at too.
        let from = after.map_or(0, |after| self.records.partition_point(|r| r.id <= after).saturating_sub(1));
        let mut events = Vec::new();
        for record in &self.records[from..] {
            self.expand_record(record, &mut events);
        }
        if let Some(after) = after {
            events.retain(|event| event.id > Some(after));
        }
        events
    }

    fn expand_record(&self, record: &Record, events: &mut Vec<Event>) {
        let (kind, subject, data) = match &record.what {
            What::Started => (EventType::WorkflowStarted, None, self.started_data()),
            What::Planned => {
                let steps: Vec<&str> = self.plan.definition.steps.iter().map(|s| s.id.as_str()).collect();
                (EventType::WorkflowPlanned, None, json!({ "steps": steps }))
            }
            What::Scheduled(subject) => (EventType::StepScheduled, Some(*subject), self.routing_data(subject)),
            What::Completed(subject, ran) => {
                (EventType::StepCompleted, Some(*subject), self.completed_data(subject, ran.as_deref()))
            }
            What::Failed(subject, _, error) => {
                let kind = match failed_status(error) {
                    StepStatus::Timeout => EventType::StepTimeout,
                    _ => EventType::StepFailed,
                };
                (kind, Some(*subject), json!({ "error": error }))
            }
            What::Retrying(subject, _, retrying) => {
                let data = json!({
                    "error": retrying.error,
                    "delay_ms": retrying.delay_ms,
                    "next_attempt": retrying.next_attempt,
                });
                (EventType::StepRetrying, Some(*subject), data)
            }
            What::Cancelled(subject, _) => (EventType::StepCancelled, Some(*subject), Value::Null),
            What::Skipped(step, skip) => {
                let subject = Subject { step: *step, item: None, activation: 0, attempt: 0 };
                (EventType::StepSkipped, Some(subject), json!({ "reason": self.reason(*skip) }))
            }
            What::FanOutStarted(step) => {
                let subject = Subject { step: *step, item: None, activation: 0, attempt: 0 };
                let total = self.total_items(*step);
                (EventType::FanOutStarted, Some(subject), json!({ "total": total }))
            }
            What::FanOutCompleted(step) => {
                let subject = Subject { step: *step, item: None, activation: 0, attempt: 0 };
                (EventType::FanOutCompleted, Some(subject), self.fan_out_data(*step))
            }
            What::Aggregated => (EventType::WorkflowAggregated, None, self.aggregated_data()),
            What::Ended => (self.terminal_type(), None, self.terminal_data()),
        };
        let mut id = record.id;
        if let (Some(ran), Some(subject)) = (record.what.ran(), subject) {
            let started = Some(ran);
            events.push(self.event(
                Some(id),
                EventType::StepStarted,
                ran.started_at,
                Some(subject),
                started,
                Value::Null,
            ));
            id.n = id.n.saturating_add(1);
        }
        events.push(self.event(Some(id), kind, record.at, subject, record.what.ran(), data));
    }

    fn event(
        &self,
        id: Option<EventId>,
        kind: EventType,
        time: Timestamp,
        subject: Option<Subject>,
        ran: Option<&Ran>,
        data: Value,
    ) -> Event {
        let step = subject.map(|s| &self.plan.step(s.step).id);
        let span = match (subject, step) {
            (Some(s), Some(step)) if s.attempt > 0 => ran
                .and_then(|ran| ran.span)
                .unwrap_or_else(|| SpanId::of_attempt(self.id(), step, s.item, s.activation, s.attempt)),
            _ => SpanId::of_execution(self.id()),
        };
        Event {
            id,
            kind,
            stage: kind.stage(),
            time,
            execution_id: self.id(),
            workflow_id: self.submitted.workflow.clone(),
            step_id: step.cloned(),
            item: subject.and_then(|s| s.item),
            attempt: subject.map(|s| s.attempt).filter(|&attempt| attempt > 0),
            worker_id: ran.map(|ran| ran.worker.clone()),
            trace_id: self.trace(),
            span_id: span,
            data,
        }
    }

    fn started_data(&self) -> Value {
        let mut data = Map::new();
        data.insert("input".to_owned(), shown(&self.submitted.input));
        if let Some(context) = &self.submitted.context {
            data.insert("context".to_owned(), shown(context));
        }
        if !self.submitted.labels.is_empty() {
            data.insert("labels".to_owned(), json!(self.submitted.labels));
        }
        Value::Object(data)
    }

    fn routing_data(&self, subject: &Subject) -> Value {
        let Some(agent) = self.agent(subject.step) else {
            return Value::Null;
        };
        let reason = match self.plan.step(subject.step).agent_id {
            Some(_) => "the step names the agent",
            None => "first active agent with the capability",
        };
        json!({ "target": agent.agent, "capability": agent.capability, "reason": reason, "alternatives": [] })
    }

    fn completed_data(&self, subject: &Subject, ran: Option<&Ran>) -> Value {
        let mut data = Map::new();
        let output = match subject.item {
            None => self.inline_output(subject.step).map(|text| parsed(&text)),
            Some(item) => self.item_output(subject.step, item).map(shown),
        };
        if let Some(output) = output {
            data.insert("output".to_owned(), output);
        }
        if let Some(ran) = ran {
            data.insert("duration_ms".to_owned(), json!(ran.ended_at.millis_since(ran.started_at)));
            if let Some(metrics) = &ran.metrics {
                data.insert("metrics".to_owned(), shown(metrics));
            }
        }
        Value::Object(data)
    }

    fn fan_out_data(&self, step: StepIndex) -> Value {
        match self.fan_out_view(step, self.item_outputs(step)) {
            Some(view) => json!({ "total": view.total, "completed": view.completed, "failed": view.failed }),
            None => Value::Null,
        }
    }

    fn aggregated_data(&self) -> Value {
        match &self.output {
            Some(output) => json!({ "output": shown(output) }),
            None => Value::Null,
        }
    }

    fn terminal_type(&self) -> EventType {
        match self.phase {
            Phase::Ended(ExecutionStatus::Cancelled) => EventType::WorkflowCancelled,
            Phase::Ended(ExecutionStatus::Timeout) => EventType::WorkflowTimeout,
            Phase::Ended(ExecutionStatus::Completed) => EventType::WorkflowCompleted,
            Phase::Ended(_) | Phase::Running | Phase::Aggregating | Phase::Stopping(_) => EventType::WorkflowFailed,
        }
    }

    fn terminal_data(&self) -> Value {
        let mut data = Map::new();
        data.insert("status".to_owned(), json!(self.status()));
        data.insert("partial".to_owned(), json!(self.partial));
        if let Some(error) = &self.failure {
            data.insert("error".to_owned(), json!(error));
        }
        Value::Object(data)
    }

    fn total_items(&self, step: StepIndex) -> usize {
        match &self.step(step).state {
            State::FanningOut(fan_out) => fan_out.total as usize,
            _ => self.item_outputs(step).map_or(0, |outputs| outputs.len()),
        }
    }

    fn item_output(&self, step: StepIndex, item: u32) -> Option<&Payload> {
        match &self.step(step).state {
            State::FanningOut(fan_out) => fan_out.output(item),
            _ => self.item_outputs(step)?.get(item as usize)?.as_ref(),
        }
    }

    fn item_outputs(&self, step: StepIndex) -> Option<&crate::step::Outputs> {
        match self.step(step).settlement()? {
            Settlement::Completed(crate::step::Output::List(outputs))
            | Settlement::Failed { outputs: Some(outputs), .. }
            | Settlement::Cancelled { outputs: Some(outputs) } => Some(outputs),
            Settlement::Completed(_)
            | Settlement::Failed { .. }
            | Settlement::Cancelled { .. }
            | Settlement::Skipped(_) => None,
        }
    }
}

/// A value as events show it: itself when it is here, else where it is.
fn shown(payload: &Payload) -> Value {
    match &payload.body {
        Body::Inline(text) => parsed(text),
        Body::Stored(reference) => json!({ "ref": reference }),
    }
}

fn parsed(text: &serde_json::value::RawValue) -> Value {
    serde_json::from_str(text.get()).unwrap_or(Value::Null)
}
