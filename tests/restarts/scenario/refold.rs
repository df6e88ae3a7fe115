//! Folding a journal, as an owner does.

use std::sync::Arc;

use millstream_engine::{Applied, Effect, Origin, Partition, render};
use millstream_model::entry::Entry;
use millstream_model::ids::ExecutionId;
use millstream_model::plan::Plan;

use super::journal::{Message, Read};

/// A partition and what may be installed in it.
#[derive(Debug)]
pub struct Refold {
    pub partition: Partition,
    plans: Vec<Arc<Plan>>,
}

/// What became of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The entry's kind, as it stands in the journal.
    pub kind: String,
    /// Empty when it was accepted.
    pub outcome: String,
    pub effects: Vec<Effect>,
    /// The effects as lines of text.
    pub rendered: Vec<String>,
}

impl Refold {
    pub fn new(plans: &[Arc<Plan>]) -> Self {
        Self { partition: Partition::default(), plans: plans.to_vec() }
    }

    /// Folds all entries of a message.
    pub fn message(&mut self, message: &Message) -> Vec<Fact> {
        message.read().into_iter().map(|read| self.entry(read)).collect()
    }

    /// Folds an entry. What cannot be read is no entry of the fold.
    pub fn entry(&mut self, read: Read) -> Fact {
        let (Some(origin), Some(entry)) = (read.by.origin(), read.entry) else {
            return Fact {
                kind: "unreadable".to_owned(),
                outcome: "malformed".to_owned(),
                effects: Vec::new(),
                rendered: Vec::new(),
            };
        };
        let kind = kind(&entry);
        self.install(origin, &entry);
        let Applied { outcome, effects } =
            self.partition.apply(read.position, read.time, origin, entry).expect("no reason to halt");
        let rendered = effects.iter().map(|effect| self.render(effect)).collect();
        Fact { kind, outcome: render::outcome(&outcome), effects, rendered }
    }

    fn install(&mut self, origin: Origin<'_>, entry: &Entry) {
        if let Some(hash) = self.partition.wants(origin, entry) {
            let plan = self.plans.iter().find(|plan| plan.hash == hash).expect("the scenario has the definition");
            self.partition.install(plan.clone());
        }
    }

    fn render(&self, effect: &Effect) -> String {
        let id = execution_of(effect);
        let execution = self.partition.execution(id).expect("effects are those of executions");
        let text = render::effect(execution, effect);
        if self.partition.executions().count() > 1 { format!("{text} of {id}") } else { text }
    }
}

fn execution_of(effect: &Effect) -> ExecutionId {
    match effect {
        Effect::Publish(task) => task.execution,
        Effect::Evaluate(what) => what.execution(),
        Effect::Cancel { execution, .. } | Effect::End(execution) => *execution,
    }
}

fn kind(entry: &Entry) -> String {
    let value = serde_json::to_value(entry).expect("an entry has a JSON form");
    let tag = value.as_object().and_then(|object| object.keys().next()).cloned();
    tag.expect("an entry is an object with its kind as its name")
}
