//! A lost connection, and what could not be told.

use millstream_coordinator::owner::failure::{ScanFailure, StoreFailure};

use super::fixture::{CHAIN, Owner, cancel_requested, id, key};

const DEADLINE_MS: u64 = 3_600_000;

fn is_alarm(command: &str) -> bool {
    command.contains("timer fired")
}

#[test]
fn after_a_lost_connection_alarms_wait_for_a_marker_and_for_redeliveries() {
    let mut owner = Owner::running(CHAIN);
    owner.commands();
    owner.core.link(None);
    assert!(!owner.pass(DEADLINE_MS).iter().any(|command| is_alarm(command)), "what workers finished is not read yet");
    owner.core.scanned(Err(ScanFailure), owner.now);
    owner.core.link(Some(2));
    owner.core.link(Some(2));
    assert_eq!(owner.commands(), [""; 0], "the scan under way failed, and is repeated in its time");
    assert_eq!(owner.pass(2_000), ["scan"]);
    owner.core.scanned(Ok(&[key(1, "a")]), owner.now);
    assert_eq!(owner.commands(), ["append me-1-3: marker"]);
    owner.store("me-1-3");
    assert!(!owner.pass(9_999).iter().any(|command| is_alarm(command)), "workers may still bring what they finished");
    assert!(owner.pass(1).iter().any(|command| is_alarm(command)));
}

#[test]
fn a_new_connection_is_a_gap_even_if_nobody_saw_the_old_one_go() {
    let mut owner = Owner::running(CHAIN);
    owner.commands();
    owner.core.link(Some(7));
    assert_eq!(owner.commands(), ["scan"]);
    assert!(!owner.pass(DEADLINE_MS).iter().any(|command| is_alarm(command)));
}

#[test]
fn an_alarm_that_was_not_appended_goes_off_again() {
    let mut owner = Owner::running(CHAIN);
    owner.commands();
    let fired = owner.pass(DEADLINE_MS);
    assert_eq!(fired, ["scan", "append me-1-3: timer fired: deadline"]);
    assert_eq!(owner.pass(1), [""; 0]);
    let refused = millstream_coordinator::owner::failure::AppendFailure::TooLarge { size: 1 };
    owner.core.appended("me-1-3", Err(refused), owner.now);
    assert_eq!(owner.pass(1), ["append me-1-4: timer fired: deadline"]);
}

#[test]
fn workers_are_told_of_a_cancel_until_they_can_be() {
    let mut owner = Owner::running(CHAIN);
    owner.commands();
    owner.read(cancel_requested(1));
    assert_eq!(owner.commands(), ["mark cancelled"]);
    let passing = StoreFailure::Passing { reason: "no answer".to_owned() };
    for _ in 0..3 {
        owner.core.cancel_marked(id(1), 1, Err(&passing), owner.now);
        assert_eq!(owner.commands(), [""; 0]);
        assert_eq!(owner.pass(250), ["mark cancelled"]);
    }
    let lasting = StoreFailure::Lasting { reason: "denied".to_owned() };
    owner.core.cancel_marked(id(1), 1, Err(&lasting), owner.now);
    assert_eq!(owner.pass(250), [""; 0]);
}
