//! The folded state of one partition.

mod absent;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use millstream_model::entry::{CancelRequested, Entry, Epoch, Resumed, Submitted, TimerFired};
use millstream_model::hash::ContentHash;
use millstream_model::ids::{Capability, ExecutionId, WorkerId};
use millstream_model::payload::PayloadRef;
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::time::Timestamp;
use millstream_model::view::ExecutionStatus;

use crate::effect::TaskRef;
use crate::execution::{Execution, Fold, Phase};
use crate::idempotency::{Earlier, Keys};
use crate::outcome::{Applied, Halt, Ignored, Outcome};
use crate::record::{CancelRequest, What};
use crate::timer::Alarm;

use absent::Parked;

/// Newest revision of the fold that this build runs:
///
/// 1. the first;
/// 2. where a retry could not start before its activation's schedule-to-close has run out, the attempt that failed was
///    the last: its error is the one of the step or item, without `retrying` and without waiting. A repeated
///    idempotency key is remembered for its whole time wherever the broker's clock was in between.
pub const FOLD_REV: u16 = 2;
/// Oldest revision that this build runs. It is also the one in force before a journal says otherwise.
pub const FOLD_REV_OLDEST: u16 = 1;
/// First revision under which no retry is announced that would come too late.
pub(crate) const FOLD_REV_TIMELY_RETRIES: u16 = 2;
/// First revision under which an old use of an idempotency key does not end the memory of a newer one.
pub(crate) const FOLD_REV_KEYS_BY_USE: u16 = 2;
/// Revision of the expression language that this build evaluates.
pub const EXPR_REV: u16 = 1;

/// The state of a partition: a fold of its journal.
#[derive(Debug)]
pub struct Partition {
    applied: Position,
    /// Revision of the fold for executions that are submitted from here on; it never goes down.
    fold_rev: u16,
    epoch: Option<(Epoch, Position)>,
    executions: BTreeMap<ExecutionId, Box<Execution>>,
    /// Executions that wait for long and are not in memory; none of them is in `executions`.
    parked: BTreeMap<ExecutionId, Parked>,
    /// Executions that were archived and that the next message brings back.
    recalled: BTreeMap<ExecutionId, Box<Execution>>,
    plans: BTreeMap<ContentHash, Arc<Plan>>,
    keys: Keys,
    /// The earliest alarm of each execution that has one, parked ones included.
    deadlines: BTreeSet<(Timestamp, ExecutionId)>,
    /// Executions that wait for the holder of a claim.
    held: BTreeSet<ExecutionId>,
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            applied: Position::default(),
            fold_rev: FOLD_REV_OLDEST,
            epoch: None,
            executions: BTreeMap::new(),
            parked: BTreeMap::new(),
            recalled: BTreeMap::new(),
            plans: BTreeMap::new(),
            keys: Keys::default(),
            deadlines: BTreeSet::new(),
            held: BTreeSet::new(),
        }
    }
}

/// What must be brought before an entry is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// A definition: [`Partition::install`].
    Definition(ContentHash),
    /// A parked execution, from the record of the history with this sequence: [`Partition::unpark`].
    Parked(ExecutionId, u64),
    /// An archived execution, from its transcript in the payload store: [`Partition::recall`].
    Transcript(ExecutionId, PayloadRef),
}

/// Who wrote an entry, as its subject says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// The API or a coordinator.
    Control,
    /// A worker of this capability.
    Result(&'a Capability),
}

/// What a caller asks for.
#[derive(Debug, Clone)]
pub enum Request {
    Submit(Box<Submitted>),
    Cancel { execution: ExecutionId, reason: Option<String>, by: Option<String>, compensate: bool },
    Resume(Box<Resumed>),
}

/// Why a request is refused before anything is journaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("the same request was accepted as execution {0}")]
    Repeated(ExecutionId),
    #[error("the idempotency key was used with another workflow, input or context by execution {0}")]
    Conflict(ExecutionId),
    #[error("there is no execution {0}")]
    UnknownExecution(ExecutionId),
    #[error("the execution has ended: {}", .0.as_str())]
    Ended(ExecutionStatus),
    #[error("its outcome is decided: what was completed is being undone, or `finally` runs")]
    OutcomeDecided(ExecutionId),
    #[error("only a FAILED or TIMEOUT execution can be resumed, this one is {}", .0.as_str())]
    NotResumable(ExecutionStatus),
}

impl Partition {
    /// Turns a request into an entry, or refuses it, at journal time `now`. Changes nothing: the answer that counts is
    /// the outcome of the entry once it is folded.
    pub fn decide(&self, request: Request, now: Timestamp) -> Result<Entry, Rejection> {
        match request {
            Request::Submit(submitted) => match submitted.idempotency.as_ref().and_then(|i| self.keys.find(i, now)) {
                Some(Earlier::Same(execution)) => Err(Rejection::Repeated(execution)),
                Some(Earlier::Other(execution)) => Err(Rejection::Conflict(execution)),
                None => Ok(Entry::Submitted(submitted)),
            },
            Request::Cancel { execution, reason, by, compensate } => {
                let entry = Entry::CancelRequested(CancelRequested { execution, reason, by, compensate });
                if self.is_parked(execution) {
                    return Ok(entry);
                }
                let found = self.execution(execution).ok_or(Rejection::UnknownExecution(execution))?;
                match found.phase {
                    Phase::Ended(status) => Err(Rejection::Ended(status)),
                    Phase::Compensating(_) | Phase::Finalizing(_) => Err(Rejection::OutcomeDecided(execution)),
                    Phase::Running | Phase::Aggregating | Phase::Stopping(_) => Ok(entry),
                }
            }
            Request::Resume(resumed) => {
                let execution = resumed.execution;
                match self.execution(execution) {
                    Some(found) if !found.is_resumable() => Err(Rejection::NotResumable(found.status())),
                    None if self.is_parked(execution) => Err(Rejection::NotResumable(ExecutionStatus::Running)),
                    None if resumed.transcript.is_none() => Err(Rejection::UnknownExecution(execution)),
                    Some(_) | None => Ok(Entry::Resumed(resumed)),
                }
            }
        }
    }

    /// What must be brought before `entry` is applied.
    pub fn wants(&self, origin: Origin<'_>, entry: &Entry) -> Option<Want> {
        if matches!(origin, Origin::Result(_)) != entry.is_result() {
            return None;
        }
        if let Some(execution) = entry.execution()
            && let Some(parked) = self.parked.get(&execution)
        {
            return Some(Want::Parked(execution, parked.record));
        }
        match entry {
            Entry::Submitted(submitted) if !self.plans.contains_key(&submitted.definition) => {
                Some(Want::Definition(submitted.definition))
            }
            Entry::Resumed(resumed) => {
                let transcript = resumed.transcript?;
                let runs = self.execution(resumed.execution).is_some_and(|e| !e.status().is_terminal());
                (!runs).then_some(Want::Transcript(resumed.execution, transcript))
            }
            _ => None,
        }
    }

    /// Makes a definition known.
    pub fn install(&mut self, plan: Arc<Plan>) {
        self.plans.insert(plan.hash, plan);
    }

    /// Folds one committed entry and returns what is now owed to the world.
    ///
    /// Invariants:
    /// - order: `position` follows the last applied one;
    /// - determinism: the answer depends on `self` and the arguments alone;
    /// - total: every entry in every state has an answer, `Ignored` included; it halts only where going on would be
    ///   wrong for ever.
    pub fn apply(
        &mut self,
        position: Position,
        at: Timestamp,
        origin: Origin<'_>,
        entry: Entry,
    ) -> Result<Applied, Halt> {
        debug_assert!(position > self.applied, "the owner feeds entries in journal order");
        self.applied = position;
        if matches!(origin, Origin::Result(_)) != entry.is_result() {
            return Ok(ignored(Ignored::Forbidden));
        }
        match entry {
            Entry::Epoch(epoch) => self.take_over(position, epoch),
            Entry::Scanned(_) => Ok(answered(Outcome::Accepted)),
            Entry::Archived(archived) => {
                self.forget(&archived);
                Ok(answered(Outcome::Accepted))
            }
            Entry::Submitted(submitted) => self.submit(position, at, submitted),
            entry => self.apply_to_execution(position, at, origin, entry),
        }
    }

    /// An execution by id.
    pub fn execution(&self, id: ExecutionId) -> Option<&Execution> {
        self.executions.get(&id).map(|execution| &**execution)
    }

    /// All executions in memory, oldest first.
    pub fn executions(&self) -> impl Iterator<Item = &Execution> {
        self.executions.values().map(|execution| &**execution)
    }

    /// The executions in memory from one on.
    pub fn executions_from(&self, from: Bound<ExecutionId>) -> impl Iterator<Item = &Execution> {
        self.executions.range((from, Bound::Unbounded)).map(|(_, execution)| &**execution)
    }

    /// How many executions are in memory, those that have ended included.
    pub fn in_memory(&self) -> usize {
        self.executions.len()
    }

    /// Place of the last applied entry.
    pub fn applied(&self) -> Position {
        self.applied
    }

    /// The newest epoch and where it began.
    pub fn epoch(&self) -> Option<(&Epoch, Position)> {
        self.epoch.as_ref().map(|(epoch, position)| (epoch, *position))
    }

    /// Revision of the fold that is in force.
    pub fn fold_rev(&self) -> u16 {
        self.fold_rev
    }

    /// When the next alarm is due.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Alarms of executions in memory that are due at `now`, at most `limit`, as entries to append. For the others see
    /// [`Self::asleep`].
    pub fn due(&self, now: Timestamp, limit: usize) -> Vec<TimerFired> {
        let mut fired = Vec::new();
        for (_, id) in self.deadlines.range(..=(now, max_id())) {
            let Some(execution) = self.execution(*id) else {
                continue;
            };
            for (_, alarm) in execution.alarms().take_while(|(at, _)| *at <= now) {
                if fired.len() == limit {
                    return fired;
                }
                fired.push(TimerFired { execution: *id, timer: alarm.to_timer(execution.plan()) });
            }
        }
        fired
    }

    /// Attempts of running executions that are owed to the queue, queued or running, and since when.
    pub fn outstanding(&self) -> Vec<(TaskRef, Timestamp)> {
        self.executions().filter(|e| !e.status().is_terminal()).flat_map(Execution::outstanding).collect()
    }

    /// Attempts whose claim another worker holds, and who that is.
    pub fn held(&self) -> impl Iterator<Item = (TaskRef, &WorkerId)> {
        self.held.iter().filter_map(|id| self.execution(*id)).flat_map(Execution::held)
    }

    fn take_over(&mut self, position: Position, epoch: Epoch) -> Result<Applied, Halt> {
        if epoch.fold_rev > FOLD_REV {
            return Err(Halt::FoldRevision { found: epoch.fold_rev, known: FOLD_REV });
        }
        if self.epoch.as_ref().is_some_and(|(current, _)| epoch.epoch <= current.epoch) {
            return Ok(ignored(Ignored::Stale));
        }
        self.fold_rev = self.fold_rev.max(epoch.fold_rev);
        self.epoch = Some((epoch, position));
        Ok(answered(Outcome::Accepted))
    }

    fn submit(&mut self, position: Position, at: Timestamp, submitted: Box<Submitted>) -> Result<Applied, Halt> {
        self.keys.forget(at, self.fold_rev);
        let id = submitted.execution;
        if let Some(idempotency) = &submitted.idempotency {
            match self.keys.find(idempotency, at) {
                Some(Earlier::Same(earlier)) => return Ok(answered(Outcome::Repeated(earlier))),
                Some(Earlier::Other(earlier)) => return Ok(answered(Outcome::Conflict(earlier))),
                None => {}
            }
        }
        if self.executions.contains_key(&id) || self.is_parked(id) {
            return Ok(answered(Outcome::Repeated(id)));
        }
        if submitted.expr_rev != EXPR_REV {
            return Err(Halt::ExpressionRevision { execution: id, found: submitted.expr_rev, known: EXPR_REV });
        }
        let Some(plan) = self.plans.get(&submitted.definition).cloned() else {
            return Err(Halt::MissingDefinition { execution: id, definition: submitted.definition });
        };
        if let Some(idempotency) = &submitted.idempotency {
            self.keys.remember(at, idempotency, id);
        }
        let mut effects = Vec::new();
        let mut execution = Box::new(Execution::new(submitted, plan, at, self.fold_rev));
        let mut fold = Fold::new(position, at, &mut effects);
        execution.alarms.arm(execution.deadline(), Alarm::Deadline);
        execution.record(&mut fold, What::Started);
        execution.take_over();
        match execution.routings[0].unroutable(execution.plan()) {
            Some(reason) => execution.refuse(&mut fold, &reason),
            None => {
                execution.record(&mut fold, What::Planned);
                execution.begin(&mut fold);
            }
        }
        if let Some(deadline) = execution.alarms.first() {
            self.deadlines.insert((deadline, id));
        }
        self.executions.insert(id, execution);
        Ok(Applied { outcome: Outcome::Accepted, effects })
    }

    fn apply_to_execution(
        &mut self,
        position: Position,
        at: Timestamp,
        origin: Origin<'_>,
        entry: Entry,
    ) -> Result<Applied, Halt> {
        let Some(id) = entry.execution() else {
            return Ok(ignored(Ignored::Forbidden));
        };
        if self.is_parked(id) {
            return Err(Halt::MissingExecution { execution: id });
        }
        if matches!(&entry, Entry::Resumed(resumed) if resumed.transcript.is_some()) {
            self.bring_back(id)?;
        }
        let Some(execution) = self.executions.get_mut(&id) else {
            return Ok(ignored(Ignored::UnknownExecution));
        };
        if execution.status().is_terminal() && !matches!(entry, Entry::Resumed(_)) {
            return Ok(ignored(Ignored::Ended));
        }
        execution.clock = execution.clock.max(at);
        let mut effects = Vec::new();
        let mut fold = Fold::new(position, execution.clock, &mut effects);
        let before = execution.alarms.first();
        let outcome = execution.apply(&mut fold, origin, entry);
        let after = execution.alarms.first();
        if execution.claimants.is_empty() {
            self.held.remove(&id);
        } else {
            self.held.insert(id);
        }
        if before != after {
            if let Some(deadline) = before {
                self.deadlines.remove(&(deadline, id));
            }
            if let Some(deadline) = after {
                self.deadlines.insert((deadline, id));
            }
        }
        Ok(Applied { outcome, effects })
    }
}

impl Execution {
    fn apply(&mut self, fold: &mut Fold<'_>, origin: Origin<'_>, entry: Entry) -> Outcome {
        let admitted = match (origin, &entry) {
            (Origin::Result(capability), Entry::TaskSucceeded(e)) => {
                self.admits(&e.task, &e.run.token, e.run.ordinal, capability)
            }
            (Origin::Result(capability), Entry::TaskFailed(e)) => {
                self.admits(&e.task, &e.run.token, e.run.ordinal, capability)
            }
            (Origin::Result(capability), Entry::ClaimHeld(e)) => self.admits(&e.task, &e.token, e.ordinal, capability),
            (Origin::Result(capability), Entry::Expired(e)) => self.admits(&e.task, &e.token, e.ordinal, capability),
            (Origin::Result(capability), Entry::TaskStarted(e)) => {
                self.admits(&e.task, &e.token, e.ordinal, capability)
            }
            (Origin::Result(_) | Origin::Control, _) => return self.apply_control(fold, entry),
        };
        let step = match admitted {
            Ok(step) => step,
            Err(reason) => return Outcome::Ignored(reason),
        };
        match entry {
            Entry::TaskSucceeded(entry) => self.succeeded(fold, step, entry),
            Entry::TaskFailed(entry) => self.failed(fold, step, entry),
            Entry::ClaimHeld(entry) => self.found_held(fold, step, &entry),
            Entry::Expired(entry) => self.expired(fold, step, &entry),
            Entry::TaskStarted(entry) => self.task_started(step, &entry),
            _ => Outcome::Ignored(Ignored::Forbidden),
        }
    }

    fn apply_control(&mut self, fold: &mut Fold<'_>, entry: Entry) -> Outcome {
        match entry {
            Entry::CancelRequested(CancelRequested { by, reason, compensate, .. }) => {
                let request = CancelRequest { at: fold.at, by, reason, compensate };
                self.cancel(fold, request)
            }
            Entry::Resumed(entry) => self.resume(fold, *entry),
            Entry::TimerFired(TimerFired { timer, .. }) => match Alarm::from_timer(&timer, &self.plan) {
                Some(alarm) => self.fire(fold, alarm),
                None => Outcome::Ignored(Ignored::UnknownStep),
            },
            Entry::Reissued(entry) => self.reissued(fold, &entry),
            Entry::Evaluated(entry) => self.evaluated(fold, entry),
            Entry::Unrenderable(entry) => self.unrenderable(fold, &entry),
            Entry::Unpublishable(entry) => self.not_published(fold, &entry.task, entry.error),
            Entry::ClaimAbandoned(entry) => self.abandoned(fold, &entry),
            Entry::Epoch(_)
            | Entry::Scanned(_)
            | Entry::Archived(_)
            | Entry::Submitted(_)
            | Entry::TaskStarted(_)
            | Entry::TaskSucceeded(_)
            | Entry::TaskFailed(_)
            | Entry::ClaimHeld(_)
            | Entry::Expired(_) => Outcome::Ignored(Ignored::Forbidden),
        }
    }
}

fn answered(outcome: Outcome) -> Applied {
    Applied { outcome, effects: Vec::new() }
}

fn ignored(reason: Ignored) -> Applied {
    answered(Outcome::Ignored(reason))
}

fn max_id() -> ExecutionId {
    "ffffffff-ffff-ffff-ffff-ffffffffffff".parse().expect("a UUID")
}
