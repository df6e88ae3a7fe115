//! A thin client of the REST API: JSON in, JSON out, nothing interpreted.

use std::sync::Once;
use std::time::Duration;

use anyhow::Context;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::sse::{self, Message};
use crate::wait::eventually;

/// States in which nothing can change any more.
const TERMINAL: [&str; 4] = ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"];

/// The API of one coordinator.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    client: Client,
}

/// What a request was answered with.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// `null` when the body is empty, a string when it is not JSON.
    pub body: Value,
}

/// A client that does not need TLS, nor a provider for it that the process has installed.
pub fn http_client() -> Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error says that another one is installed, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
    // A pooled connection dies with the runtime of the test that opened it, and tests share a client.
    Client::builder().no_proxy().pool_max_idle_per_host(0).build().expect("a client without TLS files can be built")
}

impl Api {
    /// The API at `base`, as `http://127.0.0.1:8686`.
    pub fn new(base: impl Into<String>) -> Self {
        Self { base: base.into(), client: http_client() }
    }

    /// The URL it was made with.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request that is not sent yet.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<Answer> {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await.context("reading the body")?;
        let body = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
        };
        Ok(Answer { status, headers, body })
    }

    /// `GET`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(self.request(Method::GET, path)).await
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// `POST` with a JSON body.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// `POST` with a body that may be anything.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post_text(&self, path: &str, body: impl Into<String>) -> anyhow::Result<Answer> {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/yaml").body(body.into());
        self.send(request).await
    }

    /// Registers a workflow.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn define(&self, definition: impl Into<String>) {
        let answer = self.post_text("/workflows", definition).await.expect("the API answers");
        assert_eq!(answer.status, 201, "{}", answer.body);
    }

    /// Registers an agent.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn register(&self, agent: &Value) {
        let answer = self.post("/agents", agent).await.expect("the API answers");
        assert_eq!(answer.status, 201, "{}", answer.body);
    }

    /// Starts an execution and gives its id.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn execute(&self, workflow: &str, input: Value) -> String {
        let body = json!({ "input": input });
        let answer = self.post(&format!("/workflows/{workflow}/execute"), &body).await.expect("the API answers");
        assert_eq!(answer.status, 202, "{}", answer.body);
        text(&answer.body, "/execution_id")
    }

    /// Runs a workflow to its end and gives the execution.
    ///
    /// # Panics
    /// When it is refused or has not ended after `timeout`.
    pub async fn run(&self, workflow: &str, input: Value, timeout: Duration) -> Value {
        let id = self.execute(workflow, input).await;
        self.ended(&id, timeout).await
    }

    /// The execution.
    ///
    /// # Panics
    /// When it is not known.
    pub async fn execution(&self, id: &str) -> Value {
        let answer = self.get(&format!("/executions/{id}")).await.expect("the API answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    /// Waits for the end of an execution and gives it. An API that is away for a while is waited for too.
    ///
    /// # Panics
    /// When it has not ended after `timeout`.
    pub async fn ended(&self, id: &str, timeout: Duration) -> Value {
        let path = format!("/executions/{id}");
        let path = &path;
        eventually(timeout, &format!("execution {id} ends"), || async move {
            let answer = self.get(path).await.ok().filter(|answer| answer.status == 200)?;
            let status = answer.body["status"].as_str()?;
            TERMINAL.contains(&status).then_some(answer.body)
        })
        .await
    }

    /// The events of an execution so far.
    ///
    /// # Panics
    /// When the execution is not known.
    pub async fn events(&self, id: &str) -> Vec<Value> {
        let request = self.request(Method::GET, &format!("/executions/{id}/events")).header(ACCEPT, "application/json");
        let answer = self.send(request).await.expect("the API answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
        match answer.body {
            Value::Array(events) => events,
            other => panic!("events are not a list: {other}"),
        }
    }

    /// Follows the events of an execution as a stream, from the start or after an event, to the end of the stream.
    ///
    /// # Errors
    /// When the stream cannot be opened or breaks.
    pub async fn follow(&self, id: &str, after: Option<&str>) -> anyhow::Result<Vec<Message>> {
        let mut request =
            self.request(Method::GET, &format!("/executions/{id}/events")).header(ACCEPT, "text/event-stream");
        if let Some(after) = after {
            request = request.header("Last-Event-ID", after);
        }
        let response = request.send().await?.error_for_status()?;
        let kind = response.headers().get(CONTENT_TYPE).cloned();
        anyhow::ensure!(
            kind.as_ref().is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")),
            "not a stream of events: {kind:?}"
        );
        let text = response.text().await?;
        Ok(sse::parse(&text))
    }
}

/// The string at `pointer`.
///
/// # Panics
/// When there is none.
pub fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer).and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => panic!("no text at {pointer} of {value}"),
    }
}

/// The step of an execution.
///
/// # Panics
/// When there is none of this id.
pub fn step<'a>(execution: &'a Value, id: &str) -> &'a Value {
    let steps = execution["steps"].as_array().expect("an execution has steps");
    match steps.iter().find(|step| step["id"] == id) {
        Some(step) => step,
        None => panic!("no step {id} in {execution}"),
    }
}

/// Numbers of an event's id, which order events as the journal does.
///
/// # Panics
/// When the event has no id.
pub fn place(event: &Value) -> Vec<u64> {
    text(event, "/id").split('.').map(|part| part.parse().expect("an event id is numbers")).collect()
}
