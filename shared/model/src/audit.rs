//! The audit trail: who decided what, why, and what else there was to choose, in a chain that shows when it is touched.
//!
//! A record is one line of JSON, its members sorted by name and without white space. Its hash is taken over all of it
//! but `hash` itself, and so over `previous`, the hash of the record before it:
//!
//! ```text
//!   000…0 ◀── previous ── record 1 ◀── previous ── record 2 ◀── previous ── record 3 = head
//! ```
//!
//! A line is written in exactly one way, so each changed byte of it is seen. What is missing at the end is seen only
//! by who knows the [`Head`].

mod verify;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::hash::{canonical_json, fmt_hex, parse_hex};
use crate::ids::ExecutionId;
use crate::time::Timestamp;
use crate::trace::TraceId;

pub use verify::{FirstBad, Summary, Verifier, Why, verify_chain};

/// What kind of decision a record tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditKind {
    /// Which definition an execution follows, and its steps.
    Plan,
    /// Which agents do its steps.
    Routing,
    /// What was refused, and by which rule.
    Policy,
    /// What people approved or rejected.
    Approval,
    /// An alteration of a running execution.
    Adaptation,
    /// What was done to workflows, agents and executions on somebody's behalf.
    Admin,
}

impl AuditKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [Self::Plan, Self::Routing, Self::Policy, Self::Approval, Self::Adaptation, Self::Admin];

    /// Its name in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Routing => "routing",
            Self::Policy => "policy",
            Self::Approval => "approval",
            Self::Adaptation => "adaptation",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for AuditKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// BLAKE3 of a record; its text is 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct AuditHash([u8; 32]);

/// A decision that has no place in a chain yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub at: Timestamp,
    pub trace_id: Option<TraceId>,
    pub execution: Option<ExecutionId>,
    pub kind: AuditKind,
    /// On whose behalf.
    pub actor: Option<String>,
    /// What was chosen, refused or changed.
    pub target: String,
    pub reasoning: String,
    /// What could have been chosen as well.
    pub alternatives: Vec<String>,
    pub context: Value,
}

/// A decision in its place of a chain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its number in the chain; the first is 1.
    pub seq: u64,
    #[serde(with = "crate::time::rfc3339")]
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    pub kind: AuditKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    pub target: String,
    pub reasoning: String,
    pub alternatives: Vec<String>,
    pub context: Box<RawValue>,
    /// Hash of the record before it; zeros in the first.
    pub previous: AuditHash,
    pub hash: AuditHash,
}

/// The newest record of a chain. The head of an empty chain has number 0 and a hash of zeros.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub seq: u64,
    pub hash: AuditHash,
}

/// Why a line is no record.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLine {
    #[error("it is not a record: {source}")]
    Form {
        #[from]
        source: serde_json::Error,
    },
    #[error("it does not have the hash that it names")]
    Hash,
    #[error("it is not written as records are: members in order, no white space")]
    Writing,
}

/// The text is not `SEQ:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the number of a record, a colon and its hash of 64 hexadecimal digits")]
pub struct InvalidHead;

/// The members of a record before its hash, in the order of their names.
#[derive(Serialize)]
struct Front<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<&'a str>,
    alternatives: &'a [String],
    #[serde(with = "crate::time::rfc3339")]
    at: Timestamp,
    context: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution: Option<ExecutionId>,
}

/// The members behind it.
#[derive(Serialize)]
struct Back<'a> {
    kind: AuditKind,
    previous: AuditHash,
    reasoning: &'a str,
    seq: u64,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<TraceId>,
}

impl Head {
    /// Puts a decision behind this head, of which it becomes the next one, and gives its line.
    pub fn append(&mut self, decision: &Decision) -> String {
        let context = RawValue::from_string(canonical_json(&decision.context)).expect("a value's text is JSON");
        let front = Front {
            actor: decision.actor.as_deref(),
            alternatives: &decision.alternatives,
            at: decision.at,
            context: &context,
            execution: decision.execution,
        };
        let back = Back {
            kind: decision.kind,
            previous: self.hash,
            reasoning: &decision.reasoning,
            seq: self.seq + 1,
            target: &decision.target,
            trace_id: decision.trace_id,
        };
        let mut front = serde_json::to_string(&front).expect("a record always has a JSON form");
        let back = serde_json::to_string(&back).expect("a record always has a JSON form");
        // One object of both: `{…,` and `…}`.
        front.pop();
        front.push(',');
        let back = &back[1..];
        let mut hasher = blake3::Hasher::new();
        let hash = AuditHash(*hasher.update(front.as_bytes()).update(back.as_bytes()).finalize().as_bytes());
        *self = Self { seq: self.seq + 1, hash };
        format!("{front}\"hash\":\"{hash}\",{back}")
    }
}

impl AuditRecord {
    /// Reads a line. What it says fits its own hash; whether it follows the line before it is for [`Verifier`] to say.
    pub fn of_line(line: &[u8]) -> Result<Self, InvalidLine> {
        let record: Self = serde_json::from_slice(line)?;
        // Members that this build does not know are hashed like all others, and numbers stay as they are written.
        let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(line)?;
        if render(&members).as_bytes() != line {
            return Err(InvalidLine::Writing);
        }
        members.remove("hash");
        if AuditHash::of(render(&members).as_bytes()) == record.hash { Ok(record) } else { Err(InvalidLine::Hash) }
    }

    /// The head of a chain that ends with it.
    pub fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash }
    }
}

fn render(members: &BTreeMap<String, Box<RawValue>>) -> String {
    serde_json::to_string(members).expect("text has a JSON form")
}

/// Lines as one message or file.
pub fn join(lines: &[String]) -> Vec<u8> {
    let mut text = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
    for line in lines {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    text
}

/// The lines of a message or file. A last one without its end is a line too.
pub fn lines(text: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    text.strip_suffix(b"\n").unwrap_or(text).split(|byte| *byte == b'\n')
}

impl AuditHash {
    fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(&self.0, f)
    }
}

impl fmt::Debug for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(&self.0, f)
    }
}

impl Serialize for AuditHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AuditHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        parse_hex(&text).map(Self).ok_or_else(|| serde::de::Error::custom("expected 64 hexadecimal digits"))
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for Head {
    type Err = InvalidHead;

    fn from_str(text: &str) -> Result<Self, InvalidHead> {
        let (seq, hash) = text.split_once(':').ok_or(InvalidHead)?;
        let seq = seq.parse().map_err(|_| InvalidHead)?;
        parse_hex(hash).map(|hash| Self { seq, hash: AuditHash(hash) }).ok_or(InvalidHead)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_reads_back_as_what_was_decided() {
        let mut head = Head::default();
        let decision = decision(0.1 + 0.2);
        head.append(&decision);
        let line = head.append(&decision);
        let record = AuditRecord::of_line(line.as_bytes()).expect("a record");
        assert_eq!((record.head(), record.kind, record.at), (head, AuditKind::Routing, decision.at));
        assert_eq!(record.context.get(), r#"{"a":[1,{"c":null}],"b":0.30000000000000004}"#);
        assert_eq!(record.alternatives, ["other"]);
        assert_eq!(record.actor, None);
    }

    #[test]
    fn every_changed_byte_of_a_line_is_seen() {
        let line = Head::default().append(&decision(1.0)).into_bytes();
        for place in 0..line.len() {
            let mut changed = line.clone();
            changed[place] ^= 1;
            assert!(AuditRecord::of_line(&changed).is_err(), "byte {place}");
        }
    }

    #[test]
    fn a_member_of_a_later_build_is_hashed_like_all_others() {
        let line = Head::default().append(&decision(1.0));
        let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&line).expect("members");
        members.remove("hash");
        members.insert("novelty".to_owned(), RawValue::from_string("1.50".to_owned()).expect("JSON"));
        let hash = AuditHash::of(render(&members).as_bytes());
        members.insert("hash".to_owned(), serde_json::value::to_raw_value(&hash).expect("JSON"));
        let later = render(&members);
        assert_eq!(AuditRecord::of_line(later.as_bytes()).expect("a record").hash, hash);
        let changed = later.replace("1.50", "1.5");
        assert!(matches!(AuditRecord::of_line(changed.as_bytes()), Err(InvalidLine::Hash)));
    }

    #[test]
    fn white_space_and_repeated_members_are_seen() {
        let line = Head::default().append(&decision(1.0));
        let spaced = line.replacen(':', ": ", 1);
        assert!(matches!(AuditRecord::of_line(spaced.as_bytes()), Err(InvalidLine::Writing)));
        let repeated = line.replacen('{', r#"{"a":1,"a":2,"#, 1);
        assert!(matches!(AuditRecord::of_line(repeated.as_bytes()), Err(InvalidLine::Writing)));
    }

    #[test]
    fn a_head_reads_back_from_its_text() {
        let mut head = Head::default();
        head.append(&decision(1.0));
        assert_eq!(head.to_string().parse(), Ok(head));
        assert_eq!("7".parse::<Head>(), Err(InvalidHead));
        assert_eq!("7:abc".parse::<Head>(), Err(InvalidHead));
    }

    fn decision(number: f64) -> Decision {
        Decision {
            at: Timestamp::from_millis(1_763_648_712_000),
            trace_id: None,
            execution: None,
            kind: AuditKind::Routing,
            actor: None,
            target: "fetcher".to_owned(),
            reasoning: "the step names it".to_owned(),
            alternatives: vec!["other".to_owned()],
            context: json!({"b": number, "a": [1, {"c": null}]}),
        }
    }
}
