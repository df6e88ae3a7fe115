//! The owner's decisions: what to fold, what to emit, what to append, when to stop. No IO: the shell brings
//! messages, time and outcomes, and does what is asked.
//!
//! ```text
//!   Recovering (fold to own epoch, emit nothing) ──▶ Owning ──▶ Stopped
//! ```

mod counts;
mod epochs;
mod message;

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_engine::effect::Evaluate;
use millstream_engine::{
    Applied, Effect, Execution, Halt, Ignored, Origin, Outcome, Partition, Rejection, Request, TaskRef, Want,
};
use millstream_model::batch::Written;
use millstream_model::entry::{ClaimAbandoned, Entry, Reissued, Scanned, TimerFired, Unpublishable, Unrenderable};
use millstream_model::ids::{ExecutionId, NodeId, WorkerId};
use millstream_model::names::JournalSubject;
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::task::TaskKey;
use millstream_model::time::Timestamp;

use super::claimants::Claimants;
use super::clock::{JournalClock, Mono, Wheel};
use super::sweep::{self, Sweep};

pub use counts::Counts;
pub use message::Message;

/// Alarms appended at a time.
const ALARMS_MAX: usize = 1_024;

/// The owner of one partition, without its IO.
#[derive(Debug)]
pub struct Machine {
    /// Unique among all processes that ever were.
    node: NodeId,
    /// Number of the newest epoch that this owner appended.
    epoch: u64,
    /// Number of its first one: lower ones are an earlier owner's, of this process or another.
    epoch_first: u64,
    /// Revision of the fold that all coordinators support.
    fold_rev: u16,
    partition: Partition,
    stage: Stage,
    last_sequence: u64,
    clock: JournalClock,
    wheel: Wheel,
    sweep: Sweep,
    claimants: Claimants,
    /// Alarms that were appended and not yet folded.
    fired: BTreeSet<(ExecutionId, TimerFiredKey)>,
    /// Parked executions that are being brought back because an alarm of theirs is due.
    waking: BTreeSet<ExecutionId>,
    counts: Counts,
}

type TimerFiredKey = millstream_model::entry::Timer;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Recovering,
    Owning,
    Stopped,
}

/// What folding a message gave.
#[derive(Debug, Default)]
pub struct Folded {
    /// What became of each entry, in order.
    pub outcomes: Vec<Outcome>,
    /// What is to be performed.
    pub effects: Vec<Effect>,
    /// What is to be appended.
    pub appends: Vec<Entry>,
    /// The queue is to be listed.
    pub scan: bool,
    /// The workers that are present are to be listed.
    pub presences: bool,
    /// Parked executions that are to be brought back, and where their records are.
    pub wakes: Vec<(ExecutionId, u64)>,
    /// Executions whose state changed.
    pub touched: Vec<ExecutionId>,
    /// Executions that were submitted.
    pub begun: Vec<ExecutionId>,
    /// The own epoch was folded: from here on the partition is owned.
    pub took_over: bool,
    /// The counts have changed.
    pub counted: bool,
}

/// Why the owner must stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    #[error("node {node} has taken the partition in epoch {epoch}")]
    TakenOver { node: NodeId, epoch: u64 },
    #[error("the journal skips from message {last} to {found}: entries are missing")]
    Gap { last: u64, found: u64 },
    #[error("message {sequence} of the journal's control subject cannot be read: {reason}")]
    Unreadable { sequence: u64, reason: String },
    #[error(transparent)]
    Halt(#[from] Halt),
}

impl Machine {
    /// The owner that appends `Epoch {node, epoch, fold_rev}` and folds the journal from what follows `sequence`, the
    /// last message that is in `partition`.
    pub fn new(node: NodeId, epoch: u64, fold_rev: u16, partition: Partition, sequence: u64) -> Self {
        Self {
            node,
            epoch,
            epoch_first: epoch,
            fold_rev,
            partition,
            stage: Stage::Recovering,
            last_sequence: sequence,
            clock: JournalClock::default(),
            wheel: Wheel::Silent { after_disconnection: false },
            sweep: Sweep::default(),
            claimants: Claimants::default(),
            fired: BTreeSet::new(),
            waking: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Sequence of the last message that was folded.
    pub fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// When the journal's time will be `at`.
    pub fn when(&self, at: Timestamp) -> Option<Mono> {
        self.clock.when(at)
    }

    /// The journal's time, as far as it is known.
    pub fn journal_time(&self, now: Mono) -> Option<Timestamp> {
        self.clock.estimate(now)
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    pub fn counts_mut(&mut self) -> &mut Counts {
        &mut self.counts
    }

    pub fn owns(&self) -> bool {
        self.stage == Stage::Owning
    }

    /// It folds and asks nothing any more.
    pub fn is_stopped(&self) -> bool {
        self.stage == Stage::Stopped
    }

    /// Alarms that were appended and not yet folded, tasks that are looked for, holders of claims that are missing.
    pub fn in_mind(&self) -> usize {
        self.fired.len() + self.waking.len() + self.sweep.len() + self.claimants.len()
    }

    /// What must be brought before the message is folded.
    pub fn wants(&self, message: &Message) -> Vec<Want> {
        let Some(origin) = origin(message.subject.as_ref()) else {
            return Vec::new();
        };
        let written = message.entries.iter().flatten();
        let mut wanted: Vec<Want> = written.filter_map(|w| self.partition.wants(origin, &w.entry)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// Brings back a parked execution.
    pub fn unpark(&mut self, execution: Box<Execution>) {
        self.waking.remove(&execution.id());
        self.partition.unpark(execution);
    }

    /// Brings an archived execution, for the entry that resumes it.
    pub fn recall(&mut self, execution: Box<Execution>) {
        self.partition.recall(execution);
    }

    /// Takes an execution out of memory whose record the history has.
    pub fn park(&mut self, execution: ExecutionId, record: u64) {
        self.partition.park(execution, record);
    }

    pub fn install(&mut self, plan: Arc<Plan>) {
        self.partition.install(plan);
    }

    pub fn decide(&self, request: Request, now: Mono) -> Result<Entry, Rejection> {
        self.partition.decide(request, self.clock.estimate(now).unwrap_or_default())
    }

    /// Folds the next message.
    pub fn fold(&mut self, message: Message, now: Mono) -> Result<Folded, Stop> {
        let result = self.try_fold(message, now);
        if result.is_err() {
            self.stage = Stage::Stopped;
        }
        result
    }

    fn try_fold(&mut self, message: Message, now: Mono) -> Result<Folded, Stop> {
        if message.sequence != self.last_sequence + 1 {
            return Err(Stop::Gap { last: self.last_sequence, found: message.sequence });
        }
        self.last_sequence = message.sequence;
        self.clock.observe(message.time, now);
        let origin = origin(message.subject.as_ref());
        let mut folded = Folded { outcomes: Vec::with_capacity(message.entries.len()), ..Folded::default() };
        for (index, entry) in message.entries.into_iter().enumerate() {
            let (Some(origin), Some(Written { entry, .. })) = (origin, entry) else {
                self.counts.malformed += 1;
                folded.counted = true;
                folded.outcomes.push(Outcome::Ignored(Ignored::Forbidden));
                continue;
            };
            let index = u16::try_from(index).expect("a batch has at most 256 entries");
            let position = Position { sequence: message.sequence, index };
            self.fold_entry(position, message.time, origin, entry, now, &mut folded)?;
        }
        self.partition.forget_plans();
        Ok(folded)
    }

    fn fold_entry(
        &mut self,
        position: Position,
        at: Timestamp,
        origin: Origin<'_>,
        entry: Entry,
        now: Mono,
        folded: &mut Folded,
    ) -> Result<(), Stop> {
        if let Entry::TimerFired(TimerFired { execution, timer }) = &entry {
            self.fired.remove(&(*execution, timer.clone()));
        }
        let execution = entry.execution();
        let epoch = match &entry {
            Entry::Epoch(epoch) if origin == Origin::Control => Some(epoch.clone()),
            _ => None,
        };
        let marker = matches!(&entry, Entry::Scanned(m) if m.node == self.node && m.epoch >= self.epoch_first);
        let reissue = matches!(&entry, Entry::Reissued(_));
        let submission = matches!(&entry, Entry::Submitted(_));
        let Applied { outcome, effects } = self.partition.apply(position, at, origin, entry)?;
        match outcome {
            Outcome::Ignored(reason) => *self.counts.ignored.entry(reason).or_default() += 1,
            Outcome::Accepted if reissue => self.counts.reissued += 1,
            Outcome::Accepted | Outcome::Repeated(_) | Outcome::Conflict(_) => {}
        }
        folded.counted |= reissue || matches!(outcome, Outcome::Ignored(_));
        folded.begun.extend(execution.filter(|_| submission && outcome == Outcome::Accepted));
        folded.outcomes.push(outcome);
        folded.touched.extend(execution);
        if let Some(epoch) = epoch {
            self.fold_epoch(epoch, outcome == Outcome::Accepted, folded)?;
        } else if self.stage == Stage::Owning {
            folded.effects.extend(effects);
        }
        if marker && outcome == Outcome::Accepted && self.stage == Stage::Owning {
            self.wheel.marker_folded(now);
            let partition = &self.partition;
            let next = self.sweep.marked(now, |task| is_outstanding(partition, task));
            self.counts.sweeps += 1;
            self.sweep_asks(next, folded);
        }
        Ok(())
    }

    /// Time has passed: alarms that are due, and the sweep. `unpublished` names tasks that are not in the queue for a
    /// reason that is known here: they are not missing.
    pub fn tick(&mut self, now: Mono, unpublished: impl Fn(&TaskRef) -> bool) -> Folded {
        let mut asks = Folded::default();
        if self.stage != Stage::Owning {
            return asks;
        }
        let estimate = self.clock.estimate(now);
        if let Some(time) = estimate.filter(|_| self.wheel.runs(now)) {
            for fired in self.partition.due(time, ALARMS_MAX) {
                if self.fired.insert((fired.execution, fired.timer.clone())) {
                    asks.appends.push(Entry::TimerFired(fired));
                }
            }
            let asleep = self.partition.asleep(time, ALARMS_MAX);
            asks.wakes.extend(asleep.into_iter().filter(|(execution, _)| self.waking.insert(*execution)));
        }
        let waits_for_claimant = self.partition.held().next().is_some();
        if !waits_for_claimant {
            self.claimants.forget();
        }
        asks.presences = waits_for_claimant && self.wheel.runs(now) && self.claimants.tick(now);
        let partition = &self.partition;
        let next = self.sweep.tick(now, || {
            let outstanding = partition.outstanding();
            let is_overdue =
                |since: Timestamp| estimate.is_some_and(|time| time.millis_since(since) > sweep::EXPECTED_MS);
            let overdue = outstanding.into_iter().filter(|(_, since)| is_overdue(*since)).map(|(task, _)| task);
            overdue.filter(|task| !unpublished(task)).collect()
        });
        self.sweep_asks(next, &mut asks);
        asks
    }

    /// When `tick` has something to do.
    pub fn wakes_at(&self) -> Option<Mono> {
        if self.stage != Stage::Owning {
            return None;
        }
        let alarm = match self.wheel {
            Wheel::Running if self.fired.is_empty() && self.waking.is_empty() => {
                self.partition.next_deadline().and_then(|due| self.clock.when(due))
            }
            // What was appended is about to be folded; until then the first deadline is one of those.
            Wheel::Running | Wheel::Silent { .. } => None,
            Wheel::Settling { until } => Some(until),
        };
        let waits_for_claimant = self.wheel == Wheel::Running && self.partition.held().next().is_some();
        let presences = waits_for_claimant.then(|| self.claimants.wakes_at());
        [alarm, presences, self.sweep.wakes_at()].into_iter().flatten().min()
    }

    /// The workers that are present.
    pub fn present(&mut self, workers: &BTreeSet<WorkerId>, now: Mono) -> Folded {
        let mut asks = Folded::default();
        if self.stage == Stage::Owning && self.wheel.runs(now) {
            let abandoned = self.claimants.seen(now, self.partition.held(), workers);
            asks.appends.extend(abandoned.iter().filter_map(|task| {
                let execution = self.partition.execution(task.execution)?;
                let task = execution.task_key(task);
                Some(Entry::ClaimAbandoned(ClaimAbandoned { ordinal: task.attempt, task }))
            }));
        }
        asks
    }

    /// The queue was listed.
    pub fn scanned(&mut self, present: &[TaskKey]) -> Folded {
        let find = |key: &TaskKey| self.partition.execution(key.execution)?.find_task(key);
        let present: BTreeSet<TaskRef> = present.iter().filter_map(find).collect();
        let mut asks = Folded::default();
        let next = self.sweep.scanned(&present);
        self.sweep_asks(next, &mut asks);
        asks
    }

    /// The queue could not be listed, or the marker was not appended.
    pub fn scan_failed(&mut self, now: Mono) {
        self.sweep.failed(now);
    }

    /// It is not known whether the task was stored, or it vanished with its stream.
    pub fn suspect(&mut self, tasks: impl IntoIterator<Item = TaskRef>) {
        self.sweep.suspect(tasks);
    }

    /// It is known that the task is not in the queue: it is going to be published and not missing.
    pub fn acquit(&mut self, task: &TaskRef) {
        self.sweep.acquit(task);
    }

    /// The queue is empty though it should not be.
    pub fn suspect_all(&mut self, unpublished: impl Fn(&TaskRef) -> bool) {
        let outstanding = self.partition.outstanding().into_iter().map(|(task, _)| task);
        self.sweep.suspect(outstanding.filter(|task| !unpublished(task)));
    }

    /// Entries were not appended. Alarms go off again, the sweep looks again; returns the effects that led to the
    /// others, which are owed once more.
    pub fn not_appended(&mut self, entries: &[Entry], now: Mono) -> Vec<Effect> {
        let mut owed = Vec::new();
        for entry in entries {
            match entry {
                Entry::TimerFired(TimerFired { execution, timer }) => {
                    self.fired.remove(&(*execution, timer.clone()));
                }
                Entry::Scanned(_) => self.sweep.failed(now),
                Entry::Reissued(reissued) => self.sweep.suspect(self.outstanding_attempt(&reissued.task)),
                Entry::Unrenderable(Unrenderable { task, .. }) | Entry::Unpublishable(Unpublishable { task, .. }) => {
                    owed.extend(self.outstanding_attempt(task).map(Effect::Publish));
                }
                Entry::Evaluated(evaluated) => {
                    let execution = self.partition.execution(evaluated.execution);
                    owed.extend(execution.into_iter().flat_map(|e| e.evaluations()).map(Effect::Evaluate));
                }
                Entry::Epoch(_)
                | Entry::Archived(_)
                | Entry::Submitted(_)
                | Entry::CancelRequested(_)
                | Entry::Resumed(_)
                | Entry::ClaimAbandoned(_)
                | Entry::TaskStarted(_)
                | Entry::TaskSucceeded(_)
                | Entry::TaskFailed(_)
                | Entry::ClaimHeld(_)
                | Entry::Expired(_) => {}
            }
        }
        owed
    }

    /// The attempt of a step or item that is owed to the queue, whatever its number.
    fn outstanding_attempt(&self, key: &TaskKey) -> Option<TaskRef> {
        let execution = self.partition.execution(key.execution)?;
        let task = execution.find_task(key)?;
        let outstanding = execution.outstanding().into_iter().map(|(task, _)| task);
        outstanding.into_iter().find(|other| other.step == task.step && other.item == task.item)
    }

    /// The connection was lost.
    pub fn disconnected(&mut self) {
        self.wheel.disconnected();
        self.claimants.forget();
    }

    /// What could be missing is looked for: after a reconnect, whose marker ends the wheel's silence, or when the queue
    /// is gone.
    pub fn look(&mut self) -> Folded {
        let mut asks = Folded::default();
        if self.stage == Stage::Owning {
            let next = self.sweep.start();
            self.sweep_asks(next, &mut asks);
        }
        asks
    }

    /// Whether a task is still owed to the queue.
    pub fn is_outstanding(&self, task: &TaskRef) -> bool {
        is_outstanding(&self.partition, task)
    }

    /// Whether an evaluation is still owed.
    pub fn is_evaluating(&self, what: Evaluate) -> bool {
        self.partition.execution(what.execution()).is_some_and(|e| e.evaluations().contains(&what))
    }

    fn sweep_asks(&self, next: Option<sweep::Next>, asks: &mut Folded) {
        match next {
            None => {}
            Some(sweep::Next::Scan) => asks.scan = true,
            Some(sweep::Next::Mark) => {
                asks.appends.push(Entry::Scanned(Scanned { node: self.node.clone(), epoch: self.epoch }));
            }
            Some(sweep::Next::Reissue(tasks)) => asks.appends.extend(tasks.iter().filter_map(|task| {
                let execution = self.partition.execution(task.execution)?;
                let reissue = execution.reissue_of(task);
                Some(Entry::Reissued(Reissued { task: execution.task_key(&reissue) }))
            })),
        }
    }
}

/// Who wrote a message, as its subject says.
fn origin(subject: Option<&JournalSubject>) -> Option<Origin<'_>> {
    match subject? {
        JournalSubject::Control => Some(Origin::Control),
        JournalSubject::Result(capability) => Some(Origin::Result(capability)),
    }
}

fn is_outstanding(partition: &Partition, task: &TaskRef) -> bool {
    partition.execution(task.execution).is_some_and(|e| !e.status().is_terminal() && e.is_outstanding(task))
}
