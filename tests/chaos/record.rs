//! What really happened, in milliseconds of the system's clock, which every process of the world shares.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::chaos::schedule::{Blow, Target};

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    u64::try_from(since.as_millis()).expect("milliseconds fit for a while")
}

/// What a disturbance was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Struck(Target, Blow),
    /// Something of another harness: a cut cable, a cut disk.
    Cut(String),
}

/// A disturbance from its first moment to the moment that everything was switched on again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    pub start_ms: u64,
    pub end_ms: u64,
    pub what: What,
}

impl Happened {
    /// Whether something that lasted from `from_ms` to `to_ms` can be its doing, when it is felt for `after_ms`.
    pub fn touches(&self, from_ms: u64, to_ms: u64, after_ms: u64) -> bool {
        self.start_ms <= to_ms && self.end_ms + after_ms >= from_ms
    }

    /// The target, when processes were struck.
    pub fn target(&self) -> Option<Target> {
        match self.what {
            What::Struck(target, _) => Some(target),
            What::Cut(_) => None,
        }
    }

    pub fn is_kill(&self) -> bool {
        matches!(self.what, What::Struck(_, Blow::Kill { .. }))
    }
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Struck(target, blow) => write!(f, "{target} {blow}"),
            What::Cut(what) => f.write_str(what),
        }
    }
}
