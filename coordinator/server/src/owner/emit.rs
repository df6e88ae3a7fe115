//! Performs effects: renders inputs, publishes tasks, evaluates what the fold leaves to the owner.
//!
//! What needs the payload store goes through a background [`Job`] and comes back as a [`Done`]; everything else is
//! sent at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{Broker, PayloadError, PublishError, PublishedTask};
use millstream_engine::effect::Evaluate;
use millstream_engine::scope::{Missing, Unfit};
use millstream_engine::{Effect, Execution, TaskRef};
use millstream_model::batch::encode;
use millstream_model::elements::Elements;
use millstream_model::entry::{Entry, Evaluated, Evaluation, Unrenderable};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::ids::ExecutionId;
use millstream_model::limits::{INLINE_MAX, RESULT_MAX};
use millstream_model::payload::{Body, Payload, PayloadRef};
use millstream_model::plan::StepIndex;
use millstream_telemetry::spans;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc};

use super::payloads::Fetched;
use super::spans::publish_span;

/// Background jobs at a time; each may hold a value of the largest size.
const JOBS_MAX: usize = 8;
/// Task publishes whose PubAck is awaited.
const UNCONFIRMED_MAX: usize = 16_384;
/// Before what could not be appended is tried again.
const LATER: Duration = Duration::from_secs(1);
/// Between two tries of the payload store.
const RETRY: Duration = Duration::from_millis(200);

/// What is tried again once values are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    Publish(TaskRef),
    Evaluate(Evaluate),
}

/// What background work gave.
#[derive(Debug)]
pub enum Done {
    /// The values that jobs were missing; or why they cannot be had.
    Fetched(Wanted, Result<Vec<(PayloadRef, Arc<RawValue>)>, String>),
    /// What failed for a passing reason is tried again.
    Again(Job),
    /// A task's input is in the payload store.
    InputStored(TaskRef, Payload),
    /// An evaluated value is in the payload store.
    ValueStored(Box<Evaluated>),
    /// A task was refused, or it is unknown whether it is in the queue.
    Unpublished(TaskRef, PublishError),
}

/// Values of an execution that a job is missing.
type Wanted = (ExecutionId, Vec<PayloadRef>);

/// What became of a job.
#[derive(Debug)]
pub enum Attempted {
    /// It is under way; nothing is left to do here.
    Sent,
    /// This is to be appended.
    Append(Entry),
    /// The task was not sent and must be tried again.
    NotSent(TaskRef, PublishError),
}

/// The emitting half of an owner.
pub struct Emitter {
    broker: Broker,
    fetched: Fetched,
    /// Values on their way here, and the jobs that wait for them: a list that a fan-out of thousands reads is
    /// fetched once.
    fetching: BTreeMap<Wanted, Vec<Job>>,
    /// Tasks whose input is being stored.
    storing: BTreeSet<TaskRef>,
    /// Lists that steps fan out over.
    elements: BTreeMap<(ExecutionId, StepIndex), Elements>,
    unconfirmed: mpsc::Sender<(TaskRef, PublishedTask)>,
    done: mpsc::UnboundedSender<Done>,
    jobs: Arc<Semaphore>,
}

impl Emitter {
    pub fn new(broker: Broker, done: mpsc::UnboundedSender<Done>) -> Self {
        let (unconfirmed, published) = mpsc::channel(UNCONFIRMED_MAX);
        tokio::spawn(confirm(published, done.clone()));
        Self {
            broker,
            fetched: Fetched::default(),
            fetching: BTreeMap::new(),
            storing: BTreeSet::new(),
            elements: BTreeMap::new(),
            unconfirmed,
            done,
            jobs: Arc::new(Semaphore::new(JOBS_MAX)),
        }
    }

    /// Renders a task's input and publishes it.
    pub async fn publish(&mut self, execution: &Execution, task: TaskRef) -> Attempted {
        match self.render(execution, &task) {
            Err(Missing(references)) => self.fetch(execution, Job::Publish(task), references),
            Ok(Err(unfit)) => self.unrenderable(execution, task, unfit.to_string()),
            Ok(Ok(input)) if input.text().is_some_and(|text| text.len() > INLINE_MAX) => {
                self.storing.insert(task);
                self.store_input(task, &input);
                Attempted::Sent
            }
            Ok(Ok(input)) => self.send(execution, task, input).await,
        }
    }

    /// Whether a task waits here for values to come or its input to be stored.
    pub fn prepares(&self, task: &TaskRef) -> bool {
        self.storing.contains(task) || self.fetching.values().any(|jobs| jobs.contains(&Job::Publish(*task)))
    }

    /// Tries what failed for a passing reason once more, in a while.
    pub fn later(&self, effects: Vec<Effect>) {
        let jobs: Vec<Job> = effects
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Publish(task) => Some(Job::Publish(task)),
                Effect::Evaluate(what) => Some(Job::Evaluate(what)),
                Effect::Cancel(_) | Effect::End(_) => None,
            })
            .collect();
        let done = self.done.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LATER).await;
            // The owner has stopped when nobody listens.
            jobs.into_iter().for_each(|job| drop(done.send(Done::Again(job))));
        });
    }

    /// Publishes a task whose input is ready.
    pub async fn send(&mut self, execution: &Execution, task: TaskRef, input: Payload) -> Attempted {
        self.storing.remove(&task);
        let Some((message, mut trace)) = execution.task(&task, input) else {
            return self.unrenderable(execution, task, "the step has no agent".to_owned());
        };
        if spans::enabled() {
            trace.sampled = spans::sampled(trace.trace, execution.caller().as_ref());
        }
        let bytes = encode(&message);
        match self.broker.publish_task(&message.capability, message.partition, bytes, Some(trace)).await {
            Ok(published) => {
                publish_span(execution, &message, &trace);
                if self.unconfirmed.send((task, published)).await.is_err() {
                    tracing::debug!("the collector of PubAcks has stopped");
                }
                Attempted::Sent
            }
            Err(error) => Attempted::NotSent(task, error),
        }
    }

    /// Evaluates what reads values that are not in the state.
    pub fn evaluate(&mut self, execution: &Execution, what: Evaluate) -> Attempted {
        match execution.evaluate(what, &self.fetched.values()) {
            Err(Missing(references)) => self.fetch(execution, Job::Evaluate(what), references),
            Ok(evaluated) => self.answer(evaluated),
        }
    }

    /// Values have come; returns the jobs that wait for them, to be tried before the next call.
    pub fn keep(&mut self, wanted: &Wanted, values: Vec<(PayloadRef, Arc<RawValue>)>) -> Vec<Job> {
        for (reference, value) in values {
            self.fetched.insert(reference, value);
        }
        self.fetching.remove(wanted).unwrap_or_default()
    }

    /// Drops values beyond the budget.
    pub fn trim(&mut self) {
        self.fetched.trim();
    }

    /// The execution has ended.
    pub fn forget(&mut self, execution: ExecutionId) {
        self.storing.retain(|task| task.execution != execution);
        self.elements.retain(|(id, _), _| *id != execution);
    }

    /// A job cannot have the values it needs.
    pub fn give_up(&self, execution: &Execution, job: Job, reason: String) -> Attempted {
        match job {
            Job::Publish(task) => self.unrenderable(execution, task, reason),
            Job::Evaluate(what) => {
                let error = StepError::new(ErrorCode::InvalidInput, reason);
                Attempted::Append(Entry::Evaluated(failed(execution, what, error)))
            }
        }
    }

    fn render(&mut self, execution: &Execution, task: &TaskRef) -> Result<Result<Payload, Unfit>, Missing> {
        let item = match task.item {
            None => None,
            Some(index) => match self.item(execution, task.step, index)? {
                Ok(text) => Some(text),
                Err(unfit) => return Ok(Err(unfit)),
            },
        };
        execution.render_input(task, item, &self.fetched.values())
    }

    fn item(
        &mut self,
        execution: &Execution,
        step: StepIndex,
        index: u32,
    ) -> Result<Result<Arc<RawValue>, Unfit>, Missing> {
        let key = (execution.id(), step);
        if !self.elements.contains_key(&key) {
            match execution.items(step, &self.fetched.values())? {
                Ok(elements) => self.elements.insert(key, elements),
                Err(unfit) => return Ok(Err(unfit)),
            };
        }
        let elements = self.elements.get(&key).filter(|elements| (index as usize) < elements.len());
        let text = elements.map(|elements| elements.get(index as usize).to_owned());
        Ok(match text.and_then(|text| RawValue::from_string(text).ok()) {
            Some(text) => Ok(Arc::from(text)),
            None => Err(Unfit(format!("the list has no element {index}"))),
        })
    }

    fn unrenderable(&self, execution: &Execution, task: TaskRef, reason: String) -> Attempted {
        Attempted::Append(Entry::Unrenderable(Unrenderable { task: execution.task_key(&task), reason }))
    }

    fn answer(&self, evaluated: Evaluated) -> Attempted {
        let Evaluation::Value(Payload { enc: None, body: Body::Inline(text) }) = &evaluated.outcome else {
            return Attempted::Append(Entry::Evaluated(evaluated));
        };
        let size = text.get().len();
        if size <= INLINE_MAX {
            return Attempted::Append(Entry::Evaluated(evaluated));
        }
        if size > RESULT_MAX {
            let message = format!("the value has {size} bytes, the limit is {RESULT_MAX}");
            let outcome = Evaluation::Failed(StepError::new(ErrorCode::ResultTooLarge, message));
            return Attempted::Append(Entry::Evaluated(Evaluated { outcome, ..evaluated }));
        }
        let text = text.clone();
        self.in_background(async move |broker| {
            let reference = store(&broker, evaluated.execution, text.get()).await;
            let outcome = Evaluation::Value(Payload::stored(reference));
            Done::ValueStored(Box::new(Evaluated { outcome, ..evaluated }))
        });
        Attempted::Sent
    }

    fn store_input(&self, task: TaskRef, input: &Payload) {
        let Body::Inline(text) = &input.body else {
            return;
        };
        let text = text.clone();
        self.in_background(async move |broker| {
            let reference = store(&broker, task.execution, text.get()).await;
            Done::InputStored(task, Payload::stored(reference))
        });
    }

    fn fetch(&mut self, execution: &Execution, job: Job, references: Vec<PayloadRef>) -> Attempted {
        let size: u64 = references.iter().map(|reference| reference.size).sum();
        if size > RESULT_MAX as u64 {
            let reason = format!("it reads {size} bytes of stored values, the limit is {RESULT_MAX}");
            return self.give_up(execution, job, reason);
        }
        let execution = execution.id();
        let wanted = (execution, references);
        let waiting = self.fetching.entry(wanted.clone()).or_default();
        waiting.push(job);
        if waiting.len() == 1 {
            self.in_background(async move |broker| {
                let values = fetch(&broker, execution, &wanted.1).await;
                Done::Fetched(wanted, values)
            });
        }
        Attempted::Sent
    }

    fn in_background<F, R>(&self, work: F)
    where
        F: FnOnce(Broker) -> R + Send + 'static,
        R: Future<Output = Done> + Send,
    {
        let (broker, done, jobs) = (self.broker.clone(), self.done.clone(), self.jobs.clone());
        tokio::spawn(async move {
            let _permit = jobs.acquire().await;
            // The owner has stopped when nobody listens; the next one does the work again.
            drop(done.send(work(broker).await));
        });
    }
}

async fn confirm(mut published: mpsc::Receiver<(TaskRef, PublishedTask)>, done: mpsc::UnboundedSender<Done>) {
    while let Some((task, ack)) = published.recv().await {
        if let Err(error) = ack.await
            && done.send(Done::Unpublished(task, error)).is_err()
        {
            return;
        }
    }
}

async fn fetch(
    broker: &Broker,
    execution: ExecutionId,
    references: &[PayloadRef],
) -> Result<Vec<(PayloadRef, Arc<RawValue>)>, String> {
    let mut values = Vec::with_capacity(references.len());
    for &reference in references {
        let value = loop {
            match broker.get_payload(execution, reference).await {
                Ok(value) => break value,
                Err(error @ (PayloadError::Missing { .. } | PayloadError::Corrupt { .. })) => {
                    return Err(error.to_string());
                }
                Err(error) if error.is_retryable() => tokio::time::sleep(RETRY).await,
                Err(error) => return Err(error.to_string()),
            }
        };
        values.push((reference, Arc::from(value)));
    }
    Ok(values)
}

/// Stores a value, however long that takes: without it the execution cannot go on.
async fn store(broker: &Broker, execution: ExecutionId, text: &str) -> PayloadRef {
    let mut told = false;
    loop {
        match broker.put_payload(execution, text).await {
            Ok(reference) => return reference,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%execution, %error, "a value cannot be stored yet");
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn failed(execution: &Execution, what: Evaluate, error: StepError) -> Evaluated {
    let step = match what {
        Evaluate::Condition(_, step) | Evaluate::Items(_, step) | Evaluate::Aggregate(_, step) => Some(step),
        Evaluate::Output(_) => None,
    };
    Evaluated {
        execution: execution.id(),
        step: step.map(|step| execution.plan().step(step).id.clone()),
        outcome: Evaluation::Failed(error),
    }
}
