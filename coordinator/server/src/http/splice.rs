//! Executions as JSON whose stored values are fetched while the answer is sent: one of them in memory at a time.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use millstream_broker::{Broker, PayloadError};
use millstream_model::ids::ExecutionId;
use millstream_model::payload::{Body as Place, Payload, PayloadRef};
use millstream_model::view::{ExecutionView, Held};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::RETRY_AFTER;
use super::problem::{Problem, ProblemKind};

/// A part of the answer: text, or a value that is still in the payload store.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Bytes),
    Stored(PayloadRef),
}

/// Answers with `view`. What is in the payload store is fetched as the client reads, the first value before the answer
/// begins, so that a store that cannot be used is a proper problem.
pub(super) async fn answer(broker: &Broker, view: ExecutionView<Held>) -> Result<Response, Problem> {
    let execution = view.id;
    let mut pieces = pieces(view);
    let length: u64 = pieces.iter().map(Piece::size).sum();
    if let Some(first) = pieces.iter_mut().find(|piece| matches!(piece, Piece::Stored(_))) {
        let text = fetch(broker, execution, first.clone()).await.map_err(|error| payload_problem(&error))?;
        *first = Piece::Text(text);
    }
    let broker = broker.clone();
    let texts = stream::iter(pieces).then(move |piece| {
        let broker = broker.clone();
        async move { fetch(&broker, execution, piece).await }
    });
    let texts = texts.inspect_err(move |error| tracing::warn!(%error, %execution, "an answer was cut short"));
    let mut response = (StatusCode::OK, Body::from_stream(texts)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

async fn fetch(broker: &Broker, execution: ExecutionId, piece: Piece) -> Result<Bytes, PayloadError> {
    match piece {
        Piece::Text(text) => Ok(text),
        Piece::Stored(reference) => {
            let value = broker.get_payload(execution, reference).await?;
            Ok(Bytes::from(String::from(Box::<str>::from(value))))
        }
    }
}

pub(super) fn payload_problem(error: &PayloadError) -> Problem {
    if error.is_retryable() {
        return Problem::unavailable(error.to_string(), RETRY_AFTER);
    }
    tracing::error!(%error, "a value of an execution cannot be read");
    Problem::new(ProblemKind::PayloadUnavailable, error.to_string())
}

impl Piece {
    fn size(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Stored(reference) => reference.size,
        }
    }
}

/// The JSON of `view`, cut where stored values belong.
fn pieces(view: ExecutionView<Held>) -> Vec<Piece> {
    let progress = Progress::default();
    let view = view.try_map(|held| Ok::<_, Infallible>(Spliced { held, progress: &progress }));
    let Ok(view) = view;
    let mut text = Vec::new();
    let writer = Counted { text: &mut text, progress: &progress };
    serde_json::to_writer(writer, &view).expect("a view always has a JSON form");

    let mut text = Bytes::from(text);
    let mut cut = 0;
    let mut pieces = Vec::new();
    for (place, reference) in progress.holes.take() {
        pieces.push(Piece::Text(text.split_to(place - cut)));
        pieces.push(Piece::Stored(reference));
        let _placeholder = text.split_to(PLACEHOLDER.len());
        cut = place + PLACEHOLDER.len();
    }
    pieces.push(Piece::Text(text));
    pieces
}

/// What stands where a stored value belongs.
const PLACEHOLDER: &str = "null";

/// How far the text is written, and where stored values belong in it.
#[derive(Default)]
struct Progress {
    written: Cell<usize>,
    holes: RefCell<Vec<(usize, PayloadRef)>>,
}

struct Counted<'a> {
    text: &'a mut Vec<u8>,
    progress: &'a Progress,
}

impl io::Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        self.progress.written.set(self.text.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A value that writes itself, and notes the places where stored ones belong.
struct Spliced<'a> {
    held: Held,
    progress: &'a Progress,
}

impl Serialize for Spliced<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let part = |payload| Part { payload, progress: self.progress };
        match &self.held {
            Held::One(payload) => part(payload).serialize(serializer),
            Held::List(parts) => serializer.collect_seq(parts.iter().map(|payload| payload.as_ref().map(part))),
        }
    }
}

/// One payload of a value. A coded one is an object with its coding.
struct Part<'a> {
    payload: &'a Payload,
    progress: &'a Progress,
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(coding) = &self.payload.enc else { return Plain(self).serialize(serializer) };
        let mut coded = serializer.serialize_map(Some(2))?;
        coded.serialize_entry("enc", coding)?;
        coded.serialize_entry("json", &Plain(self))?;
        coded.end()
    }
}

struct Plain<'a>(&'a Part<'a>);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.payload.body {
            Place::Inline(text) => text.serialize(serializer),
            Place::Stored(reference) => {
                let progress = self.0.progress;
                progress.holes.borrow_mut().push((progress.written.get(), *reference));
                serializer.serialize_unit()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use millstream_model::hash::ContentHash;
    use millstream_model::time::Timestamp;
    use millstream_model::trace::TraceId;
    use millstream_model::view::{Counts, ExecutionPhase, ExecutionStatus, StepStatus, StepView};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_view_without_stored_values_is_one_text() {
        let pieces = pieces(view(one(r#"{"json":{"day":1}}"#), one(r#"{"json":[1.50]}"#)));
        let [Piece::Text(text)] = pieces.as_slice() else { panic!("{pieces:?}") };
        let json: Value = serde_json::from_slice(text).expect("JSON");
        assert_eq!(json["input"], json!({"day": 1}));
        assert!(String::from_utf8_lossy(text).contains("[1.50]"), "inline values stay as they were written");
    }

    #[test]
    fn stored_values_are_cut_out_in_their_order() {
        let input = one(&json!({"ref": PayloadRef::to("[1]")}).to_string());
        let output = one(&json!({"enc": "aes", "ref": PayloadRef::to("\"two\"")}).to_string());
        let json = filled(&pieces(view(input, output)), &["[1]", "\"two\""]);
        assert_eq!(json["input"], json!([1]));
        assert_eq!(json["output"], json!({"enc": "aes", "json": "two"}));
        assert_eq!(json["steps"][0]["output"], json!({"enc": "aes", "json": "two"}));
    }

    #[test]
    fn a_list_may_have_parts_that_are_inline_stored_and_absent() {
        let stored = Payload::stored(PayloadRef::to("{\"big\":true}"));
        let parts = vec![Some(Payload::from_value(&json!(1))), None, Some(stored)];
        let pieces = pieces(view(one(r#"{"json":null}"#), Held::List(Arc::new(parts))));
        let json = filled(&pieces, &["{\"big\":true}"]);
        assert_eq!(json["output"], json!([1, null, {"big": true}]));
        assert_eq!(json["input"], Value::Null);
    }

    /// The whole text with `stored` where it belongs, as JSON.
    fn filled(pieces: &[Piece], stored: &[&str]) -> Value {
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(part) => text.push_str(std::str::from_utf8(part).expect("UTF-8")),
                Piece::Stored(reference) => {
                    text.push_str(stored.iter().find(|text| PayloadRef::to(text) == *reference).expect("known"));
                }
            }
        }
        assert_eq!(text.len() as u64, pieces.iter().map(Piece::size).sum::<u64>());
        serde_json::from_str(&text).expect("JSON")
    }

    fn one(payload: &str) -> Held {
        Held::One(serde_json::from_str(payload).expect("a payload"))
    }

    fn view(input: Held, output: Held) -> ExecutionView<Held> {
        let execution: ExecutionId = "01934567-89ab-7cde-8f01-234567890a03".parse().expect("an id");
        let step = StepView {
            id: "a".parse().expect("a name"),
            status: StepStatus::Completed,
            agent_id: None,
            capability: None,
            attempts: 1,
            output: Some(output.clone()),
            error: None,
            reason: None,
            worker_id: None,
            scheduled_at: None,
            started_at: None,
            ended_at: None,
            metrics: None,
            fan_out: None,
            retries: 0,
            fallbacks: 0,
            finally: false,
            compensation: None,
        };
        ExecutionView {
            id: execution,
            workflow_id: "w".parse().expect("a name"),
            definition: ContentHash::of(b""),
            status: ExecutionStatus::Completed,
            phase: ExecutionPhase::Ended,
            partial: false,
            cancel_requested: false,
            cancel: None,
            input,
            context: None,
            output: Some(output),
            error: None,
            partial_result: None,
            effects: Vec::new(),
            counts: Counts::default(),
            resumes: Vec::new(),
            fork: None,
            labels: BTreeMap::new(),
            started_at: Timestamp::from_millis(1),
            ended_at: None,
            deadline: Timestamp::from_millis(2),
            trace_id: TraceId::of(execution),
            steps: vec![step],
            links: BTreeMap::new(),
        }
    }
}
