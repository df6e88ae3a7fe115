//! Commands of the core become messages.

use millstream_coordinator::owner::command::{Answer, Command};
use millstream_engine::Outcome;
use millstream_model::batch::{Batch, BatchBuilder, Written, encode_entry};
use millstream_model::entry::{Entry, Reissued, TimerFired};
use millstream_model::ids::Namespace;
use millstream_model::task::TaskKey;

use super::{Awaited, BATCH_SIZE_MAX, Coordinator, Emitted, End, Fetching, shadow};
use crate::simulation::coverage::{Phase, Phases};
use crate::simulation::physics::Physics;
use crate::simulation::plants::Plant;
use crate::simulation::request::{Keeping, Request, of_batch, of_task};

impl Coordinator {
    /// Does what the core asks for, until it asks for nothing more, or dies in between.
    pub(super) fn perform(&mut self, physics: &mut Physics) {
        for (task, capability, message) in self.shadow.take_emitted() {
            self.emitted.push(Emitted::Publish(task));
            let request = Request::Publish { capability: capability.clone(), message: message.clone() };
            self.ask_broker(request, Awaited::Publish { task, capability, message }, physics);
        }
        while self.core.is_some() && !self.doomed {
            let now = physics.mono(self.started);
            let Some(command) = self.core.as_mut().and_then(|core| core.next_command(now)) else { return };
            let owns = self.owns();
            if physics.coordinator_dies(|| phases(&command, owns)) {
                self.doomed = true;
                return;
            }
            self.carry_out(command, physics);
        }
    }

    fn carry_out(&mut self, command: Command, physics: &mut Physics) {
        match command {
            Command::Append { id, batch } => {
                let batch = self.rewritten(batch, physics);
                let again = self.unconfirmed.replace(id.clone()).as_ref() == Some(&id);
                self.decided_by.entry(id.clone()).or_insert(self.decides_by);
                self.emitted.push(Emitted::Append { batch: batch.clone(), again });
                let request = Request::Append { msg_id: id.clone(), batch };
                self.ask_broker(request, Awaited::Append { id }, physics);
                if std::mem::take(&mut self.shadow.marker_owed) {
                    self.forge_marker(physics);
                }
            }
            Command::Publish { task, capability, message, .. } => {
                if physics.planted(Plant::PublishForgotten) && physics.dice.chance(20) {
                    return;
                }
                if physics.planted(Plant::ReissueSameOrdinal) {
                    self.shadow.remember(task, &capability, &message);
                }
                self.emitted.push(Emitted::Publish(task));
                self.refused.remove(&task);
                let request = Request::Publish { capability: capability.clone(), message: message.clone() };
                self.ask_broker(request, Awaited::Publish { task, capability, message }, physics);
            }
            Command::Fetch(wanted) => self.fetch(Fetching { wanted, values: Vec::new() }, physics),
            Command::Store { job, text } => {
                let request = Request::PutPayload { execution: job.execution(), text };
                self.ask_broker(request, Awaited::Store(job), physics);
            }
            Command::Scan => {
                self.looks.push(physics.now);
                self.ask_broker(Request::EnsureTaskStream, Awaited::TaskStream, physics);
            }
            Command::ListPresences => self.ask_broker(Request::ListWorkers, Awaited::Presences, physics),
            Command::MarkCancelled { execution, below } => {
                let request = Request::MarkCancelled { execution, below };
                self.ask_broker(request, Awaited::Mark { execution, below }, physics);
            }
            Command::Answer { ask, answer } => self.tell_client(ask, answer, physics),
            Command::Record { execution, end, transcript } => self.record(execution, end, &transcript, physics),
            Command::Park { execution, transcript } => self.park(execution, &transcript, physics),
            Command::Wake { execution, record } => {
                if !physics.planted(Plant::ParkedForgotten) {
                    self.wake(execution, record, physics);
                }
            }
            Command::DropRecord { record } => {
                let request = Request::Keep(Keeping::DeleteHistory { sequence: record });
                self.ask_broker(request, Awaited::Nothing, physics);
            }
            Command::Snapshot(taken) => self.store_snapshot(taken, physics),
            Command::Trim { below } => {
                let request = Request::Keep(Keeping::PurgeJournal { below });
                self.ask_broker(request, Awaited::Trimmed { below }, physics);
            }
            Command::Started(_) | Command::Ended(_) | Command::Report => {}
        }
    }

    /// The batch, or what a bug makes of it.
    fn rewritten(&mut self, batch: bytes::Bytes, physics: &mut Physics) -> bytes::Bytes {
        let loses_timers = physics.planted(Plant::TimersLostOnRestart);
        let repeats_ordinals = physics.planted(Plant::ReissueSameOrdinal);
        let gives_up = physics.planted(Plant::EpochNotRetried) && !self.owns();
        if !loses_timers && !repeats_ordinals && !gives_up {
            return batch;
        }
        let decoded = Batch::decode(&batch).expect("an owner writes batches that can be read");
        let mut builder = BatchBuilder::new(&Namespace::default(), BATCH_SIZE_MAX);
        for entry in decoded.entries.into_iter().flatten() {
            let entry = match entry {
                Entry::TimerFired(TimerFired { execution, .. })
                    if loses_timers && self.shadow.inherited.contains(&execution) =>
                {
                    shadow::nothing()
                }
                Entry::Reissued(Reissued { task }) if repeats_ordinals => {
                    self.publish_again(&task, physics);
                    shadow::nothing()
                }
                Entry::Epoch(epoch) if gives_up && epoch.epoch != self.epoch => shadow::nothing(),
                entry => entry,
            };
            builder.push(&encode_entry(&entry));
        }
        builder.finish()
    }

    fn publish_again(&mut self, task: &TaskKey, physics: &mut Physics) {
        let earlier = TaskKey { attempt: task.attempt.saturating_sub(1), ..task.clone() };
        if let Some((task, capability, message)) = self.shadow.published(&earlier) {
            let request = Request::Publish { capability: capability.clone(), message: message.clone() };
            self.ask_broker(request, Awaited::Publish { task, capability, message }, physics);
        }
    }

    /// Folds a marker that is not in the journal.
    fn forge_marker(&mut self, physics: &mut Physics) {
        use millstream_coordinator::owner::machine::Message;
        use millstream_model::entry::Scanned;
        use millstream_model::names::JournalSubject;
        let now = physics.mono(self.started);
        let Some(core) = self.core.as_mut().filter(|core| core.owns()) else { return };
        self.offset -= 1;
        self.decides_by = self.scan_answered;
        let message = Message {
            sequence: (self.next_sequence - 1).wrapping_add_signed(-self.offset),
            time: physics.clocks.broker(physics.now),
            subject: Some(JournalSubject::Control),
            entries: vec![Some(Written::of(Entry::Scanned(Scanned { node: self.node.clone(), epoch: self.epoch })))],
            payload: bytes::Bytes::new(),
        };
        if let Err(stop) = core.message(message, None, now) {
            self.end(End::Stop(stop), physics);
        }
    }
}

/// What is going on when a command is performed.
fn phases(command: &Command, owns: bool) -> Phases {
    let phases = match command {
        Command::Append { batch, .. } => of_batch(batch),
        Command::Publish { message, .. } => of_task(message).and(Phase::Publish),
        Command::Fetch(_) | Command::Store { .. } => Phases::of(Phase::Payload),
        Command::Scan | Command::ListPresences => Phases::of(Phase::Sweep),
        Command::MarkCancelled { .. } => Phases::of(Phase::Cancel),
        Command::Answer { answer: Answer::Folded(Outcome::Accepted), .. } => Phases::of(Phase::Submit),
        Command::Record { .. }
        | Command::Park { .. }
        | Command::Wake { .. }
        | Command::DropRecord { .. }
        | Command::Started(_) => Phases::of(Phase::Record),
        Command::Snapshot(_) | Command::Trim { .. } => Phases::of(Phase::Snapshot),
        Command::Answer { .. } | Command::Ended(_) | Command::Report => Phases::of(Phase::Fold),
    };
    if owns { phases } else { phases.and(Phase::TakeOver) }
}
