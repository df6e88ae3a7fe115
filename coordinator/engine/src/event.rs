//! Events, expanded from the records of an execution when someone asks.

use millstream_model::error::StepError;
use millstream_model::event::{Event, EventType};
use millstream_model::payload::{Body, Payload};
use millstream_model::plan::StepIndex;
use millstream_model::position::EventId;
use millstream_model::time::Timestamp;
use millstream_model::trace::SpanId;
use millstream_model::view::{ExecutionStatus, StepStatus};
use serde_json::{Map, Value, json};

use crate::activation::{self, Role};
use crate::execution::Execution;
use crate::record::{Cancel, End, Ran, Record, Retrying, Subject, What};
use crate::scope::Values;
use crate::step::{Output, State, failed_status};

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
                (kind, Some(*subject), failed_data(error))
            }
            What::FellBack(subject, _, error) => {
                let mut data = failed_data(error);
                data["fallback"] = json!(self.fallback_name(subject.step));
                (EventType::StepFallback, Some(*subject), data)
            }
            What::Retrying(subject, _, retrying) => (EventType::StepRetrying, Some(*subject), retrying_data(retrying)),
            What::Cancelled(subject, _, how) => {
                let phase = match how {
                    Cancel::NotRunning => "not_running",
                    Cancel::Acknowledged => "acknowledged",
                    Cancel::Forced => "forced",
                };
                (EventType::StepCancelled, Some(*subject), json!({ "cancel": phase }))
            }
            What::Skipped(step, skip) => {
                (EventType::StepSkipped, Some(Subject::of_step(*step)), json!({ "reason": self.reason(*skip) }))
            }
            What::FanOutStarted(step, total) => {
                (EventType::FanOutStarted, Some(Subject::of_step(*step)), json!({ "total": total }))
            }
            What::FanOutCompleted(step, view) => {
                let data = json!({
                    "total": view.total, "completed": view.completed, "failed": view.failed, "skipped": view.skipped,
                });
                (EventType::FanOutCompleted, Some(Subject::of_step(*step)), data)
            }
            What::CancelRequested(request) => {
                let data = json!({ "by": request.by, "reason": request.reason, "compensate": request.compensate });
                (EventType::WorkflowCancelRequested, None, data)
            }
            What::Compensating(effects) => (EventType::WorkflowCompensating, None, json!({ "effects": effects })),
            What::CompensationScheduled(subject) => {
                (EventType::StepCompensating, Some(*subject), self.routing_data(subject))
            }
            What::Compensated(subject, ran) => {
                (EventType::StepCompensated, Some(*subject), Value::Object(run_data(ran.as_deref())))
            }
            What::CompensationRetrying(subject, _, retrying) => {
                (EventType::StepRetrying, Some(*subject), retrying_data(retrying))
            }
            What::CompensationFailed(subject, _, error) => {
                (EventType::StepCompensationFailed, Some(*subject), failed_data(error))
            }
            What::Resumed(resume) => {
                (EventType::WorkflowResumed, None, json!({ "by": resume.by, "reason": resume.reason }))
            }
            What::Aggregated => (EventType::WorkflowAggregated, None, self.aggregated_data()),
            What::Ended(end) => (terminal_type(end.status), None, terminal_data(end)),
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
        let Some(agent) = self.agent_of(subject.step, subject.activation) else {
            return Value::Null;
        };
        let step = self.plan.step(subject.step);
        let named = match activation::role(subject.activation) {
            Some(Role::Compensation) => step.compensate.as_ref().and_then(|c| c.agent_id.as_ref()),
            Some(Role::Fallback) => step.fallback.as_ref().and_then(|f| f.agent_id.as_ref()),
            Some(Role::Run) | None => step.agent_id.as_ref(),
        };
        let reason = match named {
            Some(_) => "the step names the agent",
            None => "first active agent with the capability",
        };
        json!({ "target": agent.agent, "capability": agent.capability, "reason": reason, "alternatives": [] })
    }

    fn completed_data(&self, subject: &Subject, ran: Option<&Ran>) -> Value {
        let mut data = run_data(ran);
        if let Some(output) = self.output_shown(subject) {
            data.insert("output".to_owned(), output);
        }
        Value::Object(data)
    }

    /// The output as it was in the round of `subject`, if it is here.
    fn output_shown(&self, subject: &Subject) -> Option<Value> {
        let round = activation::round(subject.activation);
        let state = self.step(subject.step);
        let archived =
            self.archive.range((subject.step, round)..).next().filter(|((step, _), _)| *step == subject.step);
        if let (Some(item), State::FanningOut(fan_out)) = (subject.item, &state.state)
            && archived.is_none()
        {
            return fan_out.output(item).map(shown);
        }
        match (archived.map(|(_, output)| output).or_else(|| state.output()), subject.item) {
            (Some(Output::List(outputs)), Some(item)) => outputs.get(item as usize)?.as_ref().map(shown),
            (_, Some(item)) => state.item_outputs()?.get(item as usize)?.as_ref().map(shown),
            (Some(output), None) => Values::Inline.output(output).ok().map(|text| parsed(&text)),
            (None, None) => None,
        }
    }

    fn aggregated_data(&self) -> Value {
        match &self.output {
            Some(output) => json!({ "output": shown(output) }),
            None => Value::Null,
        }
    }
}

impl Subject {
    /// The step itself, without an attempt.
    fn of_step(step: StepIndex) -> Self {
        Self { step, item: None, activation: 0, attempt: 0 }
    }
}

fn terminal_type(status: ExecutionStatus) -> EventType {
    match status {
        ExecutionStatus::Cancelled => EventType::WorkflowCancelled,
        ExecutionStatus::Timeout => EventType::WorkflowTimeout,
        ExecutionStatus::Completed => EventType::WorkflowCompleted,
        ExecutionStatus::Failed | ExecutionStatus::Pending | ExecutionStatus::Running => EventType::WorkflowFailed,
    }
}

fn terminal_data(end: &End) -> Value {
    let mut data = Map::new();
    data.insert("status".to_owned(), json!(end.status));
    data.insert("partial".to_owned(), json!(end.partial));
    if let Some(error) = &end.failure {
        data.insert("error".to_owned(), json!(error));
    }
    if let Some(result) = &end.result {
        data.insert("partial_result".to_owned(), json!(result));
    }
    if end.compensated + end.uncompensated > 0 {
        let effects = json!({ "compensated": end.compensated, "standing": end.uncompensated });
        data.insert("effects".to_owned(), effects);
    }
    Value::Object(data)
}

fn failed_data(error: &StepError) -> Value {
    json!({ "error": error, "failure_mode": error.code.failure_mode() })
}

fn retrying_data(retrying: &Retrying) -> Value {
    json!({
        "error": retrying.error,
        "failure_mode": retrying.error.code.failure_mode(),
        "delay_ms": retrying.delay_ms,
        "next_attempt": retrying.next_attempt,
    })
}

/// What is known of a run.
fn run_data(ran: Option<&Ran>) -> Map<String, Value> {
    let mut data = Map::new();
    if let Some(ran) = ran {
        data.insert("duration_ms".to_owned(), json!(ran.ended_at.millis_since(ran.started_at)));
        if let Some(metrics) = &ran.metrics {
            data.insert("metrics".to_owned(), shown(metrics));
        }
    }
    data
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
