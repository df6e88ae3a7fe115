//! `/executions/{id}/entries`: what the journal says of an execution, entry by entry, for people and for export.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use millstream_engine::refold::{Refold, submission};
use millstream_engine::{Halt, render};
use millstream_model::ids::{Capability, ExecutionId};
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::time;
use millstream_model::transcript::{Transcribed, text_of};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::executions::location;
use super::limits::{ENTRIES_LIMIT, ENTRIES_LIMIT_MAX};
use super::problem::{Problem, ProblemKind};
use super::request::{Id, Parameters};
use super::transcripts::{read, refold_problem, transcript};
use super::workflows::plan_problem;
use super::{Api, answer};
use crate::history::RefoldError;

/// Media type of the text of a transcript.
const TRANSCRIPT: &str = "application/x-millstream-transcript";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EntriesParameters {
    format: Option<Format>,
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Json,
    Transcript,
}

#[derive(Serialize)]
struct Entries {
    execution_id: ExecutionId,
    fold_revision: u16,
    expression_revision: u16,
    total: usize,
    entries: Vec<EntryJson>,
    /// What the next page comes after.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    links: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct EntryJson {
    position: String,
    #[serde(with = "time::rfc3339")]
    time: time::Timestamp,
    /// The worker's capability; absent for what the API and coordinators write.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<Capability>,
    /// The entry in words.
    line: String,
    /// Why it counted for nothing; absent when it counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    /// What it made the coordinator do, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    effects: Vec<String>,
    entry: Value,
}

pub(super) async fn entries(
    State(api): State<Api>,
    Id(id): Id<ExecutionId>,
    Parameters(parameters): Parameters<EntriesParameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let EntriesParameters { format, after, limit } = parameters;
    let limit = limit.unwrap_or(ENTRIES_LIMIT);
    if !(1..=ENTRIES_LIMIT_MAX).contains(&limit) {
        let detail = format!("limit: {limit} is no number from 1 to {ENTRIES_LIMIT_MAX}");
        return Err(Problem::new(ProblemKind::InvalidRequest, detail));
    }
    let after: Option<Position> = after.map(|after| position("after", &after)).transpose()?;
    let compressed = transcript(&api, id).await?;
    if format.map_or_else(|| accepts_transcript(&headers), |format| format == Format::Transcript) {
        return exported(id, compressed).await;
    }
    let transcribed = read(compressed).await?;
    let (_, definition) =
        submission(&transcribed).ok_or_else(|| refold_problem(&RefoldError::Fold(Halt::NoSubmission)))?;
    let plan = api.catalog()?.plan(definition).await.map_err(|error| plan_problem(&error))?;
    let listed = tokio::task::spawn_blocking(move || listed(id, &transcribed, plan, after, limit));
    let listed = listed.await.map_err(|_| refold_problem(&RefoldError::Aborted))?;
    listed.map(|entries| answer(StatusCode::OK, &entries)).map_err(|halt| refold_problem(&RefoldError::Fold(halt)))
}

/// A place in the journal; a sequence alone is the end of its message.
pub(super) fn position(parameter: &str, text: &str) -> Result<Position, Problem> {
    let whole = text.parse().ok().map(|sequence| Position { sequence, index: u16::MAX });
    whole.or_else(|| text.parse().ok()).ok_or_else(|| {
        let detail = format!("{parameter}: '{text}' is no place in a journal, as 17.0, or 17 for all of message 17");
        Problem::new(ProblemKind::InvalidRequest, detail)
    })
}

fn accepts_transcript(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges = accepted.flat_map(|value| value.split(','));
    ranges.any(|range| range.split(';').next().unwrap_or_default().trim() == TRANSCRIPT)
}

/// The text as it is, from which the execution can be folded again anywhere.
async fn exported(id: ExecutionId, compressed: Bytes) -> Result<Response, Problem> {
    let text = tokio::task::spawn_blocking(move || text_of(&compressed)).await;
    let text = text.map_err(|_| RefoldError::Aborted).and_then(|text| text.map_err(RefoldError::from));
    let text = text.map_err(|error| refold_problem(&error))?;
    let mut response = (StatusCode::OK, text).into_response();
    let file = format!("attachment; filename=\"{id}.transcript\"");
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TRANSCRIPT));
    let file = HeaderValue::from_str(&file).expect("an id is visible characters");
    response.headers_mut().insert(CONTENT_DISPOSITION, file);
    Ok(response)
}

fn listed(
    id: ExecutionId,
    transcribed: &Transcribed,
    plan: Arc<Plan>,
    after: Option<Position>,
    limit: usize,
) -> Result<Entries, Halt> {
    let mut refold = Refold::new(id, transcribed.revisions, plan)?;
    let mut entries = Vec::new();
    let mut next = None;
    for line in &transcribed.lines {
        if entries.len() == limit {
            next = entries.last().map(|entry: &EntryJson| entry.position.clone());
            break;
        }
        let step = refold.apply(line)?;
        if after.is_some_and(|after| line.position <= after) {
            continue;
        }
        let outcome = Some(render::outcome(&step.outcome)).filter(|text| !text.is_empty());
        let effects = match refold.execution() {
            Some(execution) => step.effects.iter().map(|effect| render::effect(execution, effect)).collect(),
            None => Vec::new(),
        };
        let (position, line_text) = (line.position.to_string(), render::entry(&line.entry));
        let (time, by, entry) = (line.at, line.by.clone(), without_secrets(&line.text));
        entries.push(EntryJson { position, time, by, line: line_text, outcome, effects, entry });
    }
    let own = format!("{}/entries", location(id));
    let mut links = BTreeMap::from([("execution", location(id)), ("self", own.clone())]);
    if let Some(next) = &next {
        links.insert("next", format!("{own}?after={next}&limit={limit}"));
    }
    Ok(Entries {
        execution_id: id,
        fold_revision: transcribed.revisions.fold,
        expression_revision: transcribed.revisions.expressions,
        total: transcribed.lines.len(),
        entries,
        next,
        links,
    })
}

/// An entry without what proves that a result is the one of a task.
fn without_secrets(text: &str) -> Value {
    let mut entry: Value = serde_json::from_str(text).expect("the transcript was read");
    for content in entry.as_object_mut().into_iter().flat_map(|kinds| kinds.values_mut()) {
        for name in ["secret", "token"] {
            if let Some(value) = content.get_mut(name) {
                *value = Value::String(String::new());
            }
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_and_tokens_are_blanked_and_nothing_else() {
        let submitted = json!({"submitted": {"secret": "00ff", "input": {"json": {"secret": "mine"}}}});
        let shown = json!({"submitted": {"secret": "", "input": {"json": {"secret": "mine"}}}});
        assert_eq!(without_secrets(&submitted.to_string()), shown);
        let succeeded = json!({"task_succeeded": {"token": "00ff", "step": "a"}});
        assert_eq!(without_secrets(&succeeded.to_string()), json!({"task_succeeded": {"token": "", "step": "a"}}));
    }

    #[test]
    fn a_place_is_an_entry_or_a_whole_message() {
        assert_eq!(position("at", "17.3").ok(), Some(Position { sequence: 17, index: 3 }));
        assert_eq!(position("at", "17").ok(), Some(Position { sequence: 17, index: u16::MAX }));
        for wrong in ["", "x", "17.", "-1", "17.3.1"] {
            let problem = position("at", wrong).expect_err(wrong);
            assert!(problem.detail().starts_with(&format!("at: '{wrong}' is no place")), "{}", problem.detail());
        }
    }
}
