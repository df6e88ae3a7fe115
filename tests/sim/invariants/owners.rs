//! Owners.

use std::collections::BTreeMap;

use millstream_coordinator::owner::machine::Stop;
use millstream_engine::{Execution, render};
use millstream_model::entry::{Entry, Reissued};
use millstream_model::task::TaskKey;

use super::{Checker, Violation, violated};
use crate::simulation::agenda::Time;
use crate::simulation::broker::{Broker, Stored};
use crate::simulation::coordinator::{Coordinator, End};
use crate::simulation::faults::Fault;
use crate::simulation::physics::Physics;
use crate::simulation::witness::Subject;

/// How long a sweep that is under way may keep an owner from looking for something else: two scans without answers
/// and the pauses between them.
const LOOK_MS_MAX: u64 = 30_000;
/// How old the answer to a scan may be.
const STALE_MS_MAX: u64 = 1_600;

impl Checker {
    /// An owner has ended, which had taken over with a message, or never had.
    pub fn ended(&mut self, process: &Coordinator, end: &End, took_over_at: u64) -> Result<(), Violation> {
        match end {
            End::Asked | End::Stop(Stop::TakenOver { .. } | Stop::Gap { .. }) => Ok(()),
            End::OldBuild { fold_rev } if process.fold_rev < *fold_rev => Ok(()),
            // One that others have superseded may miss what they need no more.
            End::Absent { .. } if self.epochs.iter().any(|(sequence, ..)| *sequence > took_over_at) => Ok(()),
            End::Stop(Stop::Unreadable { .. } | Stop::Halt(_))
            | End::Trimmed { .. }
            | End::Regressed { .. }
            | End::WentBackwards { .. }
            | End::SnapshotMissing { .. }
            | End::SnapshotUnusable { .. }
            | End::OtherState { .. }
            | End::Absent { .. }
            | End::OldBuild { .. } => violated("owners stop only when they must", format!("{}: {end}", process.life)),
        }
    }

    /// A task is reissued only when it was absent from the queue in both scans, and what was reported before the second
    /// one was known.
    pub(super) fn check_reissue(
        &self,
        entry: &Entry,
        stored: &Stored,
        broker: &Broker,
        owners: &BTreeMap<u8, Coordinator>,
        physics: &Physics,
    ) -> Result<(), Violation> {
        let Entry::Reissued(Reissued { task }) = entry else { return Ok(()) };
        let id = stored.msg_id.as_deref().unwrap_or_default();
        let is_writer = |owner: &&Coordinator| id.starts_with(&format!("{}-{}-", owner.node(), owner.epoch));
        let Some(owner) = owners.values().find(is_writer) else { return Ok(()) };
        let Some(second) = owner.decided_by.get(id).copied().flatten() else { return Ok(()) };
        let Some(record) = self.records.get(&task.execution) else { return Ok(()) };
        let Some(execution) = self.reference.execution(task.execution) else { return Ok(()) };
        let missing = execution
            .outstanding()
            .into_iter()
            .map(|(missing, _)| execution.task_key(&missing))
            .find(|key| key.step == task.step && key.item == task.item && key.activation == task.activation);
        let stale_ms = if physics.faults.active().contains(&Fault::StaleRead) { STALE_MS_MAX } else { 0 };
        let seen_by_scan = physics.clocks.broker(Time(second.0.saturating_sub(stale_ms * 1_000)));
        if physics.clocks.is_even()
            && let Some((key, at)) =
                broker.tasks().into_iter().find(|(key, at)| Some(key) == missing.as_ref() && *at < seen_by_scan)
        {
            let what = format!("{key:?}, there since {at}; the second scan was asked for at {second}");
            return violated("what is in the queue is not reissued", what);
        }
        self.check_unpublished(task, owner, second)?;
        let subject = Subject::of(task);
        let settled = record.successes.get(&subject).map(|success| success.stored_at);
        if let Some(settled) = settled.filter(|settled| *settled < second) {
            let what = format!("{task:?}, settled at {settled}; the second scan was asked for at {second}");
            return violated("what was reported before the scan is not reissued", what);
        }
        Ok(())
    }

    /// What an owner knows not to be in the queue it sends once more as it was; what may be there it looks for at once.
    fn check_unpublished(&self, task: &TaskKey, owner: &Coordinator, second: Time) -> Result<(), Violation> {
        let earlier = TaskKey { attempt: task.attempt.saturating_sub(1), ..task.clone() };
        let execution = owner.partition().and_then(|partition| partition.execution(task.execution));
        let Some(missing) = execution.and_then(|execution| execution.find_task(&earlier)) else { return Ok(()) };
        if let Some(at) = owner.refused.get(&missing).filter(|at| **at < second) {
            let what = format!("{} was told at {at} that {earlier:?} is not stored", owner.life);
            return violated("what is known not to be stored is no attempt", what);
        }
        let Some(at) = owner.unknown.get(&missing).copied().filter(|at| *at < second) else { return Ok(()) };
        let soon = at.plus_millis(LOOK_MS_MAX);
        let stood_still = owner.went_on.is_some_and(|went_on| went_on > at);
        if !stood_still && !owner.looks.iter().any(|look| *look >= at && *look <= soon) {
            let what = format!("{} did not know at {at} whether {earlier:?} is stored", owner.life);
            return violated("what may not be stored is looked for at once", what);
        }
        Ok(())
    }

    /// An owner's process is gone.
    pub fn coordinator_gone(&mut self, _owner: &Coordinator) {}

    /// An owner that has folded all of the journal has the state that the journal means.
    pub fn compare(&self, owner: &Coordinator, broker: &Broker) -> Result<(), Violation> {
        let Some(partition) = owner.partition() else { return Ok(()) };
        if owner.folded() != self.last_sequence() {
            return Ok(());
        }
        self.compare_partition(partition, broker, &format!("{} at {}", owner.life, owner.folded()))
    }
}

/// Everything that is seen of an execution, and what it waits for.
pub(super) fn state(execution: &Execution) -> String {
    let mut text = render::execution(execution);
    for (at, alarm) in execution.alarms() {
        text.push_str(&format!("\nalarm {} {}", at.as_micros(), render::alarm(execution, alarm)));
    }
    for (task, since) in execution.outstanding() {
        text.push_str(&format!("\noutstanding {task:?} since {}", since.as_micros()));
    }
    text.push_str(&format!("\nevaluations {:?}", execution.evaluations()));
    text
}
