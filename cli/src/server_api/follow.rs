//! Following an execution: server-sent events, taken up again where a lost connection left them.

use std::collections::VecDeque;
use std::time::Duration;

use millstream_model::event::Event;
use reqwest::header::ACCEPT;
use reqwest::{Method, Response, StatusCode};
use tokio::time::Instant;

use super::sse::{Decoder, Frame};
use super::{RequestError, ServerApi};

/// The server sends something every 15 s; a connection that is silent for longer is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// How long a server may be gone before following ends.
const ABSENCE_MAX: Duration = Duration::from_secs(120);
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What comes next.
#[derive(Debug)]
pub(crate) enum Notice {
    Event(Box<Event>),
    /// The connection is lost; it is being taken up again.
    Interrupted {
        reason: String,
    },
    /// The connection is back.
    Resumed,
}

/// The events of one execution, to the terminal event that none follows: an execution that was resumed has several.
#[derive(Debug)]
pub(crate) struct Following {
    api: ServerApi,
    execution: String,
    response: Option<Response>,
    decoder: Decoder,
    /// The id to go on after.
    seen: Option<String>,
    waiting: VecDeque<Event>,
    ended: bool,
    lost: Option<Lost>,
}

#[derive(Debug)]
struct Lost {
    since: Instant,
    pause: Duration,
    told: bool,
}

impl Following {
    pub(super) fn new(api: ServerApi, execution: &str, after: Option<String>) -> Self {
        Self {
            api,
            execution: execution.to_owned(),
            response: None,
            decoder: Decoder::default(),
            seen: after,
            waiting: VecDeque::new(),
            ended: false,
            lost: None,
        }
    }

    /// The next notice; `None` after the terminal event. May be dropped and called again without losing anything.
    pub(crate) async fn next(&mut self) -> Result<Option<Notice>, RequestError> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.ended = event.kind.is_terminal();
                return Ok(Some(Notice::Event(Box::new(event))));
            }
            if self.ended && self.response.is_none() {
                return Ok(None);
            }
            let outcome = match &mut self.response {
                Some(response) => match tokio::time::timeout(SILENCE_MAX, response.chunk()).await {
                    Ok(Ok(Some(bytes))) => {
                        let frames = self.decoder.push(&bytes);
                        self.take(frames)?;
                        continue;
                    }
                    Ok(Ok(None)) => Err("the server closed the connection".to_owned()),
                    Ok(Err(error)) => Err(super::innermost(&error)),
                    Err(_) => Err("the server has been silent for too long".to_owned()),
                },
                None => self.connect().await?,
            };
            match outcome {
                Ok(Some(notice)) => return Ok(Some(notice)),
                Ok(None) => {}
                // The server closes the stream after the last event.
                Err(_) if self.ended => return Ok(None),
                Err(reason) => {
                    if let Some(notice) = self.lose(reason).await? {
                        return Ok(Some(notice));
                    }
                }
            }
        }
    }

    fn take(&mut self, frames: Vec<Frame>) -> Result<(), RequestError> {
        for frame in frames {
            let event: Event = serde_json::from_str(&frame.data)
                .map_err(|error| self.api.foreign(format!("it sends an event that is none: {error}")))?;
            self.seen = frame.id.or(self.seen.take());
            self.waiting.push_back(event);
        }
        Ok(())
    }

    /// Connects. `Err` is a reason to try again, the outer one a reason to stop.
    async fn connect(&mut self) -> Result<Result<Option<Notice>, String>, RequestError> {
        let mut request = self.api.request(Method::GET, &["executions", &self.execution, "events"]);
        request = request.header(ACCEPT, "text/event-stream");
        if let Some(seen) = &self.seen {
            request = request.header("Last-Event-ID", seen);
        }
        match self.api.send(request).await {
            Ok(response) if response.status() == StatusCode::NO_CONTENT => {
                self.ended = true;
                Ok(Ok(None))
            }
            Ok(response) => {
                self.response = Some(response);
                self.decoder = Decoder::default();
                let told = self.lost.take().is_some_and(|lost| lost.told);
                Ok(Ok(told.then_some(Notice::Resumed)))
            }
            Err(RequestError::Refused(problem)) if problem.status < 500 => Err(RequestError::Refused(problem)),
            Err(error @ RequestError::Foreign { .. }) => Err(error),
            // The very first connection is not worth waiting for.
            Err(error @ RequestError::Unreachable { .. }) if self.seen.is_none() && self.lost.is_none() => Err(error),
            Err(RequestError::Unreachable { reason, .. } | RequestError::Broken { reason, .. }) => Ok(Err(reason)),
            Err(error) => Ok(Err(error.to_string().lines().next().unwrap_or_default().to_owned())),
        }
    }

    /// Drops the connection and pauses. Tells of it once, and gives up when the server stays away.
    async fn lose(&mut self, reason: String) -> Result<Option<Notice>, RequestError> {
        self.response = None;
        let lost = self.lost.get_or_insert(Lost { since: Instant::now(), pause: PAUSE_MIN, told: false });
        if lost.since.elapsed() > ABSENCE_MAX {
            return Err(RequestError::Broken { server: self.api.address().to_owned(), reason });
        }
        // The first attempt to come back is made at once and says nothing.
        if lost.pause > PAUSE_MIN && !lost.told {
            lost.told = true;
            return Ok(Some(Notice::Interrupted { reason }));
        }
        let pause = lost.pause;
        lost.pause = (pause * 2).min(PAUSE_MAX);
        tokio::time::sleep(pause).await;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::HeaderMap;
    use axum::routing::get;
    use serde_json::json;

    use super::*;

    fn event(id: &str, kind: &str) -> String {
        let data = json!({
            "id": id, "type": kind, "stage": "EXECUTE", "time": "2026-11-20T12:00:00Z", "workflow_id": "w",
            "execution_id": "01936f6a-0000-7000-8000-000000000000",
            "trace_id": "01936f6a000070008000000000000001", "span_id": "0000000000000001",
        });
        format!("event: {kind}\nid: {id}\ndata: {data}\n\n")
    }

    /// Ends the first stream early; the second one begins after what its caller names.
    async fn events(headers: HeaderMap) -> String {
        match headers.get("last-event-id").map(|id| id.to_str().expect("text")) {
            None => event("1.0.0", "workflow.started") + &event("1.0.1", "workflow.planned") + "data: {\"cut",
            Some("1.0.1") => ": hello\n\n".to_owned() + &event("2.0.0", "workflow.completed"),
            Some(other) => panic!("asked to go on after {other}"),
        }
    }

    #[tokio::test]
    async fn a_stream_that_breaks_is_taken_up_where_it_broke() {
        let kinds = followed(get(events)).await;
        assert_eq!(kinds, ["workflow.started", "workflow.planned", "workflow.completed"]);
    }

    /// An execution that failed and was resumed, in one stream.
    async fn resumed() -> String {
        event("1.0.0", "workflow.started")
            + &event("2.0.0", "workflow.failed")
            + &event("3.0.0", "workflow.resumed")
            + &event("4.0.0", "workflow.completed")
    }

    #[tokio::test]
    async fn an_end_that_others_follow_is_not_the_end() {
        let kinds = followed(get(resumed)).await;
        assert_eq!(kinds, ["workflow.started", "workflow.failed", "workflow.resumed", "workflow.completed"]);
    }

    #[tokio::test]
    async fn a_server_that_was_never_there_is_not_waited_for() {
        let api = ServerApi::new("http://127.0.0.1:1").expect("an address");
        let error = api.follow("x", None).next().await.expect_err("nobody listens");
        assert!(error.to_string().contains("millstream dev"), "{error}");
    }

    /// What somebody hears who follows an execution of a server that answers like this.
    async fn followed(answer: axum::routing::MethodRouter) -> Vec<&'static str> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().route("/executions/{id}/events", answer);
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let api = ServerApi::new(&format!("http://{address}")).expect("an address");
        let mut following = api.follow("x", None);
        let mut kinds = Vec::new();
        while let Some(notice) = following.next().await.expect("a notice") {
            if let Notice::Event(event) = notice {
                kinds.push(event.kind.as_str());
            }
        }
        server.abort();
        kinds
    }
}
