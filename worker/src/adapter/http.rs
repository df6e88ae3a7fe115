//! `http`: an agent behind a URL.
//!
//! Config: `{"url": …, "method": "POST", "headers": {…}}`. The step's input is the JSON body
//! (none with GET and HEAD), the JSON body of a 2xx answer is the output, an empty one is null.
//!
//! What a failure is called is in the table of [`failure`](crate::adapter::failure). A body
//! `{"error": {"code", "message", "retryable", "details", "trace"}}` of a failure has the last word.
//!
//! Every byte of an answer is a sign of life.

mod client;

use std::error::Error;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use millstream_model::error::StepError;
use millstream_model::limits::RESULT_MAX;
use millstream_telemetry::spans::{self, Kind, Span};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::adapter::failure::{Cause, Said};
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
            Ok(response) => {
                context.heartbeat();
                (Some(response.status()), self.read(context, response).await)
            }
            Err(problem) => (None, Err(self.unreachable(problem))),
        }
    }

    async fn read(&self, context: &Context, response: Response) -> Answer {
        let status = response.status();
        if !status.is_success() {
            return Err(self.refused(context, response).await);
        }
        let too_large = || Cause::OutputTooLarge.error(format!("{} answered more than {RESULT_MAX} bytes", self.shown));
        let body = match body(context, response, RESULT_MAX).await {
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
            Cause::HttpNotJson.error_with(message, json!({"status": status.as_u16(), "body": not_json.excerpt}))
        })
    }

    /// What an answer other than 2xx means.
    async fn refused(&self, context: &Context, response: Response) -> StepError {
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = body(context, response, FAILURE_BODY_MAX).await.ok().flatten().unwrap_or_default();
        let said = Said::read(&body);
        let mut details = json!({"status": status.as_u16()});
        if let Some(after) = retry_after {
            details["retry_after"] = after.into();
        }
        if said.is_none() && !body.is_empty() {
            details["body"] = excerpt(&body).into();
        }
        let message = format!("{} answered {status}", self.shown);
        let error = Cause::HttpStatus(status.as_u16()).error_with(message, details);
        match said {
            Some(said) => said.over(error),
            None => error,
        }
    }

    fn unreachable(&self, problem: reqwest::Error) -> StepError {
        let problem = problem.without_url();
        // Who was never reached did not take its time.
        let cause =
            if problem.is_timeout() && !problem.is_connect() { Cause::HttpTimedOut } else { Cause::HttpUnreachable };
        let mut text = format!("{}: {problem}", self.shown);
        let mut source = problem.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        cause.error(text)
    }
}

/// The body, or `None` when it is longer than `max`.
async fn body(context: &Context, mut response: Response, max: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let announced = response.content_length().unwrap_or(0);
    if usize::try_from(announced).map_or(true, |announced| announced > max) {
        return Ok(None);
    }
    let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0));
    while let Some(chunk) = response.chunk().await? {
        context.heartbeat();
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
    put("millstream-timeout-ms", context.time_remaining().as_millis().to_string());
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
