//! The whole table, as text: what happened on the left, what was said on the right.

use millstream_model::payload::Payload;
use serde_json::json;

use super::*;

mod claims;

/// Sequence of the task's message.
const MESSAGE: u64 = 7;

const EXECUTION: &str = "0193a5a0-0000-7000-8000-000000000003";

#[test]
fn the_first_of_several_attempts_runs_unclaimed_and_is_acked_once_it_is_stored() {
    let task = task(&json!({}));
    check(
        &task,
        1,
        &[("arrived 5", "run"), ("answered", "append succeeded #1"), ("stored", "ack"), ("acked", "continue")],
    );
}

#[test]
fn a_redelivery_is_the_next_ordinal_and_claims_before_it_runs() {
    let task = task(&json!({}));
    check(
        &task,
        2,
        &[
            ("arrived 5", "claim #2 as w1 at 5"),
            ("won 6", "run"),
            ("failed", "append failed #2 INTERNAL_ERROR"),
            ("stored", "ack"),
        ],
    );
}

#[test]
fn a_start_that_is_awaited_is_in_the_journal_before_the_run() {
    let task = task(&json!({"announce_start": true}));
    check(
        &task,
        1,
        &[
            ("arrived 5", "announce #1 by w1"),
            ("announced 6", "run"),
            ("answered", "append succeeded #1"),
            ("stored", "ack"),
        ],
    );
    check(&task, 2, &[("arrived 5", "claim #2 as w1 at 5"), ("won 5", "announce #2 by w1"), ("announced 6", "run")]);
    check(
        &task,
        2,
        &[("arrived 5", "claim #2 as w1 at 5"), ("taken by w1 at 5", "announce #2 by w1"), ("announced 6", "run")],
    );
}

#[test]
fn what_expired_or_was_cancelled_while_its_start_was_announced_does_not_run() {
    let task = task(&json!({"announce_start": true, "not_after": 9, "max_attempts": 1}));
    check(
        &task,
        1,
        &[
            ("arrived 5", "claim #1 as w1 at 5"),
            ("won 6", "announce #1 by w1"),
            ("announced 10", "append expired #1"),
            ("stored", "ack and confirm"),
            ("acked", "release the claim"),
            ("released", "done"),
        ],
    );
    check(
        &task,
        1,
        &[
            ("arrived 5", "claim #1 as w1 at 5"),
            ("won 6", "announce #1 by w1"),
            ("cancel seen", "continue"),
            ("announced 7 cancelled", "append failed #1 CANCELLED"),
        ],
    );
    check(&task, 1, &[("arrived 5", "claim #1 as w1 at 5"), ("won 10", "append expired #1")]);
}

#[test]
fn what_did_not_run_gives_its_claim_back_before_the_task_is_offered_to_others() {
    let task = task(&json!({"announce_start": true, "max_attempts": 1}));
    for (happened, wanted) in [("grace over", "hand back"), ("not accepted", "hand back after 10000")] {
        check(
            &task,
            1,
            &[
                ("arrived 5", "claim #1 as w1 at 5"),
                ("won 6", "announce #1 by w1"),
                (happened, "release the claim"),
                ("released", wanted),
            ],
        );
    }
    check(
        &task,
        1,
        &[("arrived 5", "claim #1 as w1 at 5"), ("won 6", "announce #1 by w1"), ("progress lost", "leave")],
    );
}

#[test]
fn a_start_that_is_not_accepted_runs_nothing() {
    let task = task(&json!({"announce_start": true}));
    check(&task, 1, &[("arrived 5", "announce #1 by w1"), ("not accepted", "hand back after 10000")]);
}

#[test]
fn a_worker_on_probation_announces_every_start() {
    let task = task(&json!({}));
    let worker = "w1".parse().expect("a name");
    let mut machine = Delivered::new(&task, MESSAGE, 1, &worker).on_probation();
    assert_eq!(render(&machine.on(event("arrived 5"))), "announce #1 by w1");
    assert_eq!(render(&machine.on(event("announced 6"))), "run");
}

#[test]
fn a_result_that_is_not_accepted_sends_the_task_back_and_counts_as_a_run() {
    let task = task(&json!({"max_attempts": 1}));
    check(
        &task,
        1,
        &[
            ("arrived 5", "claim #1 as w1 at 5"),
            ("won 6", "run"),
            ("answered", "append succeeded #1"),
            ("not accepted", "hand back after 10000"),
        ],
    );
}

#[test]
fn an_answer_is_kept_while_its_output_is_stored() {
    let task = task(&json!({}));
    check(
        &task,
        1,
        &[
            ("arrived 5", "run"),
            ("storing", "continue"),
            ("cancel seen", "continue"),
            ("progress lost", "continue"),
            ("answered", "append succeeded #1"),
        ],
    );
    check(&task, 1, &[("arrived 5", "run"), ("storing", "continue"), ("grace over", "hand back")]);
}

#[test]
fn a_task_met_after_its_not_after_is_expired_and_does_not_run() {
    let task = task(&json!({"not_after": 9}));
    check(&task, 1, &[("arrived 10", "append expired #1"), ("stored", "ack")]);
    check(&task, 1, &[("arrived 9", "run")]);
}

#[test]
fn a_claim_that_took_too_long_to_win_expires_and_is_released() {
    let task = task(&json!({"not_after": 9, "max_attempts": 1}));
    check(
        &task,
        1,
        &[
            ("arrived 9", "claim #1 as w1 at 9"),
            ("won 10", "append expired #1"),
            ("stored", "ack and confirm"),
            ("acked", "release the claim"),
        ],
    );
}

#[test]
fn a_task_of_a_cancelled_execution_is_not_started() {
    let task = task(&json!({"not_after": 1}));
    check(&task, 1, &[("arrived 5 cancelled", "append failed #1 CANCELLED"), ("stored", "ack")]);
    check(&task, 2, &[("arrived 5 cancelled", "append failed #2 CANCELLED")]);
}

#[test]
fn a_running_task_acknowledges_a_cancel() {
    let task = task(&json!({}));
    check(
        &task,
        1,
        &[
            ("arrived 5", "run"),
            ("cancel seen", "append failed #1 CANCELLED"),
            ("answered", "continue"),
            ("stored", "ack"),
        ],
    );
}

#[test]
fn compensations_and_what_runs_at_the_end_are_exempt_from_a_cancel() {
    for purpose in ["compensation", "finally"] {
        let task = task(&json!({"purpose": purpose}));
        check(
            &task,
            1,
            &[("arrived 5 cancelled", "run"), ("cancel seen", "continue"), ("answered", "append succeeded #1")],
        );
    }
}

#[test]
fn a_run_without_confirmed_progress_is_given_up_without_a_word() {
    let task = task(&json!({}));
    check(&task, 1, &[("arrived 5", "run"), ("progress lost", "leave"), ("answered", "continue")]);
    check(&task, 2, &[("arrived 5", "claim #2 as w1 at 5"), ("progress lost", "leave")]);
}

#[test]
fn a_result_that_is_known_is_reported_even_when_progress_is_lost() {
    let task = task(&json!({}));
    check(
        &task,
        1,
        &[
            ("arrived 5", "run"),
            ("answered", "append succeeded #1"),
            ("progress lost", "continue"),
            ("cancel seen", "continue"),
            ("stored", "ack"),
        ],
    );
}

#[test]
fn a_worker_that_stops_hands_back_what_it_could_not_finish() {
    let task = task(&json!({}));
    check(&task, 1, &[("arrived 5", "run"), ("grace over", "hand back")]);
    check(&task, 2, &[("arrived 5", "claim #2 as w1 at 5"), ("grace over", "hand back")]);
    check(&task, 1, &[("arrived 5", "run"), ("answered", "append succeeded #1"), ("grace over", "hand back")]);
}

#[test]
fn a_result_that_no_message_can_hold_becomes_a_failure() {
    let task = task(&json!({}));
    check(
        &task,
        1,
        &[
            ("arrived 5", "run"),
            ("answered", "append succeeded #1"),
            ("too large", "append failed #1 RESULT_TOO_LARGE"),
            ("stored", "ack"),
        ],
    );
    check(
        &task,
        1,
        &[
            ("arrived 5", "run"),
            ("answered", "append succeeded #1"),
            ("too large", "append failed #1 RESULT_TOO_LARGE"),
            ("too large", "hand back after 10000"),
        ],
    );
}

#[test]
fn a_run_has_no_more_time_than_is_left_until_its_deadline() {
    let bounded = task(&json!({"timeout_ms": 3_000, "deadline": 10_000_000}));
    let taken = [1_000, 8_000, 9_999, 20_000].map(|start| bounded.time_ms(Timestamp::from_millis(start)));
    assert_eq!(taken, [3_000, 2_000, 1, 0]);
    let free = task(&json!({"timeout_ms": 3_000, "deadline": null}));
    assert_eq!(free.time_ms(Timestamp::from_millis(20_000)), 3_000);
}

#[test]
fn a_result_returns_the_token_and_the_key_it_was_given() {
    let task = task(&json!({}));
    let worker = "w1".parse().expect("a name");
    let mut delivered = Delivered::new(&task, MESSAGE, 1, &worker);
    delivered.on(Event::Arrived(Moment { now: Timestamp::from_micros(5), cancelled: false }));
    match delivered.on(Event::Ran(outcome(Ok(Payload::null())))) {
        Next::Append(entry) => match *entry {
            Entry::TaskSucceeded(TaskSucceeded { task: key, run, .. }) => {
                assert_eq!((key, run.token, run.worker), (task.key.clone(), task.token, worker.clone()));
            }
            other => panic!("expected a success, not {other:?}"),
        },
        other => panic!("expected an entry, not {other:?}"),
    }
}

#[test]
fn a_message_of_another_protocol_goes_back_to_the_queue() {
    let other = serde_json::to_vec(&json!({"v": 2, "something": "else"})).expect("JSON");
    let refusal = read(&other).expect_err("another version");
    assert_eq!(refusal.to_string(), "the task speaks protocol version 2; this worker speaks 1 to 1");
    let newer = serde_json::to_vec(&wire(&json!({"v": 2}))).expect("JSON");
    assert!(matches!(read(&newer), Err(Refusal::Version { version: 2 })));
    for garbage in [&b"nonsense"[..], b"{\"v\":1}", b""] {
        assert!(matches!(read(garbage), Err(Refusal::Unreadable { .. })));
    }
    assert!(read(&serde_json::to_vec(&wire(&json!({}))).expect("JSON")).is_ok());
}

/// Plays what happened into a delivery and compares what it says each time.
#[track_caller]
fn check(task: &Task, delivered: u64, table: &[(&str, &str)]) {
    let worker = "w1".parse().expect("a name");
    let mut machine = Delivered::new(task, MESSAGE, delivered, &worker);
    for (happened, wanted) in table {
        assert_eq!(render(&machine.on(event(happened))), *wanted, "after `{happened}`");
    }
}

fn event(text: &str) -> Event {
    let words: Vec<&str> = text.split(' ').collect();
    let micros = |word: &str| Timestamp::from_micros(word.parse().expect("a number"));
    let moment = |word: &str| Moment { now: micros(word), cancelled: words.last() == Some(&"cancelled") };
    match &words[..] {
        ["arrived", at, ..] => Event::Arrived(moment(at)),
        ["won", at, ..] => Event::ClaimWon(moment(at)),
        ["taken", "by", who, "at", at] => Event::ClaimTaken {
            claim: Claim { worker: who.parse().expect("a name"), claimed_at: micros(at), message: MESSAGE },
            stored_at: Timestamp::from_millis(at.parse().expect("a number")),
            now: moment(at),
        },
        ["unanswered", at, ..] => Event::ClaimUnanswered(moment(at)),
        ["announced", at, ..] => Event::Announced(moment(at)),
        ["storing"] => Event::Answered,
        ["not", "accepted"] => Event::NotAccepted,
        ["claim", "refused"] => Event::ClaimRefused,
        ["answered"] => Event::Ran(outcome(Ok(Payload::null()))),
        ["failed"] => Event::Ran(outcome(Err(StepError::new(ErrorCode::InternalError, "broken")))),
        ["cancel", "seen"] => Event::CancelSeen { started_at: micros("5"), now: micros("6") },
        ["progress", "lost"] => Event::ProgressLost,
        ["grace", "over"] => Event::GraceOver,
        ["stored"] => Event::Stored,
        ["too", "large"] => Event::TooLarge { now: micros("7") },
        ["acked"] => Event::Acked { confirmed: true },
        ["ack", "lost"] => Event::Acked { confirmed: false },
        ["released"] => Event::Released,
        _ => panic!("no such event: {text}"),
    }
}

fn render(next: &Next) -> String {
    match next {
        Next::Claim { key, claim, .. } => {
            let given = task(&json!({})).key;
            let ordinal = (1..=3).find(|ordinal| *key == claim_key(&capability(), &given, *ordinal));
            let ordinal = ordinal.expect("a claim of this task");
            format!("claim #{ordinal} as {} at {}", claim.worker, claim.claimed_at.as_micros())
        }
        Next::Announce(entry) => match &**entry {
            Entry::TaskStarted(e) => format!("announce #{} by {}", e.ordinal, e.worker),
            other => panic!("a start is announced, not {other:?}"),
        },
        Next::Run => "run".to_owned(),
        Next::Append(entry) => match &**entry {
            Entry::TaskSucceeded(e) => format!("append succeeded #{}", e.run.ordinal),
            Entry::TaskFailed(e) => format!("append failed #{} {}", e.run.ordinal, e.error.code),
            Entry::ClaimHeld(e) => {
                format!("append claim of #{} held by {} since {}", e.ordinal, e.claimant, e.claimed_at.as_micros())
            }
            Entry::Expired(e) => format!("append expired #{}", e.ordinal),
            other => panic!("a worker may not write {other:?}"),
        },
        Next::Ack => "ack".to_owned(),
        Next::AckConfirmed => "ack and confirm".to_owned(),
        Next::ReleaseClaim => "release the claim".to_owned(),
        Next::HandBack { delay_ms: None } => "hand back".to_owned(),
        Next::HandBack { delay_ms: Some(delay) } => format!("hand back after {delay}"),
        Next::Leave => "leave".to_owned(),
        Next::Continue => "continue".to_owned(),
        Next::Done => "done".to_owned(),
    }
}

fn outcome(result: Result<Payload, StepError>) -> Outcome {
    Outcome { started_at: Timestamp::from_micros(5), ended_at: Timestamp::from_micros(6), span: None, result }
}

fn capability() -> millstream_model::ids::Capability {
    "http".parse().expect("a name")
}

fn key(attempt: u32) -> serde_json::Value {
    json!({"execution": EXECUTION, "step": "fetch", "activation": 0, "attempt": attempt})
}

fn task(changes: &serde_json::Value) -> Task {
    serde_json::from_value(wire(changes)).expect("a task")
}

fn wire(changes: &serde_json::Value) -> serde_json::Value {
    let mut task = json!({
        "v": 1,
        "ns": "default",
        "partition": 3,
        "key": key(1),
        "workflow": "invoices",
        "capability": "http",
        "agent": "erp",
        "manifest": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "max_attempts": 3,
        "timeout_ms": 60_000,
        "idempotency_key": "k",
        "token": "000102030405060708090a0b0c0d0e0f",
        "input": {"json": null}
    });
    for (name, value) in changes.as_object().expect("an object") {
        task[name] = value.clone();
    }
    task
}
