//! The owner's part: it renders inputs, evaluates, and looks after its queue.

use std::sync::Arc;

use millstream_engine::{Evaluate, TaskRef};
use millstream_model::entry::{ClaimAbandoned, Entry, Evaluation, Reissued, Unpublishable, Unrenderable};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::limits::INLINE_MAX;
use millstream_model::payload::{Body, Payload, PayloadRef};
use serde_json::value::RawValue;

use super::stage::{Due, Stage};
use super::workers::Delivery;

/// When a task that is missing is found to be.
const SWEEP_MS: u64 = 32_000;
/// What entries of the owner take.
const OWNER_MS: u64 = 1;

impl Stage<'_> {
    /// Publishes a task, unless its input cannot be built or the script says that it does not arrive.
    pub fn publish(&mut self, task: TaskRef) {
        let execution = self.refold.partition.execution(task.execution).expect("effects are those of executions");
        let values = self.known_values();
        let item = task.item.map(|index| {
            let elements = execution.items(task.step, &values).expect("all values are here").expect("a list");
            Arc::from(RawValue::from_string(elements.get(index as usize).to_owned()).expect("JSON"))
        });
        let key = execution.task_key(&task);
        let input = match execution.render_input(&task, item, &values).expect("all values are here") {
            Ok(input) => input,
            Err(unfit) => {
                let entry = Entry::Unrenderable(Unrenderable { task: key, reason: unfit.to_string() });
                self.after(OWNER_MS, Due::Control(entry));
                return;
            }
        };
        let (message, _) = execution.task(&task, input).expect("a published step has an agent");
        let next = self.peek(&message.key);
        if let Some(refusal) = next.denied {
            self.skip_run(&key);
            let error = StepError::new(ErrorCode::PermissionDenied, refusal);
            self.after(OWNER_MS, Due::Control(Entry::Unpublishable(Unpublishable { task: key, error })));
        } else if next.missing {
            self.skip_run(&key);
            self.after(SWEEP_MS, Due::Sweep(task));
        } else {
            self.after(OWNER_MS, Due::Deliver(Box::new(Delivery { task: message, delivered: 1 })));
        }
    }

    /// A task is still owed and not in the queue.
    pub fn sweep(&mut self, task: TaskRef) {
        let execution = self.refold.partition.execution(task.execution).expect("it was submitted");
        if execution.is_outstanding(&task) {
            let reissue = execution.task_key(&execution.reissue_of(&task));
            self.append_control(&[Entry::Reissued(Reissued { task: reissue })]);
        }
    }

    /// The holder of a claim has been gone for long.
    pub fn presence(&mut self, task: TaskRef) {
        if self.refold.partition.held().any(|(held, _)| held == task) {
            let execution = self.refold.partition.execution(task.execution).expect("it was submitted");
            let task = execution.task_key(&task);
            self.append_control(&[Entry::ClaimAbandoned(ClaimAbandoned { ordinal: task.attempt, task })]);
        }
    }

    /// Evaluates what reads values that are not in the state.
    pub fn evaluate(&mut self, what: Evaluate) {
        let execution = self.refold.partition.execution(what.execution()).expect("it was submitted");
        let mut evaluated = execution.evaluate(what, &self.known_values()).expect("all values are here");
        if let Evaluation::Value(payload) = &evaluated.outcome
            && payload.size() > INLINE_MAX
        {
            evaluated.outcome = Evaluation::Value(self.stored(payload.clone()));
        }
        self.after(OWNER_MS, Due::Control(Entry::Evaluated(evaluated)));
    }

    /// The value in the payload store.
    pub fn stored(&mut self, payload: Payload) -> Payload {
        let Body::Inline(text) = payload.body else {
            return payload;
        };
        let reference = PayloadRef::to(text.get());
        self.values.insert(reference, text);
        Payload::stored(reference)
    }
}
