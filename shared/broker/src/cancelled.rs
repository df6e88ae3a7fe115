//! Cancelled executions: whose tasks are not to be started any more.

use std::time::Duration;

use millstream_model::ids::ExecutionId;
use tracing::warn;

use crate::bucket::{Expected, in_bucket};
use crate::watch::{Change, Watch};
use crate::{Broker, StoreError};

/// Watches cancelled executions, across reconnects.
pub struct CancelledWatch {
    bucket: String,
    watch: Watch,
}

impl Broker {
    /// Tells every worker, and those to come within `ttl`, not to start tasks of an execution whose activation is
    /// less than `below`: an execution that is resumed later goes on with higher ones.
    pub async fn mark_cancelled(&self, execution: ExecutionId, below: u32, ttl: Duration) -> Result<(), StoreError> {
        let bucket = self.names().cancelled();
        let key = self.names().cancelled_execution(execution);
        let put = self.put_record(&bucket, &key, below.to_string().into(), Expected::Anything, Some(ttl)).await;
        put.map(drop).map_err(in_bucket(&bucket))
    }

    /// Watches cancelled executions: those that are there, then every new one.
    pub fn watch_cancelled(&self) -> CancelledWatch {
        let bucket = self.names().cancelled();
        CancelledWatch { watch: Watch::new(self.clone(), bucket.clone(), "*".to_owned()), bucket }
    }
}

impl CancelledWatch {
    /// The next one, with the activation its tasks must have at least to be started. Dropping the future loses
    /// nothing; after an error it goes on trying with the next call.
    pub async fn next(&mut self) -> Result<(ExecutionId, u32), StoreError> {
        loop {
            let Change::Put { key, value, .. } = self.watch.next().await.map_err(in_bucket(&self.bucket))? else {
                continue;
            };
            match (key.parse(), bound(&value)) {
                (Ok(execution), Ok(below)) => return Ok((execution, below)),
                (Err(_), _) => warn!(key, "not the mark of an execution"),
                // A mark of a newer version must not end what it does not speak of.
                (Ok(_), Err(error)) => warn!(key, %error, "not a mark that this build can read"),
            }
        }
    }
}

/// A mark without a bound speaks of the whole execution.
fn bound(value: &[u8]) -> Result<u32, serde_json::Error> {
    if value.is_empty() { Ok(u32::MAX) } else { serde_json::from_slice(value) }
}

#[cfg(test)]
mod tests {
    use super::bound;

    #[test]
    fn a_mark_is_a_number_and_an_empty_one_speaks_of_everything() {
        assert_eq!(bound(b"4").ok(), Some(4));
        assert_eq!(bound(b"").ok(), Some(u32::MAX));
        assert_eq!(bound(b"{}").ok(), None);
    }
}
