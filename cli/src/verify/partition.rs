//! One partition: its snapshot folded, its journal folded behind that.

use std::time::Duration;

use anyhow::Context as _;
use millstream_broker::{Broker, JournalMessage, JournalState, ReadError, StoreError};
use millstream_engine::outcome::Halt;
use millstream_engine::{Execution, Origin, Partition as Folding, Want};
use millstream_model::batch::Batch;
use millstream_model::hash::ContentHash;
use millstream_model::history::Record;
use millstream_model::ids::{ExecutionId, Partition};
use millstream_model::names::JournalSubject;
use millstream_model::position::Position;
use millstream_model::snapshot::{Snapshot, SnapshotPointer};
use millstream_model::time::Timestamp;
use millstream_model::transcript::Transcribed;

use super::plans::Plans;
use super::records::{self, Unfoldable};
use super::{Counts, Finding, Kind, Known, Report, patiently};

/// How often a partition is read anew because its owner took a snapshot meanwhile.
const ATTEMPTS: u32 = 5;
/// How long the next message of a journal may take that is there.
const MESSAGE_PATIENCE: Duration = Duration::from_secs(30);

/// A partition as it was at some message of its journal.
pub(super) struct Folded {
    pub partition: Partition,
    pub state: Folding,
    /// Sequence of the last message that is in it, and when that was stored.
    pub sequence: u64,
    pub time: Timestamp,
    pub entries: u64,
    pub messages: u64,
}

/// Why a fold ended before its time.
enum Ended {
    /// The owner trimmed the journal while it was read.
    Overtaken,
    Found(Finding),
    Failed(anyhow::Error),
}

impl From<Finding> for Ended {
    fn from(finding: Finding) -> Self {
        Self::Found(finding)
    }
}

impl From<anyhow::Error> for Ended {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Folds a partition up to the message that was its last when this began. `None` when that cannot be done, which is
/// in the report.
pub(super) async fn fold(
    broker: &Broker,
    plans: &mut Plans,
    partition: Partition,
    report: &mut Report,
) -> anyhow::Result<Option<Folded>> {
    for _ in 0..ATTEMPTS {
        match try_fold(broker, plans, partition, report).await {
            Ok(folded) => return Ok(Some(folded)),
            Err(Ended::Overtaken) => {}
            Err(Ended::Found(finding)) => {
                report.add(finding.partition(partition));
                return Ok(None);
            }
            Err(Ended::Failed(error)) => return Err(error),
        }
    }
    anyhow::bail!("partition {partition} was trimmed {ATTEMPTS} times while it was read; try again")
}

async fn try_fold(
    broker: &Broker,
    plans: &mut Plans,
    partition: Partition,
    report: &mut Report,
) -> Result<Folded, Ended> {
    let journal = state_of(broker, partition).await?;
    let pointer = pointer(broker, partition).await?;
    let mut folded = match &pointer {
        None if journal.first_sequence > 1 => {
            let first = journal.first_sequence;
            let message = format!("the journal begins at message {first}, and there is no snapshot of what was before");
            return Err(Finding::new(Kind::JournalGap, message).into());
        }
        None => Folded::empty(partition),
        Some(pointer) => {
            check_continuity(broker, partition, &journal, pointer).await?;
            restore(broker, plans, partition, pointer, report).await?
        }
    };
    match folded.go_on(broker, plans, journal.last_sequence).await {
        Ok(()) => {}
        // The owner may have taken a newer snapshot and purged what lies before it.
        Err(Ended::Found(finding)) if finding.kind == Kind::JournalGap => {
            let newer = self::pointer(broker, partition).await?;
            return Err(if newer == pointer { Ended::Found(finding) } else { Ended::Overtaken });
        }
        Err(ended) => return Err(ended),
    }
    report.counts.snapshots += u64::from(pointer.is_some());
    Ok(folded)
}

async fn state_of(broker: &Broker, partition: Partition) -> Result<JournalState, Ended> {
    match broker.journal_state(partition).await {
        Err(ReadError::NoStream { stream }) => {
            Err(Finding::new(Kind::JournalMissing, format!("the stream {stream} is missing")).into())
        }
        Err(error) if !error.is_retryable() => Err(Ended::Failed(error.into())),
        Ok(state) => Ok(state),
        Err(_) => {
            let ask = async || broker.journal_state(partition).await;
            Ok(patiently("a journal", ask, ReadError::is_retryable).await?)
        }
    }
}

async fn pointer(broker: &Broker, partition: Partition) -> anyhow::Result<Option<SnapshotPointer>> {
    let ask = async || broker.snapshot_pointer(partition).await;
    let found = patiently("where a snapshot is", ask, StoreError::is_retryable).await?;
    Ok(found.map(|(pointer, _)| pointer))
}

/// A journal that does not continue its snapshot went backwards.
async fn check_continuity(
    broker: &Broker,
    partition: Partition,
    journal: &JournalState,
    pointer: &SnapshotPointer,
) -> Result<(), Ended> {
    let sequence = pointer.sequence;
    let regressed = |reason: String| {
        let message = format!("the journal does not continue the snapshot after message {sequence}: {reason}");
        Ended::from(Finding::new(Kind::JournalRegressed, message).position(Position::start_of(sequence)))
    };
    if journal.created != pointer.stream_created {
        let (then, since) = (pointer.stream_created, journal.created);
        return Err(regressed(format!("its stream was created at {since}, that of the snapshot at {then}")));
    }
    if journal.last_sequence < sequence {
        return Err(regressed(format!("it ends at message {}", journal.last_sequence)));
    }
    let ask = async || broker.journal_message(partition, sequence).await;
    match patiently("a message of the journal", ask, ReadError::is_retryable).await? {
        None if self::pointer(broker, partition).await?.as_ref() != Some(pointer) => Err(Ended::Overtaken),
        None => Err(regressed("that message is missing".to_owned())),
        Some(message) if ContentHash::of(&message.payload) != pointer.message => {
            Err(regressed("that message is another one".to_owned()))
        }
        Some(_) => Ok(()),
    }
}

/// Folds every execution of a snapshot, and compares the state with the one that was recorded.
async fn restore(
    broker: &Broker,
    plans: &mut Plans,
    partition: Partition,
    pointer: &SnapshotPointer,
    report: &mut Report,
) -> Result<Folded, Ended> {
    let unreadable = |reason: String| {
        let message = format!("snapshot {}: {reason}", pointer.object);
        Ended::from(Finding::new(Kind::SnapshotUnreadable, message))
    };
    let ask = async || broker.get_snapshot(pointer).await;
    let object = match patiently("a snapshot", ask, |error| error.is_retryable()).await {
        Ok(object) => object,
        Err(_) if self::pointer(broker, partition).await?.as_ref() != Some(pointer) => return Err(Ended::Overtaken),
        Err(error) => return Err(unreadable(format!("{:#}", error.root_cause()))),
    };
    let snapshot = Snapshot::decode(&object).map_err(|error| unreadable(error.to_string()))?;
    drop(object);
    let mut executions = Vec::with_capacity(snapshot.executions.len());
    let mut entries = 0;
    for (id, transcript) in &snapshot.executions {
        let transcript = Transcribed::read(&transcript.finish());
        let transcript = transcript.map_err(|error| unreadable(format!("execution {id}: {error}")))?;
        entries += transcript.lines.len() as u64;
        match records::refold(plans, &transcript).await? {
            Ok(execution) => executions.push(execution),
            Err(unfoldable) => return Err(unfoldable.finding(Kind::Halted).execution(*id).into()),
        }
    }
    let state = Folding::restore(&snapshot, executions).map_err(|halt| unreadable(halt.to_string()))?;
    let found = state.state_hash();
    if found != pointer.state {
        let (fold, recorded) = (state.fold_rev(), pointer.state);
        let message = format!(
            "snapshot {} folds to state {found} with this build; {} recorded {recorded} under fold revision {fold}",
            pointer.object, pointer.taken_by
        );
        let finding = Finding::new(Kind::SnapshotState, message).partition(partition);
        report.add(finding.position(snapshot.head.applied));
    }
    Ok(Folded { partition, state, sequence: pointer.sequence, time: pointer.time, entries, messages: 0 })
}

impl Folded {
    fn empty(partition: Partition) -> Self {
        let time = Timestamp::default();
        Self { partition, state: Folding::default(), sequence: 0, time, entries: 0, messages: 0 }
    }

    /// Folds on to the message `last`.
    async fn go_on(&mut self, broker: &Broker, plans: &mut Plans, last: u64) -> Result<(), Ended> {
        if self.sequence >= last {
            return Ok(());
        }
        let from = self.sequence + 1;
        let ask = async || broker.read_journal(self.partition, from).await;
        let mut reader = patiently("a journal", ask, ReadError::is_retryable).await?;
        while self.sequence < last {
            let next = tokio::time::timeout(MESSAGE_PATIENCE, reader.next()).await;
            let message = match next {
                Ok(message) => message.context("a journal cannot be read")?,
                Err(_) => {
                    let message = format!("messages {} to {last} are missing", self.sequence + 1);
                    return Err(Finding::new(Kind::JournalGap, message).into());
                }
            };
            if message.sequence != self.sequence + 1 {
                let message = format!("the journal skips from message {} to {}", self.sequence, message.sequence);
                let finding = Finding::new(Kind::JournalGap, message);
                return Err(finding.position(Position::start_of(self.sequence + 1)).into());
            }
            self.message(broker, plans, &message).await?;
        }
        Ok(())
    }

    /// Folds on to the end of the journal, as that is known to its leader.
    pub(super) async fn catch_up(&mut self, broker: &Broker, plans: &mut Plans) -> anyhow::Result<Option<Finding>> {
        let outcome = match state_of(broker, self.partition).await {
            Ok(journal) => self.go_on(broker, plans, journal.last_sequence).await,
            Err(ended) => Err(ended),
        };
        match outcome {
            Ok(()) | Err(Ended::Overtaken) => Ok(None),
            Err(Ended::Found(finding)) => Ok(Some(finding.partition(self.partition))),
            Err(Ended::Failed(error)) => Err(error),
        }
    }

    async fn message(&mut self, broker: &Broker, plans: &mut Plans, message: &JournalMessage) -> Result<(), Ended> {
        (self.sequence, self.time) = (message.sequence, message.time);
        self.messages += 1;
        let origin = match &message.subject {
            Some(JournalSubject::Control) => Origin::Control,
            Some(JournalSubject::Result(capability)) => Origin::Result(capability),
            None => return Ok(()),
        };
        let at = |index: usize| Position {
            sequence: message.sequence,
            index: u16::try_from(index).expect("a batch has at most 256 entries"),
        };
        let unreadable = |index: usize, reason: String| {
            let message = format!("the journal has an entry that this build cannot read: {reason}");
            Ended::from(Finding::new(Kind::Halted, message).position(at(index)))
        };
        let entries = match Batch::decode(&message.payload) {
            Ok(batch) => batch.entries,
            // What workers write wrongly spoils only itself.
            Err(_) if origin != Origin::Control => return Ok(()),
            Err(error) => return Err(unreadable(0, error.to_string())),
        };
        for (index, entry) in entries.into_iter().enumerate() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(_) if origin != Origin::Control => continue,
                Err(error) => return Err(unreadable(index, error.to_string())),
            };
            self.entries += 1;
            if let Some(want) = self.state.wants(origin, &entry)
                && let Err(finding) = self.bring(broker, plans, want).await?
            {
                return Err(finding.position(at(index)).into());
            }
            let execution = entry.execution();
            if let Err(halt) = self.state.apply(at(index), message.time, origin, entry) {
                return Err(halted(&halt, execution).position(at(index)).into());
            }
        }
        Ok(())
    }

    async fn bring(&mut self, broker: &Broker, plans: &mut Plans, want: Want) -> anyhow::Result<Result<(), Finding>> {
        let brought = match want {
            Want::Definition(hash) => match plans.get(hash).await? {
                Ok(plan) => {
                    self.state.install(plan);
                    return Ok(Ok(()));
                }
                Err(useless) => return Ok(Err(Finding::new(Kind::Definition, useless.to_string()))),
            },
            Want::Parked(id, record) => match parked(broker, plans, id, record).await? {
                Ok(execution) => {
                    self.state.unpark(execution);
                    return Ok(Ok(()));
                }
                Err(finding) => Err(finding),
            },
            Want::Transcript(id, reference) => match records::stored(broker, id, reference).await? {
                Ok(bytes) => records::refold_bytes(plans, &bytes).await?,
                Err(unfoldable) => Err(unfoldable),
            }
            .map_err(|unfoldable| unfoldable.finding(Kind::Halted).execution(id)),
        };
        Ok(brought.map(|execution| self.state.recall(execution)))
    }

    /// What every execution says of itself.
    pub(super) fn contradictions(&self, report: &mut Report) {
        for execution in self.state.executions() {
            if let Some(contradiction) = execution.contradiction() {
                let finding = Finding::new(Kind::Contradiction, contradiction);
                report.add(finding.partition(self.partition).execution(execution.id()));
            }
        }
    }

    /// Keeps of the partition what the history is compared with.
    pub(super) fn remember(&self, known: &mut Known, counts: &mut Counts) {
        counts.messages += self.messages;
        counts.entries += self.entries;
        for execution in self.state.executions() {
            counts.executions += 1;
            known.live.insert(execution.id());
        }
        for parked in self.state.parked() {
            counts.parked += 1;
            known.parked.insert(parked.execution, parked.record);
        }
        known.read_until.insert(self.partition, self.time);
    }
}

fn halted(halt: &Halt, execution: Option<ExecutionId>) -> Finding {
    let finding = Finding::new(Kind::Halted, halt.to_string());
    match execution {
        Some(execution) => finding.execution(execution),
        None => finding,
    }
}

/// A parked execution, from its record.
async fn parked(
    broker: &Broker,
    plans: &mut Plans,
    id: ExecutionId,
    record: u64,
) -> anyhow::Result<Result<Box<Execution>, Finding>> {
    let missing = |what: String| Finding::new(Kind::ParkedMissing, what).execution(id).record(record);
    let ask = async || broker.history_message(record).await;
    let Some(message) = patiently("the history", ask, ReadError::is_retryable).await? else {
        return Ok(Err(missing("the record of a parked execution is gone".to_owned())));
    };
    let kept = match Record::decode(&message.payload) {
        Ok(Record::Parked(kept) | Record::Ended(kept)) if kept.summary.execution == id => kept,
        Ok(_) => return Ok(Err(missing("the record of a parked execution is of another one".to_owned()))),
        Err(error) => return Ok(Err(missing(error.to_string()))),
    };
    let folded = records::execution_of(broker, plans, &kept).await?;
    Ok(folded.map_err(|unfoldable: Unfoldable| unfoldable.finding(Kind::Halted).execution(id).record(record)))
}
