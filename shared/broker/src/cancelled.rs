//! Cancelled executions: whose tasks are not to be started any more.

use std::time::Duration;

use bytes::Bytes;
use millstream_model::ids::ExecutionId;

use crate::bucket::{Expected, in_bucket};
use crate::watch::{Change, Watch};
use crate::{Broker, StoreError};

/// Watches cancelled executions, across reconnects.
pub struct CancelledWatch {
    bucket: String,
    watch: Watch,
}

impl Broker {
    /// Tells every worker, and those to come within `ttl`, not to start tasks of an execution.
    pub async fn mark_cancelled(&self, execution: ExecutionId, ttl: Duration) -> Result<(), StoreError> {
        let bucket = self.names().cancelled();
        let key = self.names().cancelled_execution(execution);
        let put = self.put_record(&bucket, &key, Bytes::new(), Expected::Anything, Some(ttl)).await;
        put.map(drop).map_err(in_bucket(&bucket))
    }

    /// Watches cancelled executions: those that are there, then every new one.
    pub fn watch_cancelled(&self) -> CancelledWatch {
        let bucket = self.names().cancelled();
        CancelledWatch { watch: Watch::new(self.clone(), bucket.clone(), "*".to_owned()), bucket }
    }
}

impl CancelledWatch {
    /// The next one. Dropping the future loses nothing; after an error it goes on trying with the next call.
    pub async fn next(&mut self) -> Result<ExecutionId, StoreError> {
        loop {
            match self.watch.next().await.map_err(in_bucket(&self.bucket))? {
                Change::Put { key, .. } => {
                    if let Ok(execution) = key.parse() {
                        return Ok(execution);
                    }
                }
                Change::Deleted { .. } | Change::InitialDone => {}
            }
        }
    }
}
