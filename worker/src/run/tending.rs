//! Keeps a task alive while something is awaited for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{AckError, Acker};
use millstream_model::entry::Entry;
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::event::{Event as Live, EventType};
use millstream_model::task::Task;
use millstream_model::time::Timestamp;
use millstream_model::trace::{SpanId, TraceId, TraceParent};
use millstream_telemetry::spans::{self, Kind, Span};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::now;
use crate::context::Context;
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
    /// The agent has answered: from here on only the worker's end stops the task.
    answered: bool,
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
        Self {
            shared,
            task,
            trace,
            machine,
            acker,
            clocks: Clocks::default(),
            pulled: Instant::now(),
            started_at: Timestamp::default(),
            span: None,
            answered: false,
            cancels: shared.cancelled.subscribe(),
        }
    }

    pub(crate) fn acker(&self) -> &Acker {
        &self.acker
    }

    /// Tells the machine what happened.
    pub(crate) fn on(&mut self, event: Event) -> Next {
        self.machine.on(event)
    }

    /// A run starts: its clocks run, and its span has an id.
    pub(crate) fn start(&mut self, started_at: Timestamp) -> Context {
        self.started_at = started_at;
        self.clocks.start(self.now_ms(), self.task.timeout_ms);
        self.span = self.trace.filter(|parent| parent.sampled && spans::enabled()).map(|_| spans::new_id());
        let trace = match (self.trace, self.span) {
            (Some(parent), Some(span)) => Some(TraceParent { span, ..parent }),
            (parent, _) => parent,
        };
        Context::new(Arc::clone(self.task), self.machine.ordinal(), trace)
    }

    /// The agent has answered. Progress goes on until the ack.
    pub(crate) fn stop(&mut self) {
        self.clocks.stop();
        self.answered = true;
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
                    if self.answered || !shared.cancelled.contains(self.task.key.execution) {
                        continue;
                    }
                    Event::CancelSeen { started_at: self.started_at, now: now() }
                }
                () = shared.over.cancelled() => Event::GraceOver,
                () = &mut sleep => {
                    let at = self.now_ms();
                    let due = self.clocks.due(at);
                    sleep.as_mut().reset(self.wake());
                    match due {
                        Due::Timeout => Event::Ran(self.timed_out()),
                        Due::Lost if self.answered => continue,
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

    fn timed_out(&self) -> Outcome {
        let message = format!("no answer within {} ms; the attempt was stopped", self.task.timeout_ms);
        let error = StepError::new(ErrorCode::Timeout, message);
        Outcome { started_at: self.started_at, ended_at: now(), span: self.span, result: Err(error) }
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
        u64::try_from(self.pulled.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn wake(&self) -> Instant {
        // A timeout may be a year; no timer needs to be set that far.
        self.pulled + Duration::from_millis(self.clocks.next_ms())
    }
}

fn progress(acker: Acker) -> Reply {
    Box::pin(async move { acker.progress().await })
}
