//! What the revisions of the fold make of the same entries.

use millstream_engine::partition::{FOLD_REV, FOLD_REV_OLDEST};
use millstream_engine::{Halt, Ignored, Origin, Outcome, Partition};
use millstream_model::entry::{Entry, Epoch};
use millstream_model::position::Position;
use millstream_model::time::Timestamp;

use super::check::{World, check_under, definition};

const CLOSE: &str = "
  - {id: a, agent_id: x, schedule_to_close_ms: 3000, retry: {max_attempts: 9, jitter: false, strategy: fixed}}";

const ITEMS: &str = "
  - {id: a, agent_id: x, fan_out: {items: $.input, on_item_failure: continue}, schedule_to_close_ms: 3000,
     retry: {max_attempts: 9, jitter: false, strategy: fixed}}";

const FALLBACK: &str = "
  - {id: a, agent_id: x, schedule_to_close_ms: 3000, retry: {jitter: false, strategy: fixed}, fallback: {agent_id: y}}";

fn epoch(epoch: u64, fold_rev: u16) -> Entry {
    Entry::Epoch(Epoch { node: "n".parse().expect("a name"), epoch, fold_rev })
}

#[test]
fn under_the_first_revision_the_time_of_all_attempts_may_end_in_a_backoff() {
    check_under(
        1,
        CLOSE,
        "submit
         +2500 fail a #1 INTERNAL_ERROR no
         +500 due
         +500 due",
        "1 publish a #1
         1 arm schedule to close a in 3000 ms
         2 arm backoff a #2 in 1000 ms
         3 cancel activations below 4
         3 end FAILED
         --
         FAILED TIMEOUT: all attempts together took longer than 3000 ms
         a TIMEOUT TIMEOUT: all attempts together took longer than 3000 ms",
    );
}

#[test]
fn a_retry_that_would_come_too_late_fails_at_once_with_the_error_it_has() {
    for late in [2000, 2500] {
        check_under(
            2,
            CLOSE,
            &format!(
                "submit
                 +{late} fail a #1 INTERNAL_ERROR no
                 +5000 due"
            ),
            "1 publish a #1
             1 arm schedule to close a in 3000 ms
             2 end FAILED
             --
             FAILED INTERNAL_ERROR: no
             a FAILED INTERNAL_ERROR: no",
        );
    }
    check_under(
        2,
        CLOSE,
        "submit
         +1999 fail a #1 INTERNAL_ERROR no
         +1000 due
         ok a #2 1",
        "1 publish a #1
         1 arm schedule to close a in 3000 ms
         2 arm backoff a #2 in 1000 ms
         3 publish a #2
         4 end COMPLETED
         --
         COMPLETED 1
         a COMPLETED 1",
    );
}

#[test]
fn nobody_is_told_of_a_retry_that_does_not_come() {
    for (fold_rev, retries) in [(1, 1), (2, 0)] {
        let mut world = World::under(fold_rev, &definition(CLOSE));
        world.tell("submit\n+2500 fail a #1 INTERNAL_ERROR no");
        let retrying = world.execution().events(None).iter().filter(|e| e.kind.as_str() == "step.retrying").count();
        assert_eq!((retrying, world.execution().view().counts.retries), (retries as usize, retries), "{fold_rev}");
    }
}

#[test]
fn an_item_that_would_be_retried_too_late_fails_and_the_others_go_on() {
    check_under(
        2,
        ITEMS,
        "submit [1, 2]
         +2500 fail a[0] #1 INTERNAL_ERROR no
         ok a[1] #1 2",
        "1 publish a[0] #1
         1 publish a[1] #1
         1 arm schedule to close a[0] in 3000 ms
         1 arm schedule to close a[1] in 3000 ms
         3 end COMPLETED
         --
         COMPLETED partial [null,2]
         a COMPLETED [null,2]",
    );
    let mut world = World::under(1, &definition(ITEMS));
    world.tell("submit [1, 2]");
    assert_eq!(world.tell("+2500 fail a[0] #1 INTERNAL_ERROR no"), ["1 arm backoff a[0] #2 in 1000 ms"]);
}

#[test]
fn a_fallback_comes_at_once_and_has_a_time_of_its_own() {
    check_under(
        2,
        FALLBACK,
        "submit
         +2500 fail a #1 INTERNAL_ERROR no
         +2500 fail a #1 fallback INTERNAL_ERROR neither",
        "1 publish a #1
         1 arm schedule to close a in 3000 ms
         2 publish a #1 fallback
         2 arm schedule to close a in 3000 ms
         3 end FAILED
         --
         FAILED INTERNAL_ERROR: neither
         a FAILED INTERNAL_ERROR: neither, 1 fallbacks",
    );
    let mut world = World::under(1, &definition(FALLBACK));
    world.tell("submit");
    assert_eq!(world.tell("+2500 fail a #1 INTERNAL_ERROR no"), ["1 arm backoff a #2 in 1000 ms"]);
    let due = world.tell("+500 due");
    assert_eq!(due, ["1 publish a #1 fallback", "1 arm schedule to close a in 3000 ms"]);
    assert_eq!(world.tell("+2500 fail a #1 fallback INTERNAL_ERROR no"), ["1 arm backoff a #2 in 1000 ms"]);
}

#[test]
fn a_lost_attempt_is_not_retried_too_late_either() {
    for (fold_rev, caused) in [
        (1, ["1 arm backoff a #3 in 1000 ms"].as_slice()),
        (2, ["1 cancel activations below 4", "1 end FAILED"].as_slice()),
    ] {
        let mut world = World::under(fold_rev, &definition(CLOSE));
        world.tell("submit\nheld a #1 ordinal=2");
        assert_eq!(world.tell("+2500 abandoned a #1 ordinal=2"), caused, "{fold_rev}");
    }
}

#[test]
fn compensations_have_no_such_time_under_any_revision() {
    let saga = "id: w
on_failure: compensate
steps:
  - {id: a, agent_id: x, schedule_to_close_ms: 3000, compensate: {agent_id: z, retry: {jitter: false}}}
  - {id: b, agent_id: x, depends_on: [a], retry: {max_attempts: 1}}";
    for fold_rev in [1, 2] {
        let mut world = World::under(fold_rev, saga);
        world.tell("submit\nok a #1 1\nfail b #1 INTERNAL_ERROR no");
        let failed = world.tell("+9999 fail a #1 compensation INTERNAL_ERROR no");
        assert_eq!(failed, ["1 arm backoff a #2 in 1000 ms"], "{fold_rev}");
    }
}

#[test]
fn an_execution_is_folded_for_ever_under_the_revision_of_its_submission() {
    let mut world = World::under(1, &definition(CLOSE));
    world.tell("submit");
    assert!(world.apply(epoch(7, 2)).is_empty());
    assert_eq!((world.partition.fold_rev(), world.execution().revisions().fold), (2, 1));
    assert_eq!(world.tell("+2500 fail a #1 INTERNAL_ERROR no"), ["1 arm backoff a #2 in 1000 ms"]);
}

#[test]
fn epochs_raise_the_revision_and_never_lower_it() {
    let mut world = World::under(1, &definition(CLOSE));
    for (number, fold_rev, in_force) in [(1, 1, 1), (2, 2, 2), (3, 1, 2), (9, 2, 2)] {
        assert!(world.apply(epoch(number, fold_rev)).is_empty());
        assert_eq!(world.partition.fold_rev(), in_force);
    }
    world.tell("submit");
    assert_eq!(world.execution().revisions().fold, 2);
}

#[test]
fn an_epoch_whose_number_is_not_above_the_current_one_is_stale() {
    let mut world = World::under(1, &definition(CLOSE));
    world.apply(epoch(5, 1));
    for number in [1, 4, 5] {
        assert_eq!(world.apply(epoch(number, 2)), ["ignored: stale"]);
        assert_eq!(world.partition.fold_rev(), 1);
        assert_eq!(world.partition.epoch().map(|(epoch, _)| epoch.epoch), Some(5));
    }
    assert_eq!(world.partition.epoch_in_force().map(|(_, at)| at), Some(Position::start_of(1)));
}

#[test]
fn an_epoch_above_what_the_build_folds_halts_even_when_it_is_stale() {
    let mut partition = Partition::default();
    let mut apply = |sequence, entry| {
        partition.apply(Position::start_of(sequence), Timestamp::default(), Origin::Control, entry).map(|a| a.outcome)
    };
    assert_eq!(apply(1, epoch(5, FOLD_REV_OLDEST)), Ok(Outcome::Accepted));
    assert_eq!(apply(2, epoch(5, FOLD_REV)), Ok(Outcome::Ignored(Ignored::Stale)));
    let found = FOLD_REV + 1;
    assert_eq!(apply(3, epoch(4, found)), Err(Halt::FoldRevision { found, known: FOLD_REV }));
}
