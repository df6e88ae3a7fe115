//! What JetStream says when it refuses, in its own numbers and words.

use std::borrow::Cow;
use std::fmt;

/// A JetStream error: `{"code", "err_code", "description"}` on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Like an HTTP status.
    pub status: u16,
    /// JetStream's own number.
    pub code: u64,
    pub description: Cow<'static, str>,
}

/// Why an operation was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestFailed {
    /// Nobody listens on the subject: no stream takes it, or the stream or consumer is missing.
    NoResponders,
    /// The server took it and answers nothing: the client waits in vain.
    Silence,
    /// The client library refuses to send it (reference, reliability T17).
    TooLarge {
        size: usize,
        max: usize,
    },
    Refused(Refusal),
}

impl From<Refusal> for RequestFailed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.description)
    }
}

impl fmt::Display for RequestFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoResponders => f.write_str("no responders"),
            Self::Silence => f.write_str("no answer"),
            Self::TooLarge { size, max } => write!(f, "{size} bytes are more than {max}"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl Refusal {
    const fn new(status: u16, code: u64, description: &'static str) -> Self {
        Self { status, code, description: Cow::Borrowed(description) }
    }

    /// 10164: another write of the same subject is under way and its end is not known. One server alone never
    /// says it (reference, reliability T3p and T4: R3 under concurrency); the world injects it.
    pub const fn unsettled() -> Self {
        Self::new(400, 10164, "wrong last sequence")
    }

    /// 10077 in its first meaning.
    pub const fn subject_full() -> Self {
        Self::new(503, 10077, "maximum messages per subject exceeded")
    }

    /// 10077 in its second meaning.
    pub const fn bytes_full() -> Self {
        Self::new(503, 10077, "maximum bytes exceeded")
    }

    /// 10077 in its second meaning.
    pub const fn messages_full() -> Self {
        Self::new(503, 10077, "maximum messages exceeded")
    }

    pub(crate) fn wrong_last_sequence(last: u64) -> Self {
        Self { status: 400, code: 10071, description: format!("wrong last sequence: {last}").into() }
    }

    pub(crate) const fn stream_not_found() -> Self {
        Self::new(404, 10059, "stream not found")
    }

    pub(crate) const fn stream_name_in_use() -> Self {
        Self::new(400, 10058, "stream name already in use with a different configuration")
    }

    pub(crate) const fn subjects_overlap() -> Self {
        Self::new(400, 10065, "subjects overlap with an existing stream")
    }

    pub(crate) const fn consumer_not_found() -> Self {
        Self::new(404, 10014, "consumer not found")
    }

    pub(crate) const fn filter_not_unique() -> Self {
        Self::new(400, 10100, "filtered consumer not unique on workqueue stream")
    }

    pub(crate) const fn lifetimes_off() -> Self {
        Self::new(400, 10166, "per-message TTL is disabled")
    }

    pub(crate) const fn delete_denied() -> Self {
        Self::new(400, 10057, "message delete not permitted")
    }
}
