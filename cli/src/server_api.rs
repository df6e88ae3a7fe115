//! The REST API as its client sees it.

mod follow;
mod history;
mod sse;

use std::time::Duration;

use millstream_model::agent::Agent;
use millstream_model::event::Event;
use millstream_model::view::{CancelView, ExecutionPhase, ExecutionStatus, ExecutionView};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use follow::{Following, Notice};
pub(crate) use history::{Listed, Page};

/// Where `millstream dev` listens.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:8686";

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// How long requests that change nothing twice are repeated while the cluster is starting or catching up.
const BUSY_PATIENCE: Duration = Duration::from_secs(30);
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// A server, by its address.
#[derive(Debug, Clone)]
pub(crate) struct ServerApi {
    base: Url,
    client: Client,
}

/// Why a server cannot be asked at all.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not the address of a server: {reason}; it looks like {DEFAULT_SERVER}")]
pub(crate) struct InvalidServer {
    text: String,
    reason: String,
}

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error(
        "no Millstream server answers at {server} ({reason})\n\
         Start one with `millstream dev`, or name another one with --server or MILLSTREAM_SERVER."
    )]
    Unreachable { server: String, reason: String },
    #[error("the connection to {server} broke: {reason}")]
    Broken { server: String, reason: String },
    #[error("{0}")]
    Refused(Problem),
    #[error("what answers at {server} is not a Millstream server: {reason}")]
    Foreign { server: String, reason: String },
}

/// A failed answer (RFC 9457).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Problem {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    pub title: String,
    pub status: u16,
    #[serde(default)]
    pub detail: String,
    #[serde(default)]
    pub problems: Vec<Value>,
}

/// A stored workflow.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredWorkflow {
    pub id: String,
    #[serde(default)]
    pub version: String,
    pub hash: String,
    #[serde(default)]
    pub updated_at: String,
}

/// A submission that was accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Accepted {
    pub execution_id: String,
    #[serde(default)]
    pub status: String,
    /// The execution that a fork comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<String>,
    /// What a fork does not run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Vec<String>>,
}

/// How far a cancel is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cancelling {
    pub execution_id: String,
    pub status: ExecutionStatus,
    pub phase: ExecutionPhase,
    pub cancel: CancelView,
}

/// Who asks for something, and why.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Provenance<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// What a fork changes.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Forking<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<&'a str>,
    /// The text of a definition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<&'a str>,
    #[serde(flatten)]
    pub provenance: Provenance<'a>,
}

/// What is submitted.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Submission {
    pub input: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Value>,
}

impl ServerApi {
    /// A client of the server at this address.
    pub(crate) fn new(server: &str) -> Result<Self, InvalidServer> {
        let invalid = |reason: String| InvalidServer { text: server.to_owned(), reason };
        let base: Url = server.trim_end_matches('/').parse().map_err(|error| invalid(format!("{error}")))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(invalid("it does not start with http:// or https://".to_owned()));
        }
        // Fails when another part of the process installed one before, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = Client::builder()
            .connect_timeout(CONNECT_PATIENCE)
            .user_agent(concat!("millstream/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| invalid(error.to_string()))?;
        Ok(Self { base, client })
    }

    /// The address without a slash at its end.
    pub(crate) fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Stores a definition, or replaces it.
    pub(crate) async fn put_workflow(&self, id: &str, text: String) -> Result<StoredWorkflow, RequestError> {
        let request = self.request(Method::PUT, &["workflows", id]);
        let request = request.header(CONTENT_TYPE, media_type(&text)).body(text);
        json(self, self.patiently(request).await?).await
    }

    pub(crate) async fn workflows(&self) -> Result<Vec<StoredWorkflow>, RequestError> {
        #[derive(Deserialize)]
        struct List {
            workflows: Vec<StoredWorkflow>,
        }
        let list: List = json(self, self.patiently(self.request(Method::GET, &["workflows"])).await?).await?;
        Ok(list.workflows)
    }

    pub(crate) async fn workflow(&self, id: &str) -> Result<Value, RequestError> {
        json(self, self.patiently(self.request(Method::GET, &["workflows", id])).await?).await
    }

    pub(crate) async fn delete_workflow(&self, id: &str) -> Result<(), RequestError> {
        self.patiently(self.request(Method::DELETE, &["workflows", id])).await.map(drop)
    }

    /// Submits an execution. Repeated while the cluster is busy only as far as that starts nothing twice.
    pub(crate) async fn execute(
        &self,
        workflow: &str,
        submission: &Submission,
        idempotency_key: Option<&str>,
    ) -> Result<Accepted, RequestError> {
        let mut request = self.request(Method::POST, &["workflows", workflow, "execute"]).json(submission);
        if let Some(key) = idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        json(self, self.patiently(request).await?).await
    }

    pub(crate) async fn execution(&self, id: &str) -> Result<ExecutionView, RequestError> {
        json(self, self.patiently(self.request(Method::GET, &["executions", id])).await?).await
    }

    /// Asks for the execution's end and tells how far that is.
    pub(crate) async fn cancel(
        &self,
        id: &str,
        compensate: bool,
        provenance: &Provenance<'_>,
    ) -> Result<Cancelling, RequestError> {
        let given =
            [("compensate", compensate.then_some("true")), ("by", provenance.by), ("reason", provenance.reason)];
        let mut url = self.url(&["executions", id]);
        for (name, value) in given {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        json(self, self.patiently(self.client.request(Method::DELETE, url)).await?).await
    }

    /// Lets a failed execution go on.
    pub(crate) async fn resume(&self, id: &str, provenance: &Provenance<'_>) -> Result<Accepted, RequestError> {
        let request = self.request(Method::POST, &["executions", id, "resume"]).json(provenance);
        json(self, self.patiently(request).await?).await
    }

    /// Starts a new execution from an old one, once however often this key is sent.
    pub(crate) async fn fork(
        &self,
        id: &str,
        forking: &Forking<'_>,
        idempotency_key: &str,
    ) -> Result<Accepted, RequestError> {
        let request = self.request(Method::POST, &["executions", id, "fork"]).json(forking);
        json(self, self.patiently(request.header("Idempotency-Key", idempotency_key)).await?).await
    }

    /// What happened so far.
    pub(crate) async fn events(&self, id: &str) -> Result<Vec<Event>, RequestError> {
        let request = self.request(Method::GET, &["executions", id, "events"]).header(ACCEPT, "application/json");
        json(self, self.patiently(request).await?).await
    }

    /// What happened and what happens, from the beginning or after an event, to the end.
    pub(crate) fn follow(&self, id: &str, after: Option<String>) -> Following {
        Following::new(self.clone(), id, after)
    }

    pub(crate) async fn agents(&self) -> Result<Vec<Agent>, RequestError> {
        #[derive(Deserialize)]
        struct List {
            agents: Vec<Agent>,
        }
        let list: List = json(self, self.patiently(self.request(Method::GET, &["agents"])).await?).await?;
        Ok(list.agents)
    }

    /// What was decided, filtered as the query says.
    pub(crate) async fn audit(&self, query: &[(&str, String)]) -> Result<Value, RequestError> {
        let mut url = self.url(&["audit"]);
        url.query_pairs_mut().extend_pairs(query);
        json(self, self.patiently(self.client.request(Method::GET, url)).await?).await
    }

    /// Registers an agent, or replaces it.
    pub(crate) async fn put_agent(&self, agent: &Agent) -> Result<(), RequestError> {
        let request = self.request(Method::PUT, &["agents", agent.id.as_str()]).json(agent);
        self.patiently(request).await.map(drop)
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("http addresses have a path").pop_if_empty().extend(path);
        url
    }

    /// Sends, and sends again while the answer is 503: the server then has done nothing yet.
    async fn patiently(&self, request: RequestBuilder) -> Result<Response, RequestError> {
        let started = tokio::time::Instant::now();
        loop {
            let copy = request.try_clone().expect("no body here is a stream");
            let outcome = self.send(copy.timeout(ANSWER_PATIENCE)).await;
            if !matches!(&outcome, Err(RequestError::Refused(problem)) if problem.is_busy())
                || started.elapsed() > BUSY_PATIENCE
            {
                return outcome;
            }
            tokio::time::sleep(BUSY_PAUSE).await;
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, RequestError> {
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.map_err(|error| self.broken(&error))?;
        match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => Err(RequestError::Refused(problem)),
            Err(_) => Err(self.foreign(format!("it answers {status} without a problem document"))),
        }
    }

    fn broken(&self, error: &reqwest::Error) -> RequestError {
        let server = self.address().to_owned();
        let reason = innermost(error);
        if error.is_connect() || error.is_timeout() && error.is_request() {
            return RequestError::Unreachable { server, reason };
        }
        RequestError::Broken { server, reason }
    }

    fn foreign(&self, reason: String) -> RequestError {
        RequestError::Foreign { server: self.address().to_owned(), reason }
    }
}

impl Problem {
    fn is_busy(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE.as_u16()
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sentence = if self.detail.is_empty() { &self.title } else { &self.detail };
        match (self.title.is_empty(), self.title == *sentence) {
            (false, false) => write!(f, "{}: {sentence}", self.title)?,
            _ if sentence.is_empty() => write!(f, "the server answered {}", self.status)?,
            _ => f.write_str(sentence)?,
        }
        let listed: Vec<String> = self.problems.iter().map(listed).collect();
        for text in listed.iter().filter(|text| listed.len() > 1 || !sentence.contains(*text)) {
            write!(f, "\n  - {text}")?;
        }
        if self.kind.ends_with(":unresolved-agents") {
            f.write_str(
                "\nRegister agents with `millstream agents apply FILE`, or with `millstream run --agents FILE`.",
            )?;
        }
        Ok(())
    }
}

/// One of several problems: where, what, and how to mend it, as far as it says.
fn listed(problem: &Value) -> String {
    let member = |name: &str| problem[name].as_str().filter(|text| !text.is_empty());
    let Some(message) = member("message").or_else(|| problem.as_str()) else { return problem.to_string() };
    let mut text = String::new();
    if let (Some(line), Some(column)) = (problem["line"].as_u64().filter(|line| *line > 0), problem["column"].as_u64())
    {
        text.push_str(&format!("{line}:{column} "));
    }
    if let Some(path) = member("path").or_else(|| member("step")) {
        text.push_str(&format!("{path}: "));
    }
    text.push_str(message);
    if let Some(help) = member("help") {
        text.push_str(&format!("; {help}"));
    }
    text
}

async fn json<T: DeserializeOwned>(api: &ServerApi, response: Response) -> Result<T, RequestError> {
    let bytes = response.bytes().await.map_err(|error| api.broken(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| api.foreign(format!("it answers something else: {error}")))
}

fn media_type(definition: &str) -> &'static str {
    if definition.trim_start().starts_with('{') { "application/json" } else { "application/yaml" }
}

/// The cause at the bottom, which is what a person can do something about.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_reads_as_a_sentence_with_its_list() {
        let problem: Problem = serde_json::from_value(json!({
            "title": "The definition is not valid", "status": 422, "detail": "2 problems",
            "problems": [
                {"path": "steps[0].id", "line": 3, "column": 9, "message": "a name is needed", "help": "add id"},
                {"path": "/input/day", "message": "is not a string"}
            ]
        }))
        .expect("a problem");
        assert_eq!(
            problem.to_string(),
            "The definition is not valid: 2 problems\n  \
             - 3:9 steps[0].id: a name is needed; add id\n  \
             - /input/day: is not a string"
        );
    }

    #[test]
    fn an_address_is_checked_before_it_is_asked() {
        assert!(ServerApi::new("ftp://x").expect_err("no").to_string().contains("does not start with http"));
        assert!(ServerApi::new("localhost").is_err());
        let api = ServerApi::new("http://127.0.0.1:8686/base/").expect("an address");
        assert_eq!(api.address(), "http://127.0.0.1:8686/base");
        let request = api.request(Method::GET, &["workflows", "a b"]).build().expect("a request");
        assert_eq!(request.url().as_str(), "http://127.0.0.1:8686/base/workflows/a%20b");
    }
}
