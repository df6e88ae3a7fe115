//! Claims: who may do one run. Created once, by one.

use std::time::Duration;

use millstream_model::task::Claim;
use millstream_model::time::Timestamp;

use crate::Broker;
use crate::bucket::{Expected, Newest, Record};
use crate::request::{RequestError, code};

/// How long a released claim leaves a trace; the store's shortest time to live is a second.
const RELEASED_TTL: Duration = Duration::from_secs(1);
/// Attempts to claim while others release and claim the same key.
const ATTEMPTS: u32 = 5;

/// Why it is unknown who holds a claim.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("the claim {key} cannot be made: {source}")]
    Request {
        key: String,
        #[source]
        source: RequestError,
    },
    #[error("the claim {key} is held, but not in a form this build can read: {source}")]
    Unreadable {
        key: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the claim {key} changes hands too fast")]
    Contended { key: String },
}

impl ClaimError {
    /// Whether the same call may succeed later without anybody changing anything. When the answer to a claim was
    /// lost, the next call finds it held, maybe by the caller itself.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Request { source, .. } => source.is_retryable(),
            Self::Unreadable { .. } => false,
            Self::Contended { .. } => true,
        }
    }
}

/// A claim that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimHandle {
    pub key: String,
    pub revision: u64,
}

/// Who holds the claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The caller.
    Won(ClaimHandle),
    /// Somebody, or the caller since an earlier call.
    Held {
        claim: Claim,
        /// When, by the store's clock.
        stored_at: Timestamp,
    },
}

impl Broker {
    /// Claims a key for `ttl` unless somebody holds it. The caller's own earlier claim is [`ClaimOutcome::Held`] too.
    pub async fn claim(&self, key: &str, claim: &Claim, ttl: Duration) -> Result<ClaimOutcome, ClaimError> {
        let bucket = self.names().claims();
        let value: bytes::Bytes = serde_json::to_vec(claim).expect("a claim always has a JSON form").into();
        let failed = |source| ClaimError::Request { key: key.to_owned(), source };
        let mut expected = 0;
        for _ in 0..ATTEMPTS {
            match self.put_record(&bucket, key, value.clone(), Expected::Revision(expected), Some(ttl)).await {
                Ok(revision) => return Ok(ClaimOutcome::Won(ClaimHandle { key: key.to_owned(), revision })),
                Err(error)
                    if matches!(error.code(), Some(code::WRONG_LAST_SEQUENCE | code::WRONG_LAST_SEQUENCE_CONSTANT)) => {
                }
                Err(error) => return Err(failed(error)),
            }
            match self.newest(&bucket, key).await.map_err(failed)? {
                Newest::Record(record) => return held(record),
                Newest::Marker { revision } => expected = revision,
                Newest::Nothing => expected = 0,
            }
        }
        Err(ClaimError::Contended { key: key.to_owned() })
    }

    /// Gives a claim up, unless it ran out and somebody else holds it.
    pub async fn release_claim(&self, handle: ClaimHandle) -> Result<(), ClaimError> {
        let expected = Expected::Revision(handle.revision);
        match self.delete_record(&self.names().claims(), &handle.key, expected, Some(RELEASED_TTL)).await {
            Err(error) if error.code() == Some(code::WRONG_LAST_SEQUENCE) => Ok(()),
            outcome => outcome.map_err(|source| ClaimError::Request { key: handle.key, source }),
        }
    }
}

fn held(record: Record) -> Result<ClaimOutcome, ClaimError> {
    match serde_json::from_slice(&record.value) {
        Ok(claim) => Ok(ClaimOutcome::Held { claim, stored_at: record.time }),
        Err(source) => Err(ClaimError::Unreadable { key: record.key, source }),
    }
}
