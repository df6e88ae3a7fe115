use millstream_engine::partition::FOLD_REV;
use millstream_engine::{Halt, Origin, Want};
use millstream_model::entry::{CancelRequested, Entry, Epoch};
use millstream_model::ids::Capability;
use millstream_model::position::Position;
use millstream_model::time::Timestamp;

use super::check::{World, definition, id};

const ONE: &str = "
  - {id: a, agent_id: x}";

fn result_of(world: &mut World, line: &str) -> Entry {
    let mut other = World::new(&definition(ONE));
    other.tell("submit");
    other.tell(line);
    assert!(world.partition.execution(id()).is_some());
    other.journal.pop().expect("the line was folded").3
}

#[test]
fn a_worker_of_another_capability_cannot_complete_a_step() {
    let mut world = World::new(&definition(ONE));
    world.tell("submit");
    let entry = result_of(&mut world, "ok a #1 1");
    let other: Capability = "other".parse().expect("a name");
    assert_eq!(world.apply_from(Origin::Result(&other), entry), ["ignored: forbidden"]);
}

#[test]
fn a_worker_can_complete_only_what_it_was_given() {
    let mut world = World::new(&definition(ONE));
    world.tell("submit");
    let Entry::TaskSucceeded(mut entry) = result_of(&mut world, "ok a #1 1") else { panic!("a success") };
    entry.task.attempt = 2;
    entry.run.ordinal = 2;
    assert_eq!(world.apply(Entry::TaskSucceeded(entry)), ["ignored: wrong token"]);
    assert_eq!(world.tell("ok a #1 ordinal=9 1"), ["1 ignored: wrong token"]);
    assert_eq!(world.tell("ok a[0] #1 1"), ["1 ignored: unknown step"]);
    assert_eq!(world.tell("ok ghost #1 1"), ["1 ignored: unknown step"]);
}

#[test]
fn workers_cannot_write_control_entries_nor_coordinators_results() {
    let mut world = World::new(&definition(ONE));
    world.tell("submit");
    let pool: Capability = "pool".parse().expect("a name");
    let cancel = Entry::CancelRequested(CancelRequested { execution: id(), reason: None, by: None, compensate: false });
    assert_eq!(world.apply_from(Origin::Result(&pool), cancel), ["ignored: forbidden"]);
    let entry = result_of(&mut world, "ok a #1 1");
    assert_eq!(world.apply_from(Origin::Control, entry), ["ignored: forbidden"]);
}

#[test]
fn entries_about_unknown_executions_are_ignored() {
    let mut world = World::new(&definition(ONE));
    assert_eq!(world.tell("cancel"), ["1 ignored: unknown execution"]);
}

#[test]
fn what_this_build_does_not_know_halts_the_partition() {
    let mut world = World::new(&definition(ONE));
    let epoch = Entry::Epoch(Epoch { node: "n".parse().expect("a name"), epoch: 1, fold_rev: 99 });
    let halt = world.partition.apply(Position::start_of(1), Timestamp::default(), Origin::Control, epoch);
    assert_eq!(halt, Err(Halt::FoldRevision { found: 99, known: FOLD_REV }));

    let mut submitted = world.submitted("1");
    submitted.definition = millstream_model::hash::ContentHash::of(b"gone");
    let definition = submitted.definition;
    let entry = Entry::Submitted(Box::new(submitted));
    assert_eq!(world.partition.wants(Origin::Control, &entry), Some(Want::Definition(definition)));
    let halt = world.partition.apply(Position::start_of(2), Timestamp::default(), Origin::Control, entry);
    assert_eq!(halt, Err(Halt::MissingDefinition { execution: id(), definition }));
}

#[test]
fn a_stored_submission_always_becomes_an_execution() {
    let mut world = World::new(&definition(ONE));
    let mut submitted = world.submitted("1");
    submitted.routes.clear();
    let caused = world.apply(Entry::Submitted(Box::new(submitted)));
    assert_eq!(caused, ["end FAILED"]);
    let state = world.state();
    assert!(state.starts_with("FAILED INVALID_INPUT: the submission does not route every step"), "{state}");
}
