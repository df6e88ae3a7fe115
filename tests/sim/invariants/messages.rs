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
    pub fn emitted(&mut self, owner: &Coordinator, emitted: &Emitted, physics: &Physics) -> Result<(), Violation> {
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
}
