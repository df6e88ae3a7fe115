//! Presence: which workers are there.

use std::time::Duration;

use millstream_model::ids::WorkerId;
use millstream_model::view::WorkerPresence;
use tracing::warn;

use crate::bucket::{Expected, decode, in_bucket};
use crate::{Broker, StoreError};

/// How long the store remembers that a worker said goodbye.
const WITHDRAWN_TTL: Duration = Duration::from_secs(15);

impl Broker {
    /// Says that a worker is there, for the next `ttl`; call it again before that has passed.
    pub async fn announce(&self, presence: &WorkerPresence, ttl: Duration) -> Result<(), StoreError> {
        let bucket = self.names().workers();
        let value = serde_json::to_vec(presence).expect("a presence always has a JSON form");
        let key = self.names().worker(&presence.id);
        let put = self.put_record(&bucket, &key, value.into(), Expected::Anything, Some(ttl)).await;
        put.map(drop).map_err(in_bucket(&bucket))
    }

    /// Says that a worker is gone.
    pub async fn withdraw(&self, worker: &WorkerId) -> Result<(), StoreError> {
        let bucket = self.names().workers();
        let key = self.names().worker(worker);
        let gone = self.delete_record(&bucket, &key, Expected::Anything, Some(WITHDRAWN_TTL)).await;
        gone.map_err(in_bucket(&bucket))
    }

    /// The workers that are there, by id.
    pub async fn workers(&self) -> Result<Vec<WorkerPresence>, StoreError> {
        let bucket = self.names().workers();
        let records = self.records(&bucket, "*").await.map_err(in_bucket(&bucket))?;
        let mut workers = Vec::with_capacity(records.len());
        for record in &records {
            match decode::<WorkerPresence>(&bucket, record) {
                Ok(worker) => workers.push(worker),
                // A worker of a newer version must not hide the others.
                Err(error) => warn!(%error, "not a worker's presence"),
            }
        }
        workers.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(workers)
    }
}
