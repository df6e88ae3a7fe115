//! What must hold, checked after everything that happens, from outside: computed from the journal as the broker
//! stored it, the definitions, and what the witness saw.
//!
//! ```text
//!   journal ─▶ reference fold ─┬─ owners fold the same
//!                              ├─ entries: results once, timers in time, reissues by the rules
//!   witness ───────────────────┼─ side effects within the policy, in order, of what may run
//!   messages to the broker ────┼─ nothing emitted by who does not own
//!   the end ───────────────────┴─ everything accepted has ended, the ledger tells the truth, nothing is left
//! ```

mod ends;
mod entries;
mod keeping;
mod messages;
mod owners;
mod record;
mod reference;
mod sagas;
mod side_effects;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use millstream_coordinator::owner::machine::Message;
use millstream_engine::{Execution, Outcome};
use millstream_model::batch::Written;
use millstream_model::entry::{Entry, Submitted};
use millstream_model::hash::ContentHash;
use millstream_model::ids::{ExecutionId, NodeId};
use millstream_model::names::{JournalSubject, Names};
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::snapshot::SnapshotPointer;
use millstream_model::view::ExecutionPhase;

use super::broker::{Broker, Stored};
use super::coordinator::Coordinator;
use super::coverage::{Phase, Phases};
use super::network::{Life, Node};
use super::physics::Physics;
use super::plants::Plant;
use super::worker::{Outside, Worker};

use record::Record;
use reference::Reference;

/// Something that must hold does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// In a few words, the same for all cases of it.
    pub invariant: &'static str,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// A violation.
pub(crate) fn violated<T>(invariant: &'static str, what: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { invariant, what: what.into() })
}

/// See the module.
#[derive(Debug)]
pub struct Checker {
    names: Names,
    plans: Arc<BTreeMap<ContentHash, Arc<Plan>>>,
    /// Nothing goes wrong in this world.
    calm: bool,
    /// The fold of everything that was stored, up to this moment.
    reference: Reference,
    journal: Vec<Stored>,
    records: BTreeMap<ExecutionId, Record>,
    /// Epochs by the sequence of their entry.
    epochs: Vec<(u64, NodeId, u64)>,
    ended: Vec<ExecutionId>,
    running: BTreeSet<ExecutionId>,
    /// Where the newest snapshot is; how often something was parked, and the journal cut.
    pointer: Option<SnapshotPointer>,
    pub parks: u64,
    pub cuts: u64,
    /// When something was accepted last, for who waits too long.
    pub progress_at: super::agenda::Time,
    pub ignored: BTreeMap<&'static str, u64>,
    pub reissues: u64,
}

impl Checker {
    pub fn new(plans: Arc<BTreeMap<ContentHash, Arc<Plan>>>, plant: Option<Plant>, calm: bool) -> Self {
        Self {
            names: Names::default(),
            reference: Reference::new(Arc::clone(&plans), plant),
            plans,
            calm,
            pointer: None,
            parks: 0,
            cuts: 0,
            journal: Vec::new(),
            records: BTreeMap::new(),
            epochs: Vec::new(),
            ended: Vec::new(),
            running: BTreeSet::new(),
            progress_at: super::agenda::Time(0),
            ignored: BTreeMap::new(),
            reissues: 0,
        }
    }

    /// The journal has another message.
    pub fn stored(
        &mut self,
        stored: &Stored,
        physics: &mut Physics,
        outside: &Outside,
        broker: &Broker,
        owners: &BTreeMap<u8, Coordinator>,
    ) -> Result<(), Violation> {
        if stored.sequence != self.last_sequence() + 1 {
            return violated("the journal has no gaps", format!("{} after {}", stored.sequence, self.last_sequence()));
        }
        self.journal.push(stored.clone());
        let subject = self.names.parse_journal(&stored.subject);
        let message = match Message::decode(stored.sequence, stored.time, subject, &stored.payload) {
            Ok(message) => message,
            Err(stop) => return violated("owners write what can be read", stop.to_string()),
        };
        let originals: Vec<Option<Entry>> =
            message.entries.iter().map(|written| written.as_ref().map(|written| written.entry.clone())).collect();
        for original in originals.iter().flatten() {
            self.reported(original, stored)?;
        }
        let mut message = self.reference.tampered(message);
        let Some(subject) = message.subject.clone() else { return Ok(()) };
        let rewrites = self.reference.rewrites();
        for (index, written) in std::mem::take(&mut message.entries).into_iter().enumerate() {
            let Some(Written { entry, .. }) = written else { continue };
            let position =
                Position { sequence: stored.sequence, index: u16::try_from(index).expect("a batch is small") };
            // What the journal says, not what a bug makes of it.
            let said = match originals.get(index).filter(|_| rewrites) {
                Some(Some(original)) => original.clone(),
                Some(None) | None => entry.clone(),
            };
            self.check_reissue(&said, stored, broker, owners, physics)?;
            if let (Entry::Archived(archived), JournalSubject::Control) = (&entry, &subject) {
                for (id, end) in self.reference.forgets(archived) {
                    self.check_forgotten(id, end)?;
                }
            }
            let revision = self.reference.partition().fold_rev();
            let applied = match self.reference.apply(position, &message, &subject, entry) {
                Ok(applied) => applied,
                Err(halt) => return violated("the fold never halts", halt.to_string()),
            };
            if self.reference.partition().fold_rev() < revision {
                return violated("the revision of the fold never goes down", format!("{position}"));
            }
            physics.tell(|| {
                let outcome = millstream_engine::render::outcome(&applied.outcome);
                format!("journal {position}: {} {outcome}", millstream_engine::render::entry(&said))
            });
            self.after(&said, &applied.outcome, position, stored, outside)?;
        }
        Ok(())
    }

    /// Executions that have ended since the last call.
    pub fn take_ended(&mut self) -> Vec<ExecutionId> {
        std::mem::take(&mut self.ended)
    }

    /// Whether everything that was submitted has ended.
    pub fn all_ended(&self) -> bool {
        self.running.is_empty()
    }

    /// Executions that have not ended.
    pub fn running(&self) -> Vec<ExecutionId> {
        self.running.iter().copied().collect()
    }

    pub fn execution(&self, execution: ExecutionId) -> Option<&Execution> {
        self.reference.execution(execution)
    }

    /// Whether partitions do not know the execution any more, and the newest record that the history has of it.
    pub fn archived(&self, execution: ExecutionId) -> Option<u64> {
        let record = self.records.get(&execution).filter(|_| self.reference.has_forgotten(execution))?;
        record.recorded.last_key_value().map(|(_, sequence)| *sequence)
    }

    /// An older record of the execution than the newest.
    pub fn outdated(&self, execution: ExecutionId) -> Option<u64> {
        let record = self.records.get(&execution)?;
        record.recorded.first_key_value().map(|(_, sequence)| *sequence)
    }

    /// Revision of the fold that is in force.
    pub fn fold_rev(&self) -> u16 {
        self.reference.partition().fold_rev()
    }

    /// What was submitted.
    pub fn submission(&self, execution: ExecutionId) -> Option<&Submitted> {
        self.records.get(&execution).map(|record| &*record.submitted)
    }

    /// Sequence of the journal's last message.
    pub fn last_sequence(&self) -> u64 {
        self.journal.len() as u64
    }

    /// The plan of an execution.
    fn plan(&self, record: &Record) -> Result<&Arc<Plan>, Violation> {
        match self.plans.get(&record.submitted.definition) {
            Some(plan) => Ok(plan),
            None => violated("definitions are known", record.submitted.definition.to_string()),
        }
    }

    /// What executions are doing.
    pub fn phases(&self) -> Phases {
        let mut phases = Phases::NONE;
        let archives =
            self.records.iter().any(|(id, record)| record.end.is_some() && !self.reference.has_forgotten(*id));
        if archives {
            phases = phases.and(Phase::Record);
        }
        for execution in self.running.iter().filter_map(|id| self.reference.execution(*id)) {
            let view = execution.view();
            phases = match view.phase {
                ExecutionPhase::Compensating => phases.and(Phase::Compensate),
                ExecutionPhase::Finalizing => phases.and(Phase::Finally),
                ExecutionPhase::Stopping => phases.and(Phase::Cancel),
                ExecutionPhase::Running | ExecutionPhase::Aggregating | ExecutionPhase::Ended => phases,
            };
            if !view.resumes.is_empty() {
                phases = phases.and(Phase::Resume);
            }
            let waits = view.steps.iter().any(|s| s.status == millstream_model::view::StepStatus::Retrying);
            if waits {
                phases = phases.and(Phase::Backoff);
            }
        }
        phases
    }

    /// What a process is doing beside what is on its way.
    pub fn phases_of(&self, life: Life, workers: &BTreeMap<u8, Worker>) -> Phases {
        match life.node {
            Node::Coordinator(_) => self.phases(),
            Node::Worker(index) => workers.get(&index).map_or(Phases::NONE, Worker::phases),
        }
    }
}

/// Whether an outcome changed the state.
fn is_accepted(outcome: &Outcome) -> bool {
    *outcome == Outcome::Accepted
}

/// One line about an execution.
fn about(entry: &Entry) -> String {
    millstream_engine::render::entry(entry)
}
