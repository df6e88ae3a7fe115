//! An execution in one file: all that it was folded from, so that it can be folded again anywhere.
//!
//! ```text
//! millstream export 1
//! {"execution":…}                     a line of JSON: what it is
//! {"id":…,"steps":[…]}                its definition, canonical
//! {"hash":…,"size":…,"text":"…"}      a line for each value that was too large for a message
//! transcript 1 fold 2 expressions 1   its transcript, as the model writes it
//! 17.0 1790000000000000 - {"submitted":{…}}
//! ```
//!
//! The key of the completion tokens never leaves the cluster: a file has another one, and tokens to fit
//! ([`renew_secret`]).

mod redaction;
mod values;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use millstream_engine::outcome::Halt;
use millstream_engine::{Execution, refold};
use millstream_model::definition::Definition;
use millstream_model::hash::ContentHash;
use millstream_model::ids::{ExecutionId, WorkflowId};
use millstream_model::payload::PayloadRef;
use millstream_model::plan::Plan;
use millstream_model::time::Timestamp;
use millstream_model::transcript::{self, Transcribed, UnreadableTranscript};
use millstream_model::view::ExecutionStatus;
use serde::{Deserialize, Serialize};

pub(crate) use redaction::redact;
pub(crate) use values::{references, renew_secret, view};

const MAGIC: &str = "millstream export ";
/// Version of the form that this build writes and reads.
const VERSION: u16 = 1;

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub execution: ExecutionId,
    pub workflow: WorkflowId,
    pub definition: ContentHash,
    pub status: ExecutionStatus,
    /// Hash of the state after the last entry, as the exporting build folded it.
    pub state: ContentHash,
    /// The build that exported it.
    pub by: String,
    #[serde(with = "millstream_model::time::rfc3339")]
    pub exported_at: Timestamp,
    /// Values of users are blanked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
    pub payloads: usize,
}

/// An exported execution.
#[derive(Debug, Clone)]
pub(crate) struct ExportFile {
    pub head: Head,
    /// The definition's canonical JSON.
    pub definition: String,
    /// JSON texts of values that were too large for a message.
    pub payloads: BTreeMap<PayloadRef, Box<str>>,
    pub transcript: Transcribed,
}

#[derive(Serialize, Deserialize)]
struct StoredValue<'a> {
    #[serde(flatten)]
    reference: PayloadRef,
    text: std::borrow::Cow<'a, str>,
}

/// Why a text is no export that this build can read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnreadableExport {
    #[error("it does not begin as an exported execution does")]
    NoHead,
    #[error("it is an export of version {found}; this build reads {VERSION}")]
    Version { found: String },
    #[error("it ends before its {missing}")]
    Short { missing: &'static str },
    #[error("line {number} is not what it should be: {source}")]
    Line {
        number: usize,
        #[source]
        source: serde_json::Error,
    },
    #[error("its definition is not the one it names")]
    Definition,
    #[error("its value {hash} is damaged")]
    Value { hash: ContentHash },
    #[error("its transcript: {source}")]
    Transcript {
        #[source]
        source: UnreadableTranscript,
    },
    #[error("its transcript is of another execution or definition than it says")]
    Foreign,
}

/// Why there is no plan for a stored definition.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPlan {
    #[error("definition {hash} is damaged: its text has another hash")]
    Damaged { hash: ContentHash },
    #[error("definition {hash} cannot be read by this build: {source}")]
    Unreadable {
        hash: ContentHash,
        #[source]
        source: serde_json::Error,
    },
    #[error("definition {hash} cannot be compiled by this build: {problems}")]
    Invalid { hash: ContentHash, problems: String },
}

/// Compiles a definition that is stored as `hash`.
pub(crate) fn compile(hash: ContentHash, text: &str) -> Result<Arc<Plan>, NoPlan> {
    if ContentHash::of(text.as_bytes()) != hash {
        return Err(NoPlan::Damaged { hash });
    }
    let definition: Definition = serde_json::from_str(text).map_err(|source| NoPlan::Unreadable { hash, source })?;
    let mut plan = Plan::compile(definition).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        NoPlan::Invalid { hash, problems: problems.join("; ") }
    })?;
    // The name it is stored under stays its name, also where this build writes the same definition differently.
    plan.hash = hash;
    Ok(Arc::new(plan))
}

impl ExportFile {
    /// Puts together what was read of an execution.
    pub(crate) fn new(
        transcript: Transcribed,
        definition: String,
        payloads: BTreeMap<PayloadRef, Box<str>>,
        execution: &Execution,
        exported_at: Timestamp,
    ) -> Self {
        let head = Head {
            execution: execution.id(),
            workflow: execution.submitted().workflow.clone(),
            definition: execution.plan().hash,
            status: execution.status(),
            state: execution.state_hash(),
            by: env!("CARGO_PKG_VERSION").to_owned(),
            exported_at,
            redacted: false,
            payloads: payloads.len(),
        };
        Self { head, definition, payloads, transcript }
    }

    /// The plan of its definition.
    pub(crate) fn plan(&self) -> Result<Arc<Plan>, NoPlan> {
        compile(self.head.definition, &self.definition)
    }

    /// The execution at its end.
    pub(crate) fn execution(&self, plan: Arc<Plan>) -> Result<Box<Execution>, Halt> {
        Execution::refold(&self.transcript, plan)
    }

    /// Writes the file.
    pub(crate) fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "{MAGIC}{VERSION}")?;
        writeln!(out, "{}", serde_json::to_string(&self.head)?)?;
        writeln!(out, "{}", self.definition)?;
        for (reference, text) in &self.payloads {
            let value = StoredValue { reference: *reference, text: (&**text).into() };
            writeln!(out, "{}", serde_json::to_string(&value)?)?;
        }
        let finished = self.transcript.to_transcript().finish();
        let text = transcript::text_of(&finished).map_err(std::io::Error::other)?;
        out.write_all(text.as_bytes())
    }

    /// Reads a file, and checks all that can be checked without folding it.
    pub(crate) fn read(text: &str) -> Result<Self, UnreadableExport> {
        let mut rest = text;
        let mut number = 0;
        let mut line = |missing: &'static str| {
            number += 1;
            let (line, after) = rest.split_once('\n').ok_or(UnreadableExport::Short { missing })?;
            rest = after;
            Ok((line, number))
        };
        let (first, _) = line("head").map_err(|_| UnreadableExport::NoHead)?;
        match first.strip_prefix(MAGIC).map(str::parse::<u16>) {
            Some(Ok(VERSION)) => {}
            Some(_) => return Err(UnreadableExport::Version { found: first[MAGIC.len()..].to_owned() }),
            None => return Err(UnreadableExport::NoHead),
        }
        let (text, number) = line("head")?;
        let head: Head = serde_json::from_str(text).map_err(|source| UnreadableExport::Line { number, source })?;
        let (definition, _) = line("definition")?;
        if ContentHash::of(definition.as_bytes()) != head.definition {
            return Err(UnreadableExport::Definition);
        }
        let mut payloads = BTreeMap::new();
        for _ in 0..head.payloads {
            let (text, number) = line("values")?;
            let StoredValue { reference, text } =
                serde_json::from_str(text).map_err(|source| UnreadableExport::Line { number, source })?;
            if PayloadRef::to(&text) != reference {
                return Err(UnreadableExport::Value { hash: reference.hash });
            }
            payloads.insert(reference, Box::from(&*text));
        }
        let transcript = Transcribed::parse(rest).map_err(|source| UnreadableExport::Transcript { source })?;
        if refold::submission(&transcript) != Some((head.execution, head.definition)) {
            return Err(UnreadableExport::Foreign);
        }
        Ok(Self { head, definition: definition.to_owned(), payloads, transcript })
    }
}

#[cfg(test)]
mod tests;
