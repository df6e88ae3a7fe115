//! The stage of a scenario: virtual time, an agenda, and the journal that grows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use millstream_engine::Effect;
use millstream_model::batch::{BatchBuilder, encode_entry};
use millstream_model::entry::{Entry, Epoch, Scanned};
use millstream_model::hash::ContentHash;
use millstream_model::ids::{Capability, ExecutionId, Namespace, Partition};
use millstream_model::names::Names;
use millstream_model::payload::PayloadRef;
use millstream_model::plan::Plan;
use millstream_model::time::Timestamp;
use serde_json::value::RawValue;

use super::journal::Message;
use super::refold::Refold;
use super::script::{Act, Script};
use super::workers::{Delivery, Pool};

/// Of every scenario.
pub const PARTITION: Partition = Partition(3);
/// When every scenario begins.
const BEGINNING: Timestamp = Timestamp::from_millis(1_763_648_712_000);
/// No scenario is longer.
const MESSAGES_MAX: usize = 2_000;
/// Half of what NATS takes by default.
const BATCH_SIZE_MAX: usize = 512 * 1024;

/// What a scenario left behind.
#[derive(Debug)]
pub struct Played {
    /// In order.
    pub journal: Vec<Message>,
    /// What the first epoch put in force.
    #[allow(dead_code, reason = "golden journals say it themselves")]
    pub fold_rev: u16,
    /// The payload store.
    #[allow(dead_code, reason = "golden journals are folded without it")]
    pub values: BTreeMap<PayloadRef, Arc<RawValue>>,
    /// Transcripts in the payload store.
    #[allow(dead_code, reason = "golden journals are folded without them")]
    pub transcripts: BTreeMap<PayloadRef, Bytes>,
}

/// What will happen.
#[derive(Debug)]
pub enum Due {
    /// Somebody does something.
    Act(Box<Act>),
    /// The owner appends.
    Control(Entry),
    /// Somebody who is not the coordinator appends.
    Result(Capability, Entry),
    /// A task comes to a worker.
    Deliver(Box<Delivery>),
    /// A run ends.
    Finish(u64),
    /// A task is not in its queue.
    Sweep(millstream_engine::TaskRef),
    /// The presence of a claim's holder has been gone for long.
    Presence(millstream_engine::TaskRef),
}

/// A scenario that is being played.
#[derive(Debug)]
pub struct Stage<'a> {
    pub name: &'a str,
    /// What an epoch says that the script says nothing of.
    fold_rev: u16,
    pub script: &'a Script,
    pub plans: &'a [Arc<Plan>],
    pub now: Timestamp,
    /// What the broker's clock is behind.
    behind_ms: u64,
    pub refold: Refold,
    journal: Vec<Message>,
    /// By time, then in the order they were put here.
    agenda: BTreeMap<(Timestamp, u64), Due>,
    put: u64,
    pub values: BTreeMap<PayloadRef, Arc<RawValue>>,
    transcripts: BTreeMap<PayloadRef, Bytes>,
    pub pool: Pool,
    /// Executions by the name that the script gives them.
    pub names: BTreeMap<String, ExecutionId>,
    /// What people do when an execution ends, last first.
    at_ends: BTreeMap<String, Vec<Act>>,
}

/// Plays a script to its end.
pub fn play(name: &str, fold_rev: u16, script: &Script, plans: &[Arc<Plan>]) -> Played {
    let mut stage = Stage {
        name,
        fold_rev,
        script,
        plans,
        now: BEGINNING,
        behind_ms: 0,
        refold: Refold::new(plans),
        journal: Vec::new(),
        agenda: BTreeMap::new(),
        put: 0,
        values: BTreeMap::new(),
        transcripts: BTreeMap::new(),
        pool: Pool::default(),
        names: BTreeMap::new(),
        at_ends: BTreeMap::new(),
    };
    stage.take_over("coordinator-a", None, None);
    stage.schedule_acts();
    while stage.next() {
        assert!(stage.journal.len() < MESSAGES_MAX, "{name} does not come to its end");
    }
    for execution in stage.refold.partition.executions() {
        assert!(execution.status().is_terminal(), "{name}: {} has not ended", execution.id());
    }
    Played { journal: stage.journal, fold_rev, values: stage.values, transcripts: stage.transcripts }
}

impl Stage<'_> {
    /// Puts something on the agenda.
    pub fn after(&mut self, millis: u64, due: Due) {
        self.at(self.now.plus_millis(millis), due);
    }

    pub fn at(&mut self, at: Timestamp, due: Due) {
        self.put += 1;
        self.agenda.insert((at.max(self.now), self.put), due);
    }

    /// Appends entries on the control subject and performs what they cause.
    pub fn append_control(&mut self, entries: &[Entry]) {
        self.append(&Names::default().journal_control(PARTITION), entries);
    }

    fn append_result(&mut self, capability: &Capability, entry: Entry) {
        self.append(&Names::default().journal_result(PARTITION, capability), &[entry]);
    }

    fn append(&mut self, subject: &str, entries: &[Entry]) {
        let mut builder = BatchBuilder::new(&Namespace::default(), BATCH_SIZE_MAX);
        for entry in entries {
            assert!(builder.push(&encode_entry(entry)), "{}: the batch is too large", self.name);
        }
        self.store(subject, builder.finish());
    }

    fn store(&mut self, subject: &str, payload: Bytes) {
        let sequence = self.journal.len() as u64 + 1;
        let message = Message { sequence, time: self.journal_time(), subject: subject.to_owned(), payload };
        let facts = self.refold.message(&message);
        self.journal.push(message);
        for execution in self.refold.partition.executions() {
            assert_eq!(execution.contradiction(), None, "{}, message {sequence}", self.name);
        }
        for effect in facts.into_iter().flat_map(|fact| fact.effects) {
            self.perform(effect);
        }
    }

    fn schedule_acts(&mut self) {
        let acts = &self.script.people;
        if acts.iter().all(|act| act.submit.is_none()) {
            let workflow = self.plans[0].definition.id.to_string();
            self.after(0, Due::Act(Box::new(Act { submit: Some(workflow), ..Act::default() })));
        }
        for act in acts {
            match &act.at_end_of {
                Some(name) => self.at_ends.entry(name.clone()).or_default().insert(0, act.clone()),
                None => self.after(act.at.unwrap_or_default(), Due::Act(Box::new(act.clone()))),
            }
        }
    }

    /// Lets the next thing happen; false when there is none.
    fn next(&mut self) -> bool {
        let next = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let alarm = self.refold.partition.next_deadline().map(|alarm| alarm.plus_millis(self.behind_ms));
        match (next, alarm) {
            (None, None) => return false,
            (None, Some(alarm)) => self.fire(alarm),
            (Some(at), Some(alarm)) if alarm < at => self.fire(alarm),
            (Some(_), _) => {
                let ((at, _), due) = self.agenda.pop_first().expect("it was there");
                self.now = at;
                self.happen(due);
            }
        }
        true
    }

    fn fire(&mut self, alarm: Timestamp) {
        self.now = self.now.max(alarm);
        let due = self.refold.partition.due(self.journal_time(), 100);
        assert!(!due.is_empty(), "{}: an alarm that is due does not go off", self.name);
        let fired: Vec<Entry> = due.into_iter().map(Entry::TimerFired).collect();
        self.append_control(&fired);
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Act(act) => self.act(*act),
            Due::Control(entry) => {
                let entries = self.grouped(entry);
                self.append_control(&entries);
            }
            Due::Result(capability, entry) => self.append_result(&capability, entry),
            Due::Deliver(delivery) => self.deliver(*delivery),
            Due::Finish(run) => self.finish(run),
            Due::Sweep(task) => self.sweep(task),
            Due::Presence(task) => self.presence(task),
        }
    }

    /// What the owner appends at the same moment travels together.
    fn grouped(&mut self, first: Entry) -> Vec<Entry> {
        let mut entries = vec![first];
        while let Some((at, put)) = self.agenda.first_key_value().map(|(key, _)| *key)
            && at == self.now
            && matches!(self.agenda[&(at, put)], Due::Control(_))
        {
            if let Some(Due::Control(entry)) = self.agenda.remove(&(at, put)) {
                entries.push(entry);
            }
        }
        entries
    }

    pub fn clock_goes_back(&mut self, millis: u64) {
        self.behind_ms += millis;
    }

    fn journal_time(&self) -> Timestamp {
        Timestamp::from_micros(self.now.as_micros() - self.behind_ms * 1_000)
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Publish(task) => self.publish(task),
            Effect::Evaluate(what) => self.evaluate(what),
            Effect::Cancel { execution, below } => self.mark_cancelled(execution, below),
            Effect::End(execution) => self.ended(execution),
        }
    }

    fn ended(&mut self, execution: ExecutionId) {
        let name = self.names.iter().find(|(_, id)| **id == execution).map(|(name, _)| name.clone());
        let name = name.expect("every execution has a name");
        if let Some(act) = self.at_ends.get_mut(&name).and_then(Vec::pop) {
            self.after(1_000, Due::Act(Box::new(act)));
        }
    }

    /// Writes what is not a batch of entries.
    pub fn write_garbage(&mut self, on: &str, text: String) {
        let subject = Names::default().journal_control(PARTITION).replace("control", on);
        self.store(&subject, text.into());
    }

    /// A coordinator takes the partition.
    pub fn take_over(&mut self, node: &str, epoch: Option<u64>, fold_rev: Option<u16>) {
        let node: millstream_model::ids::NodeId = node.parse().expect("a name");
        let epoch = epoch.unwrap_or(self.journal.len() as u64 + 1);
        let fold_rev = fold_rev.unwrap_or(self.fold_rev);
        self.append_control(&[Entry::Epoch(Epoch { node: node.clone(), epoch, fold_rev })]);
        if self.refold.partition.epoch().is_none_or(|(current, _)| current.node != node) {
            return;
        }
        self.append_control(&[Entry::Scanned(Scanned { node, epoch })]);
        let executions: BTreeSet<ExecutionId> = self.names.values().copied().collect();
        for execution in executions {
            let owed = self.refold.partition.execution(execution).map(|e| e.owed()).unwrap_or_default();
            owed.into_iter().for_each(|effect| self.perform(effect));
        }
    }

    /// Puts a transcript into the payload store.
    pub fn keep(&mut self, transcript: Bytes) -> PayloadRef {
        let reference = PayloadRef { hash: ContentHash::of(&transcript), size: transcript.len() as u64 };
        self.transcripts.insert(reference, transcript);
        reference
    }
}
