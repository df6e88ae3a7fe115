//! Inputs and contexts against the schemas that definitions bring.

use std::sync::Arc;

use millstream_model::plan::Plan;
use millstream_model::schema;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::limits::{INLINE_PARSE_MAX, VIOLATIONS_MAX};
use super::problem::{Problem, ProblemKind};
use super::submissions::empty_object;

/// A place in the body that breaks the workflow's schema.
#[derive(Debug, Serialize)]
struct Violation {
    /// JSON Pointer into the request's body.
    path: String,
    message: String,
}

/// Whether the input and the context are what the workflow's schemas want.
pub(super) async fn check(plan: &Arc<Plan>, input: &RawValue, context: Option<&RawValue>) -> Result<(), Problem> {
    let definition = &plan.definition;
    if definition.input_schema.is_none() && definition.context_schema.is_none() {
        return Ok(());
    }
    let size = input.get().len() + context.map_or(0, |context| context.get().len());
    let violations = if size <= INLINE_PARSE_MAX {
        violations(plan, input, context)
    } else {
        let (plan, input, context) = (Arc::clone(plan), input.to_owned(), context.map(ToOwned::to_owned));
        tokio::task::spawn_blocking(move || violations(&plan, &input, context.as_deref()))
            .await
            .map_err(|_| Problem::new(ProblemKind::Internal, "the check of the input was aborted"))?
    };
    if violations.is_empty() {
        return Ok(());
    }
    let first = &violations[0];
    let detail = match violations.len() {
        1 => format!("{}: {}", first.path, first.message),
        several => format!("{}: {}; and {} more", first.path, first.message, several - 1),
    };
    Err(Problem::new(ProblemKind::InvalidInput, detail).listing(&violations[..violations.len().min(VIOLATIONS_MAX)]))
}

/// An absent context is checked as an empty object, so that what it lacks is named.
fn violations(plan: &Plan, input: &RawValue, context: Option<&RawValue>) -> Vec<Violation> {
    let definition = &plan.definition;
    let empty = empty_object();
    let checks = [
        ("input", &definition.input_schema, input),
        ("context", &definition.context_schema, context.unwrap_or(&empty)),
    ];
    let mut violations = Vec::new();
    for (name, schema, text) in checks {
        let Some(schema) = schema else { continue };
        let value: Value = serde_json::from_str(text.get()).expect("the body was read as JSON");
        if let Err(found) = schema::check(schema, &value) {
            violations.extend(found.into_iter().map(|violation| Violation {
                path: format!("/{name}{}", violation.instance_path),
                message: violation.message,
            }));
        }
    }
    violations
}
