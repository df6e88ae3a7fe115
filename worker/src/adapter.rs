//! Agents as this worker can call them, one module per framework.

pub mod builtin;
pub mod failure;
pub mod http;
pub mod native;
pub mod process;

use std::borrow::Cow;
use std::sync::Arc;

use millstream_model::agent::Agent;
use millstream_model::error::StepError;
use serde_json::value::RawValue;

use crate::adapter::builtin::Builtin;
use crate::adapter::failure::Cause;
use crate::adapter::http::{HttpAgent, HttpClients};
use crate::adapter::native::{Handler, Handlers};
use crate::adapter::process::ProcessAgent;
use crate::context::Context;

/// What an agent answers: JSON text, or why there is none.
pub type Answer = Result<Arc<RawValue>, StepError>;

/// An agent, ready to be called: its manifest was read and checked once.
///
/// Dropping a call stops it for real: the request is aborted, the process group is killed.
#[derive(Debug)]
pub enum Adapter {
    Native(Handler),
    Http(HttpAgent),
    Process(ProcessAgent),
    Builtin(Builtin),
}

/// Why this worker cannot call an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("agent {agent} is of framework `{framework}`, which this worker does not know; it knows {FRAMEWORKS}")]
    Framework { agent: String, framework: String },
    #[error("agent {agent} is native, and this worker has no handler for it")]
    NoHandler { agent: String },
    #[error("the manifest of agent {agent} cannot be used: config{pointer}: {problem}")]
    Config { agent: String, pointer: String, problem: String },
}

const FRAMEWORKS: &str = "builtin, http, native and process";

impl Adapter {
    /// Reads a manifest.
    pub fn prepare(agent: &Agent, handlers: &Handlers, clients: &HttpClients) -> Result<Self, Unusable> {
        let unusable = |problem: ConfigProblem| Unusable::Config {
            agent: agent.id.to_string(),
            pointer: problem.pointer,
            problem: problem.message,
        };
        match agent.framework.as_str() {
            "native" => match handlers.get(&agent.id) {
                Some(handler) => Ok(Self::Native(handler)),
                None => Err(Unusable::NoHandler { agent: agent.id.to_string() }),
            },
            "http" => HttpAgent::prepare(&agent.config, clients).map(Self::Http).map_err(unusable),
            "process" => ProcessAgent::prepare(&agent.config).map(Self::Process).map_err(unusable),
            "builtin" => Builtin::prepare(&agent.config).map(Self::Builtin).map_err(unusable),
            other => Err(Unusable::Framework { agent: agent.id.to_string(), framework: other.to_owned() }),
        }
    }

    /// Calls the agent.
    pub async fn call(&self, context: &Context, input: Arc<RawValue>) -> Answer {
        match self {
            Self::Native(handler) => handler.call(context.clone(), input).await,
            Self::Http(agent) => agent.call(context, input).await,
            Self::Process(agent) => agent.call(context, input).await,
            Self::Builtin(agent) => agent.call(context, input).await,
        }
    }
}

impl From<Unusable> for StepError {
    fn from(reason: Unusable) -> Self {
        let cause = match reason {
            Unusable::Framework { .. } | Unusable::NoHandler { .. } => Cause::NobodyKnows,
            Unusable::Config { .. } => Cause::UnusableConfig,
        };
        cause.error(reason.to_string())
    }
}

/// What is wrong in a manifest's `config`, and where.
#[derive(Debug)]
pub struct ConfigProblem {
    pointer: String,
    message: String,
}

impl ConfigProblem {
    fn at(pointer: &str, message: impl Into<String>) -> Self {
        Self { pointer: pointer.to_owned(), message: message.into() }
    }

    fn read<T: serde::de::DeserializeOwned>(config: &serde_json::Value) -> Result<T, Self> {
        T::deserialize(config).map_err(|error| Self::at("", error.to_string()))
    }
}

/// JSON text from bytes, as it was written.
fn json_from(bytes: Vec<u8>) -> Result<Arc<RawValue>, NotJson> {
    let text = String::from_utf8(bytes).map_err(|error| NotJson {
        problem: error.utf8_error().to_string(),
        excerpt: excerpt(error.as_bytes()).into_owned(),
    })?;
    match serde_json::from_str::<Box<RawValue>>(&text) {
        Ok(raw) => Ok(Arc::from(raw)),
        Err(problem) => Err(NotJson { problem: problem.to_string(), excerpt: excerpt(text.as_bytes()).into_owned() }),
    }
}

/// What an agent said is not JSON.
struct NotJson {
    problem: String,
    excerpt: String,
}

/// The beginning of what an agent said, for a person.
fn excerpt(bytes: &[u8]) -> Cow<'_, str> {
    const BYTES_MAX: usize = 500;
    match String::from_utf8_lossy(&bytes[..bytes.len().min(BYTES_MAX)]) {
        Cow::Borrowed(text) if bytes.len() <= BYTES_MAX => Cow::Borrowed(text.trim()),
        text if bytes.len() <= BYTES_MAX => Cow::Owned(text.trim().to_owned()),
        text => Cow::Owned(format!("{}…", text.trim_start().trim_end_matches(char::REPLACEMENT_CHARACTER))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_json_is_kept_as_it_was_written() {
        let raw = json_from(b" {\"b\": 1.50, \"a\":[]}\n".to_vec()).unwrap_or_else(|_| panic!("this is JSON"));
        assert_eq!(raw.get(), "{\"b\": 1.50, \"a\":[]}");
    }

    #[test]
    fn what_is_not_json_is_quoted() {
        let Err(problem) = json_from(b"Traceback: boom".to_vec()) else { panic!("this is not JSON") };
        assert_eq!(problem.excerpt, "Traceback: boom");
        let Err(problem) = json_from(vec![b'"', 0xff, b'"']) else { panic!("this is not UTF-8") };
        assert!(problem.problem.contains("utf-8"), "{}", problem.problem);
    }

    #[test]
    fn a_long_answer_is_cut_for_the_reader() {
        let long = "é".repeat(400);
        let cut = excerpt(long.as_bytes());
        assert!(cut.ends_with("é…") && cut.len() < 510, "{cut}");
    }
}
