//! What a handler learns about the run it is, and what it says of itself meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_model::ids::{AgentId, ExecutionId, StepId, WorkflowId};
use millstream_model::task::Task;
use millstream_model::time::Timestamp;
use millstream_model::trace::{SpanId, TraceParent};
use tokio::time::Instant;

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
    /// When the run is stopped.
    stops_at: Instant,
    pulse: Arc<Pulse>,
}

/// The last sign of life of an agent.
#[derive(Debug)]
pub(crate) struct Pulse {
    since: Instant,
    heard_ms: AtomicU64,
}

impl Pulse {
    /// Counts milliseconds since that moment.
    pub(crate) fn new(since: Instant) -> Self {
        Self { since, heard_ms: AtomicU64::new(0) }
    }

    pub(crate) fn heard_ms(&self) -> u64 {
        self.heard_ms.load(Ordering::Relaxed)
    }

    fn beat(&self) {
        let now_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.fetch_max(now_ms, Ordering::Relaxed);
    }
}

impl Context {
    /// A run that starts now, by the clock `now` too.
    pub(crate) fn new(
        task: Arc<Task>,
        attempt: u32,
        trace: Option<TraceParent>,
        now: Timestamp,
        pulse: Arc<Pulse>,
    ) -> Self {
        let stops_at = Instant::now() + Duration::from_millis(task.time_ms(now));
        Self { task, attempt, trace, stops_at, pulse }
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

    /// When this run is stopped: it has used its time, or the execution has.
    pub fn deadline(&self) -> std::time::Instant {
        self.stops_at.into_std()
    }

    /// What is left until [`Context::deadline`].
    pub fn time_remaining(&self) -> Duration {
        self.stops_at.saturating_duration_since(Instant::now())
    }

    /// When the whole execution ends.
    pub fn execution_deadline(&self) -> Option<Timestamp> {
        self.task.deadline
    }

    /// How long this run may go without [`Context::heartbeat`], in milliseconds.
    pub fn heartbeat_ms(&self) -> Option<u64> {
        self.task.heartbeat_ms
    }

    /// Says that the run makes progress. Where the step has a `heartbeat_ms`, a run that says nothing for longer is
    /// stopped and fails with TIMEOUT. It costs next to nothing: call it as often as there is progress.
    pub fn heartbeat(&self) {
        self.pulse.beat();
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

    #[tokio::test(start_paused = true)]
    async fn a_run_learns_how_much_time_is_left() {
        let context = context(1);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(context.time_remaining(), Duration::from_millis(59_500));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(context.time_remaining(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_execution_that_ends_earlier_leaves_less_time() {
        let mut task = Task::clone(&context(1).task);
        task.deadline = Some(Timestamp::from_millis(3_000));
        let pulse = Arc::new(Pulse::new(Instant::now()));
        let context = Context::new(Arc::new(task), 1, None, Timestamp::from_millis(1_000), pulse);
        assert_eq!(context.time_remaining(), Duration::from_millis(2_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_is_the_latest_sign_of_life() {
        let context = context(1);
        assert_eq!(context.pulse.heard_ms(), 0);
        tokio::time::advance(Duration::from_millis(70)).await;
        context.clone().heartbeat();
        assert_eq!(context.pulse.heard_ms(), 70);
    }

    /// The sign of life that was seen last.
    pub(crate) fn heard_ms(context: &Context) -> u64 {
        context.pulse.heard_ms()
    }

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
        let pulse = Arc::new(Pulse::new(Instant::now()));
        Context::new(Arc::new(task), attempt, trace, Timestamp::from_millis(1_000), pulse)
    }
}
