//! Leases of partitions and the presence of coordinators: records that run out unless they are renewed.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use millstream_model::ids::{NodeId, Partition};
use millstream_model::lease::{CoordinatorPresence, Lease};
use serde::de::DeserializeOwned;
use tokio::time::Sleep;
use tracing::warn;

use crate::bucket::{Expected, Newest, decode, in_bucket};
use crate::feed::back_off;
use crate::request::{RequestError, code};
use crate::watch::{Change, Watch};
use crate::{Broker, StoreError};

/// How long the store remembers that a lease was given back or a coordinator said goodbye.
const WITHDRAWN_TTL: Duration = Duration::from_secs(15);
/// Attempts to write a record while others write the same.
const ATTEMPTS: u32 = 5;
/// Pause before a bucket that cannot be watched is tried again.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// Why a lease, or a record beside it, is not as the caller wants it.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another revision is there: somebody else's, or the caller's own since a call whose answer was lost; or none is
    /// there, because it ran out.
    #[error("it is at another revision")]
    Taken,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LeaseError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Taken => false,
            Self::Store(source) => source.is_retryable(),
        }
    }
}

/// What a watcher of leases is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseChange {
    /// Who is to own a partition, and the lease's revision; `None` when it was given back or ran out.
    Lease(Partition, Option<(Lease, u64)>),
    /// A coordinator's presence; `None` when it said goodbye or was not heard of for too long.
    Coordinator(NodeId, Option<CoordinatorPresence>),
    /// Everything that was there when watching began was told; comes once.
    InitialDone,
}

/// Watches leases and coordinators, across reconnects.
pub struct LeaseWatch {
    broker: Broker,
    watch: Watch,
    /// Runs after the bucket could not be watched.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Broker {
    /// Takes the lease of a partition for `ttl`, in whole seconds, and answers with its revision.
    ///
    /// With `expected` `None` nobody may hold it; otherwise it is renewed or taken over from that revision.
    pub async fn take_lease(
        &self,
        partition: Partition,
        lease: &Lease,
        expected: Option<u64>,
        ttl: Duration,
    ) -> Result<u64, LeaseError> {
        let key = self.names().lease(partition);
        let value = serde_json::to_vec(lease).expect("a lease always has a JSON form");
        match expected {
            None => self.create_in_leases(&key, value.into(), Some(ttl)).await,
            Some(revision) => self.replace_in_leases(&key, value.into(), Expected::Revision(revision), Some(ttl)).await,
        }
    }

    /// Gives a lease back. When it is at another revision than the caller's, nothing changes.
    pub async fn release_lease(&self, partition: Partition, revision: u64) -> Result<(), LeaseError> {
        let (bucket, key) = (self.names().leases(), self.names().lease(partition));
        let deleted = self.delete_record(&bucket, &key, Expected::Revision(revision), Some(WITHDRAWN_TTL)).await;
        deleted.map_err(|error| self.lease_error(error))
    }

    /// Says that a coordinator is there, for the next `ttl`; call it again before that has passed.
    pub async fn announce_coordinator(&self, presence: &CoordinatorPresence, ttl: Duration) -> Result<(), StoreError> {
        let bucket = self.names().leases();
        let value = serde_json::to_vec(presence).expect("a presence always has a JSON form");
        let key = self.names().coordinator(&presence.node);
        let put = self.put_record(&bucket, &key, value.into(), Expected::Anything, Some(ttl)).await;
        put.map(drop).map_err(in_bucket(&bucket))
    }

    /// Says that a coordinator is gone.
    pub async fn withdraw_coordinator(&self, node: &NodeId) -> Result<(), StoreError> {
        let bucket = self.names().leases();
        let key = self.names().coordinator(node);
        let gone = self.delete_record(&bucket, &key, Expected::Anything, Some(WITHDRAWN_TTL)).await;
        gone.map_err(in_bucket(&bucket))
    }

    /// The coordinators that are there, by name.
    pub async fn coordinators(&self) -> Result<Vec<CoordinatorPresence>, StoreError> {
        let bucket = self.names().leases();
        let records = self.records(&bucket, "coordinator.*").await.map_err(in_bucket(&bucket))?;
        let mut coordinators = Vec::with_capacity(records.len());
        for record in &records {
            match decode::<CoordinatorPresence>(&bucket, record) {
                Ok(coordinator) => coordinators.push(coordinator),
                // A coordinator of a newer version must not hide the others.
                Err(error) => warn!(%error, "not a coordinator's presence"),
            }
        }
        coordinators.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(coordinators)
    }

    /// Watches leases and coordinators: those that are there, then every change.
    pub fn watch_leases(&self) -> LeaseWatch {
        let watch = Watch::new(self.clone(), self.names().leases(), ">".to_owned());
        LeaseWatch { broker: self.clone(), watch, pause: None }
    }

    /// Writes a record that must not be there; a marker that it was there does not count.
    pub(crate) async fn create_in_leases(
        &self,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<u64, LeaseError> {
        let bucket = self.names().leases();
        let mut expected = 0;
        for _ in 0..ATTEMPTS {
            match self.replace_in_leases(key, value.clone(), Expected::Revision(expected), ttl).await {
                Err(LeaseError::Taken) => {}
                outcome => return outcome,
            }
            match self.newest(&bucket, key).await.map_err(in_bucket(&bucket))? {
                Newest::Record(_) => return Err(LeaseError::Taken),
                Newest::Marker { revision } => expected = revision,
                Newest::Nothing => expected = 0,
            }
        }
        Err(LeaseError::Taken)
    }

    /// Writes a record over a revision of it. A write that collides with another one in flight is tried again.
    pub(crate) async fn replace_in_leases(
        &self,
        key: &str,
        value: Bytes,
        expected: Expected,
        ttl: Option<Duration>,
    ) -> Result<u64, LeaseError> {
        let bucket = self.names().leases();
        let mut attempt = 1;
        loop {
            match self.put_record(&bucket, key, value.clone(), expected, ttl).await {
                Err(error) if error.code() == Some(code::WRONG_LAST_SEQUENCE_CONSTANT) && attempt < ATTEMPTS => {
                    back_off(attempt).await;
                    attempt += 1;
                }
                outcome => return outcome.map_err(|error| self.lease_error(error)),
            }
        }
    }

    fn lease_error(&self, error: RequestError) -> LeaseError {
        match error.code() {
            Some(code::WRONG_LAST_SEQUENCE) => LeaseError::Taken,
            Some(_) | None => LeaseError::Store(in_bucket(&self.names().leases())(error)),
        }
    }
}

impl LeaseWatch {
    /// The next change. Dropping the future loses nothing.
    pub async fn next(&mut self) -> LeaseChange {
        loop {
            if let Some(pause) = &mut self.pause {
                pause.await;
                self.pause = None;
            }
            match self.watch.next().await {
                Ok(change) => {
                    if let Some(change) = self.understand(change) {
                        return change;
                    }
                }
                Err(error) => {
                    warn!(%error, "leases cannot be watched; trying again");
                    self.pause = Some(Box::pin(tokio::time::sleep(WATCH_PAUSE)));
                }
            }
        }
    }

    /// What a change of the bucket says of leases and coordinators; `None` when it is of something else.
    fn understand(&self, change: Change) -> Option<LeaseChange> {
        let (key, put) = match change {
            Change::Put { key, value, revision } => (key, Some((value, revision))),
            Change::Deleted { key } => (key, None),
            Change::InitialDone => return Some(LeaseChange::InitialDone),
        };
        let names = self.broker.names();
        let (_, of) = key.split_once('.')?;
        if let Some(partition) = of.parse().ok().map(Partition)
            && names.lease(partition) == key
        {
            return match put {
                None => Some(LeaseChange::Lease(partition, None)),
                Some((value, revision)) => {
                    let lease = read(&key, &value)?;
                    Some(LeaseChange::Lease(partition, Some((lease, revision))))
                }
            };
        }
        if let Ok(node) = of.parse::<NodeId>()
            && names.coordinator(&node) == key
        {
            return match put {
                None => Some(LeaseChange::Coordinator(node, None)),
                Some((value, _)) => Some(LeaseChange::Coordinator(node, Some(read(&key, &value)?))),
            };
        }
        None
    }
}

fn read<T: DeserializeOwned>(key: &str, value: &[u8]) -> Option<T> {
    match serde_json::from_slice(value) {
        Ok(value) => Some(value),
        Err(error) => {
            // A record of a newer version must not hide the others.
            warn!(key, %error, "not a record that this build reads");
            None
        }
    }
}
