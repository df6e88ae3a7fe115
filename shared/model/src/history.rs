//! Records of the history: what remains of an execution once its partition may forget it.
//!
//! A record is one message of `MS_HISTORY`: a line of JSON, and behind it, where that fits into the message, the
//! compressed [`transcript`](crate::transcript) of one execution.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hash::ContentHash;
use crate::ids::{ExecutionId, Namespace, WorkflowId};
use crate::payload::PayloadRef;
use crate::time::Timestamp;
use crate::trace::TraceId;
use crate::view::{Counts, ExecutionError, ExecutionStatus};

/// What lists and searches show of an execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub execution: ExecutionId,
    #[serde(default)]
    pub ns: Namespace,
    pub workflow: WorkflowId,
    pub definition: ContentHash,
    pub status: ExecutionStatus,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    pub started_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Values of input and output that the definition declares searchable, by their names there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ExecutionError>,
    #[serde(default)]
    pub counts: Counts,
    /// How many steps its definition has.
    pub steps: u32,
    /// Times it was resumed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub round: u32,
    pub trace: TraceId,
    /// The execution it was forked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork_of: Option<ExecutionId>,
    /// How long its record stays after its end.
    pub retention_ms: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// One message of the history.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Executions that have begun.
    Started(Vec<Summary>),
    /// It waits for long; its owner keeps no more of it than where this record is.
    Parked(Kept),
    Ended(Kept),
}

/// An execution that can be folded again.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub summary: Summary,
    /// Hash of its state after the last entry of the transcript.
    pub state: ContentHash,
    /// How many entries the transcript has, and bytes of text.
    pub entries: u32,
    pub text: u64,
    pub transcript: KeptIn,
}

/// Where the compressed transcript of a record is.
#[derive(Debug, Clone, PartialEq)]
pub enum KeptIn {
    Here(Bytes),
    /// In the payload store, as a value of the execution.
    Stored(PayloadRef),
}

/// The line of JSON of a record.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Head {
    Started(Vec<Summary>),
    Parked(KeptHead),
    Ended(KeptHead),
}

#[derive(Serialize, Deserialize)]
struct KeptHead {
    #[serde(flatten)]
    summary: Summary,
    state: ContentHash,
    entries: u32,
    text: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stored: Option<PayloadRef>,
}

/// The message is no record that this build can read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableRecord {
    #[error("it has no line of JSON")]
    NoHead,
    #[error("its line of JSON is not one of a record: {source}")]
    Head {
        #[source]
        source: serde_json::Error,
    },
}

impl Record {
    /// The message.
    pub fn encode(&self) -> Bytes {
        let (head, transcript) = match self {
            Self::Started(summaries) => (Head::Started(summaries.clone()), &Bytes::new()),
            Self::Parked(kept) => (Head::Parked(kept.head()), kept.transcript.here()),
            Self::Ended(kept) => (Head::Ended(kept.head()), kept.transcript.here()),
        };
        let mut message = serde_json::to_vec(&head).expect("a record always has a JSON form");
        message.reserve_exact(1 + transcript.len());
        message.push(b'\n');
        message.extend_from_slice(transcript);
        Bytes::from(message)
    }

    /// Reads a message.
    pub fn decode(message: &Bytes) -> Result<Self, UnreadableRecord> {
        let end = message.iter().position(|&byte| byte == b'\n').ok_or(UnreadableRecord::NoHead)?;
        let head = serde_json::from_slice(&message[..end]).map_err(|source| UnreadableRecord::Head { source })?;
        let kept = |head: KeptHead| Kept {
            summary: head.summary,
            state: head.state,
            entries: head.entries,
            text: head.text,
            transcript: head.stored.map_or_else(|| KeptIn::Here(message.slice(end + 1..)), KeptIn::Stored),
        };
        Ok(match head {
            Head::Started(summaries) => Self::Started(summaries),
            Head::Parked(head) => Self::Parked(kept(head)),
            Head::Ended(head) => Self::Ended(kept(head)),
        })
    }
}

impl Kept {
    fn head(&self) -> KeptHead {
        let Self { summary, state, entries, text, transcript } = self;
        let stored = match transcript {
            KeptIn::Here(_) => None,
            KeptIn::Stored(reference) => Some(*reference),
        };
        KeptHead { summary: summary.clone(), state: *state, entries: *entries, text: *text, stored }
    }
}

impl KeptIn {
    fn here(&self) -> &Bytes {
        static NOTHING: Bytes = Bytes::new();
        match self {
            Self::Here(transcript) => transcript,
            Self::Stored(_) => &NOTHING,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let execution: ExecutionId = "0193a5a0-0000-7000-8000-000000000003".parse().expect("an id");
        Summary {
            execution,
            ns: Namespace::default(),
            workflow: "orders".parse().expect("a name"),
            definition: ContentHash::of(b"definition"),
            status: ExecutionStatus::Completed,
            partial: false,
            started_at: Timestamp::from_millis(1),
            ended_at: Some(Timestamp::from_millis(2)),
            labels: BTreeMap::from([("team".to_owned(), "a\nb".to_owned())]),
            attributes: BTreeMap::from([("total".to_owned(), Value::from(3))]),
            error: None,
            counts: Counts::default(),
            steps: 4,
            round: 1,
            trace: TraceId::of(execution),
            fork_of: None,
            retention_ms: 1_000,
        }
    }

    #[test]
    fn records_read_back() {
        let kept =
            |transcript| Kept { summary: summary(), state: ContentHash::of(b"s"), entries: 2, text: 9, transcript };
        for record in [
            Record::Started(vec![summary(), summary()]),
            Record::Parked(kept(KeptIn::Here(Bytes::from_static(b"\n\nzstd\n")))),
            Record::Ended(kept(KeptIn::Stored(PayloadRef::to("[]")))),
        ] {
            assert_eq!(Record::decode(&record.encode()).expect("a record"), record);
        }
    }

    #[test]
    fn what_is_no_record_says_so() {
        assert!(matches!(Record::decode(&Bytes::from_static(b"{}")), Err(UnreadableRecord::NoHead)));
        assert!(matches!(Record::decode(&Bytes::from_static(b"{}\n")), Err(UnreadableRecord::Head { .. })));
    }
}
