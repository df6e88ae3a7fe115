//! Restarts: wherever an owner stops, the one that follows knows the same and does the same.
//!
//! Each scenario of `workflows/` is driven to its end once. Then, for every entry of its journal, the entries up to it
//! are folded anew, and the state and all that follows are compared with the uninterrupted run, byte for byte; the same
//! for every message with the owner's own decisions: what it publishes, appends and tells.

mod coverage;
mod owner;
#[path = "scenario/scenario.rs"]
mod scenario;

use std::collections::BTreeSet;

use millstream_engine::{Origin, Partition};
use millstream_model::batch::{Batch, BatchBuilder, encode_entry};
use millstream_model::entry::Entry;
use millstream_model::position::Position;
use owner::Owner;
use scenario::journal::{Message, Read};
use scenario::refold::{Fact, Refold};
use scenario::stage::Played;
use scenario::{plans, state};
use serde_json::Value;

/// The state as text.
fn text(partition: &Partition) -> String {
    state(partition).iter().map(|line| format!("{line}\n")).collect()
}

/// The state as text, without the places of its entries in the journal.
fn text_without_places(partition: &Partition) -> String {
    let mut lines = state(partition);
    lines.retain(|line| line.get("epoch").is_none());
    for line in &mut lines {
        if let Some(Value::Object(event)) = line.get_mut("event") {
            event.remove("id");
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn there_are_fifty_scenarios_and_each_one_ends() {
    let scenarios = scenario::all();
    assert!(scenarios.len() >= 50, "{} scenarios", scenarios.len());
    for scenario in &scenarios {
        assert!(scenario.play().journal.len() > 2, "{} has a journal", scenario.name);
    }
}

#[test]
fn a_scenario_that_is_played_twice_leaves_the_same_journal() {
    for scenario in scenario::all_under_every_revision() {
        assert_eq!(scenario.play().journal, scenario.play().journal, "{}", scenario.name);
    }
}

#[test]
fn after_a_stop_at_any_entry_the_fold_goes_on_as_if_there_had_been_none() {
    for scenario in scenario::all_under_every_revision() {
        let Played { journal, .. } = scenario.play();
        let plans = plans(&scenario.name, &scenario.definitions);
        let entries: Vec<Read> = journal.iter().flat_map(Message::read).collect();
        let mut uninterrupted = Refold::new(&plans);
        let mut states = vec![text(&uninterrupted.partition)];
        let mut facts: Vec<Fact> = Vec::new();
        for entry in &entries {
            facts.push(uninterrupted.entry(entry.clone()));
            states.push(text(&uninterrupted.partition));
        }
        let name = &scenario.name;
        for stop in 0..entries.len() {
            let mut restored = Refold::new(&plans);
            for entry in &entries[..stop] {
                restored.entry(entry.clone());
            }
            assert_eq!(text(&restored.partition), states[stop], "{name}: the state after {stop} entries");
            for (entry, fact) in entries.iter().zip(&facts).skip(stop) {
                let place = entry.position;
                assert_eq!(restored.entry(entry.clone()), *fact, "{name}: {place} after a stop at {stop}");
            }
            assert_eq!(text(&restored.partition), states[entries.len()], "{name}: the end after a stop at {stop}");
        }
    }
}

#[test]
fn after_a_stop_at_any_message_another_owner_does_what_the_first_would_have_done() {
    for scenario in scenario::all_under_every_revision() {
        let played = scenario.play();
        let plans = plans(&scenario.name, &scenario.definitions);
        if takes(&played.journal) > 1 {
            continue;
        }
        let mut first = Owner::new("coordinator-a", 1, &plans, &played);
        let (mut deeds, mut states) = (Vec::new(), Vec::new());
        for message in &played.journal {
            deeds.push(first.read(message, message.sequence));
            states.push(text(first.partition()));
        }
        for stop in 1..=played.journal.len() {
            let mut second = Owner::new("coordinator-b", stop as u64 + 1, &plans, &played);
            for message in &played.journal[..stop] {
                let none: [&str; 0] = [];
                let done = second.read(message, message.sequence);
                assert_eq!(done, none, "{}: nothing is done before the own epoch", scenario.name);
            }
            assert_eq!(text(second.partition()), states[stop - 1], "{}: after {stop} messages", scenario.name);
            assert_goes_on(&scenario.name, &played.journal, &first, second, &deeds, stop);
        }
    }
}

/// Lets the second owner take the partition after `stop` messages, which it has read.
fn assert_goes_on(
    name: &str,
    journal: &[Message],
    first: &Owner<'_>,
    mut second: Owner<'_>,
    deeds: &[Vec<String>],
    stop: usize,
) {
    let (before, after) = journal.split_at(stop);
    let last = before.last().expect("the epoch of the first owner");
    let epoch = Message { payload: second.epoch.clone(), subject: last_control(before), ..last.clone() };
    let known: BTreeSet<&String> = deeds[..stop].iter().flatten().collect();
    for deed in second.read(&epoch, stop as u64 + 1) {
        assert!(known.contains(&deed), "{name}: done at a take-over after {stop} messages and never before: {deed}");
        assert!(!deed.starts_with("publish"), "{name}: a task is published again without a reissue: {deed}");
    }
    for (message, expected) in after.iter().zip(&deeds[stop..]) {
        let done = second.read(&moved(message, stop), message.sequence + 1);
        assert_eq!(done, *expected, "{name}: message {} after a stop at {stop}", message.sequence);
    }
    let states = [second.partition(), first.partition()].map(text_without_places);
    assert_eq!(states[0], states[1], "{name}: the end after a stop at {stop}");
}

/// The message as it reads in a journal that has one more behind `stop`: entries that name places name them as they are
/// there.
fn moved(message: &Message, stop: usize) -> Message {
    let batch = Batch::decode(&message.payload)
        .ok()
        .filter(|batch| batch.entries.iter().any(|entry| matches!(entry, Ok(Entry::Archived(_)))));
    let Some(batch) = batch else {
        return message.clone();
    };
    let mut builder = BatchBuilder::new(&batch.ns, usize::MAX);
    for entry in batch.entries {
        let mut entry = entry.expect("coordinators write what they can read");
        if let Entry::Archived(archived) = &mut entry {
            for (_, end) in archived.executions.iter_mut().filter(|(_, end)| end.sequence > stop as u64) {
                end.sequence += 1;
            }
        }
        assert!(builder.push(&encode_entry(&entry)));
    }
    Message { payload: builder.finish(), ..message.clone() }
}

fn last_control(journal: &[Message]) -> String {
    let control = journal.iter().find(|message| message.subject.ends_with("control"));
    control.expect("the epoch of the first owner").subject.clone()
}

/// How often somebody took the partition.
fn takes(journal: &[Message]) -> usize {
    let entries = journal.iter().flat_map(Message::read);
    entries
        .filter(|read| read.by.origin() == Some(Origin::Control) && matches!(read.entry, Some(Entry::Epoch(_))))
        .count()
}

#[test]
fn a_result_that_is_read_again_changes_nothing() {
    for scenario in scenario::all_under_every_revision() {
        let Played { journal, .. } = scenario.play();
        let plans = plans(&scenario.name, &scenario.definitions);
        let mut once = Refold::new(&plans);
        let mut again = Refold::new(&plans);
        let mut results: Vec<Read> = Vec::new();
        for message in &journal {
            assert_eq!(again.message(message), once.message(message));
            let state = text(&again.partition);
            results.extend(message.read().into_iter().filter(|read| read.by.origin() != Some(Origin::Control)));
            for (n, result) in results.iter().enumerate() {
                let index = u16::try_from(1_000 + n).expect("few results");
                let position = Position { sequence: message.sequence, index };
                let fact = again.entry(Read { position, time: message.time, ..result.clone() });
                let place = result.position;
                assert!(fact.effects.is_empty(), "{}: {place} after {}: {fact:?}", scenario.name, message.sequence);
            }
            assert_eq!(
                text(&again.partition),
                state,
                "{}: results read again after {}",
                scenario.name,
                message.sequence
            );
        }
    }
}

#[test]
#[ignore = "prints; SCENARIO chooses by a part of the name"]
fn show_what_the_scenarios_do() {
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    for scenario in scenario::all().iter().filter(|scenario| scenario.name.contains(&wanted)) {
        let Played { journal, .. } = scenario.play();
        let plans = plans(&scenario.name, &scenario.definitions);
        let mut refold = Refold::new(&plans);
        println!("=== {}", scenario.name);
        let beginning = journal[0].time;
        for message in &journal {
            let passed = message.time.millis_since(beginning);
            for (read, fact) in message.read().into_iter().zip(refold.message(message)) {
                let entry = read.entry.as_ref().map_or_else(|| "?".to_owned(), millstream_engine::render::entry);
                println!(
                    "{:>3} {passed:>6} {entry} | {} | {}",
                    message.sequence,
                    fact.outcome,
                    fact.rendered.join("; ")
                );
            }
        }
        for execution in refold.partition.executions() {
            println!("{}", millstream_engine::render::execution(execution));
        }
    }
}
