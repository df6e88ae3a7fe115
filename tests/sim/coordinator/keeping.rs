//! What an owner keeps: records of the history, parked executions, snapshots, the cut of the journal. As
//! `coordinator/server/src/owner/errands` does it.

use bytes::Bytes;
use millstream_coordinator::owner::failure::StoreFailure;
use millstream_coordinator::owner::keeper::Taken;
use millstream_engine::Execution;
use millstream_model::hash::ContentHash;
use millstream_model::history::{Kept, KeptIn, Record};
use millstream_model::ids::ExecutionId;
use millstream_model::position::Position;
use millstream_model::snapshot::SnapshotPointer;
use millstream_model::time::Timestamp;
use millstream_model::transcript::{Transcribed, Transcript};

use super::{Awaited, Coordinator, End, summary};
use crate::simulation::broker::PARTITION;
use crate::simulation::happening::{Input, Wake};
use crate::simulation::physics::Physics;
use crate::simulation::plants::Plant;
use crate::simulation::request::{Keeping, NoReply, Reply, Request};

/// A snapshot on its way.
#[derive(Debug)]
pub(super) enum Storing {
    /// The pointer as it is.
    Before(Box<Taken>),
    State(Box<Taken>, Option<(Box<SnapshotPointer>, u64)>),
    Object(Box<Taken>, Box<SnapshotPointer>, Option<(Box<SnapshotPointer>, u64)>),
    Pointer(Box<Taken>, Box<SnapshotPointer>, Option<(Box<SnapshotPointer>, u64)>),
    /// Whose pointer is there instead of the own one.
    Found(Box<Taken>, Box<SnapshotPointer>),
}

impl Coordinator {
    /// Puts the record of an execution that has ended into the history.
    pub(super) fn record(
        &mut self,
        execution: ExecutionId,
        end: Position,
        transcript: &Transcript,
        physics: &mut Physics,
    ) {
        let Some(found) = self.core.as_ref().and_then(|core| core.partition().execution(execution)) else { return };
        let short = physics.planted(Plant::RecordWithoutLastEntry).then(|| without_last(transcript)).flatten();
        let record = Record::Ended(kept(found, short.as_ref().unwrap_or(transcript))).encode();
        let msg_id = Some(format!("{execution}-{end}"));
        let lifetime_ms = Some(1_000_000_000);
        let request = Request::Keep(Keeping::AppendHistory { msg_id, record, lifetime_ms });
        self.ask_broker(request, Awaited::Recorded { execution, end }, physics);
        if physics.planted(Plant::ArchiveBeforeRecord)
            && let Some(core) = &mut self.core
        {
            core.recorded(execution, end, Ok(()), physics.mono(self.started));
        }
    }

    /// Likewise of one that waits.
    pub(super) fn park(&mut self, execution: ExecutionId, transcript: &Transcript, physics: &mut Physics) {
        let Some(found) = self.core.as_ref().and_then(|core| core.partition().execution(execution)) else { return };
        let record = Record::Parked(kept(found, transcript)).encode();
        let request = Request::Keep(Keeping::AppendHistory { msg_id: None, record, lifetime_ms: None });
        self.ask_broker(request, Awaited::Parked(execution), physics);
    }

    pub(super) fn wake(&mut self, execution: ExecutionId, record: u64, physics: &mut Physics) {
        let request = Request::Keep(Keeping::HistoryMessage { sequence: record });
        self.ask_broker(request, Awaited::Woken { execution, record }, physics);
    }

    pub(super) fn woken(
        &mut self,
        execution: ExecutionId,
        record: u64,
        reply: Result<Reply, NoReply>,
        physics: &mut Physics,
    ) {
        match self.brought(execution, reply) {
            Ok((found, transcript)) => {
                if let Some(core) = &mut self.core {
                    core.unpark(record, found, transcript);
                }
            }
            Err(StoreFailure::Passing { .. }) => {
                let again = Input::Wake(Wake::Parked { execution, record });
                physics.later(self.life, super::RETRY_MS, again);
            }
            Err(StoreFailure::Lasting { reason }) => self.end(End::Absent { execution, reason }, physics),
        }
    }

    /// Folds an execution again from its record.
    pub(super) fn brought(
        &self,
        execution: ExecutionId,
        reply: Result<Reply, NoReply>,
    ) -> Result<(Box<Execution>, Transcript), StoreFailure> {
        let lasting = |reason: String| StoreFailure::Lasting { reason };
        let compressed = match reply {
            Ok(Reply::Record(Some(message))) => match Record::decode(&message) {
                Ok(Record::Parked(kept) | Record::Ended(kept)) if kept.summary.execution == execution => {
                    match kept.transcript {
                        KeptIn::Here(bytes) => bytes,
                        KeptIn::Stored(_) => return Err(lasting("records of this world are whole".to_owned())),
                    }
                }
                Ok(_) => return Err(lasting("the record is another one's".to_owned())),
                Err(error) => return Err(lasting(error.to_string())),
            },
            Ok(Reply::Record(None)) => return Err(lasting(format!("the record of {execution} is gone"))),
            Ok(Reply::Transcript(bytes)) => bytes,
            Ok(_) => return Err(NoReply::NoAnswer.of_store()),
            Err(failure) => return Err(failure.of_store()),
        };
        self.folded_again(&compressed).map_err(lasting)
    }

    fn folded_again(&self, compressed: &Bytes) -> Result<(Box<Execution>, Transcript), String> {
        let mut transcribed = Transcribed::read(compressed).map_err(|error| error.to_string())?;
        if self.wakes_short && transcribed.lines.len() > 1 {
            transcribed.lines.pop();
        }
        let execution = self.refold(&transcribed)?;
        Ok((execution, transcribed.to_transcript()))
    }

    pub(super) fn store_snapshot(&mut self, taken: Box<Taken>, physics: &mut Physics) {
        self.go_on_storing(Storing::Before(taken), physics);
    }

    fn go_on_storing(&mut self, storing: Storing, physics: &mut Physics) {
        let request = match &storing {
            Storing::Before(_) | Storing::Found(..) => Request::Keep(Keeping::SnapshotPointer),
            Storing::State(..) => Request::JournalState,
            Storing::Object(taken, pointer, _) => {
                let bytes = self.object(taken);
                Request::Keep(Keeping::PutSnapshot { object: pointer.object.clone(), bytes })
            }
            Storing::Pointer(_, pointer, before) => {
                let expected = before.as_ref().map(|(_, revision)| *revision);
                let pointer = pointer.clone();
                Request::Keep(if physics.planted(Plant::PointerWithoutCompare) {
                    Keeping::OverwriteSnapshotPointer { pointer }
                } else {
                    Keeping::PutSnapshotPointer { pointer, expected }
                })
            }
        };
        self.ask_broker(request, Awaited::Storing(storing), physics);
    }

    pub(super) fn stored_snapshot(&mut self, storing: Storing, reply: Result<Reply, NoReply>, physics: &mut Physics) {
        let passed = || Err(StoreFailure::Lasting { reason: "there is a newer one".to_owned() });
        let (taken, result) = match (storing, reply) {
            (Storing::Before(taken), Ok(Reply::Pointer(before))) => {
                let newer = before.as_ref().is_some_and(|(pointer, _)| pointer.sequence >= taken.sequence);
                if !newer || physics.planted(Plant::PointerWithoutCompare) {
                    return self.go_on_storing(Storing::State(taken, before), physics);
                }
                (taken, passed())
            }
            (Storing::State(taken, before), Ok(Reply::JournalState(info))) => {
                let pointer = Box::new(self.pointer(&taken, info.created));
                if physics.planted(Plant::TrimBeforePointer) {
                    let below = taken.sequence;
                    let request = Request::Keep(Keeping::PurgeJournal { below });
                    self.ask_broker(request, Awaited::Nothing, physics);
                }
                return self.go_on_storing(Storing::Object(taken, pointer, before), physics);
            }
            (Storing::Object(taken, pointer, before), Ok(_)) => {
                return self.go_on_storing(Storing::Pointer(taken, pointer, before), physics);
            }
            (Storing::Pointer(taken, _, before), Ok(_)) => {
                if let Some((old, _)) = before {
                    self.drop_snapshot(old.object, physics);
                }
                (taken, Ok(()))
            }
            (Storing::Pointer(taken, pointer, _), Err(NoReply::Taken)) => {
                return self.go_on_storing(Storing::Found(taken, pointer), physics);
            }
            (Storing::Found(taken, pointer), Ok(Reply::Pointer(Some((found, _))))) => {
                if found.object == pointer.object {
                    (taken, Ok(()))
                } else {
                    self.drop_snapshot(pointer.object, physics);
                    (taken, passed())
                }
            }
            (
                Storing::Before(taken)
                | Storing::State(taken, _)
                | Storing::Object(taken, ..)
                | Storing::Pointer(taken, ..)
                | Storing::Found(taken, _),
                reply,
            ) => {
                let failure = reply.err().unwrap_or(NoReply::NoAnswer);
                (taken, Err(failure.of_store()))
            }
        };
        let now = physics.mono(self.started);
        if let Some(core) = &mut self.core {
            core.snapshot_stored(&taken, result.as_ref().copied(), now);
        }
    }

    fn object(&self, taken: &Taken) -> Bytes {
        Bytes::from(taken.snapshot.encode())
    }

    fn pointer(&self, taken: &Taken, created: Timestamp) -> SnapshotPointer {
        let object = self.object(taken);
        SnapshotPointer {
            object: format!("{PARTITION}/{}-{}", taken.sequence, self.node),
            hash: ContentHash::of(&object),
            size: object.len() as u64,
            sequence: taken.sequence,
            time: taken.time,
            message: ContentHash::of(&taken.message),
            stream_created: created,
            state: taken.state,
            taken_by: self.node.clone(),
            fold_rev: taken.fold_rev,
            executions: taken.snapshot.executions.len() as u64,
            entries: taken.snapshot.entries(),
        }
    }

    fn drop_snapshot(&mut self, object: String, physics: &mut Physics) {
        self.ask_broker(Request::Keep(Keeping::DeleteSnapshot { object }), Awaited::Nothing, physics);
    }
}

fn without_last(transcript: &Transcript) -> Option<Transcript> {
    let mut transcribed = Transcribed::read(&transcript.finish()).ok()?;
    transcribed.lines.pop();
    Some(transcribed.to_transcript())
}

fn kept(execution: &Execution, transcript: &Transcript) -> Kept {
    Kept {
        summary: summary(execution),
        state: execution.state_hash(),
        entries: transcript.len(),
        text: transcript.text_size(),
        transcript: KeptIn::Here(transcript.finish()),
    }
}
