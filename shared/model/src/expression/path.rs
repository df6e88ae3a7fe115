//! Paths: RFC 9535 queries that start from a [`Root`].

use std::collections::BTreeSet;
use std::sync::Arc;

use jsonpath_rfc9535::{JsonPath, SingularSegment};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::query::{self, InvalidPath, invalid};
use super::segments::{Segment, outside_literals, segment, skip_blank};
use super::{EvaluationError, Field, Root, Scope, raw};
use crate::limits::{PATH_DESCENDANTS_MAX, PATH_FILTERS_MAX, PATH_LENGTH_MAX, PATH_NODES_MAX, PATH_SELECTORS_MAX};

/// A path as people write it in `input_map`, `output_map`, `fan_out.items` and conditions.
///
/// A singular path (names and indexes only) gives the value or null, any other a list.
#[derive(Debug, Clone)]
pub struct Path {
    text: Box<str>,
    reads: BTreeSet<Root>,
    root: Root,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    /// Nothing but the root.
    Whole,
    /// Names and indexes below the root.
    Singular(Vec<SingularSegment>),
    /// A query over the root's value.
    Query(JsonPath),
    /// A query whose filters read roots too, over an object of all that is read.
    Joined(JsonPath),
}

const STARTS: &str = "a path starts with $.input, $.context, $.item, $.index or $.steps.<step>.output \
                      (or .status, .error, .metrics), in a compensation also with $.self.output, in `finally` with $.outcome";

impl Path {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<Self, InvalidPath> {
        if text.len() > PATH_LENGTH_MAX {
            return Err(invalid(
                text,
                PATH_LENGTH_MAX,
                format!("a path has at most {PATH_LENGTH_MAX} bytes, this one has {}", text.len()),
            ));
        }
        let whole = query::parse(text).map_err(|error| point_at_step_name(text, error))?;
        check_cost(text)?;
        let start = root(text, 0)?;
        let mut reads = BTreeSet::new();
        for (at, _) in outside_literals(text).filter(|(_, byte)| *byte == b'$') {
            reads.insert(root(text, at)?.root);
        }
        let joined = outside_literals(text).filter(|(_, byte)| *byte == b'$').count() > 1;
        let form = match whole.singular_steps() {
            Some(steps) if steps.len() == start.segments => Form::Whole,
            Some(steps) => Form::Singular(steps[start.segments..].to_vec()),
            None if joined => Form::Joined(whole),
            None => Form::Query(query::parse(&format!("${}", &text[start.end..]))?),
        };
        Ok(Self { text: text.into(), reads, root: start.root, form })
    }

    /// The path as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What must be known to evaluate it.
    pub fn reads(&self) -> &BTreeSet<Root> {
        &self.reads
    }

    /// Whether it gives one value instead of a list.
    pub fn is_singular(&self) -> bool {
        matches!(self.form, Form::Whole | Form::Singular(_))
    }

    /// The value, null where there is none, or the list of selected values.
    pub fn evaluate(&self, scope: &Scope) -> Result<Value, EvaluationError> {
        match &self.form {
            Form::Whole | Form::Singular(_) => match self.piece(scope)? {
                Some(text) => raw::parse(text.get(), &self.root),
                None => Ok(Value::Null),
            },
            Form::Query(query) => self.select(query, scope.value(&self.root)?),
            Form::Joined(query) => self.select(query, &self.join(scope)?),
        }
    }

    /// Like [`Path::evaluate`], as JSON text; what a singular path leads to is not parsed.
    pub fn evaluate_raw(&self, scope: &Scope) -> Result<Arc<RawValue>, EvaluationError> {
        if let (Form::Whole, Some(text)) = (&self.form, scope.text(&self.root)) {
            return Ok(Arc::clone(text));
        }
        if self.is_singular() {
            return Ok(Arc::from(self.piece(scope)?.unwrap_or(RawValue::NULL).to_owned()));
        }
        let value = self.evaluate(scope)?;
        Ok(Arc::from(to_raw_value(&value).expect("a JSON value always has a text")))
    }

    /// The text that a singular path leads to.
    pub(super) fn piece<'s>(&self, scope: &'s Scope) -> Result<Option<&'s RawValue>, EvaluationError> {
        let Some(text) = scope.text(&self.root) else { return Ok(None) };
        match &self.form {
            Form::Singular(steps) => raw::follow(text, steps, &self.root),
            Form::Whole | Form::Query(_) | Form::Joined(_) => Ok(Some(text)),
        }
    }

    fn select(&self, query: &JsonPath, value: &Value) -> Result<Value, EvaluationError> {
        let nodes = query.query_values(value);
        if nodes.len() > PATH_NODES_MAX {
            let (path, found) = (self.text.to_string(), nodes.len());
            return Err(EvaluationError::TooManyNodes { path, found, limit: PATH_NODES_MAX });
        }
        Ok(nodes.into_iter().cloned().collect())
    }

    /// One object with everything the path reads.
    fn join(&self, scope: &Scope) -> Result<Value, EvaluationError> {
        let mut document = Map::new();
        let mut steps = Map::new();
        let mut own = Map::new();
        for root in &self.reads {
            let value = scope.value(root)?.clone();
            match root {
                Root::Input => drop(document.insert("input".into(), value)),
                Root::Context => drop(document.insert("context".into(), value)),
                Root::Item => drop(document.insert("item".into(), value)),
                Root::Index => drop(document.insert("index".into(), value)),
                Root::Outcome => drop(document.insert("outcome".into(), value)),
                Root::Own(field) => drop(own.insert(field.as_str().into(), value)),
                Root::Step(step, field) => {
                    let fields = steps.entry(step.as_str()).or_insert_with(|| Value::Object(Map::new()));
                    fields[field.as_str()] = value;
                }
            }
        }
        document.insert("steps".into(), Value::Object(steps));
        document.insert("self".into(), Value::Object(own));
        Ok(Value::Object(document))
    }
}

/// A root in a text.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) root: Root,
    /// How many segments name it.
    pub(super) segments: usize,
    /// First byte after it.
    pub(super) end: usize,
}

/// The root whose `$` is at byte `at`.
pub(super) fn root(text: &str, at: usize) -> Result<Start, InvalidPath> {
    let first = name_after(text, at + 1).ok_or_else(|| invalid(text, at, STARTS))?;
    let (root, segments, end) = match first.0.as_str() {
        "input" => (Root::Input, 1, first.1),
        "context" => (Root::Context, 1, first.1),
        "item" => (Root::Item, 1, first.1),
        "index" => (Root::Index, 1, first.1),
        "steps" => {
            let (root, end) = step_root(text, at, first.1)?;
            (root, 3, end)
        }
        "outcome" => (Root::Outcome, 1, first.1),
        "self" => {
            let (known, end) = field(text, first.1, "$.self")?;
            (Root::Own(known), 2, end)
        }
        other => return Err(invalid(text, at, format!("there is no $.{other}; {STARTS}"))),
    };
    Ok(Start { root, segments, end })
}

fn step_root(text: &str, dollar: usize, at: usize) -> Result<(Root, usize), InvalidPath> {
    let step = name_after(text, at)
        .ok_or_else(|| invalid(text, dollar, format!("$.steps needs the name of one step and {FIELDS}")))?;
    let id = step
        .0
        .parse()
        .map_err(|error| invalid(text, at, format!("`{}` cannot be the name of a step: {error}", step.0)))?;
    if text[step.1..].starts_with('-') {
        return Err(invalid(text, step.1, dashed(&text[at..])));
    }
    let (known, end) = field(text, step.1, "the step's name")?;
    Ok((Root::Step(id, known), end))
}

const FIELDS: &str = ".output, .status, .error or .metrics";

/// The field of a step at byte `at`, after `what`, and the first byte after it.
fn field(text: &str, at: usize, what: &str) -> Result<(Field, usize), InvalidPath> {
    let (name, end) = name_after(text, at).ok_or_else(|| invalid(text, at, format!("after {what} comes {FIELDS}")))?;
    match Field::ALL.into_iter().find(|known| known.as_str() == name) {
        Some(known) => Ok((known, end)),
        None => Err(invalid(text, at, format!("a step has no `{name}`; it has {FIELDS}"))),
    }
}

/// The member that the segment at byte `at` names, and the first byte after it.
fn name_after(text: &str, at: usize) -> Option<(String, usize)> {
    let Segment { end, name } = segment(text, skip_blank(text, at))?;
    Some((name?, end))
}

/// A `-` in a name is the most frequent reason why a path cannot be read.
fn point_at_step_name(text: &str, error: InvalidPath) -> InvalidPath {
    let byte = text.char_indices().nth(error.column.saturating_sub(1) as usize).map_or(text.len(), |(at, _)| at);
    let start = text[..byte].rfind('.').unwrap_or(byte);
    if text[byte..].starts_with('-') && text[start..].starts_with('.') {
        return InvalidPath { message: dashed(&text[start..]), ..error };
    }
    error
}

fn dashed(from: &str) -> String {
    let name: String =
        from.chars().skip(1).take_while(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '-').collect();
    format!("a name with `-` takes brackets: [\"{name}\"] instead of .{name}")
}

/// Bounds what an evaluation can cost beyond the size of what is read.
fn check_cost(text: &str) -> Result<(), InvalidPath> {
    let (mut descendants, mut filters, mut selectors) = (0, 0, 0);
    let mut previous = None;
    for (at, byte) in outside_literals(text) {
        match byte {
            b'.' if previous == Some((at.wrapping_sub(1), b'.')) => descendants += 1,
            b'?' => filters += 1,
            b'*' | b',' | b':' => selectors += 1,
            _ => {}
        }
        previous = Some((at, byte));
        let limits = [
            (descendants, PATH_DESCENDANTS_MAX, "descendant segments (`..`)"),
            (filters, PATH_FILTERS_MAX, "filters (`?`)"),
            (selectors, PATH_SELECTORS_MAX, "wildcards, slices and further selectors (`*`, `:`, `,`)"),
        ];
        if let Some((_, limit, what)) = limits.into_iter().find(|(count, limit, _)| count > limit) {
            return Err(invalid(text, at, format!("a path has at most {limit} {what}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
