//! The fold's side of the owner: what it emits and when, when it stops, what it has reissued.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_coordinator::owner::clock::Mono;
use millstream_coordinator::owner::machine::{Folded, Machine, Message, Stop};
use millstream_engine::partition::FOLD_REV;
use millstream_engine::{Effect, Ignored, Outcome, Partition};
use millstream_model::batch::{BatchBuilder, encode_entry};
use millstream_model::entry::{ClaimHeld, Entry, Unpublishable, Unrenderable};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::ids::Namespace;
use millstream_model::names::JournalSubject;
use millstream_model::time::Timestamp;
use millstream_model::token::Secret;

use super::fixture::{CHAIN, cancel_requested, epoch, id, key, message, plan, pool, submitted, succeeded};

#[test]
fn nothing_is_emitted_before_the_own_epoch_and_everything_after_it() {
    let mut journal = Journal::new("me", 3);
    assert!(journal.fold(submitted(1, CHAIN)).effects.is_empty());
    assert!(journal.fold(epoch("other", 2)).effects.is_empty());
    let folded = journal.fold(epoch("me", 3));
    assert!(folded.took_over && folded.effects.is_empty());
    let folded = journal.fold_result(succeeded(1, "a"));
    assert!(matches!(folded.effects[..], [Effect::Publish(task)] if task.attempt == 1), "{:?}", folded.effects);
}

#[test]
fn a_newer_epoch_ends_the_ownership_at_once() {
    let mut journal = Journal::new("me", 1);
    journal.fold(epoch("me", 1));
    let stop = journal.try_fold(epoch("other", 2)).expect_err("taken over");
    assert_eq!(stop, Stop::TakenOver { node: "other".parse().expect("a name"), epoch: 2 });
    assert!(!journal.machine.owns());
}

#[test]
fn a_gap_in_the_journal_stops_the_owner() {
    let mut journal = Journal::new("me", 1);
    journal.fold(epoch("me", 1));
    journal.sequence += 1;
    let stop = journal.try_fold(submitted(1, CHAIN)).expect_err("a message is missing");
    assert_eq!(stop, Stop::Gap { last: 1, found: 3 });
}

#[test]
fn what_was_owed_at_the_epoch_is_reissued_after_it_was_absent_twice() {
    let mut journal = Journal::new("me", 2);
    journal.fold(submitted(1, CHAIN));
    assert!(journal.fold(epoch("me", 2)).scan, "the take-over looks for its tasks");
    for round in 1..=2 {
        let marker = journal.machine.scanned(&[]).appends;
        assert!(matches!(marker[..], [Entry::Scanned(_)]));
        let folded = journal.fold(marker[0].clone());
        if round == 1 {
            assert!(folded.appends.is_empty());
            journal.now = journal.now.plus_millis(2_000);
            assert!(journal.machine.tick(journal.now, |_| false).scan);
        } else {
            let [Entry::Reissued(reissued)] = &folded.appends[..] else { panic!("{:?}", folded.appends) };
            assert_eq!((reissued.task.step.as_str(), reissued.task.attempt), ("a", 2));
            let published = journal.fold(folded.appends[0].clone()).effects;
            assert!(matches!(published[..], [Effect::Publish(task)] if task.attempt == 2));
        }
    }
    assert_eq!(journal.machine.counts().reissued, 1);
}

#[test]
fn a_task_that_is_in_the_queue_is_not_reissued() {
    let mut journal = Journal::new("me", 2);
    journal.fold(submitted(1, CHAIN));
    journal.fold(epoch("me", 2));
    let marker = journal.machine.scanned(&[key(1, "a")]).appends;
    assert!(journal.fold(marker[0].clone()).appends.is_empty());
    journal.now = journal.now.plus_millis(2_000);
    assert!(!journal.machine.tick(journal.now, |_| false).scan);
}

#[test]
fn a_result_that_was_stored_before_the_marker_clears_its_task() {
    let mut journal = Journal::new("me", 2);
    journal.fold(submitted(1, CHAIN));
    journal.fold(epoch("me", 2));
    let marker = journal.machine.scanned(&[]).appends;
    journal.fold_result(succeeded(1, "a"));
    assert!(journal.fold(marker[0].clone()).appends.is_empty());
    journal.now = journal.now.plus_millis(2_000);
    assert!(!journal.machine.tick(journal.now, |_| false).scan);
}

#[test]
fn alarms_go_off_once_and_only_after_the_first_marker() {
    let mut journal = Journal::new("me", 1);
    journal.fold(epoch("me", 1));
    journal.fold(submitted(1, CHAIN));
    journal.now = journal.now.plus_millis(3_600_000);
    assert!(journal.machine.tick(journal.now, |_| false).appends.is_empty(), "the wheel is silent until a marker");
    let marker = journal.machine.scanned(&[]).appends;
    journal.fold(marker[0].clone());
    journal.now = journal.now.plus_millis(3_600_000);
    let fired = journal.machine.tick(journal.now, |_| false).appends;
    assert!(matches!(fired[..], [Entry::TimerFired(_)]), "{fired:?}");
    assert!(!journal.machine.tick(journal.now, |_| false).appends.iter().any(|e| matches!(e, Entry::TimerFired(_))));
    journal.machine.not_appended(&fired, journal.now);
    assert!(journal.machine.tick(journal.now, |_| false).appends.iter().any(|e| matches!(e, Entry::TimerFired(_))));
}

#[test]
fn after_a_disconnection_alarms_wait_for_a_marker_and_for_redeliveries() {
    let mut journal = Journal::new("me", 1);
    journal.fold(epoch("me", 1));
    let marker = journal.machine.scanned(&[]).appends;
    journal.fold(marker[0].clone());
    journal.fold(submitted(1, CHAIN));
    journal.machine.disconnected();
    journal.now = journal.now.plus_millis(4_000_000);
    assert!(!fires(&mut journal));
    journal.machine.look();
    let marker = journal.machine.scanned(&[key(1, "a")]).appends;
    journal.sequence += 1;
    let message = journal.message(JournalSubject::Control, marker[0].clone());
    let late = Message { time: Timestamp::from_millis(4_500_000), ..message };
    journal.machine.fold(late, journal.now).expect("folded");
    assert!(!fires(&mut journal), "workers may still bring what they finished");
    journal.now = journal.now.plus_millis(10_000);
    assert!(fires(&mut journal));
}

#[test]
fn garbage_on_a_result_subject_is_counted_and_on_control_it_halts() {
    let mut journal = Journal::new("me", 1);
    journal.fold(epoch("me", 1));
    let result = Some(JournalSubject::Result(pool()));
    let message = Message::decode(2, Timestamp::default(), result, &"nonsense".into()).expect("only counted");
    let folded = journal.machine.fold(message, journal.now).expect("only counted");
    assert_eq!(folded.outcomes.len(), 1);
    assert_eq!(journal.machine.counts().malformed, 1);
    let halt = Message::decode(3, Timestamp::default(), Some(JournalSubject::Control), &"nonsense".into());
    assert!(matches!(halt, Err(Stop::Unreadable { sequence: 3, .. })));

    let mut batch = BatchBuilder::new(&Namespace::default(), 4_096);
    batch.push(br#"{"invented":{}}"#);
    batch.push(&encode_entry(&succeeded(1, "a")));
    let bytes = batch.finish();
    let message = Message::decode(3, Timestamp::default(), Some(JournalSubject::Result(pool())), &bytes);
    assert_eq!(message.expect("one entry spoils only itself").entries.iter().flatten().count(), 1);
    assert!(Message::decode(3, Timestamp::default(), Some(JournalSubject::Control), &bytes).is_err());
}

#[test]
fn a_cancel_that_the_owner_before_may_not_have_told_is_told_again() {
    let mut journal = Journal::new("me", 3);
    journal.fold(submitted(1, CHAIN));
    journal.fold(cancel_requested(1));
    let folded = journal.fold(epoch("me", 3));
    assert!(matches!(folded.effects[..], [Effect::Cancel { execution, .. }] if execution == id(1)));
}

#[test]
fn a_worker_cannot_make_the_owner_look_for_a_definition() {
    let mut journal = Journal::new("me", 1);
    journal.fold(epoch("me", 1));
    journal.sequence += 1;
    let message = journal.message(JournalSubject::Result(pool()), submitted(1, CHAIN));
    assert_eq!(journal.machine.wants(&message), []);
    let folded = journal.machine.fold(message, journal.now).expect("only ignored");
    assert_eq!(folded.outcomes, [Outcome::Ignored(Ignored::Forbidden)]);
}

#[test]
fn a_task_that_waits_for_room_in_its_queue_is_not_missing() {
    let mut journal = Journal::new("me", 1);
    journal.fold(epoch("me", 1));
    let marker = journal.machine.scanned(&[]).appends;
    journal.fold(marker[0].clone());
    journal.fold(submitted(1, CHAIN));
    journal.now = journal.now.plus_millis(40_000);
    assert!(!journal.machine.tick(journal.now, |_| true).scan);
    journal.now = journal.now.plus_millis(40_000);
    assert!(journal.machine.tick(journal.now, |_| false).scan);
}

#[test]
fn what_could_not_be_appended_is_owed_again() {
    let mut journal = Journal::new("me", 1);
    journal.fold(epoch("me", 1));
    journal.fold(submitted(1, CHAIN));
    let error = StepError::new(ErrorCode::PermissionDenied, "refused");
    for lost in [
        Entry::Unrenderable(Unrenderable { task: key(1, "a"), reason: String::new() }),
        Entry::Unpublishable(Unpublishable { task: key(1, "a"), error }),
    ] {
        let owed = journal.machine.not_appended(&[lost], journal.now);
        assert!(matches!(owed[..], [Effect::Publish(_)]), "{owed:?}");
    }
}

#[test]
fn an_attempt_whose_holder_is_gone_is_given_up_before_its_time() {
    let mut journal = Journal::new("me", 1);
    journal.fold(epoch("me", 1));
    let marker = journal.machine.scanned(&[]).appends;
    journal.fold(marker[0].clone());
    journal.fold(submitted(1, CHAIN));
    assert!(!journal.machine.tick(journal.now, |_| false).presences, "nobody is waited for");
    let held = ClaimHeld {
        task: key(1, "a"),
        ordinal: 2,
        token: Secret::new([1; 16]).token(&key(1, "a").step, None, 0, 1),
        claimant: "holder".parse().expect("a name"),
        claimed_at: Timestamp::default(),
    };
    journal.fold_result(Entry::ClaimHeld(held));
    assert!(journal.machine.tick(journal.now, |_| false).presences);
    let here = BTreeSet::from(["holder".parse().expect("a name")]);
    assert!(journal.machine.present(&here, journal.now).appends.is_empty());
    for _ in 0..4 {
        assert!(journal.machine.present(&BTreeSet::new(), journal.now).appends.is_empty());
        journal.now = journal.now.plus_millis(5_000);
    }
    let given_up = journal.machine.present(&BTreeSet::new(), journal.now).appends;
    assert!(matches!(given_up[..], [Entry::ClaimAbandoned(_)]), "{given_up:?}");
    journal.fold(given_up[0].clone());
    assert!(!journal.machine.tick(journal.now, |_| false).presences);
    assert_eq!(journal.machine.in_mind(), 0, "who was missing is forgotten with the attempt");
    assert!(!journal.machine.tick(journal.now.plus_millis(5_000), |_| false).presences);
}

struct Journal {
    machine: Machine,
    sequence: u64,
    now: Mono,
}

impl Journal {
    fn new(node: &str, epoch: u64) -> Self {
        let machine = Machine::new(node.parse().expect("a name"), epoch, FOLD_REV, Partition::default(), 0);
        Self { machine, sequence: 0, now: Mono(1) }
    }

    fn fold(&mut self, entry: Entry) -> Folded {
        self.try_fold(entry).expect("no reason to stop")
    }

    fn try_fold(&mut self, entry: Entry) -> Result<Folded, Stop> {
        self.sequence += 1;
        let message = self.message(JournalSubject::Control, entry);
        for _ in self.machine.wants(&message) {
            self.machine.install(Arc::new(plan(CHAIN)));
        }
        self.machine.fold(message, self.now)
    }

    fn fold_result(&mut self, entry: Entry) -> Folded {
        self.sequence += 1;
        let message = self.message(JournalSubject::Result(pool()), entry);
        let folded = self.machine.fold(message, self.now).expect("no reason to stop");
        assert_eq!(folded.outcomes, [Outcome::Accepted]);
        folded
    }

    fn message(&self, subject: JournalSubject, entry: Entry) -> Message {
        let time = Timestamp::from_micros(self.now.0);
        message(self.sequence, time, subject, entry)
    }
}

fn fires(journal: &mut Journal) -> bool {
    journal.machine.tick(journal.now, |_| false).appends.iter().any(|e| matches!(e, Entry::TimerFired(_)))
}
