//! Folding a journal, as an owner does.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream_engine::{Applied, Effect, Execution, Ignored, Origin, Outcome, Partition, Want, render};
use millstream_model::batch::encode_entry;
use millstream_model::entry::Entry;
use millstream_model::ids::ExecutionId;
use millstream_model::plan::Plan;
use millstream_model::transcript::{Transcribed, Transcript};

use super::journal::{Message, Read};

/// A partition and what may be installed in it.
#[derive(Debug)]
pub struct Refold {
    pub partition: Partition,
    plans: Vec<Arc<Plan>>,
    /// Of every execution, those that were archived too.
    transcripts: BTreeMap<ExecutionId, Transcript>,
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
        Self { partition: Partition::default(), plans: plans.to_vec(), transcripts: BTreeMap::new() }
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
        self.bring(origin, &entry);
        let (about, begins, text) = (entry.execution(), matches!(entry, Entry::Submitted(_)), encode_entry(&entry));
        let Applied { outcome, effects } =
            self.partition.apply(read.position, read.time, origin, entry).expect("no reason to halt");
        let rendered = effects.iter().map(|effect| self.render(effect)).collect();
        let fact = Fact { kind, outcome: render::outcome(&outcome), effects, rendered };
        if let Some(id) = about {
            if begins && outcome == Outcome::Accepted {
                let execution = self.partition.execution(id).expect("it was submitted");
                self.transcripts.insert(id, Transcript::new(execution.revisions()));
            }
            let unseen = matches!(outcome, Outcome::Ignored(Ignored::UnknownExecution | Ignored::Ended));
            if let Some(transcript) = self.transcripts.get_mut(&id).filter(|_| !unseen) {
                let by = read.by.capability();
                transcript.push(read.position, read.time, by, &text);
            }
        }
        fact
    }

    /// What the execution can be folded again from.
    pub fn transcript(&self, execution: ExecutionId) -> Option<Bytes> {
        self.transcripts.get(&execution).map(Transcript::finish)
    }

    fn bring(&mut self, origin: Origin<'_>, entry: &Entry) {
        match self.partition.wants(origin, entry) {
            Some(Want::Definition(hash)) => {
                let plan = self.plans.iter().find(|plan| plan.hash == hash).expect("the scenario has the definition");
                self.partition.install(plan.clone());
            }
            Some(Want::Transcript(id, _)) => {
                let transcript = self.transcript(id).expect("it was submitted");
                self.partition.recall(refolded(&transcript, &self.plans));
            }
            Some(Want::Parked(..)) => unreachable!("nobody parks here"),
            None => {}
        }
    }

    fn render(&self, effect: &Effect) -> String {
        let id = execution_of(effect);
        let execution = self.partition.execution(id).expect("effects are those of executions");
        let text = render::effect(execution, effect);
        if self.partition.executions().count() > 1 { format!("{text} of {id}") } else { text }
    }
}

/// The execution of a compressed transcript.
pub fn refolded(transcript: &Bytes, plans: &[Arc<Plan>]) -> Box<Execution> {
    let transcript = Transcribed::read(transcript).expect("a transcript");
    let (_, definition) = millstream_engine::refold::submission(&transcript).expect("it begins with a submission");
    let plan = plans.iter().find(|plan| plan.hash == definition).expect("the scenario has the definition");
    Execution::refold(&transcript, plan.clone()).expect("no reason to halt")
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
