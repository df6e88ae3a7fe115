//! How fast the fold is, how fast a partition comes back from a snapshot, and what executions cost in memory.
//!
//! ```text
//! cargo run --release -p millstream-engine --example speed -- fold|recover|live|parked
//! ```
//!
//! `docs/operations.md` has the figures.

#![allow(clippy::disallowed_methods, reason = "it measures the fold from outside")]

mod journal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use journal::{Message, Writer, broad_chain, chain, decode, fan_out, list, pool};
use millstream_engine::{Execution, Origin, Partition};
use millstream_model::entry::Entry;
use millstream_model::ids::ExecutionId;
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::snapshot::Snapshot;
use millstream_model::transcript::{Transcribed, Transcript};

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    match wanted.as_str() {
        "fold" => fold(),
        "recover" => recover(),
        "live" => live(),
        "parked" => parked(),
        _ => println!("say which: fold, recover, live or parked"),
    }
}

/// Decodes and folds, with and without keeping transcripts.
fn fold() {
    let mut chains = Writer::new(chain(), r#"{"day":"2026-11-20"}"#.to_owned());
    for round in 0..200 {
        chains.submit(round * 256..(round + 1) * 256);
        while !chains.queue.is_empty() {
            chains.work(256);
        }
        chains.archive();
    }
    let mut items = Writer::new(fan_out(), list(1_000));
    for number in 0..500 {
        items.submit(number..number + 1);
        while !items.queue.is_empty() {
            items.work(256);
        }
        items.archive();
    }
    for (name, writer) in [("10-step chains, 256 at a time", chains), ("fan-outs of 1,000 items", items)] {
        let entries = writer.entries as f64;
        let bytes: usize = writer.journal.iter().map(|message| message.payload.len()).sum();
        let (plan, journal) = (writer.plan, writer.journal);
        println!("{name}: {entries} entries in {} messages, {} MB", journal.len(), bytes / 1_000_000);
        let begun = Instant::now();
        journal.iter().for_each(|message| decode(message).for_each(drop));
        println!("  decoded            {:>9.0} entries/s", entries / begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let mut owner = Owner::new(&plan, false);
        journal.iter().for_each(|message| owner.read(message));
        println!("  decoded and folded {:>9.0} entries/s", entries / begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let mut owner = Owner::new(&plan, true);
        journal.iter().for_each(|message| owner.read(message));
        println!("  with transcripts   {:>9.0} entries/s", entries / begun.elapsed().as_secs_f64());
    }
}

/// 10,000 live executions of 100 entries each come back from a snapshot.
fn recover() {
    const LIVE: u32 = 10_000;
    let mut writer = Writer::new(broad_chain(), list(11));
    let plan = writer.plan.clone();
    let mut owner = Owner::new(&plan, true);
    let mut read = 0;
    for first in (0..LIVE).step_by(100) {
        writer.submit(first..first + 100);
        for _ in 0..9 {
            writer.work(100 * 11);
        }
        writer.queue.clear();
        writer.journal[read..].iter().for_each(|message| owner.read(message));
        read = writer.journal.len();
    }
    let entries = writer.entries;
    drop(writer);
    let begun = Instant::now();
    let object = owner.snapshot().encode();
    println!("{entries} entries of {LIVE} live executions");
    println!("encoded in {:.2} s: {:.1} MB", begun.elapsed().as_secs_f64(), object.len() as f64 / 1e6);
    let (state, held) = (owner.partition.state_hash(), owner.held());
    println!("transcripts hold {:.1} MB", held as f64 / 1e6);
    drop(owner);
    let before = resident();
    let begun = Instant::now();
    let snapshot = Snapshot::decode(&object).expect("a snapshot");
    println!("decoded in {:.2} s", begun.elapsed().as_secs_f64());
    let executions: std::collections::VecDeque<_> =
        snapshot.executions.iter().map(|(_, transcript)| refolded(transcript, &plan)).collect();
    let partition = Partition::restore(&snapshot, executions).expect("this build folds it");
    let seconds = begun.elapsed().as_secs_f64();
    println!("recovered in {seconds:.2} s: {:.0} entries/s", entries as f64 / seconds);
    println!("resident: {:.0} MB more than before", (resident() - before) as f64 / 1e6);
    assert_eq!(partition.state_hash(), state, "what was restored is what was");
}

/// What a live execution with ten steps, half of them done, takes.
fn live() {
    const LIVE: u32 = 100_000;
    let plan = chain();
    let mut owner = Owner::new(&plan, true);
    let before = resident();
    for first in (0..LIVE).step_by(1_000) {
        let mut writer = Writer::new(plan.clone(), r#"{"day":"2026-11-20"}"#.to_owned());
        writer.submit(first..first + 1_000);
        for _ in 0..5 {
            writer.work(1_000);
        }
        owner.read_all(&writer.journal);
    }
    let each = (resident() - before) / u64::from(LIVE);
    let held = owner.held() / LIVE as usize;
    println!("{LIVE} live executions, 6 entries each: {each} bytes each, {held} of them text of transcripts");
}

/// What a parked execution takes.
fn parked() {
    const PARKED: u32 = 1_000_000;
    let plan = chain();
    let mut owner = Owner::new(&plan, false);
    let before = resident();
    for first in (0..PARKED).step_by(1_000) {
        let mut writer = Writer::new(plan.clone(), "null".to_owned());
        writer.submit(first..first + 1_000);
        owner.read_all(&writer.journal);
        for number in first..first + 1_000 {
            drop(owner.partition.park(journal::id(number), u64::from(number)));
        }
    }
    let taken = resident() - before;
    println!("{PARKED} parked executions: {} bytes each, {} MB", taken / u64::from(PARKED), taken / 1_000_000);
    let begun = Instant::now();
    let object = owner.snapshot().encode();
    println!("snapshot of them: {:.1} MB in {:.2} s", object.len() as f64 / 1e6, begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let snapshot = Snapshot::decode(&object).expect("a snapshot");
    let restored = Partition::restore(&snapshot, Vec::new()).expect("this build folds it");
    println!("restored in {:.2} s: {} parked", begun.elapsed().as_secs_f64(), restored.parked_count());
}

/// What an owner does with a message, as far as it is the fold's.
struct Owner {
    partition: Partition,
    transcripts: Option<BTreeMap<ExecutionId, Transcript>>,
    /// The last place of the journals before.
    before: u64,
}

impl Owner {
    fn new(plan: &Arc<Plan>, keeps: bool) -> Self {
        let mut partition = Partition::default();
        partition.install(plan.clone());
        Self { partition, transcripts: keeps.then(BTreeMap::new), before: 0 }
    }

    /// Reads a journal behind what was read.
    fn read_all(&mut self, journal: &[Message]) {
        self.before = self.partition.applied().sequence;
        journal.iter().for_each(|message| self.read(message));
    }

    fn read(&mut self, message: &Message) {
        let pool = pool();
        let (origin, by) = if message.result { (Origin::Result(&pool), Some(&pool)) } else { (Origin::Control, None) };
        for (position, written) in decode(message) {
            // Where several journals are read one after the other, places go on.
            let position = Position { sequence: self.before + position.sequence, ..position };
            assert_eq!(self.partition.wants(origin, &written.entry), None);
            let (about, begins) = (written.entry.execution(), matches!(written.entry, Entry::Submitted(_)));
            let archived = match &written.entry {
                Entry::Archived(archived) => archived.executions.clone(),
                _ => Vec::new(),
            };
            self.partition.apply(position, message.at, origin, written.entry).expect("it goes on");
            let Some(transcripts) = &mut self.transcripts else { continue };
            archived.iter().for_each(|(id, _)| drop(transcripts.remove(id)));
            let Some(id) = about else { continue };
            if begins {
                let execution = self.partition.execution(id).expect("it was submitted");
                transcripts.insert(id, Transcript::new(execution.revisions()));
            }
            if let Some(transcript) = transcripts.get_mut(&id) {
                transcript.push(position, message.at, by, &written.text);
            }
        }
    }

    fn held(&self) -> usize {
        self.transcripts.iter().flat_map(BTreeMap::values).map(Transcript::held_size).sum()
    }

    fn snapshot(&self) -> Snapshot {
        let partition = &self.partition;
        let transcripts = self.transcripts.iter().flatten().map(|(id, transcript)| (*id, transcript.clone()));
        Snapshot::new(
            partition.applied(),
            partition.fold_rev(),
            partition.epoch_in_force(),
            partition.remembered_keys(),
            partition.parked(),
            transcripts.collect(),
        )
    }
}

fn refolded(transcript: &Transcript, plan: &Arc<Plan>) -> Box<Execution> {
    let transcript = Transcribed::read(&transcript.finish()).expect("a transcript");
    Execution::refold(&transcript, plan.clone()).expect("it goes on")
}

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("the second number") * 4096
}
