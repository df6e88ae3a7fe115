//! What owners keep: records, snapshots, the cut journal, and that a partition can always begin again from them.

use std::sync::Arc;

use millstream_coordinator::owner::machine::Message;
use millstream_engine::{Execution, Partition, Want, refold};
use millstream_model::hash::ContentHash;
use millstream_model::history::{KeptIn, Record};
use millstream_model::limits::DUPLICATE_WINDOW_MS;
use millstream_model::names::JournalSubject;
use millstream_model::position::Position;
use millstream_model::snapshot::{Snapshot, SnapshotPointer};
use millstream_model::transcript::Transcribed;

use super::reference::Reference;
use super::{Checker, Violation, owners, violated};
use crate::simulation::broker::{Broker, Kept};
use crate::simulation::physics::Physics;
use crate::simulation::plants::Plant;

/// What a rehearsal is told that went wrong.
const REHEARSAL: &str = "a partition can always begin again from its snapshot";

impl Checker {
    /// Something was kept, or cut.
    pub fn kept(&mut self, kept: &Kept, broker: &Broker, physics: &Physics) -> Result<(), Violation> {
        let plant = physics.plant;
        match kept {
            Kept::Recorded { sequence, record } => self.recorded(*sequence, record),
            Kept::Pointed(pointer) => {
                if let Some(before) = self.pointer.as_ref().filter(|before| before.sequence >= pointer.sequence) {
                    let what = format!("from {} to {}", before.sequence, pointer.sequence);
                    return violated("the pointer to the newest snapshot never goes back", what);
                }
                self.pointer = Some((**pointer).clone());
                self.rehearse(broker, plant)
            }
            Kept::Cut { below } => {
                if self.pointer.as_ref().is_none_or(|pointer| pointer.sequence < *below) {
                    let known = self.pointer.as_ref().map(|pointer| pointer.sequence);
                    let what = format!("below {below}, the newest snapshot ends at {known:?}");
                    return violated("nothing is cut that no snapshot has", what);
                }
                let stored = self.journal.iter().find(|stored| stored.sequence == *below);
                let age = stored.map_or(0, |stored| physics.clocks.broker(physics.now).millis_since(stored.time));
                if physics.clocks.is_even() && age < DUPLICATE_WINDOW_MS {
                    let what = format!("below {below}, {age} ms after it was stored");
                    return violated("what the journal must still recognise is not cut", what);
                }
                self.cuts += 1;
                Ok(())
            }
            Kept::Dropped { object } => {
                if self.pointer.as_ref().is_some_and(|pointer| pointer.object == *object) {
                    return violated("the newest snapshot stays", object.clone());
                }
                Ok(())
            }
        }
    }

    fn recorded(&mut self, sequence: u64, record: &bytes::Bytes) -> Result<(), Violation> {
        const TRUE: &str = "a record folds to the state that it is of";
        let kept = match Record::decode(record) {
            Ok(Record::Ended(kept)) => kept,
            Ok(Record::Parked(_)) => {
                self.parks += 1;
                return Ok(());
            }
            Ok(Record::Started(_)) => return Ok(()),
            Err(error) => return violated(TRUE, error.to_string()),
        };
        let KeptIn::Here(compressed) = &kept.transcript else { return Ok(()) };
        let id = kept.summary.execution;
        let transcript = match Transcribed::read(compressed) {
            Ok(transcript) => transcript,
            Err(error) => return violated(TRUE, error.to_string()),
        };
        let execution = match self.refold(&transcript) {
            Ok(execution) => execution,
            Err(reason) => return violated(TRUE, format!("{id}: {reason}")),
        };
        let Some(end) = execution.end_position() else {
            return violated(TRUE, format!("{id}: its record {sequence} folds to what has not ended"));
        };
        let Some(known) = self.records.get_mut(&id) else {
            return violated(TRUE, format!("{id}: nobody knows it"));
        };
        let state = owners::state(&execution);
        if known.ends.get(&end) != Some(&state) {
            let truth = known.ends.get(&end).cloned().unwrap_or_default();
            return violated(TRUE, format!("{id} at {end}:\n{state}\nbut the journal says\n{truth}"));
        }
        if execution.state_hash() != kept.state {
            return violated(TRUE, format!("{id} at {end}: its hash is of another state"));
        }
        known.recorded.insert(end, sequence);
        Ok(())
    }

    /// Executions are forgotten only when the history has them.
    pub(super) fn check_forgotten(
        &self,
        id: millstream_model::ids::ExecutionId,
        end: Position,
    ) -> Result<(), Violation> {
        let recorded = self.records.get(&id).is_some_and(|record| record.recorded.contains_key(&end));
        if recorded {
            return Ok(());
        }
        violated("an execution is forgotten only when its record is stored", format!("{id}, which ended at {end}"))
    }

    /// A partition that begins now would be what the journal means.
    pub fn rehearse(&self, broker: &Broker, plant: Option<Plant>) -> Result<(), Violation> {
        let Some(pointer) = &self.pointer else { return Ok(()) };
        match self.begun_again(pointer, broker, plant) {
            Ok(again) => self.compare_partition(again.partition(), broker, "a rehearsal"),
            Err(reason) => violated(REHEARSAL, format!("up to message {}: {reason}", pointer.sequence)),
        }
    }

    fn begun_again(
        &self,
        pointer: &SnapshotPointer,
        broker: &Broker,
        plant: Option<Plant>,
    ) -> Result<Reference, String> {
        let object = broker.snapshot(&pointer.object).ok_or("the object is gone")?;
        if ContentHash::of(object) != pointer.hash {
            return Err("the object is another one".to_owned());
        }
        let snapshot = Snapshot::decode(object).map_err(|error| error.to_string())?;
        let mut executions = Vec::new();
        for (_, transcript) in &snapshot.executions {
            let transcript = Transcribed::read(&transcript.finish()).map_err(|error| error.to_string())?;
            executions.push(self.refold(&transcript)?);
        }
        let partition = Partition::restore(&snapshot, executions).map_err(|halt| halt.to_string())?;
        if partition.state_hash() != pointer.state {
            return Err("it folds to another state than its writer's".to_owned());
        }
        let mut again = self.reference.restored(partition, plant);
        for stored in self.journal.iter().filter(|stored| stored.sequence > pointer.sequence) {
            let subject = self.names.parse_journal(&stored.subject);
            let message = Message::decode(stored.sequence, stored.time, subject, &stored.payload)
                .map_err(|stop| stop.to_string())?;
            self.fold_again(&mut again, message, broker)?;
        }
        Ok(again)
    }

    /// Folds a message as an owner does, who brings what it wants and forgets what it may.
    fn fold_again(&self, again: &mut Reference, message: Message, broker: &Broker) -> Result<(), String> {
        let message = again.tampered(message);
        let Some(subject) = message.subject.clone() else { return Ok(()) };
        let origin = match &subject {
            JournalSubject::Control => millstream_engine::Origin::Control,
            JournalSubject::Result(capability) => millstream_engine::Origin::Result(capability),
        };
        for written in message.entries.iter().flatten() {
            match again.partition().wants(origin, &written.entry) {
                Some(Want::Definition(hash)) => {
                    let plan = self.plans.get(&hash).ok_or("nobody knows a definition")?;
                    again.partition_mut().install(Arc::clone(plan));
                }
                Some(Want::Parked(id, record)) => {
                    let found = broker.record(record).ok_or_else(|| format!("record {record} of {id} is gone"))?;
                    let execution = self.refold(&of_record(&found)?)?;
                    again.partition_mut().unpark(execution);
                }
                Some(Want::Transcript(id, reference)) => {
                    let found = broker.transcript(id, reference).ok_or("a transcript is gone")?;
                    let transcript = Transcribed::read(found).map_err(|error| error.to_string())?;
                    let execution = self.refold(&transcript)?;
                    again.partition_mut().recall(execution);
                }
                None => {}
            }
        }
        for (index, written) in message.entries.iter().enumerate() {
            let Some(written) = written else { continue };
            let index = u16::try_from(index).expect("a batch is small");
            let position = Position { sequence: message.sequence, index };
            let applied = again.partition_mut().apply(position, message.time, origin, written.entry.clone());
            applied.map_err(|halt| halt.to_string())?;
        }
        Ok(())
    }

    /// A partition is what the journal means: everything that is not forgotten, in memory or parked, and nothing else.
    pub(super) fn compare_partition(
        &self,
        partition: &Partition,
        broker: &Broker,
        whose: &str,
    ) -> Result<(), Violation> {
        const SAME: &str = "every fold of the journal is the same";
        let truth = self.reference.partition();
        for reference in truth.executions() {
            let id = reference.id();
            let expected = owners::state(reference);
            let found = match (partition.parked_record(id), partition.execution(id)) {
                (Some(record), _) => {
                    let Some(message) = broker.record(record) else {
                        return violated("a parked execution is never lost", format!("{whose}: {id}, record {record}"));
                    };
                    let execution = of_record(&message).and_then(|transcript| self.refold(&transcript));
                    match execution {
                        Ok(execution) => Some(owners::state(&execution)),
                        Err(reason) => return violated("a parked execution is never lost", format!("{id}: {reason}")),
                    }
                }
                (None, found) => found.map(owners::state),
            };
            if self.reference.has_forgotten(id) {
                if found.is_some() {
                    return violated("what is archived leaves memory", format!("{whose}: {id}"));
                }
            } else if found.as_ref() != Some(&expected) {
                let found = found.unwrap_or_default();
                return violated(SAME, format!("{whose}:\n{found}\nbut the journal says\n{expected}"));
            }
        }
        if let Some(unknown) = partition.executions().find(|found| truth.execution(found.id()).is_none()) {
            return violated(SAME, format!("{whose} has {}, which the journal has not", unknown.id()));
        }
        if partition.fold_rev() != truth.fold_rev() {
            let what = format!("{whose}: {}, but {} is in force", partition.fold_rev(), truth.fold_rev());
            return violated("one revision of the fold is in force", what);
        }
        if partition.epoch() != truth.epoch() {
            return violated(SAME, format!("{whose}: epoch {:?}, not {:?}", partition.epoch(), truth.epoch()));
        }
        if partition.next_deadline() != truth.next_deadline() {
            let what = format!("{whose}: {:?}, not {:?}", partition.next_deadline(), truth.next_deadline());
            return violated("no alarm is forgotten", what);
        }
        if partition.remembered_keys() != truth.remembered_keys() {
            return violated("idempotency keys are remembered", whose.to_owned());
        }
        Ok(())
    }

    /// Folds an execution again.
    fn refold(&self, transcript: &Transcribed) -> Result<Box<Execution>, String> {
        let (_, definition) = refold::submission(transcript).ok_or("it does not begin with a submission")?;
        let plan = self.plans.get(&definition).ok_or("nobody knows its definition")?;
        Execution::refold(transcript, Arc::clone(plan)).map_err(|halt| halt.to_string())
    }
}

fn of_record(message: &bytes::Bytes) -> Result<Transcribed, String> {
    let kept = match Record::decode(message) {
        Ok(Record::Parked(kept) | Record::Ended(kept)) => kept,
        Ok(Record::Started(_)) => return Err("it is no record of an execution".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    match kept.transcript {
        KeptIn::Here(bytes) => Transcribed::read(&bytes).map_err(|error| error.to_string()),
        KeptIn::Stored(_) => Err("records of this world are whole".to_owned()),
    }
}
