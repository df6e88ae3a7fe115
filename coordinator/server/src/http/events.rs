//! `/executions/{id}/events`: what happens in an execution, as a stream or as a list so far.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::sse::{Event as ServerSentEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use millstream_model::event::Event;
use millstream_model::ids::ExecutionId;
use millstream_model::position::EventId;
use serde::Deserialize;
use tokio_stream::wrappers::ReceiverStream;

use super::executions::{not_found, query_problem};
use super::limits::KEEP_ALIVE;
use super::problem::{Problem, ProblemKind};
use super::request::{Id, Parameters, header};
use super::{Api, answer};
use crate::cluster::EventFeed;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Tells proxies not to hold the stream back.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsParameters {
    last_event_id: Option<String>,
}

pub(super) async fn events(
    State(api): State<Api>,
    Id(id): Id<ExecutionId>,
    Parameters(parameters): Parameters<EventsParameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = last_event_id(&headers, parameters)?;
    let cluster = api.cluster()?;
    let feed = cluster.events(id, after).await.map_err(query_problem)?;
    let feed = feed.ok_or_else(|| not_found(id))?;
    if wants_list(&headers) {
        return Ok(answer(StatusCode::OK, &feed.backlog));
    }
    if after.is_some() && feed.backlog.is_empty() && feed.live.is_closed() {
        let view = cluster.execution(id).await.map_err(query_problem)?;
        if view.is_some_and(|view| view.status.is_terminal()) {
            // It tells an EventSource that has seen the last event not to come again.
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
    let stopped = api.stop().clone().cancelled_owned();
    Ok(stream_of(feed).take_until(stopped).map(Ok).into_sse())
}

fn last_event_id(headers: &HeaderMap, parameters: EventsParameters) -> Result<Option<EventId>, Problem> {
    let text = header(headers, &LAST_EVENT_ID)?.or(parameters.last_event_id);
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.parse() {
        Ok(id) => Ok(Some(id)),
        Err(error) => Err(Problem::new(ProblemKind::InvalidRequest, format!("last event id '{text}': {error}"))),
    }
}

fn wants_list(headers: &HeaderMap) -> bool {
    let mut accepted =
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    let first = accepted.find_map(|range| match range.split(';').next().unwrap_or_default().trim() {
        "application/json" => Some(true),
        "text/event-stream" => Some(false),
        _ => None,
    });
    first.unwrap_or(false)
}

/// What happened and what happens, to the terminal event. One that others follow does not end the stream: the
/// execution was resumed after it.
fn stream_of(feed: EventFeed) -> impl Stream<Item = ServerSentEvent> {
    let EventFeed { backlog, live } = feed;
    let ended = backlog.last().is_some_and(|event| event.kind.is_terminal());
    let live = (!ended).then(|| Box::pin(ReceiverStream::new(live)));
    let live = stream::unfold(live, async |live| {
        let mut live = live?;
        let event = live.next().await?;
        let rest = (!event.kind.is_terminal()).then_some(live);
        Some((event, rest))
    });
    stream::iter(backlog).chain(live).map(|event| server_sent(&event))
}

fn server_sent(event: &Event) -> ServerSentEvent {
    let data = serde_json::to_string(event).expect("an event always has a JSON form");
    let sent = ServerSentEvent::default().event(event.kind.as_str()).data(data);
    match event.id {
        Some(id) => sent.id(id.to_string()),
        None => sent,
    }
}

trait IntoSse {
    fn into_sse(self) -> Response;
}

impl<S: Stream<Item = Result<ServerSentEvent, Infallible>> + Send + 'static> IntoSse for S {
    fn into_sse(self) -> Response {
        let mut response = Sse::new(self).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response.headers_mut().insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
        response
    }
}
