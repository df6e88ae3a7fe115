//! The owner's decisions: what to fold, what to emit, what to append, when to stop. No IO: the shell brings
//! messages, time and outcomes, and does what is asked.
//!
//! ```text
//!   Recovering (fold to own epoch, emit nothing) ──▶ Owning ──▶ Stopped
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use millstream_engine::effect::Evaluate;
use millstream_engine::partition::FOLD_REV;
use millstream_engine::{Applied, Effect, Halt, Ignored, Origin, Outcome, Partition, Rejection, Request, TaskRef};
use millstream_model::batch::Batch;
use millstream_model::entry::{
    ClaimAbandoned, Entry, Epoch, Reissued, Scanned, TimerFired, Unpublishable, Unrenderable,
};
use millstream_model::hash::ContentHash;
use millstream_model::ids::{ExecutionId, NodeId, WorkerId};
use millstream_model::names::JournalSubject;
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::task::TaskKey;
use millstream_model::time::Timestamp;

use super::claimants::Claimants;
use super::clock::{JournalClock, Mono, Wheel};
use super::sweep::{self, Sweep};

/// Alarms appended at a time.
const ALARMS_MAX: usize = 1_024;

/// The owner of one partition, without its IO.
#[derive(Debug)]
pub struct Machine {
    node: NodeId,
    epoch: u64,
    partition: Partition,
    stage: Stage,
    last_sequence: u64,
    clock: JournalClock,
    wheel: Wheel,
    sweep: Sweep,
    claimants: Claimants,
    /// Alarms that were appended and not yet folded.
    fired: BTreeSet<(ExecutionId, TimerFiredKey)>,
    counts: Counts,
}

type TimerFiredKey = millstream_model::entry::Timer;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Recovering,
    Owning,
    Stopped,
}

/// A journal message, decoded.
#[derive(Debug)]
pub struct Message {
    pub sequence: u64,
    pub time: Timestamp,
    pub subject: Option<JournalSubject>,
    /// Entries in order; what could not be read is `None`, which only results may be.
    pub entries: Vec<Option<Entry>>,
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
    /// Executions whose state changed.
    pub touched: Vec<ExecutionId>,
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

/// What was ignored, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub ignored: BTreeMap<Ignored, u64>,
    /// Results that are not entries.
    pub malformed: u64,
    /// Tasks that were missing from the queue.
    pub reissued: u64,
}

impl Counts {
    /// Adds the counts of another partition.
    pub fn add(&mut self, other: &Self) {
        for (&reason, count) in &other.ignored {
            *self.ignored.entry(reason).or_default() += count;
        }
        self.malformed += other.malformed;
        self.reissued += other.reissued;
    }
}

impl Message {
    /// Decodes a journal message. What is unreadable on a result subject spoils only itself.
    pub fn decode(
        sequence: u64,
        time: Timestamp,
        subject: Option<JournalSubject>,
        payload: &Bytes,
    ) -> Result<Self, Stop> {
        let is_control = subject == Some(JournalSubject::Control);
        let unreadable = |reason: String| Stop::Unreadable { sequence, reason };
        let entries = match Batch::decode(payload) {
            Ok(batch) => batch
                .entries
                .into_iter()
                .map(|entry| match entry {
                    Ok(entry) => Ok(Some(entry)),
                    Err(error) if is_control => Err(unreadable(error.to_string())),
                    Err(_) => Ok(None),
                })
                .collect::<Result<_, Stop>>()?,
            Err(error) if is_control => return Err(unreadable(error.to_string())),
            Err(_) => vec![None],
        };
        Ok(Self { sequence, time, subject, entries })
    }
}

impl Machine {
    /// The owner that appends `Epoch {node, epoch}` and folds the journal from its first message.
    pub fn new(node: NodeId, epoch: u64) -> Self {
        Self {
            node,
            epoch,
            partition: Partition::default(),
            stage: Stage::Recovering,
            last_sequence: 0,
            clock: JournalClock::default(),
            wheel: Wheel::Silent { after_disconnection: false },
            sweep: Sweep::default(),
            claimants: Claimants::default(),
            fired: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    /// The entry that takes the partition.
    pub fn epoch_entry(&self) -> Entry {
        Entry::Epoch(Epoch { node: self.node.clone(), epoch: self.epoch, fold_rev: FOLD_REV })
    }

    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
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
        self.fired.len() + self.sweep.len() + self.claimants.len()
    }

    /// The definitions that must be installed before the message is folded.
    pub fn wants(&self, message: &Message) -> Vec<ContentHash> {
        let Some(origin) = origin(message.subject.as_ref()) else {
            return Vec::new();
        };
        let entries = message.entries.iter().flatten();
        let mut wanted: Vec<ContentHash> = entries.filter_map(|entry| self.partition.wants(origin, entry)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
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
            let (Some(origin), Some(entry)) = (origin, entry) else {
                self.counts.malformed += 1;
                folded.counted = true;
                folded.outcomes.push(Outcome::Ignored(Ignored::Forbidden));
                continue;
            };
            let index = u16::try_from(index).expect("a batch has at most 256 entries");
            let position = Position { sequence: message.sequence, index };
            self.fold_entry(position, message.time, origin, entry, now, &mut folded)?;
        }
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
        let marker = matches!(&entry, Entry::Scanned(m) if m.node == self.node && m.epoch == self.epoch);
        let reissue = matches!(&entry, Entry::Reissued(_));
        let Applied { outcome, effects } = self.partition.apply(position, at, origin, entry)?;
        match outcome {
            Outcome::Ignored(reason) => *self.counts.ignored.entry(reason).or_default() += 1,
            Outcome::Accepted if reissue => self.counts.reissued += 1,
            Outcome::Accepted | Outcome::Repeated(_) | Outcome::Conflict(_) => {}
        }
        folded.counted |= reissue || matches!(outcome, Outcome::Ignored(_));
        folded.outcomes.push(outcome);
        folded.touched.extend(execution);
        if let Some(epoch) = epoch {
            self.fold_epoch(epoch, folded)?;
        } else if self.stage == Stage::Owning {
            folded.effects.extend(effects);
        }
        if marker && outcome == Outcome::Accepted && self.stage == Stage::Owning {
            self.wheel.marker_folded(now);
            let partition = &self.partition;
            let next = self.sweep.marked(now, |task| is_outstanding(partition, task));
            self.sweep_asks(next, folded);
        }
        Ok(())
    }

    fn fold_epoch(&mut self, epoch: Epoch, folded: &mut Folded) -> Result<(), Stop> {
        let own = epoch.node == self.node && epoch.epoch == self.epoch;
        match self.stage {
            Stage::Recovering if own => {
                self.stage = Stage::Owning;
                folded.took_over = true;
                self.sweep.suspect(self.partition.outstanding().into_iter().map(|(task, _)| task));
                let owed = self.partition.executions().filter(|e| !e.status().is_terminal());
                folded.effects.extend(owed.flat_map(|e| e.owed()));
                let next = self.sweep.start();
                self.sweep_asks(next, folded);
                Ok(())
            }
            Stage::Owning if !own => Err(Stop::TakenOver { node: epoch.node, epoch: epoch.epoch }),
            Stage::Recovering | Stage::Owning | Stage::Stopped => Ok(()),
        }
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
            Wheel::Running if self.fired.is_empty() => {
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
