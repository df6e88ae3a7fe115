//! Executions that are parked, archived, resumed from their transcripts, and restored from snapshots.

use std::sync::Arc;

use millstream_engine::partition::FOLD_REV;
use millstream_engine::refold::{Refold, submission};
use millstream_engine::{Execution, Halt, Ignored, Origin, Outcome, Partition, Rejection, Request, Want, render};
use millstream_model::batch::encode_entry;
use millstream_model::entry::{Archived, CancelRequested, Entry, Submitted};
use millstream_model::hash::ContentHash;
use millstream_model::ids::ExecutionId;
use millstream_model::payload::PayloadRef;
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::snapshot::Snapshot;
use millstream_model::time::Timestamp;
use millstream_model::transcript::{Revisions, Transcribed, Transcript};
use millstream_model::validate;
use millstream_model::view::ExecutionStatus;

use super::check::{World, definition, id};

const RETRIED: &str = "
  - {id: a, agent_id: x, retry: {max_attempts: 2, jitter: false}}";

/// What an owner keeps of the world's execution.
fn transcript(world: &World) -> Transcript {
    let mut transcript = Transcript::new(world.execution().revisions());
    for (position, at, by, entry) in &world.journal {
        transcript.push(*position, *at, by.as_ref(), &encode_entry(entry));
    }
    transcript
}

fn transcribed(world: &World) -> Transcribed {
    Transcribed::read(&transcript(world).finish()).expect("a transcript")
}

/// The world's execution, folded again.
fn refolded(world: &World) -> Box<Execution> {
    Execution::refold(&transcribed(world), world.execution().plan().clone()).expect("no reason to halt")
}

fn cancel() -> Entry {
    Entry::CancelRequested(CancelRequested { execution: id(), reason: None, by: None, compensate: false })
}

/// A world whose execution waits for a backoff, and was parked.
fn parked() -> (World, Box<Execution>) {
    let mut world = World::new(&definition(RETRIED));
    world.tell("submit key=k 1\nfail a #1 INTERNAL_ERROR no");
    assert_eq!(world.execution().waits_until(), Some(world.now.plus_millis(1_000)));
    let execution = refolded(&world);
    world.partition.park(id(), 9);
    (world, execution)
}

fn other_id() -> ExecutionId {
    "0193a5a0-0000-7000-8000-000000000103".parse().expect("an id")
}

/// Applies an entry of the API at the world's next place.
fn control(world: &mut World, entry: Entry) -> Result<Outcome, Halt> {
    let place = Position::start_of(world.partition.applied().sequence + 1);
    world.partition.apply(place, world.now, Origin::Control, entry).map(|applied| applied.outcome)
}

#[test]
fn only_what_waits_for_an_alarm_alone_may_be_parked() {
    let mut world = World::new(&definition(RETRIED));
    world.tell("submit");
    assert_eq!(world.execution().waits_until(), None, "its task is in the queue");
    world.tell("held a #1 ordinal=2");
    assert_eq!(world.execution().waits_until(), None, "somebody holds its claim");
    world.tell("fail a #1 ordinal=2 INTERNAL_ERROR no");
    assert_eq!(world.execution().waits_until(), None, "it has ended");
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x, fan_out: {items: $.input}}",
    ));
    world.tell("submit stored");
    assert_eq!(world.execution().waits_until(), None, "the owner evaluates");
}

#[test]
fn an_entry_for_a_parked_execution_wants_it_first() {
    let (mut world, execution) = parked();
    assert_eq!((world.partition.parked_record(id()), world.partition.parked_count()), (Some(9), 1));
    assert_eq!(world.partition.wants(Origin::Control, &cancel()), Some(Want::Parked(id(), 9)));
    let pool = "pool".parse().expect("a name");
    assert_eq!(world.partition.wants(Origin::Result(&pool), &cancel()), None, "a worker cannot write it");
    assert_eq!(control(&mut world, cancel()), Err(Halt::MissingExecution { execution: id() }));
    world.partition.unpark(execution);
    assert_eq!(world.partition.wants(Origin::Control, &cancel()), None);
    assert_eq!(control(&mut world, cancel()), Ok(Outcome::Accepted));
}

#[test]
fn requests_about_a_parked_execution_are_decided_without_it() {
    let (mut world, execution) = parked();
    let ask = Request::Cancel { execution: id(), reason: None, by: None, compensate: false };
    assert!(matches!(world.partition.decide(ask, world.now), Ok(Entry::CancelRequested(_))));
    let resume = Request::Resume(Box::new(world.resumed()));
    let refused = Err(Rejection::NotResumable(ExecutionStatus::Running));
    assert_eq!(world.partition.decide(resume, world.now).map(drop), refused);
    let again = world.submitted("key=k 1");
    let repeated = world.partition.decide(Request::Submit(Box::new(again)), world.now);
    assert_eq!(repeated.map(drop), Err(Rejection::Repeated(id())));
    let same_id = Submitted { idempotency: None, ..world.submitted("1") };
    world.partition.unpark(execution);
    assert_eq!(control(&mut world, Entry::Submitted(Box::new(same_id))), Ok(Outcome::Repeated(id())));
}

#[test]
fn nobody_comes_back_who_was_not_parked() {
    let (mut world, execution) = parked();
    assert_eq!(world.partition.park(id(), 10).map(drop), None);
    world.partition.unpark(execution);
    let known = world.execution().state_hash();
    world.tell("+1000 due");
    let (_, stale) = parked();
    let later = world.execution().state_hash();
    world.partition.unpark(stale);
    assert_eq!(world.execution().state_hash(), later);
    assert_ne!(known, later);
    assert_eq!(world.partition.parked(), []);
}

#[test]
fn a_parked_execution_is_woken_when_its_alarm_is_due() {
    let (mut world, execution) = parked();
    assert_eq!(world.partition.asleep(world.now.plus_millis(999), 9), []);
    let due = world.now.plus_millis(1_000);
    assert_eq!(world.partition.asleep(due, 9), [(id(), 9)]);
    assert_eq!((world.partition.asleep(due, 0), world.partition.due(due, 9)), (Vec::new(), Vec::new()));
    world.partition.unpark(execution);
    assert_eq!(world.partition.due(due, 9).len(), 1);
    assert_eq!(world.tell("+1000 due"), ["1 publish a #2"]);
}

#[test]
fn what_is_archived_is_forgotten_and_its_key_is_not() {
    let mut world = World::new(&definition(RETRIED));
    world.tell("submit key=k 1\nok a #1 1");
    let end = world.execution().end_position().expect("it has ended");
    for (place, stays) in [(Position::start_of(end.sequence - 1), true), (end, false)] {
        let archived = Archived { executions: vec![(other_id(), end), (id(), place)] };
        let entry = Entry::Archived(archived);
        assert_eq!(render::entry(&entry), "archived 2 executions");
        assert_eq!(control(&mut world, entry), Ok(Outcome::Accepted));
        assert_eq!(world.partition.execution(id()).is_some(), stays);
    }
    assert_eq!(control(&mut world, cancel()), Ok(Outcome::Ignored(Ignored::UnknownExecution)));
    let again = Submitted { execution: other_id(), ..world.submitted("key=k 1") };
    assert_eq!(control(&mut world, Entry::Submitted(Box::new(again))), Ok(Outcome::Repeated(id())));
    let another = Submitted { execution: other_id(), ..world.submitted("key=k 2") };
    assert_eq!(control(&mut world, Entry::Submitted(Box::new(another))), Ok(Outcome::Conflict(id())));
}

#[test]
fn an_archived_execution_is_resumed_from_its_transcript() {
    let mut world = World::new(&definition(RETRIED));
    world.tell("submit\nfail a #1 INVALID_INPUT no");
    let (execution, reference) = (refolded(&world), PayloadRef::to("transcript"));
    let end = world.execution().end_position().expect("it has ended");
    control(&mut world, Entry::Archived(Archived { executions: vec![(id(), end)] })).expect("no reason to halt");
    let bare = world.resumed();
    let refused = world.partition.decide(Request::Resume(Box::new(bare.clone())), world.now).map(drop);
    assert_eq!(refused, Err(Rejection::UnknownExecution(id())));
    let mut resumed = bare;
    resumed.transcript = Some(reference);
    let entry = world.partition.decide(Request::Resume(Box::new(resumed)), world.now).expect("it may pass");
    assert_eq!(world.partition.wants(Origin::Control, &entry), Some(Want::Transcript(id(), reference)));
    assert_eq!(control(&mut world, entry.clone()), Err(Halt::MissingExecution { execution: id() }));
    world.partition.recall(execution);
    assert!(world.partition.execution(id()).is_none(), "only the entry brings it back");
    assert_eq!(control(&mut world, entry.clone()), Ok(Outcome::Accepted));
    assert_eq!(world.execution().round(), 1);
    assert_eq!(world.partition.next_deadline(), Some(world.execution().deadline()));
    assert_eq!(world.partition.wants(Origin::Control, &entry), None, "it runs");
    assert_eq!(control(&mut world, entry), Ok(Outcome::Ignored(Ignored::NotResumable)));
}

/// The world as a snapshot has it.
fn snapshot(world: &World, executions: Vec<(ExecutionId, Transcript)>) -> Snapshot {
    let partition = &world.partition;
    let (keys, parked, epoch) = (partition.remembered_keys(), partition.parked(), partition.epoch_in_force());
    let snapshot = Snapshot::new(partition.applied(), partition.fold_rev(), epoch, keys, parked, executions);
    Snapshot::decode(&snapshot.encode()).expect("a snapshot")
}

#[test]
fn keys_and_what_is_parked_survive_a_snapshot() {
    let (mut world, execution) = parked();
    let mut restored = Partition::restore(&snapshot(&world, Vec::new()), Vec::new()).expect("this build folds it");
    assert_eq!(restored.state_hash(), world.partition.state_hash());
    assert_eq!((restored.key_count(), restored.parked()), (1, world.partition.parked()));
    assert_eq!(restored.next_deadline(), Some(world.now.plus_millis(1_000)));
    assert_eq!(restored.remembered_keys(), world.partition.remembered_keys());
    restored.unpark(execution);
    world.partition = restored;
    assert_eq!(world.tell("+1000 due\nok a #2 5"), ["1 publish a #2", "2 end COMPLETED"]);
}

#[test]
fn a_snapshot_of_a_newer_fold_halts() {
    let (world, _) = parked();
    let mut snapshot = snapshot(&world, Vec::new());
    snapshot.head.fold_rev = FOLD_REV + 1;
    let halt = Halt::FoldRevision { found: FOLD_REV + 1, known: FOLD_REV };
    assert_eq!(Partition::restore(&snapshot, Vec::new()).map(drop), Err(halt.clone()));
    let newer = Revisions { fold: FOLD_REV + 1, expressions: 1 };
    assert_eq!(Refold::new(id(), newer, plan(RETRIED)).map(drop), Err(halt));
}

#[test]
fn a_transcript_is_folded_line_by_line() {
    let mut world = World::new(&definition(RETRIED));
    world.tell("submit\nfail a #1 INTERNAL_ERROR no\n+500 ok a #1 4");
    let transcribed = transcribed(&world);
    let (id, hash) = submission(&transcribed).expect("it begins with a submission");
    assert_eq!(hash, world.execution().plan().hash);
    let mut refold = Refold::new(id, transcribed.revisions, world.execution().plan().clone()).expect("known revisions");
    assert!(refold.execution().is_none());
    let mut told = Vec::new();
    for line in &transcribed.lines {
        let step = refold.apply(line).expect("no reason to halt");
        assert_eq!(step.outcome, Outcome::Accepted);
        told.push((step.line.position.sequence, step.effects.len()));
    }
    assert_eq!(told, [(1, 1), (2, 0), (3, 1)]);
    let refolded = refold.execution().expect("it was submitted");
    assert_eq!(refolded.state_hash(), world.execution().state_hash());
}

#[test]
fn nothing_comes_of_a_transcript_without_its_submission() {
    let mut world = World::new(&definition(RETRIED));
    world.tell("submit\nok a #1 1");
    let mut transcribed = transcribed(&world);
    let before = Execution::refold_until(&transcribed, plan(RETRIED), Some(Position::start_of(0)));
    assert_eq!(before.map(drop), Err(Halt::NoSubmission));
    transcribed.lines.remove(0);
    assert_eq!(Execution::refold(&transcribed, plan(RETRIED)).map(drop), Err(Halt::NoSubmission));
    transcribed.lines.clear();
    assert_eq!(submission(&transcribed), None);
}

fn plan(steps: &str) -> Arc<Plan> {
    Arc::new(validate::definition(&definition(steps)).expect("a definition"))
}

#[test]
fn definitions_that_nobody_runs_are_dropped_where_there_are_many() {
    let mut world = World::new(&definition(RETRIED));
    world.tell("submit");
    let runs = world.execution().plan().hash;
    for number in 0..300 {
        let text = format!("id: w{number}\nsteps:\n  - {{id: a, agent_id: x}}");
        world.partition.install(Arc::new(validate::definition(&text).expect("a definition")));
    }
    let other = plan("\n  - {id: b, agent_id: x}");
    world.partition.install(other.clone());
    world.partition.forget_plans();
    assert!(world.partition.plan(runs).is_some(), "it is run");
    assert!(world.partition.plan(other.hash).is_some(), "somebody has it in hand");
    let gone = validate::definition("id: w7\nsteps:\n  - {id: a, agent_id: x}").expect("a definition").hash;
    assert!(world.partition.plan(gone).is_none());
}

#[test]
fn the_hash_of_a_state_says_nothing_of_wordings() {
    let told = |message: &str, code: &str| {
        let mut world = World::new(&definition(RETRIED));
        world.tell(&format!("submit\nfail a #1 INTERNAL_ERROR {message}\n+1000 due\nfail a #2 {code} {message}"));
        (world.execution().state_hash(), world.partition.state_hash())
    };
    assert_eq!(told("no", "TIMEOUT"), told("the disk is full", "TIMEOUT"));
    assert_ne!(told("no", "TIMEOUT"), told("no", "LOST"));
}

/// Hashes are stored with records and snapshots: those of this build are those of the last.
#[test]
fn the_hash_of_a_state_never_changes() {
    let mut world = World::new(
        "id: w
on_failure: compensate
steps:
  - {id: a, agent_id: x, compensate: {agent_id: z}}
  - {id: b, agent_id: x, depends_on: [a], fan_out: {items: $.input, on_item_failure: continue}, fallback: {agent_id: y}}
  - {id: c, agent_id: x, condition: $.input == 5}
  - {id: d, agent_id: x, depends_on: [b], schedule_to_close_ms: 5000, retry: {max_attempts: 1}}",
    );
    let mut hashes = Vec::new();
    for line in [
        "submit [1, 2, 3]",
        "ok a #1 {\"k\": 1}",
        "fail b[1] #1 INTERNAL_ERROR no",
        "held b[2] #1 ordinal=2",
        "ok b[0] #1 stored",
        "fail b[1] #1 ordinal=3 INTERNAL_ERROR no",
        "ok b[1] #1 fallback 7",
        "ok b[2] #1 8",
        "fail d #1 TIMEOUT slow",
        "ok a #1 compensation",
        "resume",
    ] {
        world.tell(line);
        hashes.push(world.execution().state_hash());
    }
    let text: String = hashes.iter().map(|hash| format!("{hash}\n")).collect();
    assert_eq!(
        ContentHash::of(text.as_bytes()).to_string(),
        "9a4d954693d99eb64f6245da1736820151d26fa461124b9d84a184c03017e77d"
    );
    assert_eq!(world.execution().clock(), Timestamp::from_millis(1_000_000));
}
