//! An owner without its IO: it reads a journal, and what it wants to do is written down.

use std::sync::Arc;

use bytes::Bytes;
use millstream_coordinator::owner::clock::Mono;
use millstream_coordinator::owner::command::Command;
use millstream_coordinator::owner::core::{Core, Ownership};
use millstream_coordinator::owner::keeper::Keeping;
use millstream_coordinator::owner::machine;
use millstream_engine::{Partition, TaskRef, Want};
use millstream_model::batch::Batch;
use millstream_model::entry::Entry;
use millstream_model::names::Names;
use millstream_model::payload::PayloadRef;
use millstream_model::plan::Plan;
use millstream_model::task::TaskKey;
use millstream_model::transcript::Transcribed;

use crate::scenario::journal::Message;
use crate::scenario::refold::refolded;
use crate::scenario::stage::Played;

/// Nothing here takes time, so that no alarm and no repetition of the owner comes in between.
const NOW: Mono = Mono(0);

pub struct Owner<'a> {
    core: Core,
    plans: &'a [Arc<Plan>],
    played: &'a Played,
    /// The batch that takes the partition.
    pub epoch: Bytes,
}

impl<'a> Owner<'a> {
    pub fn new(node: &str, epoch: u64, plans: &'a [Arc<Plan>], played: &'a Played) -> Self {
        let node = node.parse().expect("a name");
        let ownership = Ownership {
            node,
            epoch,
            id_prefix: "owner".to_owned(),
            batch_size_max: 512 * 1024,
            connection: Some(1),
            fold_rev: played.fold_rev,
            keeping: Keeping::default(),
        };
        let mut core = Core::new(ownership, None);
        let Some(Command::Append { id, batch }) = core.next_command(NOW) else {
            panic!("an owner begins with its epoch");
        };
        core.appended(&id, Ok(()), NOW);
        Self { core, plans, played, epoch: batch }
    }

    pub fn partition(&self) -> &Partition {
        self.core.partition()
    }

    /// Reads a message, at this place, and returns what it wants to do.
    pub fn read(&mut self, message: &Message, sequence: u64) -> Vec<String> {
        let subject = Names::default().parse_journal(&message.subject);
        let decoded = machine::Message::decode(sequence, message.time, subject, &message.payload);
        let decoded = decoded.expect("coordinators write what they can read");
        for want in self.core.wants(&decoded) {
            self.bring(want);
        }
        self.core.message(decoded, None, NOW).expect("no reason to stop");
        self.deeds()
    }

    fn bring(&mut self, want: Want) {
        match want {
            Want::Definition(hash) => {
                let plan = self.plans.iter().find(|plan| plan.hash == hash).expect("the scenario has the definition");
                self.core.install(plan.clone());
            }
            Want::Transcript(_, reference) => {
                let compressed = &self.played.transcripts[&reference];
                let transcript = Transcribed::read(compressed).expect("a transcript").to_transcript();
                self.core.recall(refolded(compressed, self.plans), transcript);
            }
            Want::Parked(..) => unreachable!("no time passes, so nothing is parked"),
        }
    }

    /// Performs what can be performed here and writes down the rest.
    fn deeds(&mut self) -> Vec<String> {
        let mut deeds = Vec::new();
        while let Some(command) = self.core.next_command(NOW) {
            match command {
                Command::Append { id, batch } => {
                    self.core.appended(&id, Ok(()), NOW);
                    deeds.extend(appended(&batch));
                }
                Command::Publish { capability, message, .. } => {
                    deeds.push(format!("publish to {capability}: {}", String::from_utf8_lossy(&message)));
                }
                Command::Fetch(wanted) => {
                    let found = wanted.references.iter().map(|at| (*at, self.played.values[at].clone())).collect();
                    self.core.fetched(&wanted, found, Ok(()), NOW);
                }
                Command::Store { job, text } => self.core.stored(job, Ok(PayloadRef::to(text.get())), NOW),
                Command::Scan => {
                    let queued = self.queued();
                    self.core.scanned(Ok(&queued), NOW);
                }
                Command::MarkCancelled { execution, below } => deeds.push(format!("cancel {execution} below {below}")),
                Command::Ended(execution) => deeds.push(format!("ended {execution}")),
                Command::Started(execution) => deeds.push(format!("started {execution}")),
                Command::Record { execution, .. } => deeds.push(format!("record {execution}")),
                Command::ListPresences | Command::Answer { .. } | Command::Report => {}
                Command::Park { .. }
                | Command::Wake { .. }
                | Command::DropRecord { .. }
                | Command::Snapshot(_)
                | Command::Trim { .. } => panic!("no time passes, and the journal is short: {command:?}"),
            }
        }
        deeds
    }

    /// Nothing is missing from the queue: scenarios tell what is.
    fn queued(&self) -> Vec<TaskKey> {
        let partition = self.core.partition();
        let key = |task: TaskRef| partition.execution(task.execution).expect("its task is outstanding").task_key(&task);
        partition.outstanding().into_iter().map(|(task, _)| key(task)).collect()
    }
}

/// What is appended for executions; what is about the partition is every owner's own.
fn appended(batch: &Bytes) -> Vec<String> {
    let batch = Batch::decode(batch).expect("an owner writes batches");
    let entries = batch.entries.into_iter().map(|entry| entry.expect("an owner writes entries"));
    let own = |entry: &Entry| !matches!(entry, Entry::Epoch(_) | Entry::Scanned(_));
    entries.filter(own).map(|entry| serde_json::to_string(&entry).expect("an entry has a JSON form")).collect()
}
