//! Queries: RFC 9535 JSONPath.

use jsonpath_rfc9535::{Error, JsonPath};
use serde_json::Value;

use crate::limits::PATH_NODES_MAX;

/// Any RFC 9535 query, over any value.
#[derive(Debug, Clone)]
pub struct Query {
    path: JsonPath,
}

/// The text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`, column {column}: {message}")]
pub struct InvalidPath {
    pub text: String,
    /// Where in the text, counted in characters from 1.
    pub column: u32,
    pub message: String,
}

/// The query selects more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the query selects {found} values; at most {PATH_NODES_MAX} are allowed")]
pub struct TooManyNodes {
    pub found: usize,
}

impl Query {
    /// Reads and type-checks a query.
    pub fn parse(text: &str) -> Result<Self, InvalidPath> {
        parse(text).map(|path| Self { path })
    }

    /// The selected values in document order.
    pub fn select(&self, value: &Value) -> Result<Vec<Value>, TooManyNodes> {
        let nodes = self.path.query_values(value);
        if nodes.len() > PATH_NODES_MAX {
            return Err(TooManyNodes { found: nodes.len() });
        }
        Ok(nodes.into_iter().cloned().collect())
    }
}

/// Reads and type-checks a query; errors say where and what.
pub(super) fn parse(text: &str) -> Result<JsonPath, InvalidPath> {
    JsonPath::parse(text).map_err(|error| explain(text, &error))
}

/// The column of a byte of `text`, counted in characters from 1.
pub(super) fn column(text: &str, byte: usize) -> u32 {
    let before = text.char_indices().take_while(|(at, _)| *at < byte).count();
    u32::try_from(before + 1).unwrap_or(u32::MAX)
}

pub(super) fn invalid(text: &str, byte: usize, message: impl Into<String>) -> InvalidPath {
    InvalidPath { text: text.to_owned(), column: column(text, byte), message: message.into() }
}

fn explain(text: &str, error: &Error) -> InvalidPath {
    let (byte, message) = match error {
        Error::Syntax { position, .. } => (*position, unexpected(text, *position)),
        Error::NestingTooDeep { position } => (*position, "brackets are nested too deeply".to_owned()),
        Error::IntegerOutOfRange { repr } => {
            (text.find(repr.as_str()).unwrap_or(0), format!("{repr} is too large for an index"))
        }
        Error::UnknownFunction { name } => (
            text.find(name.as_str()).unwrap_or(0),
            format!("there is no function `{name}`; there are length, count, match, search and value"),
        ),
        Error::FunctionArity { name, expected, found } => {
            (text.find(name.as_str()).unwrap_or(0), format!("`{name}` takes {expected} arguments, {found} are given"))
        }
        other => (0, other.to_string()),
    };
    invalid(text, byte, message)
}

fn unexpected(text: &str, byte: usize) -> String {
    const SEGMENTS: &str = "a path is `$` and then segments like .name, [\"name\"], [0], [*] or [?@.x == 1]";
    let rest: String = text.get(byte..).unwrap_or_default().chars().take(20).collect();
    if text.is_empty() {
        format!("the path is empty; {SEGMENTS}")
    } else if rest.is_empty() {
        "the path ends too early".to_owned()
    } else if byte == 0 && !text.starts_with('$') {
        "a path starts with `$`".to_owned()
    } else if byte == 0 {
        let rest: String = text.chars().skip(1).take(20).collect();
        format!("`{rest}` cannot be read; {SEGMENTS}")
    } else {
        format!("`{rest}` cannot be read; {SEGMENTS}")
    }
}
