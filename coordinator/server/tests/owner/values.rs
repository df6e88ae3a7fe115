//! Values that are not in the state: who waits for them, and what happens when they do not come.

use std::sync::Arc;

use millstream_coordinator::owner::command::Job;
use millstream_coordinator::owner::failure::{AppendFailure, StoreFailure};
use millstream_model::payload::{Payload, PayloadRef};
use serde_json::value::RawValue;

use super::fixture::{Owner, items_job, submitted_with};

const FAN_OUT: &str = "{id: w, steps: [{id: a, agent_id: x, fan_out: {items: $.input.list}}]}";
const DOUBLE: &str = "{id: w, steps: [{id: a, agent_id: x, input_map: {one: $.input, two: $.input}}]}";
const TWO_READERS: &str =
    "{id: w, steps: [{id: a, agent_id: x, input_map: $.input.list}, {id: b, agent_id: x, input_map: $.input.list}]}";
const LIST: &str = r#"{"list":[1,2,3]}"#;

fn passing() -> StoreFailure {
    StoreFailure::Passing { reason: "no answer".to_owned() }
}

fn raw(text: &str) -> Arc<RawValue> {
    Arc::from(RawValue::from_string(text.to_owned()).expect("JSON"))
}

/// An execution of `definition` whose input is in the payload store.
fn with_stored_input(definition: &'static str) -> Owner {
    let mut owner = Owner::owning(definition);
    owner.read(submitted_with(1, definition, Payload::stored(PayloadRef::to(LIST))));
    owner
}

/// What was wanted comes.
fn bring(owner: &mut Owner) {
    let wanted = owner.wanted.take().expect("something is wanted");
    owner.core.fetched(&wanted, vec![(wanted.references[0], raw(LIST))], Ok(()), owner.now);
}

#[test]
fn a_list_that_is_stored_elsewhere_is_fetched_once_for_all_its_items() {
    let mut owner = with_stored_input(FAN_OUT);
    assert_eq!(owner.commands(), ["fetch 1"]);
    bring(&mut owner);
    assert_eq!(owner.commands(), ["append me-1-3: evaluated a: 3 items"]);
    owner.store("me-1-3");
    assert_eq!(owner.commands(), ["publish a[0] #1", "publish a[1] #1", "publish a[2] #1"]);
}

#[test]
fn jobs_that_want_the_same_value_wait_for_one_fetch() {
    let mut owner = with_stored_input(TWO_READERS);
    assert_eq!(owner.commands(), ["fetch 1"]);
    bring(&mut owner);
    assert_eq!(owner.commands(), ["publish a #1", "publish b #1"]);
}

#[test]
fn a_fetch_that_fails_for_a_passing_reason_is_repeated() {
    let mut owner = with_stored_input(FAN_OUT);
    owner.commands();
    let wanted = owner.wanted.take().expect("something is wanted");
    owner.core.fetched(&wanted, Vec::new(), Err(passing()), owner.now);
    assert_eq!(owner.commands(), [""; 0]);
    assert_eq!(owner.wakes_in(), Some(200));
    assert_eq!(owner.pass(200), ["fetch 1"]);
    bring(&mut owner);
    assert_eq!(owner.commands(), ["append me-1-3: evaluated a: 3 items"]);
}

#[test]
fn a_value_that_is_lost_fails_what_reads_it() {
    let lost = || StoreFailure::Lasting { reason: "payload p is not in the store".to_owned() };
    let mut owner = with_stored_input(FAN_OUT);
    owner.commands();
    let wanted = owner.wanted.take().expect("something is wanted");
    owner.core.fetched(&wanted, Vec::new(), Err(lost()), owner.now);
    assert_eq!(owner.commands(), ["append me-1-3: evaluated a: INVALID_INPUT payload p is not in the store"]);

    let mut owner = with_stored_input(DOUBLE);
    assert_eq!(owner.commands(), ["fetch 1"]);
    let wanted = owner.wanted.take().expect("something is wanted");
    owner.core.fetched(&wanted, Vec::new(), Err(lost()), owner.now);
    assert_eq!(owner.commands(), ["append me-1-3: unrenderable a #1: payload p is not in the store"]);
}

#[test]
fn an_input_that_is_too_large_for_a_message_is_stored_before_its_task_is_published() {
    let text = format!("\"{}\"", "x".repeat(100_000));
    let mut owner = Owner::owning(DOUBLE);
    owner.read(submitted_with(1, DOUBLE, Payload::inline(RawValue::from_string(text).expect("JSON"))));
    let store = "store an input of 200019 bytes";
    assert_eq!(owner.commands(), [store]);
    let task = *owner.core.partition().outstanding().first().map(|(task, _)| task).expect("a task");
    let job = Job::Publish(task);
    owner.core.stored(job, Err(&passing()), owner.now);
    assert_eq!(owner.commands(), [""; 0]);
    assert_eq!(owner.pass(200), [store]);
    assert_eq!(owner.pass(60_000), [""; 0], "what is on its way to the store is not missing from the queue");
    owner.core.stored(job, Ok(PayloadRef::to("1")), owner.now);
    assert_eq!(owner.commands(), ["publish a #1"]);
    owner.core.stored(job, Ok(PayloadRef::to("1")), owner.now);
    assert_eq!(owner.commands(), [""; 0]);
}

#[test]
fn what_was_evaluated_and_not_appended_is_evaluated_again() {
    let mut owner = with_stored_input(FAN_OUT);
    owner.commands();
    bring(&mut owner);
    owner.commands();
    owner.core.appended("me-1-3", Err(AppendFailure::TooLarge { size: 1 }), owner.now);
    assert_eq!(owner.commands(), [""; 0]);
    assert_eq!(owner.pass(1_000), ["append me-1-4: evaluated a: 3 items"]);
    owner.store("me-1-4");
    owner.commands();
    owner.core.stored(items_job(1), Ok(PayloadRef::to("1")), owner.now);
    assert_eq!(owner.commands(), [""; 0], "nobody waits for that");
}
