//! Snapshots of partitions, and where the newest one is.
//!
//! A snapshot is an object that is written once; the pointer to it is a record beside the leases that is replaced by
//! compare-and-set and never runs out.

use bytes::Bytes;
use millstream_model::hash::ContentHash;
use millstream_model::ids::Partition;
use millstream_model::snapshot::SnapshotPointer;

use crate::bucket::{Expected, Newest, decode, in_bucket};
use crate::leases::LeaseError;
use crate::{Broker, PayloadError, StoreError};

impl Broker {
    /// Stores a snapshot under a name that is its own. Storing the same again changes nothing; another object of that
    /// name is an error, because a pointer may lead to it.
    pub async fn put_snapshot(&self, object: &str, bytes: Bytes) -> Result<(), PayloadError> {
        self.put_object(&self.names().snapshots(), object, ContentHash::of(&bytes), bytes).await
    }

    /// The snapshot that a pointer leads to, checked against its hash.
    pub async fn get_snapshot(&self, pointer: &SnapshotPointer) -> Result<Bytes, PayloadError> {
        let store = self.names().snapshots();
        self.get_object(&store, &pointer.object, pointer.hash, pointer.size).await.map(Bytes::from)
    }

    /// Removes a snapshot. One that is not there is removed already.
    pub async fn delete_snapshot(&self, object: &str) -> Result<(), PayloadError> {
        self.delete_object(&self.names().snapshots(), object).await
    }

    /// The names of the snapshots that are stored, whether a pointer leads to them or not.
    pub async fn snapshot_objects(&self) -> Result<Vec<String>, PayloadError> {
        let store = self.names().snapshots();
        self.object_names(&store).await.map_err(|source| PayloadError::Store { name: store, source })
    }

    /// Where the newest snapshot of a partition is, and the pointer's revision.
    pub async fn snapshot_pointer(&self, partition: Partition) -> Result<Option<(SnapshotPointer, u64)>, StoreError> {
        let bucket = self.names().leases();
        let key = self.names().snapshot_pointer(partition);
        match self.newest(&bucket, &key).await.map_err(in_bucket(&bucket))? {
            Newest::Record(record) => decode(&bucket, &record).map(|pointer| Some((pointer, record.revision))),
            Newest::Marker { .. } | Newest::Nothing => Ok(None),
        }
    }

    /// Writes where the newest snapshot is over revision `expected` of the pointer (`None`: there is none), and
    /// answers with the new revision.
    pub async fn put_snapshot_pointer(
        &self,
        partition: Partition,
        pointer: &SnapshotPointer,
        expected: Option<u64>,
    ) -> Result<u64, LeaseError> {
        let key = self.names().snapshot_pointer(partition);
        let value = serde_json::to_vec(pointer).expect("a pointer always has a JSON form");
        match expected {
            None => self.create_in_leases(&key, value.into(), None).await,
            Some(revision) => self.replace_in_leases(&key, value.into(), Expected::Revision(revision), None).await,
        }
    }
}
