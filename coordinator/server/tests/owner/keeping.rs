//! What leaves memory, how it comes back, and how the journal is cut.

use millstream_coordinator::owner::command::AskId;
use millstream_coordinator::owner::failure::StoreFailure;
use millstream_coordinator::owner::keeper::Keeping;
use millstream_engine::{Outcome, Request};
use millstream_model::position::Position;
use millstream_model::transcript::Transcribed;

use super::fixture::{CHAIN, Owner, cancel_requested, epoch, failed, id, resumed, submitted, succeeded};

/// One step, which is tried again after four minutes.
const PATIENT: &str = "{id: w, steps: [{id: a, agent_id: x, retry: {backoff_ms: 240000, max_backoff_ms: 240000, \
                       jitter: false}}]}";

fn passing() -> StoreFailure {
    StoreFailure::Passing { reason: "NATS is away".to_owned() }
}

/// An owner of one execution that waits for its second attempt.
fn waiting() -> Owner {
    let mut owner = Owner::owning_with(PATIENT, Keeping { park_after_ms: 60_000, ..Keeping::default() });
    owner.read(submitted(1, PATIENT));
    assert_eq!(owner.commands(), ["publish a #1"]);
    owner.read(failed(1, "a"));
    assert_eq!(owner.commands(), [""; 0]);
    owner
}

#[test]
fn an_execution_that_has_ended_is_forgotten_once_the_history_has_its_record() {
    let mut owner = Owner::running(CHAIN);
    owner.commands();
    owner.read(succeeded(1, "a"));
    owner.commands();
    owner.read(succeeded(1, "b"));
    assert_eq!(owner.commands(), ["ended", "record of 3 entries, ended at 5.0"]);
    let end = Position::start_of(5);
    assert!(owner.core.partition().execution(id(1)).is_some(), "the history does not have it yet");

    owner.core.recorded(id(1), end, Err(&passing()), owner.now);
    assert_eq!(owner.pass(500), ["record of 3 entries, ended at 5.0"], "it is tried again");
    owner.core.recorded(id(1), end, Ok(()), owner.now);
    assert_eq!(owner.commands(), [""; 0], "it waits a while for others");
    assert_eq!(owner.wakes_in(), Some(500));
    assert_eq!(owner.pass(1_000), ["append me-1-3: archived 1 executions"]);
    owner.store("me-1-3");
    assert!(owner.core.partition().execution(id(1)).is_none());
    assert!(owner.core.keeper().transcript(id(1)).is_none());
    assert_eq!(owner.core.in_mind(), 0);
}

#[test]
fn an_execution_that_is_resumed_before_it_is_forgotten_stays() {
    let mut owner = Owner::running("{id: w, steps: [{id: a, agent_id: x, retry: {max_attempts: 1}}]}");
    owner.commands();
    owner.read(failed(1, "a"));
    assert_eq!(owner.commands(), ["ended", "record of 2 entries, ended at 4.0"]);
    owner.core.recorded(id(1), Position::start_of(4), Ok(()), owner.now);
    assert_eq!(owner.pass(1_000), ["append me-1-3: archived 1 executions"]);
    owner.read(resumed(1, None));
    owner.store("me-1-3");
    assert!(owner.core.partition().execution(id(1)).is_some_and(|e| !e.status().is_terminal()));
}

#[test]
fn an_archived_execution_comes_back_to_be_resumed_and_goes_again_when_it_cannot() {
    let mut owner = Owner::running("{id: w, steps: [{id: a, agent_id: x, retry: {max_attempts: 1}}]}");
    owner.commands();
    owner.read(failed(1, "a"));
    owner.commands();
    owner.core.recorded(id(1), Position::start_of(4), Ok(()), owner.now);
    owner.pass(1_000);
    owner.store("me-1-3");
    assert!(owner.core.partition().execution(id(1)).is_none());

    let told = owner.read(resumed(1, Some(7)));
    assert_eq!(told.outcomes, [Outcome::Accepted]);
    let transcript = owner.core.keeper().transcript(id(1)).expect("it is in memory").finish();
    assert_eq!(Transcribed::read(&transcript).expect("a transcript").lines.len(), 3);
}

#[test]
fn an_execution_that_waits_for_long_leaves_memory_and_comes_back_for_its_alarm() {
    let mut owner = waiting();
    assert_eq!(owner.pass(59_000), [""; 0], "it has not waited for long");
    assert_eq!(owner.pass(1_000), ["park with 2 entries"]);
    assert!(owner.core.partition().execution(id(1)).is_some(), "the history does not have it yet");
    owner.core.parked(id(1), Ok(9));
    assert!(owner.core.partition().execution(id(1)).is_none() && owner.core.partition().is_parked(id(1)));
    assert!(owner.core.keeper().transcript(id(1)).is_none());
    assert_eq!(owner.core.in_mind(), 0);

    assert_eq!(owner.pass(179_000), [""; 0], "its alarm is not due");
    assert_eq!(owner.pass(1_000), ["wake from record 9"]);
    assert_eq!(owner.pass(1_000), [""; 0], "it is on its way");
    owner.bring(8);
    assert!(owner.core.partition().is_parked(id(1)), "an older record is of no use");
    owner.bring(9);
    assert_eq!(owner.pass(0), ["append me-1-3: timer fired: backoff a #2"]);
    owner.store("me-1-3");
    assert_eq!(owner.commands(), ["publish a #2"]);
    owner.read(succeeded(1, "a"));
    assert_eq!(owner.commands(), ["ended", "record of 4 entries, ended at 6.0"]);
    owner.core.recorded(id(1), Position::start_of(6), Ok(()), owner.now);
    assert_eq!(owner.commands(), ["drop record 9"], "the last record has everything");
}

#[test]
fn a_record_that_a_snapshot_names_stays_until_one_that_does_not_is_stored() {
    let keeping = Keeping { tail_entries_min: 4, tail_entries_max: 4, ..Keeping::default() };
    let mut owner = Owner::owning_with(PATIENT, keeping);
    owner.read(submitted(1, PATIENT));
    owner.commands();
    owner.read(failed(1, "a"));
    let before = owner.taken_after(|owner| owner.commands());
    owner.core.snapshot_stored(&before, Ok(()), owner.now);
    owner.commands();
    owner.pass(60_000);
    owner.core.parked(id(1), Ok(9));
    for _ in 0..3 {
        owner.read(cancel_requested(2));
    }
    owner.read(cancel_requested(3));
    let naming = owner.taken_after(|owner| owner.commands());
    assert_eq!(naming.snapshot.parked.len(), 1);
    owner.core.snapshot_stored(&naming, Ok(()), owner.now);
    owner.commands();

    let told = owner.read(cancel_requested(1));
    assert_eq!(told.outcomes, [Outcome::Accepted]);
    let ended = owner.commands();
    assert!(ended.contains(&"record of 3 entries, ended at 9.0".to_owned()), "{ended:?}");
    owner.core.recorded(id(1), Position::start_of(9), Ok(()), owner.now);
    assert_eq!(owner.commands(), [""; 0], "who begins with the snapshot needs it");
    for _ in 0..3 {
        owner.read(cancel_requested(2));
    }
    let without = owner.taken_after(|owner| owner.commands());
    assert_eq!(without.snapshot.parked.len(), 0);
    owner.core.snapshot_stored(&without, Ok(()), owner.now);
    assert!(owner.commands().contains(&"drop record 9".to_owned()));
}

#[test]
fn an_entry_brings_a_parked_execution_back() {
    let mut owner = waiting();
    owner.pass(60_000);
    owner.core.parked(id(1), Ok(9));
    let told = owner.read(cancel_requested(1));
    assert_eq!(told.outcomes, [Outcome::Accepted]);
    assert_eq!(owner.core.keeper().transcript(id(1)).expect("it is in memory").len(), 3);
}

#[test]
fn an_execution_that_went_on_while_its_record_was_written_stays_in_memory() {
    let mut owner = waiting();
    owner.pass(60_000);
    owner.read(cancel_requested(1));
    owner.commands();
    owner.core.parked(id(1), Ok(9));
    assert!(!owner.core.partition().is_parked(id(1)));
    assert_eq!(owner.commands(), ["drop record 9"]);
}

#[test]
fn a_record_that_the_history_does_not_take_parks_nobody_and_is_tried_again() {
    let mut owner = waiting();
    owner.pass(60_000);
    owner.core.parked(id(1), Err(&passing()));
    assert!(!owner.core.partition().is_parked(id(1)));
    assert_eq!(owner.pass(1_000), ["park with 2 entries"]);
}

#[test]
fn a_snapshot_is_taken_when_the_tail_outweighs_it_and_the_journal_is_cut_when_no_copy_can_come_any_more() {
    let keeping = Keeping { tail_entries_min: 5, trim_after_ms: 10_000, ..Keeping::default() };
    let mut owner = Owner::owning_with(CHAIN, keeping);
    for n in 1..=3 {
        owner.read(submitted(n, CHAIN));
    }
    let commands = owner.commands();
    assert_eq!(commands.last().map(String::as_str), Some("snapshot of 3 executions up to message 5"));
    assert_eq!(owner.pass(60_000), ["scan"], "it is not stored: nothing is cut");
    let taken = owner.taken.clone().expect("a snapshot");
    owner.core.snapshot_stored(&taken, Ok(()), owner.now);
    assert_eq!(owner.commands(), ["report"]);
    assert_eq!(owner.pass(0), ["trim below 5"], "its last message is that long ago");
    owner.core.trimmed(5, Ok(()), owner.now);
    assert_eq!(owner.core.counts().trims, 1);
    owner.commands();
    assert_eq!(owner.pass(60_000).iter().filter(|line| line.starts_with("trim")).count(), 0);
}

#[test]
fn a_snapshot_that_cannot_be_stored_is_taken_anew_and_nothing_is_cut() {
    let keeping = Keeping { tail_entries_min: 3, trim_after_ms: 0, ..Keeping::default() };
    let mut owner = Owner::owning_with(CHAIN, keeping);
    owner.read(submitted(1, CHAIN));
    owner.commands();
    let taken = owner.taken.clone().expect("a snapshot");
    owner.core.snapshot_stored(&taken, Err(&passing()), owner.now);
    let commands = owner.pass(10_000);
    assert_eq!(commands, ["snapshot of 1 executions up to message 3"]);
}

#[test]
fn a_successor_goes_on_from_a_snapshot_as_if_it_had_read_everything() {
    let keeping = Keeping { tail_entries_min: 4, ..Keeping::default() };
    let mut owner = Owner::owning_with(CHAIN, keeping);
    owner.submit(1, Some("key"));
    owner.commands();
    owner.store("me-1-3");
    owner.read(succeeded(1, "a"));
    owner.commands();
    let mut successor = owner.successor("you");
    assert_eq!(successor.commands(), ["append you-5-1: epoch"]);
    successor.store("you-5-1");
    assert_eq!(successor.commands(), ["report", "scan"]);
    assert!(owner.try_read(epoch("you", 5)).is_err(), "it is taken over");
    assert_eq!(owner.core.partition().state_hash(), successor.core.partition().state_hash());
    successor.submit(2, Some("key"));
    assert_eq!(
        successor.commands(),
        [format!("answer 2: rejected, the same request was accepted as execution {}", id(1))]
    );
    successor.read(succeeded(1, "b"));
    assert_eq!(successor.commands(), ["ended", "record of 3 entries, ended at 6.0"]);
}

#[test]
fn a_late_epoch_of_a_lower_number_ends_nobody_and_an_own_one_is_claimed_again() {
    let mut owner = Owner::owning(CHAIN);
    owner.read(epoch("you", 1));
    assert!(owner.core.owns(), "it was stored late");

    let mut late = Owner::new(CHAIN);
    late.commands();
    late.read(epoch("you", 4));
    late.store("me-1-1");
    assert!(!late.core.owns());
    assert_eq!(late.commands(), ["report", "append me-1-2: epoch"]);
    late.store("me-1-2");
    assert!(late.core.owns());
}

#[test]
fn a_revision_that_all_support_is_put_in_force_by_another_epoch_of_the_owner() {
    let mut owner = Owner::beginning_with_revision(CHAIN, 1);
    owner.commands();
    owner.store("me-1-1");
    owner.commands();
    assert_eq!(owner.core.partition().fold_rev(), 1);
    owner.core.raise(2);
    assert_eq!(owner.commands(), ["append me-1-2: epoch"]);
    owner.store("me-1-2");
    assert!(owner.core.owns());
    assert_eq!(owner.core.partition().fold_rev(), 2);
    owner.core.raise(1);
    assert_eq!(owner.commands(), [""; 0], "it never goes down");
}

#[test]
fn submissions_are_refused_where_there_is_more_to_do_than_is_good_and_cancels_are_not() {
    let mut owner = Owner::owning_with(CHAIN, Keeping { live_max: 1, ..Keeping::default() });
    owner.read(submitted(1, CHAIN));
    owner.commands();
    owner.submit(2, None);
    let reason = "answer 2: Executions: 1 executions of the partition are under way, and 1 may be";
    assert_eq!(owner.commands(), [reason]);

    let mut owner = Owner::running(CHAIN);
    owner.commands();
    owner.core.storage(Some("the journal is full".to_owned()));
    owner.submit(2, None);
    assert_eq!(owner.commands(), ["answer 2: Storage: the journal is full"]);
    let cancel = Request::Cancel { execution: id(1), reason: None, by: None, compensate: false };
    owner.core.ask(AskId(3), cancel, owner.now);
    assert_eq!(owner.commands(), ["append me-1-3: cancel requested"]);
    owner.core.storage(None);
    owner.submit(4, None);
    owner.store("me-1-3");
    assert!(owner.commands().iter().any(|line| line == "append me-1-4: submitted"));
}
