//! Group commit, repetition, and who gets which answer.

use millstream_coordinator::owner::command::AskId;
use millstream_coordinator::owner::failure::AppendFailure;
use millstream_coordinator::owner::machine::Stop;
use millstream_engine::Request;
use millstream_model::limits::DUPLICATE_WINDOW_MS;

use super::fixture::{CHAIN, Owner, epoch, id};

#[test]
fn entries_that_become_ready_during_an_append_travel_together() {
    let mut owner = Owner::owning(CHAIN);
    owner.submit(1, None);
    assert_eq!(owner.commands(), ["append me-1-3: submitted"]);
    owner.submit(2, None);
    owner.submit(3, None);
    assert_eq!(owner.commands(), [""; 0], "one append is under way");
    owner.core.appended("me-1-3", Ok(()), owner.now);
    assert_eq!(owner.commands(), ["append me-1-4: submitted + submitted"]);
}

#[test]
fn an_append_whose_ack_was_lost_is_repeated_under_the_same_id_for_half_of_the_duplicate_window() {
    let mut owner = Owner::owning(CHAIN);
    owner.submit(1, None);
    assert_eq!(owner.commands(), ["append me-1-3: submitted"]);
    let (mut passed, mut repeated) = (0, 0);
    let given_up = loop {
        if let Some(failure) = owner.core.appended("me-1-3", Err(AppendFailure::Unknown), owner.now) {
            break failure;
        }
        let mut commands = owner.commands();
        assert_eq!(commands, [""; 0], "a repetition waits");
        while commands.is_empty() {
            let wait = owner.wakes_in().expect("it is going to be repeated");
            commands = owner.pass(wait);
            passed += wait;
        }
        assert_eq!(commands, ["append me-1-3: submitted"]);
        repeated += 1;
    };
    assert_eq!(given_up, AppendFailure::Unknown);
    assert!(repeated > 30 && passed < DUPLICATE_WINDOW_MS / 2, "{repeated} repetitions in {passed} ms");
    assert!(passed > DUPLICATE_WINDOW_MS / 2 - 2_000, "{passed}");
    let reason = "the journal did not take the entry: NATS does not say whether the journal has it";
    assert_eq!(owner.commands(), [format!("answer 1: {reason}")]);
}

#[test]
fn a_process_that_was_paused_does_not_repeat_what_the_journal_has_forgotten() {
    let mut owner = Owner::owning(CHAIN);
    owner.submit(1, None);
    owner.commands();
    owner.core.appended("me-1-3", Err(AppendFailure::Unknown), owner.now);
    let commands = owner.pass(DUPLICATE_WINDOW_MS);
    assert!(!commands.iter().any(|command| command.starts_with("append me-1-3")), "{commands:?}");
    assert!(commands.iter().any(|command| command.starts_with("answer 1: the journal did not")), "{commands:?}");
}

#[test]
fn what_is_refused_for_good_is_not_repeated() {
    let mut owner = Owner::owning(CHAIN);
    owner.submit(1, None);
    owner.commands();
    let refused = AppendFailure::TooLarge { size: 9 };
    assert_eq!(owner.core.appended("me-1-3", Err(refused.clone()), owner.now), Some(refused));
    let reason = "the journal did not take the entry: a batch of 9 bytes is larger than NATS takes";
    assert_eq!(owner.commands(), [format!("answer 1: {reason}")]);
}

#[test]
fn a_batch_that_was_read_back_is_stored_whatever_its_answer_says() {
    let mut owner = Owner::owning(CHAIN);
    owner.submit(1, None);
    owner.commands();
    owner.submit(2, None);
    owner.read_back("me-1-3");
    assert_eq!(owner.commands(), ["answer 1: accepted", "publish a #1", "append me-1-4: submitted"]);
    assert_eq!(owner.core.appended("me-1-3", Err(AppendFailure::Unknown), owner.now), None);
    assert_eq!(owner.pass(1_000), [""; 0]);
    owner.read_back("me-1-4");
    assert_eq!(owner.commands(), ["answer 2: accepted", "publish a #1"]);
}

#[test]
fn each_caller_gets_what_the_fold_makes_of_its_own_entry() {
    let mut owner = Owner::owning(CHAIN);
    owner.submit(1, Some("key"));
    owner.commands();
    owner.submit(2, Some("key"));
    owner.submit(3, None);
    owner.core.appended("me-1-3", Ok(()), owner.now);
    assert_eq!(owner.commands(), ["append me-1-4: submitted + submitted"], "nothing is answered by an ack");
    owner.read_back("me-1-3");
    assert_eq!(owner.commands(), ["answer 1: accepted", "publish a #1"]);
    owner.read_back("me-1-4");
    let repeats = format!("answer 2: repeats {}", id(1));
    assert_eq!(owner.commands(), [&repeats, "answer 3: accepted", "publish a #1"]);
    owner.submit(4, Some("key"));
    let refused = format!("answer 4: rejected, the same request was accepted as execution {}", id(1));
    assert_eq!(owner.commands(), [refused], "what is known to be refused is not journaled");
}

#[test]
fn nobody_is_served_before_the_journal_is_folded() {
    let mut owner = Owner::new(CHAIN);
    owner.commands();
    owner.submit(1, None);
    assert_eq!(owner.commands(), ["answer 1: not the owner"]);
}

#[test]
fn an_epoch_that_was_not_appended_is_appended_again() {
    let mut owner = Owner::new(CHAIN);
    owner.commands();
    let denied = || AppendFailure::Denied { subject: "ms.journal.3.control".to_owned() };
    owner.core.appended("me-1-1", Err(denied()), owner.now);
    assert_eq!(owner.commands(), [""; 0]);
    assert_eq!(owner.wakes_in(), Some(1_000));
    assert_eq!(owner.pass(1_000), ["append me-1-2: epoch"]);
    owner.core.appended("me-1-2", Err(denied()), owner.now);
    owner.read_back("me-1-2");
    assert!(owner.core.owns());
    assert_eq!(owner.commands(), ["report", "scan"]);
    assert_eq!(owner.pass(1_000), [""; 0], "it is in the journal after all");
}

#[test]
fn an_owner_that_was_superseded_asks_for_nothing_any_more() {
    let mut owner = Owner::running(CHAIN);
    owner.core.ask(
        AskId(1),
        Request::Cancel { execution: id(1), reason: None, by: None, compensate: false },
        owner.now,
    );
    let stop = owner.try_read(epoch("other", 9)).expect_err("taken over");
    assert_eq!(stop, Stop::TakenOver { node: "other".parse().expect("a name"), epoch: 9 });
    assert!(!owner.core.owns());
    assert_eq!(owner.commands(), [""; 0]);
    assert_eq!(owner.pass(100_000), [""; 0]);
}

#[test]
fn when_the_journal_takes_nothing_requests_are_refused_before_memory_runs_out() {
    let mut owner = Owner::running(CHAIN);
    owner.commands();
    let reason = "x".repeat(1 << 20);
    let mut taken = 0;
    while owner.commands().iter().all(|command| command.starts_with("append")) {
        let (execution, reason) = (id(1), Some(reason.clone()));
        owner.core.ask(AskId(9), Request::Cancel { execution, reason, by: None, compensate: false }, owner.now);
        taken += 1;
    }
    assert!((60..70).contains(&taken), "{taken} MiB");
}
