//! How a run fails: the one table from what happened to the error taxonomy.
//!
//! | what happened | code |
//! |---|---|
//! | **any agent** | |
//! | no answer within `timeout_ms`, no sign of life within `heartbeat_ms` | TIMEOUT |
//! | an output above [`RESULT_MAX`](millstream_model::limits::RESULT_MAX) | RESULT_TOO_LARGE |
//! | the worker knows no such framework, or has no handler | AGENT_NOT_FOUND |
//! | a manifest whose `config` cannot be used | INVALID_INPUT |
//! | **native** | |
//! | the input is not what the handler takes | INVALID_INPUT |
//! | the handler panics, or its output has no JSON form | INTERNAL_ERROR |
//! | **http** | |
//! | 401, 402, 403, 407, 451 | PERMISSION_DENIED |
//! | 408, 504, a transport that timed out after it was connected | TIMEOUT |
//! | 429 | RATE_LIMITED |
//! | 409, 423, 424, 425: somebody else is at it, try again | EXTERNAL_SERVICE_ERROR |
//! | any other 4xx, 400, 404, 410 and 422 among them | INVALID_INPUT |
//! | 5xx, a redirect that is not to be followed, a 2xx that is not JSON | EXTERNAL_SERVICE_ERROR |
//! | no connection, an answer that breaks off | EXTERNAL_SERVICE_ERROR |
//! | **process** | |
//! | it may not be executed | PERMISSION_DENIED |
//! | it cannot be started for another reason, exits with another code than 0, is killed | INTERNAL_ERROR |
//! | stdout is not JSON | INTERNAL_ERROR |
//! | it ends with a Python traceback of `ValueError` | INVALID_INPUT |
//! | of `PermissionError` | PERMISSION_DENIED |
//! | of an error named `…Timeout…` | TIMEOUT |
//! | of an error named `Connection…` | EXTERNAL_SERVICE_ERROR |
//!
//! The code says whose fault it is and whether it is retried where nothing else is said, see
//! [`ErrorCode::failure_mode`] and [`ErrorCode::retryable_by_default`]. An agent that speaks for itself has the last
//! word.

use std::io;

use millstream_model::error::{ErrorCode, StepError};
use millstream_model::limits::ERROR_MESSAGE_MAX;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Bytes of an error's details as JSON.
const DETAILS_MAX: usize = 16 * 1024;
/// Bytes of an error's trace.
const TRACE_MAX: usize = 16 * 1024;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause<'a> {
    TimeUp,
    Silent,
    OutputTooLarge,
    NobodyKnows,
    UnusableConfig,
    UnexpectedInput,
    UnwritableOutput,
    Panicked,
    HttpStatus(u16),
    HttpTimedOut,
    HttpUnreachable,
    HttpNotJson,
    ProcessNotStarted(io::ErrorKind),
    ProcessEnded,
    ProcessNotJson,
    /// The class of the exception that ended a Python program.
    PythonRaised(&'a str),
}

impl Cause<'_> {
    /// The table of the module's documentation.
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::TimeUp | Self::Silent | Self::HttpTimedOut => ErrorCode::Timeout,
            Self::OutputTooLarge => ErrorCode::ResultTooLarge,
            Self::NobodyKnows => ErrorCode::AgentNotFound,
            Self::UnusableConfig | Self::UnexpectedInput => ErrorCode::InvalidInput,
            Self::HttpStatus(status) => of_status(status),
            Self::HttpUnreachable | Self::HttpNotJson => ErrorCode::ExternalServiceError,
            Self::ProcessNotStarted(io::ErrorKind::PermissionDenied) => ErrorCode::PermissionDenied,
            Self::PythonRaised(class) => of_exception(class),
            Self::UnwritableOutput
            | Self::Panicked
            | Self::ProcessNotStarted(_)
            | Self::ProcessEnded
            | Self::ProcessNotJson => ErrorCode::InternalError,
        }
    }

    pub(crate) fn error(self, message: impl Into<String>) -> StepError {
        StepError::new(self.code(), message)
    }

    /// With what the agent or the system it called said.
    pub(crate) fn error_with(self, message: impl Into<String>, details: Value) -> StepError {
        StepError { details: Some(details), ..self.error(message) }
    }
}

fn of_status(status: u16) -> ErrorCode {
    match status {
        401 | 402 | 403 | 407 | 451 => ErrorCode::PermissionDenied,
        408 | 504 => ErrorCode::Timeout,
        429 => ErrorCode::RateLimited,
        409 | 423 | 424 | 425 => ErrorCode::ExternalServiceError,
        400..=499 => ErrorCode::InvalidInput,
        _ => ErrorCode::ExternalServiceError,
    }
}

fn of_exception(class: &str) -> ErrorCode {
    let name = class.rsplit('.').next().unwrap_or(class);
    match name {
        "ValueError" => ErrorCode::InvalidInput,
        "PermissionError" => ErrorCode::PermissionDenied,
        name if name.contains("Timeout") => ErrorCode::Timeout,
        name if name.starts_with("Connection") => ErrorCode::ExternalServiceError,
        _ => ErrorCode::InternalError,
    }
}

/// What an agent says about its failure: `{"error": {"code", "message", "retryable", "details", "trace"}}`, all
/// optional. It is believed over the table.
#[derive(Debug, Deserialize)]
pub(crate) struct Said {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    retryable: Option<bool>,
    #[serde(default)]
    details: Option<Value>,
    #[serde(default)]
    trace: Option<String>,
}

impl Said {
    /// Reads an answer, which may be something else.
    pub(crate) fn read(answer: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            error: Said,
        }
        serde_json::from_slice::<Answer>(answer).ok().map(|answer| answer.error)
    }

    /// The error it describes; where it is silent, `otherwise` speaks. A code that nobody knows is kept in the details.
    pub(crate) fn over(self, otherwise: StepError) -> StepError {
        let own_code = self.code.as_deref().and_then(known_code);
        let mut details = match otherwise.details {
            Some(Value::Object(details)) => details,
            Some(_) | None => Map::new(),
        };
        if let (None, Some(unknown)) = (own_code, self.code) {
            details.insert("code".to_owned(), unknown.into());
        }
        if let Some(more) = self.details {
            details.insert("details".to_owned(), more);
        }
        let message = self.message.unwrap_or(otherwise.message);
        StepError {
            retryable: self.retryable,
            details: (!details.is_empty()).then_some(Value::Object(details)),
            trace: self.trace.or(otherwise.trace),
            ..StepError::new(own_code.unwrap_or(otherwise.code), message)
        }
    }
}

fn known_code(text: &str) -> Option<ErrorCode> {
    ErrorCode::ALL.into_iter().find(|code| code.as_str() == text)
}

/// The traceback at the end of what a Python program wrote, and the class of its exception.
pub(crate) fn python_traceback(complained: &str) -> Option<(&str, &str)> {
    let start = complained.rfind("Traceback (most recent call last):")?;
    let traceback = complained[start..].trim_end();
    // Frames are indented; the line after them begins with the class. Its message may have several lines.
    let raised = traceback.lines().skip(1).find(|line| !line.is_empty() && !line.starts_with([' ', '\t']))?;
    let class = raised.split(':').next().unwrap_or(raised).trim();
    let named = !class.is_empty() && class.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
    named.then_some((traceback, class))
}

/// An error as it may be journaled: whatever an agent says, its size is bounded and texts are cut at a character.
pub(crate) fn bounded(mut error: StepError) -> StepError {
    if error.message.len() > ERROR_MESSAGE_MAX {
        error.message = StepError::new(error.code, error.message).message;
    }
    error.details = error.details.map(|details| match details {
        Value::String(text) => Value::String(cut(text, DETAILS_MAX)),
        details => {
            let text = details.to_string();
            if text.len() <= DETAILS_MAX { details } else { Value::String(cut(text, DETAILS_MAX)) }
        }
    });
    error.trace = error.trace.map(|trace| cut_inside(trace, TRACE_MAX));
    error
}

/// The beginning of a text.
fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
        text.push('…');
    }
    text
}

/// Both ends of a text: a trace begins or ends with what matters, depending on the language.
fn cut_inside(text: String, max: usize) -> String {
    if text.len() <= max {
        return text;
    }
    let head = &text[..text.floor_char_boundary(max / 2)];
    let tail = &text[text.ceil_char_boundary(text.len() - max / 2)..];
    format!("{head}\n…\n{tail}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_status_has_one_code() {
        let codes = |statuses: std::ops::RangeInclusive<u16>, code| -> Vec<u16> {
            statuses.filter(|status| Cause::HttpStatus(*status).code() == code).collect()
        };
        assert_eq!(codes(300..=599, ErrorCode::PermissionDenied), [401, 402, 403, 407, 451]);
        assert_eq!(codes(300..=599, ErrorCode::Timeout), [408, 504]);
        assert_eq!(codes(300..=599, ErrorCode::RateLimited), [429]);
        assert_eq!(codes(400..=499, ErrorCode::ExternalServiceError), [409, 423, 424, 425]);
        assert_eq!(codes(300..=599, ErrorCode::InvalidInput).len(), 100 - 5 - 1 - 1 - 4);
        assert_eq!(codes(300..=599, ErrorCode::ExternalServiceError).len(), 100 + 4 + 99);
    }

    #[test]
    fn an_exception_has_the_failure_mode_of_its_class() {
        let table: Vec<String> = [
            "TimeoutError",
            "asyncio.exceptions.TimeoutError",
            "requests.exceptions.ReadTimeout",
            "ConnectionError",
            "ConnectionRefusedError",
            "ValueError",
            "PermissionError",
            "KeyError",
            "json.decoder.JSONDecodeError",
        ]
        .into_iter()
        .map(|class| {
            let code = Cause::PythonRaised(class).code();
            format!("{class} {code} {:?} {}", code.failure_mode(), code.retryable_by_default())
        })
        .collect();
        assert_eq!(
            table,
            [
                "TimeoutError TIMEOUT Resource true",
                "asyncio.exceptions.TimeoutError TIMEOUT Resource true",
                "requests.exceptions.ReadTimeout TIMEOUT Resource true",
                "ConnectionError EXTERNAL_SERVICE_ERROR System true",
                "ConnectionRefusedError EXTERNAL_SERVICE_ERROR System true",
                "ValueError INVALID_INPUT User false",
                "PermissionError PERMISSION_DENIED Policy false",
                "KeyError INTERNAL_ERROR Agent true",
                "json.decoder.JSONDecodeError INTERNAL_ERROR Agent true",
            ]
        );
    }

    #[test]
    fn the_last_traceback_names_the_exception() {
        let complained = "noise\nTraceback (most recent call last):\n  File \"a.py\", line 1\n    f()\nKeyError: 'a'\n\n\
             During handling of the above exception, another exception occurred:\n\n\
             Traceback (most recent call last):\n  File \"a.py\", line 3\n    g()\nmy.own.ValueError: bad: 7\nand more\n";
        let (traceback, class) = python_traceback(complained).expect("a traceback");
        assert_eq!(class, "my.own.ValueError");
        assert!(traceback.starts_with("Traceback") && traceback.ends_with("and more"), "{traceback}");
        for other in [
            "",
            "ValueError: x",
            "Traceback (most recent call last):\n  File",
            "Traceback (most recent call last):\nno class here: x",
        ] {
            assert_eq!(python_traceback(other), None, "{other}");
        }
    }

    #[test]
    fn an_agents_word_stands_over_the_table() {
        let otherwise = || Cause::HttpStatus(500).error_with("it answered 500", json!({"status": 500}));
        let said =
            Said::read(br#"{"error": {"code": "RATE_LIMITED", "retryable": false, "trace": "at x", "details": [1]}}"#);
        let error = said.expect("an error").over(otherwise());
        assert_eq!((error.code, error.message.as_str()), (ErrorCode::RateLimited, "it answered 500"));
        assert_eq!((error.retryable, error.trace.as_deref()), (Some(false), Some("at x")));
        assert_eq!(error.details, Some(json!({"status": 500, "details": [1]})));
        let error = Said::read(br#"{"error": {"code": "E42", "message": "no"}}"#).expect("an error").over(otherwise());
        assert_eq!((error.code, error.message.as_str()), (ErrorCode::ExternalServiceError, "no"));
        assert_eq!(error.details, Some(json!({"status": 500, "code": "E42"})));
        assert!(Said::read(b"{}").is_none() && Said::read(b"boom").is_none());
    }

    #[test]
    fn what_an_agent_says_is_cut_at_a_character() {
        let long = "é".repeat(20_000);
        let error = StepError {
            code: ErrorCode::InternalError,
            message: long.clone(),
            retryable: None,
            details: Some(json!({"text": long})),
            trace: Some(format!("first{long}last")),
        };
        let error = bounded(error);
        assert!(error.message.len() <= ERROR_MESSAGE_MAX && error.message.ends_with('é'));
        let details = error.details.expect("details");
        assert!(details.as_str().is_some_and(|text| text.len() <= DETAILS_MAX + 3 && text.ends_with("é…")));
        let trace = error.trace.expect("a trace");
        assert!(
            trace.len() <= TRACE_MAX + 5 && trace.starts_with("first") && trace.ends_with("last"),
            "{}",
            trace.len()
        );
        let small = StepError { details: Some(json!([1])), ..StepError::new(ErrorCode::Timeout, "slow") };
        assert_eq!(bounded(small.clone()), small);
    }
}
