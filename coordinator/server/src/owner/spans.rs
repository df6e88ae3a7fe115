//! Spans of an execution: its root and the publishing of each attempt, with ids derived from the execution.

use millstream_engine::{Execution, TaskRef};
use millstream_model::ids::Capability;
use millstream_model::trace::{SpanId, TraceParent};
use millstream_telemetry::spans::{self, Kind, Span};

pub use millstream_telemetry::spans::enabled;

/// Whether the spans of an execution are wanted.
pub fn sampled(execution: &Execution) -> bool {
    spans::sampled(execution.trace(), execution.caller().as_ref())
}

/// The PRODUCER span of a published task; below it the worker hangs its own.
pub fn publish_span(execution: &Execution, task: &TaskRef, capability: &Capability, trace: &TraceParent) {
    if !spans::enabled() || !trace.sampled {
        return;
    }
    let at = execution.clock();
    spans::record(Span {
        trace: trace.trace,
        id: trace.span,
        parent: Some(SpanId::of_execution(execution.id())),
        links: Vec::new(),
        kind: Kind::Producer,
        name: format!("send {}", capability).into(),
        start: at,
        end: at,
        attributes: vec![
            ("messaging.system", "nats".into()),
            ("messaging.operation.name", "send".into()),
            ("messaging.operation.type", "send".into()),
            ("messaging.destination.name", capability.as_str().to_owned().into()),
            ("millstream.execution.id", execution.id().to_string().into()),
            ("millstream.step.id", execution.plan().step(task.step).id.as_str().to_owned().into()),
            ("millstream.attempt", task.attempt.into()),
        ],
        error: None,
    });
}

/// The root span of an execution that has ended.
pub fn execution_span(execution: &Execution) {
    let trace = execution.trace();
    let caller = execution.caller();
    if !spans::enabled() || !spans::sampled(trace, caller.as_ref()) {
        return;
    }
    let view = execution.view();
    spans::record(Span {
        trace,
        id: SpanId::of_execution(execution.id()),
        parent: caller.map(|caller| caller.span),
        links: Vec::new(),
        kind: Kind::Internal,
        name: format!("execute_workflow {}", view.workflow_id).into(),
        start: view.started_at,
        end: view.ended_at.unwrap_or(view.started_at),
        attributes: vec![
            ("millstream.execution.id", execution.id().to_string().into()),
            ("millstream.workflow.id", view.workflow_id.as_str().to_owned().into()),
            ("millstream.execution.status", view.status.as_str().into()),
        ],
        error: view.error.map(|error| format!("{}: {}", error.error.code, error.error.message)),
    });
}
