//! What a broken or hostile worker writes on the result subject.

use bytes::Bytes;
use millstream_model::batch::{BatchBuilder, encode_entry};
use millstream_model::entry::{Entry, Run, TaskFailed, TaskSucceeded, Timer, TimerFired};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::ids::{Capability, Namespace};
use millstream_model::payload::Payload;
use millstream_model::task::{Task, TaskKey};
use millstream_model::token::Secret;

use super::Worker;
use crate::simulation::coverage::{Phase, Phases};
use crate::simulation::faults::Fault;
use crate::simulation::physics::Physics;
use crate::simulation::request::Request;

/// What lies have for an output: nothing may ever come of it.
pub const LIE: &str = "a lie";

impl Worker {
    /// Now and then it lies about a task that it was given.
    pub(super) fn lie(&mut self, task: &Task, physics: &mut Physics) {
        if !physics.strikes(Fault::Lies, || Phases::of(Phase::Append)) {
            return;
        }
        let others: Vec<Capability> = self.lanes.iter().map(|lane| lane.capability.clone()).collect();
        let (capability, batch) = match physics.dice.below(6) {
            0 => (task.capability.clone(), Bytes::from_static(b"nonsense")),
            1 => {
                let text = br#"{"invented_kind":{"of":"entry"}}"#;
                (task.capability.clone(), batch(text))
            }
            2 => {
                let deadline = TimerFired { execution: task.key.execution, timer: Timer::Deadline };
                (task.capability.clone(), batch(&encode_entry(&Entry::TimerFired(deadline))))
            }
            3 => {
                // Success without a token that fits.
                let entry = self.invented(task, task.key.clone(), Secret::new(physics.dice.bytes()), physics);
                (task.capability.clone(), batch(&encode_entry(&entry)))
            }
            4 => {
                // The token of one attempt for another one.
                let key = TaskKey { attempt: task.key.attempt + 1, ..task.key.clone() };
                let entry = succeeded(self, key, task, task.token, physics);
                (task.capability.clone(), batch(&encode_entry(&entry)))
            }
            _ => {
                // The right token, on the subject of another capability.
                let entry = succeeded(self, task.key.clone(), task, task.token, physics);
                let other = others.iter().find(|other| **other != task.capability);
                let Some(other) = other else { return };
                (other.clone(), batch(&encode_entry(&entry)))
            }
        };
        let life = self.life;
        physics.tell(|| format!("{life} lies about {:?}", task.key));
        physics.tell_broker(self.life, Request::AppendResults { capability, batch });
    }

    fn invented(&self, task: &Task, key: TaskKey, secret: Secret, physics: &mut Physics) -> Entry {
        let token = secret.token(&key.step, key.item, key.activation, key.attempt);
        if physics.dice.chance(500) {
            return succeeded(self, key, task, token, physics);
        }
        let run = run(self, task, token, physics);
        Entry::TaskFailed(TaskFailed { task: key, run, error: StepError::new(ErrorCode::InvalidInput, LIE) })
    }
}

fn succeeded(
    worker: &Worker,
    key: TaskKey,
    task: &Task,
    token: millstream_model::token::Token,
    physics: &Physics,
) -> Entry {
    let output = Payload::from_value(&serde_json::Value::String(LIE.to_owned()));
    let run = run(worker, task, token, physics);
    Entry::TaskSucceeded(TaskSucceeded { task: key, run, output, metrics: None })
}

fn run(worker: &Worker, task: &Task, token: millstream_model::token::Token, physics: &Physics) -> Run {
    let now = physics.wall(worker.life.node);
    let ordinal = task.key.attempt;
    Run { ordinal, token, worker: worker.id.clone(), started_at: now, ended_at: now, span: None }
}

fn batch(entry: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(&Namespace::default(), 512 * 1024);
    builder.push(entry);
    builder.finish()
}
