//! Blanking the values of users in an exported execution.
//!
//! A string becomes a string of as many `x`; numbers, booleans, null, names and lengths of lists stay. Whether the
//! execution takes the same course with that is checked by folding it: a condition may have read what was blanked.

use std::collections::BTreeMap;

use millstream_engine::Execution;
use millstream_engine::outcome::Halt;
use millstream_model::entry::{Entry, Evaluation};
use millstream_model::error::StepError;
use millstream_model::payload::{Body, Payload, PayloadRef};
use serde_json::Value;

use super::values::{payloads_mut, rewrite};
use super::{ExportFile, NoPlan};

/// Why an execution cannot be redacted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRedacted {
    #[error(
        "with its values blanked the execution takes another course, because a condition or a path reads them: {found}, \
         where it was: {expected}; it can only be exported as it is"
    )]
    OtherCourse { found: String, expected: String },
    #[error(transparent)]
    Halted(#[from] Halt),
    #[error(transparent)]
    NoPlan(#[from] NoPlan),
}

/// Blanks what users and agents gave and said. Labels, names and the definition stay.
pub(crate) fn redact(file: &mut ExportFile) -> Result<(), NotRedacted> {
    let plan = file.plan()?;
    let before = Execution::refold(&file.transcript, plan.clone())?;
    let mut renamed: BTreeMap<PayloadRef, PayloadRef> = BTreeMap::new();
    let mut payloads = BTreeMap::new();
    for (reference, text) in std::mem::take(&mut file.payloads) {
        let text = blank_text(&text);
        let blanked = PayloadRef::to(&text);
        renamed.insert(reference, blanked);
        payloads.insert(blanked, text);
    }
    file.payloads = payloads;
    file.head.payloads = file.payloads.len();
    for line in &mut file.transcript.lines {
        for payload in payloads_mut(&mut line.entry) {
            blank(payload, &renamed);
        }
        blank_words(&mut line.entry);
        rewrite(line);
    }
    let after = Execution::refold(&file.transcript, plan)?;
    let (expected, found) = (course(&before), course(&after));
    if expected != found {
        let differs = expected.lines().zip(found.lines()).find(|(expected, found)| expected != found);
        let (expected, found) = differs.unwrap_or(("it ends", "it goes on"));
        return Err(NotRedacted::OtherCourse { found: found.to_owned(), expected: expected.to_owned() });
    }
    file.head.redacted = true;
    file.head.state = after.state_hash();
    Ok(())
}

/// Where the execution and its steps stand.
fn course(execution: &Execution) -> String {
    let view = execution.view();
    let mut text = format!("the execution is {}", view.status.as_str());
    for step in &view.steps {
        text.push_str(&format!("\nstep {} is {} after {} attempts", step.id, step.status.as_str(), step.attempts));
    }
    text
}

fn blank(payload: &mut Payload, renamed: &BTreeMap<PayloadRef, PayloadRef>) {
    match &mut payload.body {
        Body::Inline(text) => {
            let blanked = serde_json::value::RawValue::from_string(blank_text(text.get()).into());
            *text = blanked.expect("it was written as JSON").into();
        }
        Body::Stored(reference) => {
            if let Some(blanked) = renamed.get(reference) {
                *reference = *blanked;
            }
        }
    }
}

/// The same JSON with its strings blanked. What cannot be read as JSON is null.
fn blank_text(text: &str) -> Box<str> {
    let mut value: Value = serde_json::from_str(text).unwrap_or_default();
    blank_value(&mut value);
    value.to_string().into()
}

fn blank_value(value: &mut Value) {
    match value {
        Value::String(text) => *text = blank_string(text),
        Value::Array(elements) => elements.iter_mut().for_each(blank_value),
        Value::Object(members) => members.values_mut().for_each(blank_value),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn blank_string(text: &str) -> String {
    "x".repeat(text.chars().count())
}

/// What people and agents said.
fn blank_words(entry: &mut Entry) {
    match entry {
        Entry::Submitted(submitted) => submitted.idempotency = None,
        Entry::CancelRequested(e) => e.reason = e.reason.as_deref().map(blank_string),
        Entry::Resumed(e) => e.reason = e.reason.as_deref().map(blank_string),
        Entry::TaskFailed(e) => blank_error(&mut e.error),
        Entry::Unpublishable(e) => blank_error(&mut e.error),
        Entry::Unrenderable(e) => e.reason = blank_string(&e.reason),
        Entry::Evaluated(e) => {
            if let Evaluation::Failed(error) = &mut e.outcome {
                blank_error(error);
            }
        }
        Entry::Epoch(_)
        | Entry::Scanned(_)
        | Entry::TimerFired(_)
        | Entry::Reissued(_)
        | Entry::ClaimAbandoned(_)
        | Entry::TaskStarted(_)
        | Entry::TaskSucceeded(_)
        | Entry::ClaimHeld(_)
        | Entry::Expired(_)
        | Entry::Archived(_) => {}
    }
}

fn blank_error(error: &mut StepError) {
    error.message = blank_string(&error.message);
    error.trace = error.trace.as_deref().map(blank_string);
    if let Some(details) = &mut error.details {
        blank_value(details);
    }
}
