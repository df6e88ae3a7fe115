//! Executions that leave memory and come back: whatever happens is the same as if they had stayed.

use std::sync::Arc;

use millstream_engine::{Applied, Execution, Ignored, Origin, Outcome, Partition, Want};
use millstream_model::batch::encode_entry;
use millstream_model::entry::{Archived, Entry};
use millstream_model::event::Event;
use millstream_model::hash::ContentHash;
use millstream_model::ids::Capability;
use millstream_model::payload::PayloadRef;
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::snapshot::Snapshot;
use millstream_model::time::Timestamp;
use millstream_model::transcript::{Transcribed, Transcript};
use millstream_model::view::{ExecutionView, Held};

use super::dice::Dice;
use super::world::{Seen, World};
use crate::check;

/// Every so many histories each prefix is tried, else some.
const THOROUGH: u64 = 25;
/// Prefixes that are tried of the others.
const PREFIXES: usize = 3;
/// Where the history has the record of whatever is parked.
const RECORD: u64 = 77;

type Line = (Position, Timestamp, Entry);

/// All that can be known of an execution.
#[derive(PartialEq)]
struct Known {
    seen: Seen,
    view: ExecutionView<Held>,
    events: Vec<Event>,
    clock: Timestamp,
    hash: ContentHash,
}

impl Known {
    fn of(execution: &Execution) -> Self {
        Self {
            seen: Seen::of(execution),
            view: execution.view(),
            events: execution.events(None),
            clock: execution.clock(),
            hash: execution.state_hash(),
        }
    }

    /// What there is to see of the state itself.
    fn state(&self) -> (&Seen, &ExecutionView<Held>, Timestamp) {
        (&self.seen, &self.view, self.clock)
    }
}

/// An owner that keeps transcripts.
struct Owner {
    partition: Partition,
    plan: Arc<Plan>,
    transcript: Option<Transcript>,
}

impl Owner {
    fn new(world: &World) -> Self {
        let partition = check::empty(world.fold_rev, &world.plan);
        Self { partition, plan: world.plan.clone(), transcript: None }
    }

    fn apply(&mut self, (position, at, entry): &Line) -> Applied {
        let pool: Option<Capability> = check::task_of_result(entry).map(|task| check::capability(task.activation));
        let origin = pool.as_ref().map_or(Origin::Control, Origin::Result);
        match self.partition.wants(origin, entry) {
            Some(Want::Definition(_)) => self.partition.install(self.plan.clone()),
            Some(Want::Parked(id, record)) => {
                assert_eq!((id, record), (check::id(), RECORD));
                self.partition.unpark(self.refold());
            }
            Some(Want::Transcript(..)) => self.partition.recall(self.refold()),
            None => {}
        }
        let applied = self.partition.apply(*position, *at, origin, entry.clone()).expect("no reason to halt");
        if matches!(entry, Entry::Submitted(_)) {
            let execution = self.partition.execution(check::id()).expect("it was submitted");
            self.transcript.get_or_insert_with(|| Transcript::new(execution.revisions()));
        }
        let unseen = matches!(applied.outcome, Outcome::Ignored(Ignored::UnknownExecution | Ignored::Ended));
        if let Some(transcript) = self.transcript.as_mut().filter(|_| entry.execution().is_some() && !unseen) {
            transcript.push(*position, *at, pool.as_ref(), &encode_entry(entry));
        }
        applied
    }

    fn transcribed(&self) -> Transcribed {
        let transcript = self.transcript.as_ref().expect("it was submitted");
        Transcribed::read(&transcript.finish()).expect("a transcript")
    }

    fn refold(&self) -> Box<Execution> {
        Execution::refold(&self.transcribed(), self.plan.clone()).expect("no reason to halt")
    }

    fn execution(&self) -> &Execution {
        self.partition.execution(check::id()).expect("it is in memory")
    }

    fn known(&self) -> Known {
        Known::of(self.execution())
    }
}

/// The journal with room between its entries.
fn journal(world: &World) -> Vec<Line> {
    let entries = world.journal.iter().enumerate();
    entries.map(|(n, (_, at, entry))| (Position::start_of(2 * n as u64 + 2), *at, entry.clone())).collect()
}

/// How often something was not in memory.
#[derive(Debug, Default)]
pub struct Absences {
    pub parked: usize,
    pub forgotten: usize,
    pub recalled: usize,
}

/// Checks a history that was told to its end.
pub fn check(world: &World, seed: u64, absences: &mut Absences) {
    let mut dice = Dice::of(seed);
    let journal = journal(world);
    let mut stayed = Owner::new(world);
    let (mut told, mut known) = (Vec::new(), Vec::new());
    for line in &journal {
        told.push(stayed.apply(line));
        known.push(stayed.known());
    }
    check_hashes(&known);
    absences.parked += check_parking(world, &journal, &told, &known, &mut dice);
    check_archive(world, &journal, &told, &known, &mut dice, absences);
    let prefixes: Vec<usize> = if seed.is_multiple_of(THOROUGH) {
        (0..journal.len()).collect()
    } else {
        (0..PREFIXES).map(|_| dice.below(journal.len())).collect()
    };
    let transcribed = stayed.transcribed();
    for at in prefixes {
        check_until(&transcribed, world, journal[at].0, &known[at]);
        check_snapshot(world, &journal, &told, &known, at);
    }
}

/// The state is the same exactly when the hash is.
fn check_hashes(known: &[Known]) {
    for (n, one) in known.iter().enumerate() {
        for other in &known[n + 1..] {
            let same = one.state() == other.state();
            assert_eq!(one.hash == other.hash, same, "{:?}\n{:?}", one.seen, other.seen);
        }
    }
}

/// Parked at any place, it is brought back by the next entry as it was.
fn check_parking(world: &World, journal: &[Line], told: &[Applied], known: &[Known], dice: &mut Dice) -> usize {
    let mut owner = Owner::new(world);
    let mut parked = 0;
    for ((line, told), known) in journal.iter().zip(told).zip(known) {
        let applied = owner.apply(line);
        assert_eq!(applied, *told, "{:?}", line.0);
        assert!(owner.known() == *known, "it is another one at {:?}", line.0);
        let Some(next) = owner.execution().waits_until().filter(|_| dice.chance(70)) else {
            continue;
        };
        let deadline = owner.partition.next_deadline();
        let left = owner.partition.park(check::id(), RECORD).expect("it was in memory");
        assert_eq!(left.state_hash(), known.hash);
        assert!(owner.partition.execution(check::id()).is_none() && owner.partition.is_parked(check::id()));
        assert_eq!((owner.partition.next_deadline(), deadline), (Some(next), Some(next)));
        assert_eq!(owner.partition.due(next, 9), []);
        assert_eq!(owner.partition.asleep(next, 9), [(check::id(), RECORD)]);
        assert_eq!(owner.partition.parked_count(), 1);
        parked += 1;
    }
    parked
}

/// What has ended is forgotten at that very place alone; resumed from its transcript it is as if it had stayed.
fn check_archive(
    world: &World,
    journal: &[Line],
    told: &[Applied],
    known: &[Known],
    dice: &mut Dice,
    absences: &mut Absences,
) {
    let mut owner = Owner::new(world);
    for ((line, told), known) in journal.iter().zip(told).zip(known) {
        let mut line = line.clone();
        let forgotten =
            owner.partition.applied() > Position::start_of(1) && owner.partition.execution(check::id()).is_none();
        if let Entry::Resumed(resumed) = &mut line.2 {
            resumed.transcript = dice.chance(50).then(|| PayloadRef::to("transcript"));
            if forgotten && resumed.transcript.is_none() {
                assert_eq!(owner.apply(&line).outcome, Outcome::Ignored(Ignored::UnknownExecution));
                return;
            }
            absences.recalled += usize::from(forgotten);
        } else if forgotten {
            let Applied { outcome, effects } = owner.apply(&line);
            assert_eq!((outcome, effects.len()), (Outcome::Ignored(Ignored::UnknownExecution), 0), "{:?}", line.0);
            continue;
        }
        assert_eq!(owner.apply(&line), *told, "{:?}", line.0);
        assert!(owner.known() == *known, "it is another one at {:?}", line.0);
        let end = owner.execution().end_position();
        assert_eq!(end.is_some(), owner.execution().status().is_terminal());
        if dice.chance(40) {
            let place = if dice.chance(80) { end.unwrap_or(line.0) } else { Position::start_of(1) };
            let entry = Entry::Archived(Archived { executions: vec![(check::id(), place)] });
            let after = Position::start_of(line.0.sequence + 1);
            assert_eq!(owner.apply(&(after, line.1, entry)).outcome, Outcome::Accepted);
            let stays = owner.partition.execution(check::id()).is_some();
            assert_eq!(stays, end != Some(place), "it leaves exactly at its end");
            absences.forgotten += usize::from(!stays);
        }
    }
}

/// Folded again up to a place it is what it was then.
fn check_until(transcribed: &Transcribed, world: &World, at: Position, known: &Known) {
    let until = Execution::refold_until(transcribed, world.plan.clone(), Some(at)).expect("no reason to halt");
    // What came after the end is in no transcript, and changed nothing.
    assert!(Known::of(&until) == *known, "folded until {at} it is another one");
    let between = Position { index: 9, ..at };
    let until = Execution::refold_until(transcribed, world.plan.clone(), Some(between)).expect("no reason to halt");
    assert_eq!(until.state_hash(), known.hash);
}

/// A snapshot after any entry, and what follows, are the whole journal.
fn check_snapshot(world: &World, journal: &[Line], told: &[Applied], known: &[Known], at: usize) {
    let mut owner = Owner::new(world);
    journal[..=at].iter().for_each(|line| drop(owner.apply(line)));
    let (partition, transcript) = (&owner.partition, owner.transcript.clone().expect("it was submitted"));
    let snapshot = Snapshot::new(
        partition.applied(),
        partition.fold_rev(),
        partition.epoch_in_force(),
        partition.remembered_keys(),
        partition.parked(),
        vec![(check::id(), transcript)],
    );
    let snapshot = Snapshot::decode(&snapshot.encode()).expect("a snapshot");
    let mut executions = Vec::new();
    for (id, transcript) in &snapshot.executions {
        let transcript = Transcribed::read(&transcript.finish()).expect("a transcript");
        executions.push(Execution::refold(&transcript, world.plan.clone()).expect("no reason to halt"));
        assert_eq!(executions.last().map(|execution| execution.id()), Some(*id));
    }
    let restored = Partition::restore(&snapshot, executions).expect("this build folds the revision");
    assert_eq!(restored.state_hash(), partition.state_hash());
    assert_eq!(restored.next_deadline(), partition.next_deadline());
    assert!(restored.held().eq(partition.held()));
    let transcript = snapshot.executions.into_iter().next().map(|(_, transcript)| transcript);
    let mut owner = Owner { partition: restored, plan: world.plan.clone(), transcript };
    assert!(owner.known() == known[at]);
    for ((line, told), known) in journal.iter().zip(told).zip(known).skip(at + 1) {
        assert_eq!(owner.apply(line), *told, "{:?} after a snapshot at {at}", line.0);
        assert_eq!(owner.execution().state_hash(), known.hash, "{:?} after a snapshot at {at}", line.0);
    }
    assert!(known.last().is_some_and(|known| owner.known() == *known));
}
