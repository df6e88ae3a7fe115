//! The worker's own clock, for what it reports; what it enforces is measured monotonically.

use std::time::SystemTime;

use millstream_model::time::Timestamp;

/// The moment, by this machine's clock.
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}
