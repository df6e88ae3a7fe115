//! Planted bugs of the fold: what it is given is changed, for every fold in the world alike.

use std::collections::BTreeMap;

use millstream_coordinator::owner::machine::Message;
use millstream_engine::{Partition, TaskRef};
use millstream_model::batch::Written;
use millstream_model::entry::{Entry, TaskSucceeded};
use millstream_model::ids::ExecutionId;
use millstream_model::task::TaskKey;
use millstream_model::token::{Secret, Token};

use super::plants::Plant;

/// One of so many successes is lost.
const LEAK: u64 = 12;

/// What stands between the journal and one fold.
#[derive(Debug)]
pub struct Tamper {
    plant: Option<Plant>,
    secrets: BTreeMap<ExecutionId, Secret>,
    /// A success that waits for the next entry of its execution.
    held: BTreeMap<ExecutionId, TaskSucceeded>,
}

impl Tamper {
    pub fn new(plant: Option<Plant>) -> Self {
        let here = [
            Plant::DoubleApply,
            Plant::LeakedSlot,
            Plant::StaleActivation,
            Plant::AnyToken,
            Plant::StaleOrdinal,
            Plant::CompensateForward,
        ];
        let plant = plant.filter(|plant| here.contains(plant));
        Self { plant, secrets: BTreeMap::new(), held: BTreeMap::new() }
    }

    /// Whether entries stay in their places, whatever is made of them.
    pub fn rewrites(&self) -> bool {
        !matches!(self.plant, Some(Plant::DoubleApply | Plant::LeakedSlot | Plant::CompensateForward))
    }

    /// The message as the fold is given it.
    pub fn message(&mut self, mut message: Message, partition: &Partition) -> Message {
        let Some(plant) = self.plant else { return message };
        let mut entries = Vec::with_capacity(message.entries.len());
        for (index, written) in message.entries.drain(..).enumerate() {
            let Some(Written { entry, .. }) = written else {
                entries.push(None);
                continue;
            };
            if let Entry::Submitted(submitted) = &entry {
                self.secrets.insert(submitted.execution, submitted.secret);
            }
            let number = message.sequence + index as u64;
            let tampered = self.entry(plant, entry, number, partition).into_iter();
            entries.extend(tampered.map(|entry| Some(Written::of(entry))));
        }
        message.entries = entries;
        message
    }

    fn entry(&mut self, plant: Plant, entry: Entry, number: u64, partition: &Partition) -> Vec<Entry> {
        match (plant, entry) {
            (Plant::LeakedSlot, Entry::TaskSucceeded(_)) if number.is_multiple_of(LEAK) => Vec::new(),
            (Plant::DoubleApply, Entry::TaskSucceeded(entry)) => {
                let next = entry.task.item.and_then(|item| self.moved(&entry, item + 1, partition));
                std::iter::once(entry).chain(next).map(Entry::TaskSucceeded).collect()
            }
            (Plant::AnyToken, mut entry) => {
                self.trust(&mut entry);
                vec![entry]
            }
            (Plant::StaleActivation, mut entry) => {
                self.renew(&mut entry, partition, |task, current| task.activation < current.activation);
                vec![entry]
            }
            (Plant::StaleOrdinal, mut entry @ Entry::TaskFailed(_)) => {
                self.renew(&mut entry, partition, |task, current| {
                    task.activation == current.activation && task.attempt < current.attempt
                });
                vec![entry]
            }
            (Plant::CompensateForward, entry) => self.swap(entry, partition),
            (_, entry) => vec![entry],
        }
    }

    /// The success of one item as that of another one that is outstanding.
    fn moved(&self, entry: &TaskSucceeded, item: u32, partition: &Partition) -> Option<TaskSucceeded> {
        let current = outstanding(partition, &TaskKey { item: Some(item), ..entry.task.clone() })?;
        let mut entry = entry.clone();
        entry.task = partition.execution(current.execution)?.task_key(&current);
        entry.run.token = self.token(&entry.task)?;
        entry.run.ordinal = current.attempt;
        Some(entry)
    }

    /// The right token, whatever it was.
    fn trust(&self, entry: &mut Entry) {
        match entry {
            Entry::TaskSucceeded(e) => e.run.token = self.token(&e.task).unwrap_or(e.run.token),
            Entry::TaskFailed(e) => e.run.token = self.token(&e.task).unwrap_or(e.run.token),
            _ => {}
        }
    }

    /// A result that is stale becomes one of the attempt that is outstanding.
    fn renew(&self, entry: &mut Entry, partition: &Partition, stale: impl Fn(&TaskKey, &TaskRef) -> bool) {
        let (task, run) = match entry {
            Entry::TaskSucceeded(e) => (&mut e.task, &mut e.run),
            Entry::TaskFailed(e) => (&mut e.task, &mut e.run),
            _ => return,
        };
        let Some(current) = outstanding(partition, task).filter(|current| stale(task, current)) else { return };
        let Some(execution) = partition.execution(current.execution) else { return };
        *task = execution.task_key(&current);
        run.ordinal = current.attempt;
        run.token = self.token(task).unwrap_or(run.token);
    }

    /// Of two successes of an execution in a row the second is folded first.
    fn swap(&mut self, entry: Entry, partition: &Partition) -> Vec<Entry> {
        let Some(execution) = entry.execution() else { return vec![entry] };
        let held = self.held.remove(&execution).map(Entry::TaskSucceeded);
        match (entry, held) {
            (Entry::TaskSucceeded(success), None) => {
                let others = partition.execution(execution).map_or(0, |execution| execution.outstanding().len());
                if others < 2 {
                    return vec![Entry::TaskSucceeded(success)];
                }
                self.held.insert(execution, success);
                Vec::new()
            }
            (success @ Entry::TaskSucceeded(_), Some(held)) => vec![success, held],
            (entry, held) => held.into_iter().chain([entry]).collect(),
        }
    }

    fn token(&self, task: &TaskKey) -> Option<Token> {
        let secret = self.secrets.get(&task.execution)?;
        Some(secret.token(&task.step, task.item, task.activation, task.attempt))
    }
}

/// The attempt of a step or item that is outstanding.
fn outstanding(partition: &Partition, key: &TaskKey) -> Option<TaskRef> {
    let execution = partition.execution(key.execution)?;
    let step = execution.plan().find(&key.step)?;
    let tasks = execution.outstanding().into_iter().map(|(task, _)| task);
    tasks.into_iter().find(|task| task.step == step && task.item == key.item)
}
