//! An owner begins: the journal's end, the newest snapshot, whether the one continues the other.
//!
//! ```text
//!   pointer ─▶ journal state ─┬─ no snapshot ───────────────────────▶ Core
//!      ▲                      └─ the snapshot's message ─▶ snapshot ─▶ Core
//!      └──────────────────── missing, and the pointer is another ◀─┘
//! ```
//!
//! The pointer comes first: a journal that was looked at before may be shorter than a snapshot that was stored since.

use std::sync::Arc;

use millstream_coordinator::owner::core::{Core, Ownership, Restored};
use millstream_engine::{Execution, Partition, refold};
use millstream_model::hash::ContentHash;
use millstream_model::snapshot::{Snapshot, SnapshotPointer};
use millstream_model::transcript::Transcribed;

use super::{Awaited, BATCH_SIZE_MAX, Coordinator, End};
use crate::simulation::happening::Input;
use crate::simulation::jetstream::{StoredMessage, StreamInfo};
use crate::simulation::physics::Physics;
use crate::simulation::plants::Plant;
use crate::simulation::request::{Keeping, NoReply, Reply, Request};

/// How far an owner is that begins.
#[derive(Debug)]
pub(super) enum Beginning {
    Pointer,
    State(Pointed),
    Proof(StreamInfo, Box<SnapshotPointer>),
    Snapshot(StreamInfo, Box<SnapshotPointer>),
    /// Something does not fit this pointer, which may have moved on.
    Doubt(Option<Box<SnapshotPointer>>, End),
    /// A bug: the journal's state comes first.
    EarlyState,
    LatePointer(StreamInfo),
}

type Pointed = Option<Box<SnapshotPointer>>;

impl Coordinator {
    /// Asks for what comes next, for the first time or once more.
    pub(super) fn begin(&mut self, beginning: Beginning, physics: &mut Physics) {
        let request = match &beginning {
            Beginning::State(_) | Beginning::EarlyState => Request::JournalState,
            Beginning::Pointer | Beginning::Doubt(..) | Beginning::LatePointer(_) => {
                Request::Keep(Keeping::SnapshotPointer)
            }
            Beginning::Proof(_, pointer) => Request::Keep(Keeping::JournalMessage { sequence: pointer.sequence }),
            Beginning::Snapshot(_, pointer) => Request::Keep(Keeping::GetSnapshot { pointer: pointer.clone() }),
        };
        self.ask_broker(request, Awaited::Beginning(beginning), physics);
    }

    pub(super) fn begun(&mut self, beginning: Beginning, reply: Result<Reply, NoReply>, physics: &mut Physics) {
        if self.core.is_some() || !self.runs {
            return;
        }
        match (beginning, reply) {
            (Beginning::Pointer, Ok(Reply::Pointer(found))) => {
                let pointer = found.map(|(pointer, _)| pointer);
                self.begin(Beginning::State(pointer), physics);
            }
            (Beginning::EarlyState, Ok(Reply::JournalState(info))) => {
                self.begin(Beginning::LatePointer(info), physics);
            }
            (Beginning::LatePointer(info), Ok(Reply::Pointer(found))) => {
                self.looked(info, found.map(|(pointer, _)| pointer), physics);
            }
            (Beginning::State(pointer), Ok(Reply::JournalState(info))) => self.looked(info, pointer, physics),
            (Beginning::Doubt(pointer, end), Ok(Reply::Pointer(found))) => {
                let found = found.map(|(pointer, _)| pointer);
                if found == pointer {
                    self.end(end, physics);
                } else {
                    self.begin(Beginning::State(found), physics);
                }
            }
            (Beginning::Proof(info, pointer), Ok(Reply::Message(message))) => match differs(message, &pointer) {
                None => self.begin(Beginning::Snapshot(info, pointer), physics),
                Some(reason) => self.begin(Beginning::Doubt(Some(pointer), End::Regressed { reason }), physics),
            },
            (Beginning::Snapshot(info, pointer), Ok(Reply::Snapshot(object))) => {
                match self.restored(&object, &pointer, physics) {
                    Ok(restored) => self.owner_begins(&info, Some(restored), physics),
                    Err(end) => self.end(end, physics),
                }
            }
            (Beginning::Snapshot(_, pointer), Err(NoReply::Missing)) => {
                let end = End::SnapshotMissing { object: pointer.object.clone() };
                self.begin(Beginning::Doubt(Some(pointer), end), physics);
            }
            // Without a connection it goes on once there is one.
            (beginning, _) => {
                self.begins_again = Some(beginning);
                physics.later(self.life, super::RETRY_MS, Input::Link);
            }
        }
    }

    /// The journal's state is known, and where the newest snapshot was before that.
    fn looked(&mut self, info: StreamInfo, pointer: Pointed, physics: &mut Physics) {
        let Some(pointer) = pointer else {
            if info.first_sequence > 1 {
                let end = End::Trimmed { first: info.first_sequence };
                return self.begin(Beginning::Doubt(None, end), physics);
            }
            return self.owner_begins(&info, None, physics);
        };
        let unchecked = physics.planted(Plant::RegressionUnchecked);
        if !unchecked && (info.created != pointer.stream_created || info.last_sequence < pointer.sequence) {
            let reason = format!("{info:?} does not continue {}", pointer.sequence);
            return self.end(End::Regressed { reason }, physics);
        }
        let next = if unchecked { Beginning::Snapshot } else { Beginning::Proof };
        self.begin(next(info, pointer), physics);
    }

    fn restored(&self, object: &[u8], pointer: &SnapshotPointer, physics: &Physics) -> Result<Restored, End> {
        let unusable = |reason: String| End::SnapshotUnusable { reason };
        let mut snapshot = Snapshot::decode(object).map_err(|error| unusable(error.to_string()))?;
        if snapshot.head.fold_rev > self.fold_rev {
            return Err(End::OldBuild { fold_rev: snapshot.head.fold_rev });
        }
        if physics.planted(Plant::SnapshotWithoutKeys) {
            snapshot.keys.clear();
        }
        if physics.planted(Plant::SnapshotWithoutEpoch) {
            (snapshot.head.epoch, snapshot.head.epoch_at) = (None, Default::default());
        }
        if physics.planted(Plant::RevisionLowered) {
            snapshot.head.fold_rev = millstream_engine::partition::FOLD_REV_OLDEST;
        }
        if physics.planted(Plant::ParkedAlarmsForgotten) {
            snapshot.parked.iter_mut().for_each(|parked| parked.next = None);
        }
        let mut executions = Vec::new();
        for (_, transcript) in &snapshot.executions {
            let mut transcript =
                Transcribed::read(&transcript.finish()).map_err(|error| unusable(error.to_string()))?;
            if physics.planted(Plant::RestoredWithoutLastEntry) && transcript.lines.len() > 1 {
                transcript.lines.pop();
            }
            executions.push(self.refold(&transcript).map_err(unusable)?);
        }
        let partition = Partition::restore(&snapshot, executions).map_err(|halt| unusable(halt.to_string()))?;
        let tampered = physics.plant.is_some();
        if !tampered && partition.state_hash() != pointer.state {
            return Err(End::OtherState { object: pointer.object.clone() });
        }
        let transcripts = snapshot.executions.into_iter().collect();
        Ok(Restored { partition, transcripts, sequence: pointer.sequence })
    }

    /// Folds an execution again.
    pub(super) fn refold(&self, transcript: &Transcribed) -> Result<Box<Execution>, String> {
        let (_, definition) = refold::submission(transcript).ok_or("it does not begin with a submission")?;
        let plan = self.plans.get(&definition).ok_or("nobody knows its definition")?;
        Execution::refold(transcript, Arc::clone(plan)).map_err(|halt| halt.to_string())
    }

    fn owner_begins(&mut self, info: &StreamInfo, restored: Option<Restored>, physics: &mut Physics) {
        self.epoch = info.last_sequence + 1;
        self.journal_created = Some(info.created);
        self.connection = physics.network.connection(self.life.node);
        self.next_sequence = restored.as_ref().map_or(1, |restored| restored.sequence + 1);
        self.shadow.folded = self.next_sequence - 1;
        let mut keeping = self.keeping;
        if physics.planted(Plant::TrimAtOnce) {
            keeping.trim_after_ms = 0;
        }
        let ownership = Ownership {
            node: self.node.clone(),
            epoch: self.epoch,
            id_prefix: format!("{}-{}-{}", self.node, self.epoch, physics.now.0),
            batch_size_max: BATCH_SIZE_MAX,
            connection: self.connection,
            fold_rev: self.agreed_fold_rev(physics),
            keeping,
        };
        self.agree(physics);
        let from = self.next_sequence;
        self.core = Some(Core::new(ownership, restored));
        let (life, epoch) = (self.life, self.epoch);
        physics.tell(|| format!("{life} begins with message {from} and epoch {epoch}"));
        self.read(physics);
    }
}

/// How the message of a snapshot is not the one that the pointer means.
fn differs(message: Option<StoredMessage>, pointer: &SnapshotPointer) -> Option<String> {
    match message {
        None => Some(format!("message {} is missing", pointer.sequence)),
        Some(message) if ContentHash::of(&message.payload) != pointer.message => {
            Some(format!("message {} is another one", pointer.sequence))
        }
        Some(_) => None,
    }
}
