//! What handlers take from requests: ids, queries, headers and bodies, each with its problem when it is wrong.

use std::fmt::Display;
use std::future::Future;
use std::str::FromStr;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use futures::StreamExt;
use millstream_model::trace::TraceParent;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use super::json;
use super::limits::{BODY_STALL_MAX, DISCARD_SIZE_MAX, DISCARD_TIME_MAX};
use super::problem::{Problem, ProblemKind};

/// The id in the path.
#[derive(Debug)]
pub(super) struct Id<T>(pub T);

impl<T, S> FromRequestParts<S> for Id<T>
where
    T: FromStr<Err: Display> + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Problem::new(ProblemKind::InvalidId, rejection.body_text()))?;
        text.parse().map(Self).map_err(|why| Problem::new(ProblemKind::InvalidId, format!("'{text}': {why}")))
    }
}

/// The query of the URL as a `T`.
#[derive(Debug)]
pub(super) struct Parameters<T>(pub T);

impl<T, S> FromRequestParts<S> for Parameters<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => Err(Problem::new(ProblemKind::InvalidRequest, rejection.body_text())),
        }
    }
}

/// A body of text of at most `MAX` bytes, whatever its declared type.
#[derive(Debug)]
pub(super) struct Text<const MAX: usize>(pub String);

impl<const MAX: usize, S: Send + Sync> FromRequest<S> for Text<MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        text(request, MAX).await.map(Self)
    }
}

/// A JSON body of at most `MAX` bytes. An empty one is an empty object.
#[derive(Debug)]
pub(super) struct Json<T, const MAX: usize>(pub T);

impl<T, const MAX: usize, S> FromRequest<S> for Json<T, MAX>
where
    T: DeserializeOwned + Send + 'static,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if let Some(other) = not_json(request.headers()) {
            let detail = format!("this takes application/json, not {other}");
            return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
        }
        let text = text(request, MAX).await?;
        let text = if text.trim_ascii().is_empty() { "{}".to_owned() } else { text };
        json::read(text).await.map(Self)
    }
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The header as text; `None` when it is absent.
pub(super) fn header(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match value.to_str() {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(_) => Err(Problem::new(ProblemKind::InvalidRequest, format!("the header {name} has invisible characters"))),
    }
}

/// The trace context of who sent the request. One that cannot be read is none, as W3C Trace Context asks.
pub(super) fn caller(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get(TRACEPARENT)?.to_str().ok()?.trim().parse().ok()
}

/// The declared media type when there is one and it is not JSON. What curl declares for `-d` is taken for JSON too.
fn not_json(headers: &HeaderMap) -> Option<String> {
    let declared = String::from_utf8_lossy(headers.get(CONTENT_TYPE)?.as_bytes()).into_owned();
    let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = match essence.as_str() {
        "application/json" | "text/json" | "application/x-www-form-urlencoded" => true,
        _ => essence.ends_with("+json"),
    };
    (!json).then_some(declared)
}

async fn text(request: Request, max: usize) -> Result<String, Problem> {
    let bytes = bytes(request, max).await?;
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        Problem::new(ProblemKind::InvalidBody, format!("the body is not UTF-8: the first bad byte is byte {place}"))
    })
}

async fn bytes(request: Request, max: usize) -> Result<Vec<u8>, Problem> {
    let (parts, body) = request.into_parts();
    if let Some(coding) = parts.headers.get(CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        let detail =
            format!("the body must be sent plain, not coded as {}", String::from_utf8_lossy(coding.as_bytes()));
        return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
    }
    let declared = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let refusal = || Problem::new(ProblemKind::BodyTooLarge, format!("the body may have at most {max} bytes"));
    if declared.is_some_and(|length| length > max) {
        if !parts.headers.contains_key(EXPECT) {
            discard(body).await;
        }
        return Err(refusal());
    }

    let mut frames = body.into_data_stream();
    let mut bytes = Vec::with_capacity(declared.unwrap_or(0).min(64 * 1024));
    while let Some(frame) = in_time(frames.next()).await? {
        let frame = frame.map_err(|error| {
            Problem::new(ProblemKind::InvalidRequest, format!("the body did not arrive whole: {error}"))
        })?;
        if bytes.len() + frame.len() > max {
            discard(Body::from_stream(frames)).await;
            return Err(refusal());
        }
        bytes.extend_from_slice(&frame);
    }
    Ok(bytes)
}

async fn in_time<T>(frame: impl Future<Output = T>) -> Result<T, Problem> {
    timeout(BODY_STALL_MAX, frame).await.map_err(|_| {
        let seconds = BODY_STALL_MAX.as_secs();
        Problem::new(ProblemKind::BodyTimeout, format!("nothing more of the body came for {seconds} s"))
    })
}

/// Reads the rest of a refused body: a connection that is closed with unread bytes is reset, and the client
/// would see that and not the answer.
async fn discard(body: Body) {
    let deadline = Instant::now() + DISCARD_TIME_MAX;
    let mut frames = body.into_data_stream();
    let mut read = 0;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, frames.next()).await {
        read += frame.len();
        if read > DISCARD_SIZE_MAX {
            return;
        }
    }
}
