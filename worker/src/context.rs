//! What a handler learns about the run it is.

use std::sync::Arc;

use millstream_model::ids::{AgentId, ExecutionId, StepId, WorkflowId};
use millstream_model::task::Task;
use millstream_model::time::Timestamp;
use millstream_model::trace::{SpanId, TraceParent};

/// One run of a step; cheap to clone.
///
/// A run that times out, is cancelled or loses its broker is stopped by dropping its future at
/// the next `await`. Work that must not stop half-way belongs into a task of its own, work that
/// blocks into [`tokio::task::spawn_blocking`], which cannot be stopped at all.
#[derive(Debug, Clone)]
pub struct Context {
    task: Arc<Task>,
    attempt: u32,
    trace: Option<TraceParent>,
}

impl Context {
    pub(crate) fn new(task: Arc<Task>, attempt: u32, trace: Option<TraceParent>) -> Self {
        Self { task, attempt, trace }
    }

    /// The same run, for calls that belong to the span `id`.
    pub(crate) fn below(&self, id: SpanId) -> Self {
        Self { trace: self.trace.map(|parent| TraceParent { span: id, ..parent }), ..self.clone() }
    }

    /// The execution this run is part of.
    pub fn execution(&self) -> ExecutionId {
        self.task.key.execution
    }

    /// The workflow of the execution.
    pub fn workflow(&self) -> &WorkflowId {
        &self.task.workflow
    }

    /// The step that is run.
    pub fn step(&self) -> &StepId {
        &self.task.key.step
    }

    /// Index of the element, in a fan-out.
    pub fn item(&self) -> Option<u32> {
        self.task.key.item
    }

    /// The number of this run, from 1 to [`Context::max_attempts`]. A worker's death counts.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How many runs the step permits.
    pub fn max_attempts(&self) -> u32 {
        self.task.max_attempts
    }

    /// The agent that was asked.
    pub fn agent(&self) -> &AgentId {
        &self.task.agent
    }

    /// The same for every attempt: hand it to external systems, so that they do things once.
    pub fn idempotency_key(&self) -> &str {
        &self.task.idempotency_key
    }

    /// How long this run may take, in milliseconds.
    pub fn timeout_ms(&self) -> u64 {
        self.task.timeout_ms
    }

    /// When the whole execution ends.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.task.deadline
    }

    /// The trace context to pass on.
    pub fn trace(&self) -> Option<TraceParent> {
        self.trace
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// The first item of a step `fetch`.
    pub(crate) fn context(attempt: u32) -> Context {
        let task: Task = serde_json::from_value(json!({
            "v": 1,
            "ns": "default",
            "partition": 3,
            "key": {
                "execution": "0193a5a0-0000-7000-8000-000000000003",
                "step": "fetch", "item": 0, "activation": 0, "attempt": 1
            },
            "workflow": "invoices",
            "capability": "http",
            "agent": "erp",
            "manifest": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "max_attempts": 3,
            "timeout_ms": 60_000,
            "idempotency_key": "k-1",
            "token": "000102030405060708090a0b0c0d0e0f",
            "input": {"json": null}
        }))
        .expect("a task");
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok();
        Context::new(Arc::new(task), attempt, trace)
    }
}
