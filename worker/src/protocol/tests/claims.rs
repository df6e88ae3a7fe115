//! Who may run a task, and how long that is remembered.

use super::*;

#[test]
fn a_claim_under_which_the_agent_was_called_stays_for_other_messages_of_the_same_run() {
    let task = task(&json!({"max_attempts": 1}));
    check(
        &task,
        1,
        &[
            ("arrived 5", "claim #1 as w1 at 5"),
            ("won 6", "run"),
            ("answered", "append succeeded #1"),
            ("stored", "ack"),
            ("acked", "continue"),
        ],
    );
}

#[test]
fn a_claim_without_an_answer_is_asked_for_again_as_the_same_until_the_task_expires() {
    let task = task(&json!({"not_after": 9}));
    check(
        &task,
        2,
        &[("arrived 5", "claim #2 as w1 at 5"), ("unanswered 7", "claim #2 as w1 at 5"), ("taken by w1 at 5", "run")],
    );
    check(&task, 2, &[("arrived 5", "claim #2 as w1 at 5"), ("unanswered 10", "append expired #2"), ("stored", "ack")]);
    check(&task, 2, &[("arrived 5", "claim #2 as w1 at 5"), ("unanswered 7 cancelled", "append failed #2 CANCELLED")]);
}

#[test]
fn a_second_attempt_claims_on_its_first_delivery_too() {
    let task = task(&json!({"key": key(2)}));
    check(&task, 1, &[("arrived 5", "claim #2 as w1 at 5")]);
}

#[test]
fn a_step_with_one_attempt_claims_its_only_run() {
    let task = task(&json!({"max_attempts": 1}));
    check(&task, 1, &[("arrived 5", "claim #1 as w1 at 5"), ("won 5", "run")]);
}

#[test]
fn a_claim_that_another_holds_is_reported_and_nothing_runs() {
    let task = task(&json!({}));
    check(
        &task,
        2,
        &[
            ("arrived 5", "claim #2 as w1 at 5"),
            ("taken by w2 at 3", "append claim of #2 held by w2 since 3000"),
            ("stored", "ack"),
        ],
    );
}

#[test]
fn a_claim_of_this_worker_from_another_moment_is_held_by_another_run() {
    let task = task(&json!({}));
    check(
        &task,
        9,
        &[("arrived 5", "claim #3 as w1 at 5"), ("taken by w1 at 4", "append claim of #3 held by w1 since 4000")],
    );
}

#[test]
fn a_claim_whose_answer_was_lost_is_our_own() {
    let task = task(&json!({}));
    check(
        &task,
        2,
        &[
            ("arrived 5", "claim #2 as w1 at 5"),
            ("taken by w1 at 5", "run"),
            ("answered", "append succeeded #2"),
            ("stored", "ack"),
        ],
    );
}

#[test]
fn a_claim_that_the_store_refuses_sends_the_task_back_with_a_delay() {
    let task = task(&json!({}));
    check(&task, 2, &[("arrived 5", "claim #2 as w1 at 5"), ("claim refused", "hand back after 10000")]);
}

#[test]
fn an_unused_claim_is_kept_when_the_ack_is_not_confirmed() {
    let task = task(&json!({"max_attempts": 1}));
    check(
        &task,
        1,
        &[
            ("arrived 5", "claim #1 as w1 at 5"),
            ("won 5 cancelled", "append failed #1 CANCELLED"),
            ("stored", "ack and confirm"),
            ("ack lost", "done"),
        ],
    );
}

#[test]
fn a_claim_lives_until_no_clock_of_a_worker_permits_a_start() {
    let worker = "w1".parse().expect("a name");
    for (task, ttl) in [
        (task(&json!({"not_after": 25_000, "max_attempts": 1})), 20 + 600_000),
        (task(&json!({"deadline": 105_000, "max_attempts": 1})), 100 + 600_000),
        (task(&json!({"not_after": 25_000, "deadline": 105_000, "max_attempts": 1})), 20 + 600_000),
        (task(&json!({"max_attempts": 1})), 24 * 3_600_000),
    ] {
        let mut delivered = Delivered::new(&task, MESSAGE, 1, &worker);
        match delivered.on(Event::Arrived(Moment { now: Timestamp::from_micros(5_000), cancelled: false })) {
            Next::Claim { ttl_ms, .. } => assert_eq!(ttl_ms, ttl),
            other => panic!("expected a claim, not {other:?}"),
        }
    }
}

#[test]
fn a_task_without_a_last_start_ends_with_its_execution() {
    let task = task(&json!({"deadline": 9}));
    check(&task, 1, &[("arrived 10", "append expired #1"), ("stored", "ack")]);
}

/// A redelivery and the next attempt stand for the same run; one of them wins, however equal their moments are.
#[test]
fn two_messages_of_one_worker_at_the_same_moment_are_two_claimants() {
    let (redelivered, worker) = (task(&json!({})), "w1".parse().expect("a name"));
    let moment = Moment { now: Timestamp::from_micros(5), cancelled: false };
    let claim_of = |message, task: &Task, delivered| {
        let mut machine = Delivered::new(task, message, delivered, &worker);
        match machine.on(Event::Arrived(moment)) {
            Next::Claim { key, claim, .. } => (key, claim),
            other => panic!("it claims first: {other:?}"),
        }
    };
    let next = task(&json!({"key": key(2)}));
    let (first, second) = (claim_of(7, &redelivered, 2), claim_of(8, &next, 1));
    assert_eq!(first.0, second.0, "they stand for the same run");
    let mut loser = Delivered::new(&next, 8, 1, &worker);
    loser.on(Event::Arrived(moment));
    let told = loser.on(Event::ClaimTaken { claim: first.1, stored_at: Timestamp::from_micros(6), now: moment });
    assert_eq!(render(&told), "append claim of #2 held by w1 since 6");
}
