//! The outside witness: every side effect, as the world outside of Millstream sees it.

use std::collections::BTreeMap;

use millstream_model::ids::ExecutionId;
use millstream_model::task::{Purpose, Task, TaskKey};
use millstream_model::time::Timestamp;

use super::agenda::Time;
use super::network::Life;

/// What is done at most so often: a step, or an item of it, under one budget of attempts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    pub execution: ExecutionId,
    pub step: String,
    pub item: Option<u32>,
    pub activation: u32,
}

impl Subject {
    pub fn of(key: &TaskKey) -> Self {
        Self { execution: key.execution, step: key.step.to_string(), item: key.item, activation: key.activation }
    }
}

/// An agent was called.
#[derive(Debug, Clone)]
pub struct SideEffect {
    pub at: Time,
    pub life: Life,
    /// The attempt that its task was published for.
    pub attempt: u32,
    pub ordinal: u32,
    pub purpose: Purpose,
    pub max_attempts: u32,
    /// By the worker's clock.
    pub started_at: Timestamp,
    /// After this the worker may not have started it.
    pub not_after: Option<Timestamp>,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub struct Witness {
    effects: BTreeMap<Subject, Vec<SideEffect>>,
    /// Effects that nobody has looked at yet.
    fresh: Vec<(Subject, SideEffect)>,
}

impl Witness {
    pub fn see(&mut self, task: &Task, ordinal: u32, life: Life, at: Time, started_at: Timestamp) {
        let effect = SideEffect {
            at,
            life,
            attempt: task.key.attempt,
            ordinal,
            purpose: task.purpose,
            max_attempts: task.max_attempts,
            started_at,
            not_after: task.not_after.or(task.deadline),
        };
        let subject = Subject::of(&task.key);
        self.fresh.push((subject.clone(), effect.clone()));
        self.effects.entry(subject).or_default().push(effect);
    }

    /// Takes what was seen since the last call.
    pub fn take_fresh(&mut self) -> Vec<(Subject, SideEffect)> {
        std::mem::take(&mut self.fresh)
    }

    /// What was seen of a subject, oldest first.
    pub fn of(&self, subject: &Subject) -> &[SideEffect] {
        self.effects.get(subject).map_or(&[], Vec::as_slice)
    }

    pub fn all(&self) -> impl Iterator<Item = (&Subject, &[SideEffect])> {
        self.effects.iter().map(|(subject, effects)| (subject, effects.as_slice()))
    }

    pub fn count(&self) -> usize {
        self.effects.values().map(Vec::len).sum()
    }
}
