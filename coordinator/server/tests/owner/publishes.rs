//! What becomes of tasks that may not be in their queue.

use millstream_coordinator::owner::failure::{AppendFailure, PublishFailure};

use super::fixture::{CHAIN, Owner, key, submitted, succeeded};

/// A sweep of two scans that find nothing, up to its second marker.
fn sweep_in_vain(owner: &mut Owner, markers: [&str; 2]) {
    for (round, marker) in markers.into_iter().enumerate() {
        if round > 0 {
            assert_eq!(owner.pass(2_000), ["scan"]);
        }
        owner.core.scanned(Ok(&[]), owner.now);
        assert_eq!(owner.commands(), [format!("append {marker}: marker")]);
        owner.store(marker);
    }
}

#[test]
fn a_task_of_unknown_fate_is_reissued_once_after_it_was_absent_twice() {
    let mut owner = Owner::running(CHAIN);
    assert_eq!(owner.commands(), ["publish a #1"]);
    owner.core.unpublished(owner.task("a #1"), &PublishFailure::Unknown, owner.now);
    assert_eq!(owner.commands(), [""; 0], "it may be in the queue");
    assert_eq!(owner.wakes_in(), Some(0));
    assert_eq!(owner.pass(0), ["scan"]);
    sweep_in_vain(&mut owner, ["me-1-3", "me-1-4"]);
    assert_eq!(owner.commands(), ["append me-1-5: reissued a #2"]);
    owner.store("me-1-5");
    assert_eq!(owner.commands(), ["report", "publish a #2"]);
    assert_eq!(owner.pass(2_000), [""; 0]);
    assert_eq!(owner.core.counts().reissued, 1);
}

#[test]
fn a_task_of_unknown_fate_that_is_in_the_queue_stays_as_it_is() {
    let mut owner = Owner::running(CHAIN);
    owner.commands();
    owner.core.unpublished(owner.task("a #1"), &PublishFailure::Unknown, owner.now);
    owner.pass(0);
    owner.core.scanned(Ok(&[key(1, "a")]), owner.now);
    assert_eq!(owner.commands(), ["append me-1-3: marker"]);
    owner.store("me-1-3");
    assert_eq!(owner.pass(2_000), [""; 0]);
}

#[test]
fn a_task_that_finds_its_queue_full_is_sent_again_in_its_turn_and_never_reissued() {
    let mut owner = Owner::running(CHAIN);
    assert_eq!(owner.commands(), ["publish a #1"]);
    for _ in 0..600 {
        owner.core.unpublished(owner.task("a #1"), &PublishFailure::QueueFull, owner.now);
        assert!(owner.wakes_in() <= Some(100));
        assert_eq!(owner.pass(99), [""; 0]);
        assert_eq!(owner.pass(1), ["publish a #1"]);
    }
    owner.core.unpublished(owner.task("a #1"), &PublishFailure::StreamFull, owner.now);
    owner.read(succeeded(1, "a"));
    assert_eq!(owner.commands(), ["publish b #1"]);
    assert_eq!(owner.pass(100), [""; 0], "what is settled is not sent");
    assert_eq!(owner.core.counts().reissued, 0);
}

#[test]
fn what_nats_refuses_for_good_becomes_an_entry() {
    let mut owner = Owner::running(CHAIN);
    owner.commands();
    let denied = PublishFailure::Denied { subject: "ms.task.pool.3".to_owned() };
    owner.core.unpublished(owner.task("a #1"), &denied, owner.now);
    let entry = "unpublishable a #1: PERMISSION_DENIED the task cannot be queued: \
                 NATS refuses this connection to publish to ms.task.pool.3";
    assert_eq!(owner.commands(), [format!("append me-1-3: {entry}")]);
    owner.core.appended("me-1-3", Err(AppendFailure::TooLarge { size: 1 }), owner.now);
    assert_eq!(owner.commands(), [""; 0]);
    assert_eq!(owner.pass(1_000), ["publish a #1"], "without the entry the task is owed again");
    owner.core.unpublished(owner.task("a #1"), &denied, owner.now);
    assert_eq!(owner.commands(), [format!("append me-1-4: {entry}")]);
    owner.store("me-1-4");
    assert_eq!(owner.commands(), ["ended", "record of 2 entries, ended at 4.0"]);
    assert_eq!(owner.pass(100_000), [""; 0]);
}

#[test]
fn what_is_too_large_or_rejected_is_an_error_of_the_step_as_well() {
    let rejected = PublishFailure::Rejected { code: 10_060, description: "expected stream does not match".to_owned() };
    for failure in [PublishFailure::TooLarge { size: 7 }, rejected] {
        let mut owner = Owner::running(CHAIN);
        owner.commands();
        owner.core.unpublished(owner.task("a #1"), &failure, owner.now);
        let commands = owner.commands();
        assert!(commands[0].starts_with("append me-1-3: unpublishable a #1: INTERNAL_ERROR"), "{commands:?}");
    }
}

#[test]
fn when_the_queue_is_gone_what_was_in_it_is_reissued_and_the_rest_is_sent() {
    let mut owner = Owner::running(CHAIN);
    assert_eq!(owner.commands(), ["publish a #1"]);
    let queued = owner.task("a #1");
    owner.read(submitted(2, CHAIN));
    assert_eq!(owner.commands(), ["publish a #1"]);
    let refused = owner.task("a #1");
    assert_ne!(queued, refused);
    owner.core.unpublished(refused, &PublishFailure::NoStream, owner.now);
    assert_eq!(owner.pass(0), ["scan"]);
    assert_eq!(owner.pass(100), ["publish a #1"]);
    assert_eq!(owner.task("a #1"), refused, "it is sent as it was");
    sweep_in_vain(&mut owner, ["me-1-3", "me-1-4"]);
    assert_eq!(owner.commands(), ["append me-1-5: reissued a #2"]);
    owner.store("me-1-5");
    assert_eq!(owner.commands(), ["report", "publish a #2"]);
    assert_eq!(owner.task("a #2").execution, queued.execution);
}

#[test]
fn a_queue_that_is_gone_is_created_again_though_nothing_was_in_it() {
    let mut owner = Owner::running(CHAIN);
    owner.commands();
    owner.core.unpublished(owner.task("a #1"), &PublishFailure::NoStream, owner.now);
    assert_eq!(owner.commands(), ["scan"]);
}

#[test]
fn what_waits_for_a_connection_waits_in_silence() {
    let mut owner = Owner::running(CHAIN);
    owner.commands();
    owner.core.link(None);
    owner.core.unpublished(owner.task("a #1"), &PublishFailure::Offline, owner.now);
    assert_eq!(owner.pass(10_000), [""; 0]);
    owner.core.link(Some(2));
    assert_eq!(owner.commands(), ["scan"]);
    assert_eq!(owner.pass(0), ["publish a #1"]);
}
