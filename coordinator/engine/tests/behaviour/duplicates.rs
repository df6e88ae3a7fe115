use millstream_engine::{Rejection, Request};
use millstream_model::ids::ExecutionId;

use super::check::{World, check, definition, id};

const ONE: &str = "
  - {id: a, agent_id: x}";

#[test]
fn a_result_that_arrives_twice_counts_once() {
    check(
        "
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, depends_on: [a]}",
        "submit
         ok a #1 1
         ok a #1 2
         fail a #1 INTERNAL_ERROR no",
        "1 publish a #1
         2 publish b #1
         3 ignored: stale
         4 ignored: stale
         --
         RUNNING
         a COMPLETED 1
         b QUEUED",
    );
}

#[test]
fn an_idempotency_key_names_one_execution_for_a_day() {
    let mut world = World::new(&definition(ONE));
    assert_eq!(world.tell("submit key=k 1"), ["1 publish a #1"]);
    let again = world.submitted("key=k 1");
    assert_eq!(
        world.partition.decide(Request::Submit(Box::new(again)), world.now).err(),
        Some(Rejection::Repeated(id()))
    );
    let other = world.submitted("key=k 2");
    assert_eq!(
        world.partition.decide(Request::Submit(Box::new(other)), world.now).err(),
        Some(Rejection::Conflict(id()))
    );

    let mut late = world.submitted("key=k 2");
    late.execution = another();
    let entry = millstream_model::entry::Entry::Submitted(Box::new(late));
    assert_eq!(world.apply(entry.clone()), [format!("conflicts with {}", id())]);
    world.tell("+86400000 due");
    let other = world.submitted("key=k 2");
    assert!(world.partition.decide(Request::Submit(Box::new(other)), world.now).is_ok(), "nobody is refused for it");
    world.apply(entry);
    assert!(world.partition.execution(another()).is_some(), "the key is free after 24 hours");
}

#[test]
fn the_same_submission_twice_is_one_execution() {
    let mut world = World::new(&definition(ONE));
    assert_eq!(world.tell("submit 1\nsubmit 1"), ["1 publish a #1".to_owned(), format!("2 repeats {}", id())]);
}

#[test]
fn requests_for_what_does_not_exist_or_has_ended_are_refused() {
    let mut world = World::new(&definition(ONE));
    let cancel = Request::Cancel { execution: id(), reason: None, by: None, compensate: false };
    assert_eq!(world.partition.decide(cancel.clone(), world.now).err(), Some(Rejection::UnknownExecution(id())));
    world.tell("submit\nok a #1");
    let refused = world.partition.decide(cancel, world.now).err().map(|r| r.to_string());
    assert_eq!(refused.as_deref(), Some("the execution has ended: COMPLETED"));
}

fn another() -> ExecutionId {
    "0193a5a0-0000-7000-8000-000000000013".parse().expect("an id")
}
