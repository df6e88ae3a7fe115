//! Values of users and tokens in the entries of a transcript.

use std::collections::{BTreeMap, BTreeSet};

use millstream_engine::Execution;
use millstream_model::batch::encode_entry;
use millstream_model::entry::{Entry, Evaluation, KeptOutcome};
use millstream_model::payload::{Body, Payload, PayloadRef};
use millstream_model::task::TaskKey;
use millstream_model::token::{Secret, Token};
use millstream_model::transcript::{Line, Transcribed};
use millstream_model::view::{ExecutionView, Held};
use serde_json::{Value, json};

/// The values of an entry.
pub(super) fn payloads_mut(entry: &mut Entry) -> Vec<&mut Payload> {
    match entry {
        Entry::Submitted(submitted) => {
            let kept = submitted.fork.iter_mut().flat_map(|fork| &mut fork.kept);
            let kept = kept.filter_map(|kept| match &mut kept.outcome {
                KeptOutcome::Completed(payload) | KeptOutcome::Items(payload) => Some(payload),
                KeptOutcome::Skipped | KeptOutcome::Failed(_) => None,
            });
            [&mut submitted.input].into_iter().chain(&mut submitted.context).chain(kept).collect()
        }
        Entry::Evaluated(evaluated) => match &mut evaluated.outcome {
            Evaluation::Value(payload) => vec![payload],
            Evaluation::Condition(_) | Evaluation::Items(_) | Evaluation::Failed(_) => Vec::new(),
        },
        Entry::TaskSucceeded(succeeded) => [&mut succeeded.output].into_iter().chain(&mut succeeded.metrics).collect(),
        Entry::Epoch(_)
        | Entry::Scanned(_)
        | Entry::CancelRequested(_)
        | Entry::Resumed(_)
        | Entry::TimerFired(_)
        | Entry::Reissued(_)
        | Entry::Unrenderable(_)
        | Entry::Unpublishable(_)
        | Entry::ClaimAbandoned(_)
        | Entry::TaskStarted(_)
        | Entry::TaskFailed(_)
        | Entry::ClaimHeld(_)
        | Entry::Expired(_)
        | Entry::Archived(_) => Vec::new(),
    }
}

/// The values that a transcript names and that are in the payload store. The transcript that a resume names is not
/// among them: it is the lines before it.
pub(crate) fn references(transcript: &Transcribed) -> BTreeSet<PayloadRef> {
    let mut references = BTreeSet::new();
    for line in &transcript.lines {
        let mut entry = line.entry.clone();
        references.extend(payloads_mut(&mut entry).into_iter().filter_map(|payload| payload.reference()));
    }
    references
}

/// Writes a line's entry anew.
pub(super) fn rewrite(line: &mut Line) {
    let text = String::from_utf8(encode_entry(&line.entry)).expect("JSON is UTF-8");
    line.text = text.into();
}

/// Gives the transcript another key of the completion tokens, and every token that was right the one that is right
/// under it: whoever has the transcript cannot complete a task of the execution, and it folds as before.
pub(crate) fn renew_secret(transcript: &mut Transcribed, renewed: Secret) {
    let mut known: Option<Secret> = None;
    for line in &mut transcript.lines {
        if let Entry::Submitted(submitted) = &mut line.entry {
            known = Some(std::mem::replace(&mut submitted.secret, renewed));
            rewrite(line);
            continue;
        }
        if let (Some(known), Some((task, token))) = (&known, token_mut(&mut line.entry)) {
            let of = |secret: &Secret| secret.token(&task.step, task.item, task.activation, task.attempt);
            if *token == of(known) {
                *token = of(&renewed);
                rewrite(line);
            }
        }
    }
}

fn token_mut(entry: &mut Entry) -> Option<(TaskKey, &mut Token)> {
    match entry {
        Entry::TaskStarted(e) => Some((e.task.clone(), &mut e.token)),
        Entry::TaskSucceeded(e) => Some((e.task.clone(), &mut e.run.token)),
        Entry::TaskFailed(e) => Some((e.task.clone(), &mut e.run.token)),
        Entry::ClaimHeld(e) => Some((e.task.clone(), &mut e.token)),
        Entry::Expired(e) => Some((e.task.clone(), &mut e.token)),
        Entry::Epoch(_)
        | Entry::Scanned(_)
        | Entry::Submitted(_)
        | Entry::CancelRequested(_)
        | Entry::Resumed(_)
        | Entry::TimerFired(_)
        | Entry::Reissued(_)
        | Entry::Evaluated(_)
        | Entry::Unrenderable(_)
        | Entry::Unpublishable(_)
        | Entry::ClaimAbandoned(_)
        | Entry::Archived(_) => None,
    }
}

/// The execution as the API shows it, its values from those that the file has.
pub(crate) fn view(execution: &Execution, payloads: &BTreeMap<PayloadRef, Box<str>>) -> ExecutionView {
    let view = execution.view().try_map(|held| {
        Ok::<Value, std::convert::Infallible>(match held {
            Held::One(payload) => value(&payload, payloads),
            Held::List(parts) => {
                parts.iter().map(|part| part.as_ref().map_or(Value::Null, |part| value(part, payloads))).collect()
            }
        })
    });
    view.unwrap_or_else(|never| match never {})
}

/// A value; one that is not here is its reference.
fn value(payload: &Payload, payloads: &BTreeMap<PayloadRef, Box<str>>) -> Value {
    let text = match &payload.body {
        Body::Inline(text) => Some(text.get()),
        Body::Stored(reference) => payloads.get(reference).map(|text| &**text),
    };
    let read = text.and_then(|text| serde_json::from_str(text).ok());
    read.unwrap_or_else(|| json!({ "ref": payload.reference() }))
}
