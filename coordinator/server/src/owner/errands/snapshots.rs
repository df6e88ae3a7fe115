//! Snapshots on their way into the store, the cut of the journal, and how full that is.

use bytes::Bytes;
use millstream_broker::{Broker, JournalState, LeaseError};
use millstream_model::hash::ContentHash;
use millstream_model::ids::{NodeId, Partition};
use millstream_model::snapshot::SnapshotPointer;

use super::{Done, Errands, end};
use crate::owner::failure::StoreFailure;
use crate::owner::keeper::Taken;

impl Errands {
    /// Stores a snapshot and moves the pointer to it.
    pub fn store_snapshot(&self, node: NodeId, taken: Box<Taken>) {
        let (broker, partition, done) = (self.broker.clone(), self.partition, self.done.clone());
        tokio::spawn(async move {
            let stored = store(&broker, partition, node, &taken).await;
            if let Err(error) = &stored {
                tracing::warn!(%partition, %error, "a snapshot is not stored");
            }
            end(&done, Done::SnapshotStored(taken, stored));
        });
    }

    /// Cuts the journal below a message.
    pub fn trim(&self, below: u64) {
        let (broker, partition, done) = (self.broker.clone(), self.partition, self.done.clone());
        tokio::spawn(async move {
            let trimmed = broker.purge_journal(partition, below).await;
            let trimmed = trimmed.map(drop).map_err(|error| {
                tracing::warn!(%partition, %error, "the journal is not cut");
                StoreFailure::Passing { reason: error.to_string() }
            });
            end(&done, Done::Trimmed(below, trimmed));
        });
    }

    /// Looks how full the journal is.
    pub fn look_at_journal(&self) {
        let (broker, partition, done) = (self.broker.clone(), self.partition, self.done.clone());
        tokio::spawn(async move {
            if let Ok(state) = broker.journal_state(partition).await {
                end(&done, Done::Journal(state));
            }
        });
    }
}

/// Why submissions are to be refused: running work must find room for its results.
pub fn fullness(state: &JournalState) -> Option<String> {
    /// Share of the journal's limit that submissions may use.
    const SUBMISSIONS_PERCENT: u64 = 80;
    let max = state.bytes_max?;
    (state.bytes >= max / 100 * SUBMISSIONS_PERCENT)
        .then(|| format!("the journal has {} of at most {max} bytes; what runs needs the rest", state.bytes))
}

async fn store(broker: &Broker, partition: Partition, node: NodeId, taken: &Taken) -> Result<(), StoreFailure> {
    let before = broker.snapshot_pointer(partition).await?;
    if let Some((pointer, _)) = &before
        && pointer.sequence >= taken.sequence
    {
        // Another owner's serves as well.
        return Ok(());
    }
    let state = broker.journal_state(partition).await?;
    let snapshot = taken.snapshot.clone();
    let encoded = tokio::task::spawn_blocking(move || Bytes::from(snapshot.encode())).await;
    let object = encoded.map_err(|error| StoreFailure::Passing { reason: error.to_string() })?;
    let pointer = SnapshotPointer {
        object: format!("{partition}/{}-{node}", taken.sequence),
        hash: ContentHash::of(&object),
        size: object.len() as u64,
        sequence: taken.sequence,
        time: taken.time,
        message: ContentHash::of(&taken.message),
        stream_created: state.created,
        state: taken.state,
        taken_by: node,
        fold_rev: taken.fold_rev,
        executions: taken.snapshot.executions.len() as u64,
        entries: taken.snapshot.entries(),
    };
    broker.put_snapshot(&pointer.object, object).await?;
    let expected = before.as_ref().map(|(_, revision)| *revision);
    match broker.put_snapshot_pointer(partition, &pointer, expected).await {
        Ok(_) => {
            if let Some((old, _)) = before {
                delete(broker, &old.object).await;
            }
            Ok(())
        }
        // It may be the own one, written by a call whose answer was lost.
        Err(LeaseError::Taken) => match broker.snapshot_pointer(partition).await? {
            Some((found, _)) if found.object == pointer.object => Ok(()),
            Some((found, _)) => {
                delete(broker, &pointer.object).await;
                let reason = format!("another coordinator has stored one up to message {}", found.sequence);
                Err(StoreFailure::Lasting { reason })
            }
            None => Err(StoreFailure::Passing { reason: "the pointer to the newest snapshot is gone".to_owned() }),
        },
        // Whether the pointer leads to it is not known: the object stays.
        Err(LeaseError::Store(error)) => Err(error.into()),
    }
}

/// What nothing leads to is only in the way.
async fn delete(broker: &Broker, object: &str) {
    if let Err(error) = broker.delete_snapshot(object).await {
        tracing::debug!(object, %error, "a snapshot that nobody needs stays");
    }
}
