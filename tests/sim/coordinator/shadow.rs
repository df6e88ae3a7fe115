//! What planted bugs of an owner's shell know and do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use millstream_coordinator::owner::failure::PublishFailure;
use millstream_coordinator::owner::machine::Message;
use millstream_engine::scope::Values;
use millstream_engine::{Effect, Origin, Partition, TaskRef, Want};
use millstream_model::batch::{Written, encode};
use millstream_model::entry::{Entry, Epoch, Scanned};
use millstream_model::hash::ContentHash;
use millstream_model::ids::{Capability, ExecutionId, NodeId};
use millstream_model::names::JournalSubject;
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::task::{Task, TaskKey};

use crate::simulation::physics::Physics;
use crate::simulation::plants::Plant;
use crate::simulation::request::NoReply;

/// See the module; empty without a bug.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    /// Messages that were folded.
    pub(super) folded: u64,
    /// Executions that were there when the owner took over.
    pub(super) inherited: BTreeSet<ExecutionId>,
    /// A marker is on its way.
    pub(super) marker_owed: bool,
    partition: Partition,
    emitted: Vec<(TaskRef, Capability, Bytes)>,
    published: BTreeMap<TaskKey, (TaskRef, Capability, Bytes)>,
    last_scan: Option<Vec<TaskKey>>,
}

impl Shadow {
    /// Folds what the core folds in silence, and notes what it would publish.
    pub(super) fn replay(&mut self, message: &Message, plans: &BTreeMap<ContentHash, Arc<Plan>>) {
        for (index, entry) in message.entries.iter().enumerate() {
            let (Some(written), Some(subject)) = (entry, &message.subject) else { continue };
            let origin = match subject {
                JournalSubject::Control => Origin::Control,
                JournalSubject::Result(capability) => Origin::Result(capability),
            };
            if let Some(Want::Definition(hash)) = self.partition.wants(origin, &written.entry)
                && let Some(plan) = plans.get(&hash)
            {
                self.partition.install(Arc::clone(plan));
            }
            let index = u16::try_from(index).expect("a batch has at most 256 entries");
            let position = Position { sequence: message.sequence, index };
            let Ok(applied) = self.partition.apply(position, message.time, origin, written.entry.clone()) else {
                return;
            };
            for effect in applied.effects {
                if let Effect::Publish(task) = effect {
                    self.emitted.extend(message_of(&self.partition, task));
                }
            }
        }
    }

    pub(super) fn take_emitted(&mut self) -> Vec<(TaskRef, Capability, Bytes)> {
        std::mem::take(&mut self.emitted)
    }

    pub(super) fn remember(&mut self, task: TaskRef, capability: &Capability, message: &Bytes) {
        if let Ok(Task { key, .. }) = serde_json::from_slice(message) {
            self.published.insert(key, (task, capability.clone(), message.clone()));
        }
    }

    pub(super) fn published(&self, key: &TaskKey) -> Option<(TaskRef, Capability, Bytes)> {
        self.published.get(key).cloned()
    }

    /// What a scan gave; with the bug every second one gives what the one before did.
    pub(super) fn scan(&mut self, keys: Vec<TaskKey>, repeats: bool) -> Vec<TaskKey> {
        match self.last_scan.take().filter(|_| repeats) {
            Some(last) => last,
            None => {
                self.last_scan = repeats.then(|| keys.clone());
                keys
            }
        }
    }
}

/// A task without items, whose input needs no stored values.
fn message_of(partition: &Partition, task: TaskRef) -> Option<(TaskRef, Capability, Bytes)> {
    let execution = partition.execution(task.execution).filter(|_| task.item.is_none())?;
    let input = execution.render_input(&task, None, &Values::Inline).ok()?.ok()?;
    let (message, _) = execution.task(&task, input)?;
    Some((task, message.capability.clone(), encode(&message)))
}

/// Epochs of others become entries that say nothing.
pub(super) fn hide_epochs(message: &mut Message, own: &NodeId) {
    for written in message.entries.iter_mut().flatten() {
        if let Entry::Epoch(Epoch { node, epoch, .. }) = &written.entry
            && node != own
        {
            *written = Written::of(Entry::Scanned(Scanned { node: node.clone(), epoch: *epoch }));
        }
    }
}

/// Whether a bug takes this refusal of an append for a success.
pub(super) fn taken_for_success(failure: &NoReply, physics: &Physics) -> bool {
    let NoReply::Refused(refusal) = failure else { return false };
    match refusal.code {
        10077 => physics.planted(Plant::FullJournalAsDuplicate),
        10164 => physics.planted(Plant::UnsettledAsSuccess),
        _ => false,
    }
}

/// What a bug takes a failed publish for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misjudged {
    No,
    Full,
    Success,
    Again,
}

pub(super) fn misjudged(failure: &PublishFailure, physics: &Physics) -> Misjudged {
    match failure {
        PublishFailure::QueueFull | PublishFailure::StreamFull if physics.planted(Plant::FullQueueAsDuplicate) => {
            Misjudged::Success
        }
        PublishFailure::NoStream if physics.planted(Plant::LostQueueAsFull) => Misjudged::Full,
        PublishFailure::Unknown if physics.planted(Plant::UnknownPublishAsSuccess) => Misjudged::Success,
        PublishFailure::Unknown if physics.planted(Plant::UnknownPublishRepeated) => Misjudged::Again,
        _ => Misjudged::No,
    }
}

/// Epochs of lower numbers than the one in force become newer ones.
pub(super) fn renumber_epochs(message: &mut Message, in_force: Option<u64>) {
    let Some(in_force) = in_force else { return };
    for written in message.entries.iter_mut().flatten() {
        if let Entry::Epoch(epoch) = &written.entry
            && epoch.epoch <= in_force
        {
            *written = Written::of(Entry::Epoch(Epoch { epoch: in_force + 1, ..epoch.clone() }));
        }
    }
}

/// An entry that stands for nothing, in place of one that a bug drops.
pub(super) fn nothing() -> Entry {
    Entry::Scanned(Scanned { node: "nobody".parse().expect("a name"), epoch: 0 })
}
