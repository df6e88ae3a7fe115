//! `http`: an agent behind a URL.
//!
//! Config: `{"url": …, "method": "POST", "headers": {…}}`. The step's input is the JSON body
//! (none with GET and HEAD), the JSON body of a 2xx answer is the output, an empty one is null.
//!
//! | answer | code |
//! |---|---|
//! | 2xx that is not JSON | EXTERNAL_SERVICE_ERROR |
//! | 2xx above [`RESULT_MAX`] | RESULT_TOO_LARGE |
//! | 401, 402, 403, 407, 451 | PERMISSION_DENIED |
//! | 408 | TIMEOUT |
//! | 429 | RATE_LIMITED |
//! | 409, 423, 424, 425 and 3xx that is no redirect to follow | EXTERNAL_SERVICE_ERROR |
//! | any other 4xx, 400, 404 and 422 among them | INVALID_INPUT |
//! | 5xx, no connection, broken off | EXTERNAL_SERVICE_ERROR |
//!
//! A body `{"error": {"code", "message", "retryable", "details"}}` of a failure has the last word.

mod client;

use std::error::Error;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::limits::RESULT_MAX;
use millstream_telemetry::spans::{self, Kind, Span};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::adapter::{Answer, ConfigProblem, excerpt, json_from};
use crate::clock::now;
use crate::context::Context;

pub use client::HttpClients;

/// Bytes of a failure's body that are looked at.
const FAILURE_BODY_MAX: usize = 64 * 1024;

/// An agent behind a URL.
#[derive(Debug)]
pub struct HttpAgent {
    client: Client,
    method: Method,
    url: Url,
    /// The URL without what could be secret: user, password, query.
    shown: String,
    headers: HeaderMap,
}

impl HttpAgent {
    pub(crate) fn prepare(config: &Value, clients: &HttpClients) -> Result<Self, ConfigProblem> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Config {
            url: String,
            #[serde(default)]
            method: Option<String>,
            #[serde(default)]
            headers: std::collections::BTreeMap<String, String>,
        }
        let config: Config = ConfigProblem::read(config)?;
        let url = Url::parse(&config.url).map_err(|problem| ConfigProblem::at(".url", problem.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ConfigProblem::at(".url", "expected http:// or https://"));
        }
        let method = config.method.as_deref().unwrap_or("POST").to_ascii_uppercase();
        let method = Method::from_str(&method).map_err(|problem| ConfigProblem::at(".method", problem.to_string()))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let pointer = || format!(".headers.{name}");
            let name = HeaderName::from_str(name).map_err(|p| ConfigProblem::at(&pointer(), p.to_string()))?;
            let mut value = HeaderValue::from_str(value).map_err(|p| ConfigProblem::at(&pointer(), p.to_string()))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        let shown = format!("{method} {}", without_secrets(&url));
        Ok(Self { client: clients.for_url(&url), method, url, shown, headers })
    }

    pub(crate) async fn call(&self, context: &Context, input: Arc<RawValue>) -> Answer {
        let traced = context.trace().filter(|parent| parent.sampled && spans::enabled());
        let Some(parent) = traced else {
            return self.send(context, input).await.1;
        };
        let id = spans::new_id();
        let start = now();
        let below = context.below(id);
        let (status, answer) = self.send(&below, input).await;
        let mut attributes = vec![
            ("http.request.method", spans::Value::from(self.method.to_string())),
            ("url.full", without_secrets(&self.url).into()),
            ("server.address", self.url.host_str().unwrap_or_default().to_owned().into()),
        ];
        attributes.extend(self.url.port_or_known_default().map(|port| ("server.port", port.into())));
        attributes.extend(status.map(|status| ("http.response.status_code", status.as_u16().into())));
        spans::record(Span {
            trace: parent.trace,
            id,
            parent: Some(parent.span),
            links: Vec::new(),
            kind: Kind::Client,
            name: self.method.to_string().into(),
            start,
            end: now(),
            attributes,
            error: answer.as_ref().err().map(|error| error.message.clone()),
        });
        answer
    }

    async fn send(&self, context: &Context, input: Arc<RawValue>) -> (Option<StatusCode>, Answer) {
        let mut request = self.client.request(self.method.clone(), self.url.clone()).headers(self.headers.clone());
        request = request.headers(run_headers(context));
        if self.method != Method::GET && self.method != Method::HEAD {
            request = request.body(Bytes::from_owner(Text(input)));
        }
        match request.send().await {
            Ok(response) => (Some(response.status()), self.read(response).await),
            Err(problem) => (None, Err(self.unreachable(problem))),
        }
    }

    async fn read(&self, response: Response) -> Answer {
        let status = response.status();
        if !status.is_success() {
            return Err(self.refused(response).await);
        }
        let too_large = || {
            let message = format!("{} answered more than {RESULT_MAX} bytes", self.shown);
            StepError::new(ErrorCode::ResultTooLarge, message)
        };
        let body = match body(response, RESULT_MAX).await {
            Ok(Some(body)) => body,
            Ok(None) => return Err(too_large()),
            Err(problem) => return Err(self.unreachable(problem)),
        };
        if body.iter().all(u8::is_ascii_whitespace) {
            return json_from(b"null".to_vec()).map_err(|_| too_large());
        }
        json_from(body).map_err(|not_json| {
            let message =
                format!("{} answered {status} with a body that is not JSON: {}", self.shown, not_json.problem);
            let mut error = StepError::new(ErrorCode::ExternalServiceError, message);
            error.details = Some(json!({"status": status.as_u16(), "body": not_json.excerpt}));
            error
        })
    }

    /// What an answer other than 2xx means.
    async fn refused(&self, response: Response) -> StepError {
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = body(response, FAILURE_BODY_MAX).await.ok().flatten().unwrap_or_default();
        let said = serde_json::from_slice::<Said>(&body).ok().map(|said| said.error);
        let mut details = json!({"status": status.as_u16()});
        if let Some(after) = retry_after {
            details["retry_after"] = after.into();
        }
        let Some(said) = said else {
            if !body.is_empty() {
                details["body"] = excerpt(&body).into();
            }
            let mut error = StepError::new(code(status), format!("{} answered {status}", self.shown));
            error.details = Some(details);
            return error;
        };
        let own_code = said.code.as_deref().and_then(known_code);
        if let (None, Some(unknown)) = (own_code, said.code) {
            details["code"] = unknown.into();
        }
        if let Some(more) = said.details {
            details["details"] = more;
        }
        let message = said.message.unwrap_or_else(|| format!("{} answered {status}", self.shown));
        let mut error = StepError::new(own_code.unwrap_or_else(|| code(status)), message);
        error.retryable = said.retryable;
        error.details = Some(details);
        error
    }

    fn unreachable(&self, problem: reqwest::Error) -> StepError {
        let problem = problem.without_url();
        let mut text = format!("{}: {problem}", self.shown);
        let mut source = problem.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        StepError::new(ErrorCode::ExternalServiceError, text)
    }
}

/// What a failure's body may say.
#[derive(Deserialize)]
struct Said {
    error: SaidError,
}

#[derive(Deserialize)]
struct SaidError {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    retryable: Option<bool>,
    #[serde(default)]
    details: Option<Value>,
}

fn known_code(text: &str) -> Option<ErrorCode> {
    ErrorCode::ALL.into_iter().find(|code| code.as_str() == text)
}

/// The table of the module's documentation.
fn code(status: StatusCode) -> ErrorCode {
    match status.as_u16() {
        401 | 402 | 403 | 407 | 451 => ErrorCode::PermissionDenied,
        408 => ErrorCode::Timeout,
        429 => ErrorCode::RateLimited,
        409 | 423 | 424 | 425 => ErrorCode::ExternalServiceError,
        400..=499 => ErrorCode::InvalidInput,
        _ => ErrorCode::ExternalServiceError,
    }
}

/// The body, or `None` when it is longer than `max`.
async fn body(mut response: Response, max: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let announced = response.content_length().unwrap_or(0);
    if usize::try_from(announced).map_or(true, |announced| announced > max) {
        return Ok(None);
    }
    let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0));
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > max {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

fn run_headers(context: &Context) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    let mut put = |name: &'static str, text: String| {
        // Only an idempotency key could hold what a header may not; it is left out then.
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    if let Some(trace) = context.trace() {
        put("traceparent", trace.to_string());
    }
    put("idempotency-key", context.idempotency_key().to_owned());
    put("millstream-execution-id", context.execution().to_string());
    put("millstream-step-id", context.step().to_string());
    if let Some(item) = context.item() {
        put("millstream-item", item.to_string());
    }
    put("millstream-attempt", context.attempt().to_string());
    headers
}

/// An input as a request's body, not copied.
struct Text(Arc<RawValue>);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.0.get().as_bytes()
    }
}

fn without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for URLs without a host, which http URLs have.
    url.set_username("").ok();
    url.set_password(None).ok();
    url.into()
}

#[cfg(test)]
mod tests;
