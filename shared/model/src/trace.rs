//! W3C Trace Context, version 00 (<https://www.w3.org/TR/trace-context/>), as ids derived from executions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hash::{fmt_hex, parse_hex};
use crate::ids::{ExecutionId, StepId};

/// Invariant: not all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId([u8; 16]);

/// Invariant: not all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId([u8; 8]);

/// What a `traceparent` header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    pub trace: TraceId,
    pub span: SpanId,
    pub sampled: bool,
}

/// The text is not a valid `traceparent`, trace id or span id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 00-<32 hexadecimal digits>-<16 hexadecimal digits>-<2 hexadecimal digits>, ids not all zero")]
pub struct InvalidTrace;

impl TraceId {
    /// The trace of an execution that did not join its caller's: the execution's own 16 bytes.
    pub fn of(execution: ExecutionId) -> Self {
        Self(*execution.as_bytes())
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl SpanId {
    /// The span of an execution.
    pub fn of_execution(execution: ExecutionId) -> Self {
        Self::derived(&[b"execution", execution.as_bytes()])
    }

    /// The span of one attempt.
    pub fn of_attempt(execution: ExecutionId, step: &StepId, item: Option<u32>, activation: u32, attempt: u32) -> Self {
        Self::derived(&[
            b"attempt",
            execution.as_bytes(),
            step.as_str().as_bytes(),
            &[0],
            &item.map_or(0, |i| i.wrapping_add(1)).to_le_bytes(),
            &activation.to_le_bytes(),
            &attempt.to_le_bytes(),
        ])
    }

    pub fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    fn derived(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(part);
        }
        let mut id = [0; 8];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        id[7] |= u8::from(id == [0; 8]);
        Self(id)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(&self.0, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(&self.0, f)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl FromStr for TraceId {
    type Err = InvalidTrace;

    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        parse_hex(text).filter(|id| *id != [0; 16]).map(Self).ok_or(InvalidTrace)
    }
}

impl FromStr for SpanId {
    type Err = InvalidTrace;

    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        parse_hex(text).filter(|id| *id != [0; 8]).map(Self).ok_or(InvalidTrace)
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTrace;

    /// Accepts later versions as the specification asks: their first four fields mean the same.
    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        let mut fields = text.split('-');
        let version = fields.next().and_then(parse_hex::<1>).ok_or(InvalidTrace)?;
        let trace = fields.next().ok_or(InvalidTrace)?.parse()?;
        let span = fields.next().ok_or(InvalidTrace)?.parse()?;
        let flags = fields.next().and_then(parse_hex::<1>).ok_or(InvalidTrace)?;
        let rest = fields.next().is_some();
        if version == [0xff] || (version == [0] && rest) {
            return Err(InvalidTrace);
        }
        Ok(Self { trace, span, sampled: flags[0] & 1 == 1 })
    }
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(TraceId);
serde_as_text!(SpanId);
serde_as_text!(TraceParent);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_reads_back() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent: TraceParent = text.parse().expect("a traceparent");
        assert!(parent.sampled);
        assert_eq!(parent.to_string(), text);
    }

    #[test]
    fn what_the_specification_forbids_is_refused() {
        for bad in [
            "",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(InvalidTrace), "{bad}");
        }
        assert!("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra".parse::<TraceParent>().is_ok());
    }
}
