//! Messages to the broker, and what owners emit.

use millstream_model::batch::Batch;
use millstream_model::entry::Entry;
use millstream_model::limits::ACK_WAIT_MS;
use millstream_model::task::TaskKey;

use super::{Checker, Violation, violated};
use crate::simulation::broker::Broker;
use crate::simulation::coordinator::{Coordinator, Emitted};
use crate::simulation::happening::Envelope;
use crate::simulation::physics::Physics;
use crate::simulation::request::Request;

/// A coordinator that has been present for so long is known to the others; and when much gets lost.
const KNOWN_MS: u64 = 1_000;
const KNOWN_MS_MAX: u64 = 30_000;

impl Checker {
    /// A message arrives at the broker.
    pub fn arrives(&mut self, envelope: &Envelope, broker: &Broker) -> Result<(), Violation> {
        let Request::Ack(token) = &envelope.request else { return Ok(()) };
        let Some(key) = broker.task_of(token) else { return Ok(()) };
        let Some(record) = self.records.get(&key.execution) else { return Ok(()) };
        // A stream that was created again may give the number of one task to another; tokens know their count.
        if !record.reported.contains_key(&key) {
            return violated("no task is acked before its entry is stored", format!("{}: {key:?}", envelope.life));
        }
        Ok(())
    }

    /// A task was put into its queue.
    pub fn queued(&mut self, key: &TaskKey, physics: &Physics) -> Result<(), Violation> {
        let Some(record) = self.records.get_mut(&key.execution) else {
            return violated("only tasks of known executions are published", format!("{key:?}"));
        };
        let reissues = record.reissued.get(key).copied().unwrap_or_default();
        let queued = record.queued.entry(key.clone()).or_default();
        *queued += 1;
        if *queued > 1 + reissues {
            let what = format!("{key:?} for the {queued}. time at {}, reissued {reissues} times", physics.now);
            return violated("a task is published once, and once more for each entry that says so", what);
        }
        Ok(())
    }

    /// An owner did something that only owners may do.
    pub fn emitted(
        &mut self,
        owner: &Coordinator,
        emitted: &Emitted,
        broker: &Broker,
        physics: &Physics,
    ) -> Result<(), Violation> {
        match emitted {
            Emitted::Publish(task) => {
                let Some(own) = owner.took_over_at else {
                    let what = format!("{}: {task:?}", owner.life);
                    return violated("nothing is emitted before the own epoch", what);
                };
                let newer = self
                    .epochs
                    .iter()
                    .find(|(sequence, node, _)| *sequence > own && *sequence <= owner.folded() && node != owner.node());
                if let Some((sequence, node, epoch)) = newer {
                    let what =
                        format!("{} emits {task:?} after it read epoch {epoch} of {node} at {sequence}", owner.life);
                    return violated("nothing is emitted after a newer epoch was read", what);
                }
                Ok(())
            }
            Emitted::Append { again: true, .. } => Ok(()),
            Emitted::Append { batch, again: false } => {
                self.check_revision(owner, batch, broker, physics)?;
                let Some(reconnected) = owner.reconnected else { return Ok(()) };
                let since = physics.now.millis_since(reconnected);
                if since >= ACK_WAIT_MS {
                    return Ok(());
                }
                let Ok(batch) = Batch::decode(batch) else { return Ok(()) };
                let fired = batch.entries.iter().flatten().any(|entry| matches!(entry, Entry::TimerFired(_)));
                if fired {
                    let what = format!("{}: {since} ms after it was connected again", owner.life);
                    return violated("alarms wait after a disconnection", what);
                }
                Ok(())
            }
        }
    }

    /// A revision is put in force only when all coordinators fold it that have been there for a while.
    fn check_revision(
        &self,
        owner: &Coordinator,
        batch: &[u8],
        broker: &Broker,
        physics: &Physics,
    ) -> Result<(), Violation> {
        let Ok(batch) = Batch::decode(batch) else { return Ok(()) };
        let fold_rev = batch.entries.iter().flatten().filter_map(|entry| match entry {
            Entry::Epoch(epoch) => Some(epoch.fold_rev),
            _ => None,
        });
        let Some(fold_rev) = fold_rev.max().filter(|fold_rev| *fold_rev > self.fold_rev()) else { return Ok(()) };
        let known_ms = if physics.faults.is_calm() { KNOWN_MS } else { KNOWN_MS_MAX };
        // Who stood still or hears nothing knows of nobody.
        if owner.agreed_deaf
            || owner.went_on.is_some_and(|went_on| went_on.plus_millis(KNOWN_MS_MAX) >= owner.agreed_since)
        {
            return Ok(());
        }
        let others = broker.coordinators(fold_rev, physics.now).into_iter().filter(|(node, _)| node != owner.node());
        let old = others.into_iter().find(|(_, since)| since.plus_millis(known_ms) <= owner.agreed_since);
        match old {
            None => Ok(()),
            Some((node, since)) => {
                let what = format!("{} puts {fold_rev} in force, {node} is there since {since}", owner.life);
                violated("a revision is put in force when all coordinators fold it", what)
            }
        }
    }
}
