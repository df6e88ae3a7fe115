//! Keeps a task alive while something is awaited for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{AckError, Acker};
use millstream_model::entry::Entry;
use millstream_model::error::StepError;
use millstream_model::event::{Event as Live, EventType};
use millstream_model::task::Task;
use millstream_model::time::Timestamp;
use millstream_model::trace::{SpanId, TraceId, TraceParent};
use millstream_telemetry::spans::{self, Kind, Span};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::adapter::failure::Cause;
use crate::clock::now;
use crate::context::{Context, Pulse};
use crate::protocol::{Clocks, Delivered, Due, Event, Next, Outcome};
use crate::run::Shared;

/// The machine of one delivery and what happens to it by itself: time, cancels, the worker's end.
pub(crate) struct Tending<'a> {
    shared: &'a Shared,
    task: &'a Arc<Task>,
    trace: Option<TraceParent>,
    machine: Delivered<'a>,
    acker: Acker,
    clocks: Clocks,
    pulled: Instant,
    started_at: Timestamp,
    /// The worker's span, when it is exported.
    span: Option<SpanId>,
    pulse: Arc<Pulse>,
    /// How long the agent's turn was waited for, once it is called.
    waited: Option<Duration>,
    cancels: watch::Receiver<()>,
}

type Reply = Pin<Box<dyn Future<Output = Result<(), AckError>> + Send>>;

impl<'a> Tending<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        task: &'a Arc<Task>,
        trace: Option<TraceParent>,
        machine: Delivered<'a>,
        acker: Acker,
    ) -> Self {
        let pulled = Instant::now();
        Self {
            shared,
            task,
            trace,
            machine,
            acker,
            clocks: Clocks::default(),
            pulled,
            started_at: Timestamp::default(),
            span: None,
            pulse: Arc::new(Pulse::new(pulled)),
            waited: None,
            cancels: shared.cancelled.subscribe(),
        }
    }

    pub(crate) fn acker(&self) -> &Acker {
        &self.acker
    }

    /// The number of the run.
    pub(crate) fn ordinal(&self) -> u32 {
        self.machine.ordinal()
    }

    /// Tells the machine what happened.
    pub(crate) fn on(&mut self, event: Event) -> Next {
        self.machine.on(event)
    }

    /// A run starts: its clocks run, and its span has an id.
    pub(crate) fn start(&mut self, started_at: Timestamp) -> Context {
        self.started_at = started_at;
        self.clocks.start(self.now_ms(), self.task.time_ms(started_at));
        self.span = self.trace.filter(|parent| parent.sampled && spans::enabled()).map(|_| spans::new_id());
        let trace = match (self.trace, self.span) {
            (Some(parent), Some(span)) => Some(TraceParent { span, ..parent }),
            (parent, _) => parent,
        };
        Context::new(Arc::clone(self.task), self.machine.ordinal(), trace, started_at, Arc::clone(&self.pulse))
    }

    /// The agent is called, after its turn was waited for so long: from here on its silence counts.
    pub(crate) fn call(&mut self, waited: Duration) {
        self.waited = Some(waited);
        self.clocks.call(self.now_ms(), self.task.heartbeat_ms);
    }

    /// The agent has answered. Progress goes on until the ack.
    pub(crate) fn stop(&mut self) {
        self.clocks.stop();
        // While it runs, an answer is nothing that interrupts it.
        self.machine.on(Event::Answered);
    }

    /// Awaits `work` and keeps the task alive meanwhile. What interrupts it drops it, and says what is next.
    pub(crate) async fn tend<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Next> {
        tokio::pin!(work);
        let sleep = tokio::time::sleep_until(self.wake());
        tokio::pin!(sleep);
        let mut asked: Option<(u64, Reply)> = None;
        let shared = self.shared;
        loop {
            let event = tokio::select! {
                biased;
                output = &mut work => return Ok(output),
                answer = async { asked.as_mut().expect("a branch for a question").1.as_mut().await }, if asked.is_some() => {
                    if let (Ok(()), Some((at, _))) = (answer, asked.take()) {
                        self.clocks.confirm(at);
                        sleep.as_mut().reset(self.wake());
                    }
                    continue;
                }
                Ok(()) = self.cancels.changed() => {
                    if !shared.cancelled.covers(&self.task.key) {
                        continue;
                    }
                    Event::CancelSeen { started_at: self.started_at, now: now() }
                }
                () = shared.over.cancelled() => Event::GraceOver,
                () = &mut sleep => {
                    let at = self.now_ms();
                    self.clocks.heard(self.pulse.heard_ms());
                    let due = self.clocks.due(at);
                    sleep.as_mut().reset(self.wake());
                    match due {
                        Due::Timeout => Event::Ran(self.stopped(self.timed_out())),
                        Due::Silent => Event::Ran(self.stopped(self.silent())),
                        Due::Lost => Event::ProgressLost,
                        Due::Progress => {
                            asked = Some((at, progress(self.acker.clone())));
                            continue;
                        }
                        Due::Notice => {
                            self.announce();
                            continue;
                        }
                        Due::Nothing => continue,
                    }
                }
            };
            match self.machine.on(event) {
                Next::Continue => {}
                next => return Err(next),
            }
        }
    }

    /// Records the span of a run that ended by itself, and gives its id when there is one.
    pub(crate) fn record(&self, start: Timestamp, end: Timestamp, error: Option<&StepError>) -> Option<SpanId> {
        self.record_span(start, end, error.map(|error| format!("{}: {}", error.code, error.message)));
        self.span
    }

    /// Records the span of a run that was stopped.
    pub(crate) fn record_stopped(&self, start: Timestamp, next: &Next) {
        if self.span.is_none() {
            return;
        }
        let why = match next {
            Next::Append(entry) => match &**entry {
                Entry::TaskFailed(failed) => format!("{}: {}", failed.error.code, failed.error.message),
                _ => "stopped".to_owned(),
            },
            Next::HandBack { .. } => "handed back: the worker stops".to_owned(),
            _ => "given up: the broker did not confirm progress".to_owned(),
        };
        self.record_span(start, now(), Some(why));
    }

    fn record_span(&self, start: Timestamp, end: Timestamp, error: Option<String>) {
        let (Some(parent), Some(id)) = (self.trace, self.span) else { return };
        let key = &self.task.key;
        let mut attributes = vec![
            ("messaging.system", spans::Value::from("nats")),
            ("messaging.operation.type", "process".into()),
            ("millstream.execution.id", key.execution.to_string().into()),
            ("millstream.workflow.id", self.task.workflow.to_string().into()),
            ("millstream.step.id", key.step.to_string().into()),
            ("millstream.agent.id", self.task.agent.to_string().into()),
            ("millstream.attempt", self.machine.ordinal().into()),
            ("millstream.worker.id", self.shared.worker.to_string().into()),
        ];
        attributes.extend(key.item.map(|item| ("millstream.item", item.into())));
        spans::record(Span {
            trace: parent.trace,
            id,
            parent: Some(parent.span),
            links: Vec::new(),
            kind: Kind::Consumer,
            name: format!("process {}", self.task.capability).into(),
            start,
            end,
            attributes,
            error,
        });
    }

    fn stopped(&self, error: StepError) -> Outcome {
        Outcome { started_at: self.started_at, ended_at: now(), span: self.span, result: Err(error) }
    }

    fn timed_out(&self) -> StepError {
        let timeout_ms = self.task.timeout_ms;
        match self.waited {
            Some(waited) => Cause::TimeUp.error_with(
                format!("no answer within {timeout_ms} ms; the attempt was stopped"),
                json!({"timeout_ms": timeout_ms, "waited_for_its_turn_ms": millis(waited)}),
            ),
            None => Cause::TimeUp.error_with(
                format!("the agent could not be called within {timeout_ms} ms: its manifest or its input did not come"),
                json!({"timeout_ms": timeout_ms}),
            ),
        }
    }

    fn silent(&self) -> StepError {
        let heartbeat_ms = self.task.heartbeat_ms.unwrap_or_default();
        let message = format!("no heartbeat within {heartbeat_ms} ms; the attempt was stopped");
        Cause::Silent.error_with(message, json!({"heartbeat_ms": heartbeat_ms}))
    }

    /// Tells whoever watches that the step is running. Nobody relies on it.
    fn announce(&self) {
        let key = &self.task.key;
        let of_attempt = || SpanId::of_attempt(key.execution, &key.step, key.item, key.activation, key.attempt);
        let event = Live {
            id: None,
            kind: EventType::StepStarted,
            stage: EventType::StepStarted.stage(),
            time: self.started_at,
            execution_id: key.execution,
            workflow_id: self.task.workflow.clone(),
            step_id: Some(key.step.clone()),
            item: key.item,
            attempt: Some(self.machine.ordinal()),
            worker_id: Some(self.shared.worker.clone()),
            trace_id: self.trace.map_or_else(|| TraceId::of(key.execution), |parent| parent.trace),
            span_id: self.span.unwrap_or_else(of_attempt),
            data: serde_json::Value::Null,
        };
        let broker = self.shared.broker.clone();
        tokio::spawn(async move {
            if let Err(error) = broker.publish_live(&event).await {
                tracing::debug!(%error, "a running step was not announced");
            }
        });
    }

    fn now_ms(&self) -> u64 {
        millis(self.pulled.elapsed())
    }

    fn wake(&self) -> Instant {
        // A timeout may be a year; no timer needs to be set that far.
        self.pulled + Duration::from_millis(self.clocks.next_ms())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn progress(acker: Acker) -> Reply {
    Box::pin(async move { acker.progress().await })
}
