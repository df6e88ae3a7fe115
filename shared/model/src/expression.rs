//! Expressions: RFC 9535 paths, CEL conditions and templates (`input_map`, `output_map`).
//!
//! All of them say what they read ([`Root`]) and are evaluated over a [`Scope`] that holds just
//! that. Evaluation is a function of expression and scope alone, and bounded.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde_json::Value;
use serde_json::value::RawValue;

use crate::ids::StepId;

mod attribute;
mod condition;
mod path;
mod query;
mod raw;
mod segments;
mod template;

pub use attribute::{Attribute, AttributeOf};
pub use condition::{Condition, InvalidCondition};
pub use path::Path;
pub use query::{InvalidPath, Query, TooManyNodes};
pub use template::{InvalidTemplate, Template};

/// A value that expressions can start from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    /// `$.input`
    Input,
    /// `$.context`
    Context,
    /// `$.item`
    Item,
    /// `$.index`
    Index,
    /// `$.steps.<id>.<field>`
    Step(StepId, Field),
    /// `$.self.<field>`: of the step, or the item, that is compensated
    Own(Field),
    /// `$.outcome`: how the execution ends, for `finally`
    Outcome,
}

/// What can be read of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    Output,
    Status,
    Error,
    Metrics,
}

impl Field {
    /// Every field.
    pub const ALL: [Self; 4] = [Self::Output, Self::Status, Self::Error, Self::Metrics];

    /// The field as it is written in a path.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Status => "status",
            Self::Error => "error",
            Self::Metrics => "metrics",
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => f.write_str("$.input"),
            Self::Context => f.write_str("$.context"),
            Self::Item => f.write_str("$.item"),
            Self::Index => f.write_str("$.index"),
            Self::Step(step, field) if step.as_str().contains('-') => {
                write!(f, "$.steps[\"{step}\"].{}", field.as_str())
            }
            Self::Step(step, field) => write!(f, "$.steps.{step}.{}", field.as_str()),
            Self::Own(field) => write!(f, "$.self.{}", field.as_str()),
            Self::Outcome => f.write_str("$.outcome"),
        }
    }
}

/// The values that expressions read. A root that is absent is null.
#[derive(Debug, Default)]
pub struct Scope {
    values: BTreeMap<Root, Known>,
}

#[derive(Debug)]
struct Known {
    text: Arc<RawValue>,
    /// The text parsed, once something needs more of it than a piece.
    parsed: OnceLock<Value>,
}

impl Scope {
    /// Gives `root` a value.
    pub fn insert(&mut self, root: Root, value: Arc<RawValue>) {
        self.values.insert(root, Known { text: value, parsed: OnceLock::new() });
    }

    /// The value's text, if `root` has one.
    pub fn text(&self, root: &Root) -> Option<&Arc<RawValue>> {
        self.values.get(root).map(|known| &known.text)
    }

    /// The whole value, parsed at most once.
    pub(crate) fn value(&self, root: &Root) -> Result<&Value, EvaluationError> {
        static NULL: Value = Value::Null;
        let Some(known) = self.values.get(root) else { return Ok(&NULL) };
        if let Some(value) = known.parsed.get() {
            return Ok(value);
        }
        let value = raw::parse(known.text.get(), root)?;
        Ok(known.parsed.get_or_init(|| value))
    }
}

/// Why an expression has no value; the step that needs it fails with `INVALID_INPUT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    #[error("{path} is required, and there is nothing or null")]
    Missing { path: String },
    #[error("{root} cannot be read: {reason}")]
    Unreadable { root: Root, reason: String },
    #[error("{path} selects {found} values; at most {limit} are allowed")]
    TooManyNodes { path: String, found: usize, limit: usize },
    #[error("condition `{text}`, column {column}: {message}")]
    Condition { text: String, column: u32, message: String },
}
