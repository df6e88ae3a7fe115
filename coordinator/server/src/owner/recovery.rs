//! Beginning with a snapshot: loaded, checked against the journal, and folded again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use millstream_broker::{Broker, JournalState};
use millstream_engine::{Execution, Halt, Partition as Folded, refold};
use millstream_model::hash::ContentHash;
use millstream_model::ids::Partition;
use millstream_model::plan::Plan;
use millstream_model::snapshot::{Snapshot, SnapshotPointer, UnreadableSnapshot};
use millstream_model::transcript::{Transcribed, UnreadableTranscript};

use super::core::Restored;
use super::reading::plan;
use super::{Ended, RETRY};
use crate::catalog::Catalog;

/// Why a snapshot is of no use.
#[derive(Debug, thiserror::Error)]
pub enum UnusableSnapshot {
    #[error(transparent)]
    Snapshot(#[from] UnreadableSnapshot),
    #[error("a transcript in it cannot be read: {0}")]
    Transcript(#[from] UnreadableTranscript),
    #[error(transparent)]
    Halt(#[from] Halt),
    #[error("folding it was aborted")]
    Aborted,
}

/// The partition of the newest snapshot, `None` when there is none, and the journal as it was seen after that was known.
///
/// Whoever owns the partition at the moment may store another snapshot, cut the journal and delete the old one: what is
/// wrong with a snapshot counts only while the pointer still leads to it.
pub async fn restore(
    broker: &Broker,
    catalog: &Catalog,
    partition: Partition,
) -> Result<(JournalState, Option<Restored>), Ended> {
    let mut newest = pointer(broker, partition).await?;
    loop {
        let journal = journal_state(broker, partition).await?;
        let restored = restore_from(broker, catalog, partition, &journal, newest.as_ref()).await;
        let error = match restored {
            Ok(restored) => return Ok((journal, restored)),
            Err(error) => error,
        };
        let again = pointer(broker, partition).await?;
        if again == newest {
            return Err(error);
        }
        newest = again;
    }
}

async fn journal_state(broker: &Broker, partition: Partition) -> Result<JournalState, Ended> {
    loop {
        match broker.journal_state(partition).await {
            Ok(state) => return Ok(state),
            Err(error) if error.is_retryable() => tokio::time::sleep(RETRY).await,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn restore_from(
    broker: &Broker,
    catalog: &Catalog,
    partition: Partition,
    journal: &JournalState,
    pointer: Option<&SnapshotPointer>,
) -> Result<Option<Restored>, Ended> {
    let Some(pointer) = pointer.cloned() else {
        return if journal.first_sequence > 1 {
            Err(Ended::Trimmed { first: journal.first_sequence })
        } else {
            Ok(None)
        };
    };
    check_journal(broker, partition, journal, &pointer).await?;
    let object = loop {
        match broker.get_snapshot(&pointer).await {
            Ok(object) => break object,
            Err(error) if error.is_retryable() => tokio::time::sleep(RETRY).await,
            Err(source) => return Err(Ended::Snapshot { object: pointer.object, source: Box::new(source) }),
        }
    };
    let unusable = |source| Ended::UnusableSnapshot { object: pointer.object.clone(), source };
    let decoded = tokio::task::spawn_blocking(move || Snapshot::decode(&object)).await;
    let snapshot = decoded.map_err(|_| unusable(UnusableSnapshot::Aborted))?.map_err(|e| unusable(e.into()))?;
    let restored = fold(catalog, snapshot, pointer.sequence).await?.map_err(unusable)?;
    if restored.partition.state_hash() != pointer.state {
        return Err(Ended::OtherState { object: pointer.object });
    }
    Ok(Some(restored))
}

async fn pointer(broker: &Broker, partition: Partition) -> Result<Option<SnapshotPointer>, Ended> {
    loop {
        match broker.snapshot_pointer(partition).await {
            Ok(found) => return Ok(found.map(|(pointer, _)| pointer)),
            Err(error) if error.is_retryable() => tokio::time::sleep(RETRY).await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// A journal that does not continue the snapshot went backwards: a disk lost its end, or a backup was restored.
async fn check_journal(
    broker: &Broker,
    partition: Partition,
    journal: &JournalState,
    pointer: &SnapshotPointer,
) -> Result<(), Ended> {
    let regressed = |reason: String| Ended::Regressed { sequence: pointer.sequence, reason };
    if journal.created != pointer.stream_created {
        let (then, now) = (pointer.stream_created, journal.created);
        return Err(regressed(format!("its stream was created at {now:?}, then it was that of {then:?}")));
    }
    if journal.last_sequence < pointer.sequence {
        return Err(regressed(format!("it ends at message {}", journal.last_sequence)));
    }
    let message = loop {
        match broker.journal_message(partition, pointer.sequence).await {
            Ok(message) => break message,
            Err(error) if error.is_retryable() => tokio::time::sleep(RETRY).await,
            Err(error) => return Err(error.into()),
        }
    };
    match message {
        None => Err(regressed("that message is missing".to_owned())),
        Some(message) if ContentHash::of(&message.payload) != pointer.message => {
            Err(regressed("that message is another one".to_owned()))
        }
        Some(_) => Ok(()),
    }
}

/// Folds every execution of a snapshot from its transcript.
async fn fold(
    catalog: &Catalog,
    snapshot: Snapshot,
    sequence: u64,
) -> Result<Result<Restored, UnusableSnapshot>, Ended> {
    let mut folding = Folding { snapshot, plans: BTreeMap::new(), executions: VecDeque::new() };
    loop {
        let folded = tokio::task::spawn_blocking(move || {
            let progress = folding.go_on();
            (folding, progress)
        });
        let Ok((went_on, progress)) = folded.await else {
            return Ok(Err(UnusableSnapshot::Aborted));
        };
        folding = went_on;
        match progress {
            Err(error) => return Ok(Err(error)),
            Ok(Some(definition)) => {
                folding.plans.insert(definition, plan(catalog, definition).await?);
            }
            Ok(None) => break,
        }
    }
    let Folding { snapshot, executions, .. } = folding;
    let partition = Folded::restore(&snapshot, executions);
    let transcripts = snapshot.executions.into_iter().collect();
    Ok(partition.map(|partition| Restored { partition, transcripts, sequence }).map_err(UnusableSnapshot::from))
}

struct Folding {
    snapshot: Snapshot,
    plans: BTreeMap<ContentHash, Arc<Plan>>,
    executions: VecDeque<Box<Execution>>,
}

impl Folding {
    /// Folds until a definition is missing, which it answers with, or all are folded.
    fn go_on(&mut self) -> Result<Option<ContentHash>, UnusableSnapshot> {
        for (_, transcript) in &self.snapshot.executions[self.executions.len()..] {
            let transcript = Transcribed::read(&transcript.finish())?;
            let (_, definition) = refold::submission(&transcript).ok_or(Halt::NoSubmission)?;
            let Some(plan) = self.plans.get(&definition) else {
                return Ok(Some(definition));
            };
            self.executions.push_back(Execution::refold(&transcript, Arc::clone(plan))?);
        }
        Ok(None)
    }
}
