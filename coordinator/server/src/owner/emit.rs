//! Turns what is owed into commands: renders inputs of tasks, evaluates what the fold leaves to the owner, and knows
//! which jobs wait for values to come or to be stored.
//!
//! ```text
//!   Job ─▶ render / evaluate ─▶ Publish, or an entry
//!            │         │
//!     values │         │ large
//!   Fetch ◀──┘         └──▶ Store ─▶ Publish, or an entry
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_engine::scope::{Missing, Unfit};
use millstream_engine::{Evaluate, Execution, TaskRef};
use millstream_model::batch::encode;
use millstream_model::elements::Elements;
use millstream_model::entry::{Entry, Evaluated, Evaluation, Unrenderable};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::ids::ExecutionId;
use millstream_model::limits::{INLINE_MAX, RESULT_MAX};
use millstream_model::payload::{Body, Payload, PayloadRef};
use millstream_model::plan::StepIndex;
use serde_json::value::RawValue;

use super::command::{Command, Job, Wanted};
use super::payloads::Fetched;

/// What became of a job.
#[derive(Debug)]
pub enum Attempted {
    /// This is to be done.
    Do(Command),
    /// This is to be appended.
    Append(Entry),
    /// It waits for what is under way.
    Waits,
}

/// The emitting half of an owner.
#[derive(Debug, Default)]
pub struct Emitter {
    fetched: Fetched,
    /// Values on their way here, and the jobs that wait for them: a list that a fan-out of thousands reads is
    /// fetched once.
    fetching: BTreeMap<Wanted, BTreeSet<Job>>,
    /// Values on their way to the store.
    storing: BTreeMap<Job, Storing>,
    /// Lists that steps fan out over.
    elements: BTreeMap<(ExecutionId, StepIndex), Elements>,
}

#[derive(Debug)]
struct Storing {
    text: Arc<RawValue>,
    /// What is appended when it is an evaluated value.
    evaluated: Option<Evaluated>,
}

impl Emitter {
    /// Renders a task's input; what is not too large for a message is ready to be published.
    pub fn publish(&mut self, execution: &Execution, task: TaskRef) -> Attempted {
        match self.render(execution, &task) {
            Err(Missing(references)) => self.fetch(execution, Job::Publish(task), references),
            Ok(Err(unfit)) => unrenderable(execution, &task, unfit.to_string()),
            Ok(Ok(Payload { enc: None, body: Body::Inline(text) })) if text.get().len() > INLINE_MAX => {
                self.store(Job::Publish(task), text, None)
            }
            Ok(Ok(input)) => send(execution, task, input),
        }
    }

    /// Evaluates what reads values that are not in the state.
    pub fn evaluate(&mut self, execution: &Execution, what: Evaluate) -> Attempted {
        match execution.evaluate(what, &self.fetched.values()) {
            Err(Missing(references)) => self.fetch(execution, Job::Evaluate(what), references),
            Ok(evaluated) => self.answer(what, evaluated),
        }
    }

    /// Whether a task waits here for values to come or its input to be stored.
    pub fn prepares(&self, task: &TaskRef) -> bool {
        let job = Job::Publish(*task);
        self.storing.contains_key(&job) || self.fetching.values().any(|jobs| jobs.contains(&job))
    }

    /// Jobs that wait for values, values on their way to the store, lists that steps fan out over.
    pub fn in_mind(&self) -> usize {
        self.fetching.len() + self.storing.len() + self.elements.len()
    }

    /// Values have come.
    pub fn keep(&mut self, values: Vec<(PayloadRef, Arc<RawValue>)>) {
        for (reference, value) in values {
            self.fetched.insert(reference, value);
        }
    }

    /// Takes out the jobs that wait for these values.
    pub fn release(&mut self, wanted: &Wanted) -> BTreeSet<Job> {
        self.fetching.remove(wanted).unwrap_or_default()
    }

    /// Drops values beyond the budget.
    pub fn trim(&mut self) {
        self.fetched.trim();
    }

    /// The value of a job that is on its way to the store.
    pub fn to_store(&self, job: Job) -> Option<Arc<RawValue>> {
        self.storing.get(&job).map(|storing| storing.text.clone())
    }

    /// The value of a job is in the store, under this reference.
    pub fn stored(&mut self, execution: &Execution, job: Job, reference: PayloadRef) -> Attempted {
        let Some(storing) = self.storing.remove(&job) else {
            return Attempted::Waits;
        };
        match (job, storing.evaluated) {
            (Job::Publish(task), _) => send(execution, task, Payload::stored(reference)),
            (Job::Evaluate(_), Some(evaluated)) => {
                let outcome = Evaluation::Value(Payload::stored(reference));
                Attempted::Append(Entry::Evaluated(Evaluated { outcome, ..evaluated }))
            }
            (Job::Evaluate(_), None) => Attempted::Waits,
        }
    }

    /// Nobody waits any more for the value of a job to be stored.
    pub fn drop_value(&mut self, job: Job) {
        self.storing.remove(&job);
    }

    /// The execution has ended.
    pub fn forget(&mut self, execution: ExecutionId) {
        self.storing.retain(|job, _| job.execution() != execution);
        self.elements.retain(|(id, _), _| *id != execution);
    }

    /// A job cannot have the values it needs.
    pub fn give_up(&self, execution: &Execution, job: Job, reason: String) -> Attempted {
        match job {
            Job::Publish(task) => unrenderable(execution, &task, reason),
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

    fn answer(&mut self, what: Evaluate, evaluated: Evaluated) -> Attempted {
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
        self.store(Job::Evaluate(what), text, Some(evaluated))
    }

    fn store(&mut self, job: Job, text: Arc<RawValue>, evaluated: Option<Evaluated>) -> Attempted {
        let under_way = self.storing.insert(job, Storing { text: text.clone(), evaluated }).is_some();
        if under_way { Attempted::Waits } else { Attempted::Do(Command::Store { job, text }) }
    }

    fn fetch(&mut self, execution: &Execution, job: Job, references: Vec<PayloadRef>) -> Attempted {
        let size: u64 = references.iter().map(|reference| reference.size).sum();
        if size > RESULT_MAX as u64 {
            let reason = format!("it reads {size} bytes of stored values, the limit is {RESULT_MAX}");
            return self.give_up(execution, job, reason);
        }
        let wanted = Wanted { execution: execution.id(), references };
        let waiting = self.fetching.entry(wanted.clone()).or_default();
        let first = waiting.is_empty();
        waiting.insert(job);
        if first { Attempted::Do(Command::Fetch(wanted)) } else { Attempted::Waits }
    }
}

/// Publishes a task whose input is ready.
fn send(execution: &Execution, task: TaskRef, input: Payload) -> Attempted {
    let Some((message, trace)) = execution.task(&task, input) else {
        return unrenderable(execution, &task, "the step has no agent".to_owned());
    };
    let encoded = encode(&message);
    let (capability, partition) = (message.capability, message.partition);
    Attempted::Do(Command::Publish { task, capability, partition, message: encoded, trace })
}

fn unrenderable(execution: &Execution, task: &TaskRef, reason: String) -> Attempted {
    Attempted::Append(Entry::Unrenderable(Unrenderable { task: execution.task_key(task), reason }))
}

fn failed(execution: &Execution, what: Evaluate, error: StepError) -> Evaluated {
    let step = match what {
        Evaluate::Condition(_, step) | Evaluate::Items(_, step) | Evaluate::Aggregate(_, step) => Some(step),
        Evaluate::Output(_) => None,
    };
    Evaluated {
        execution: execution.id(),
        step: step.map(|step| execution.plan().step(step).id.clone()),
        round: execution.round(),
        outcome: Evaluation::Failed(error),
    }
}
