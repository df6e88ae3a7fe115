//! `eval`: a path or a condition over a JSON file.

use std::path::Path;
use std::sync::Arc;

use millstream_model::expression::{Condition, Field, Query, Root, Scope};
use millstream_model::ids::StepId;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::arguments::Eval;
use crate::outcome::{Exit, Invalid};
use crate::{files, output, report};

pub(super) fn eval(arguments: &Eval) -> anyhow::Result<Exit> {
    match (&arguments.path, &arguments.condition) {
        (Some(path), _) => evaluate_path(path, &arguments.data),
        (None, Some(condition)) => evaluate_condition(condition, &arguments.data),
        (None, None) => unreachable!("one of them is required"),
    }
}

fn evaluate_path(path: &str, data: &Path) -> anyhow::Result<Exit> {
    // The expression is judged first: it is what the caller is trying out.
    let query = match Query::parse(path) {
        Ok(query) => query,
        Err(invalid) => return Ok(refuse("path", path, invalid.column, &invalid.message)),
    };
    let value = read(data)?;
    match query.select(&value) {
        Ok(selected) => {
            output::json_line(&selected)?;
            Ok(Exit::Success)
        }
        Err(error) => {
            output::note(&format!("error: {error}"));
            Ok(Exit::Failed)
        }
    }
}

fn evaluate_condition(condition: &str, data: &Path) -> anyhow::Result<Exit> {
    let compiled = match Condition::parse(condition) {
        Ok(compiled) => compiled,
        Err(invalid) => return Ok(refuse("condition", condition, invalid.column, &invalid.message)),
    };
    let scope = scope(&read(data)?)?;
    match compiled.evaluate(&scope) {
        Ok(outcome) => {
            output::json_line(&outcome)?;
            Ok(Exit::Success)
        }
        Err(error) => {
            output::note(&format!("error: {error}"));
            Ok(Exit::Failed)
        }
    }
}

fn refuse(kind: &str, text: &str, column: u32, message: &str) -> Exit {
    let column = usize::try_from(column).unwrap_or(usize::MAX);
    output::note(&format!(
        "error: this is not a {kind}: {message} (column {column})\n{}",
        report::point(&text.replace(['\n', '\t'], " "), column)
    ));
    Exit::Invalid
}

fn read(data: &Path) -> Result<Value, Invalid> {
    let text = files::text(data)?;
    serde_json::from_str(&text).map_err(|error| Invalid::new(format!("{} is not JSON: {error}", data.display())))
}

/// What a condition sees, from `{"input":…, "context":…, "steps":{"<id>":{"output":…}}}`.
fn scope(data: &Value) -> Result<Scope, Invalid> {
    let mut scope = Scope::default();
    let raw = |value: &Value| -> Arc<RawValue> { Arc::from(to_raw_value(value).expect("a value has a JSON form")) };
    let plain = [("input", Root::Input), ("context", Root::Context), ("item", Root::Item), ("index", Root::Index)];
    for (name, root) in plain {
        if let Some(value) = data.get(name) {
            scope.insert(root, raw(value));
        }
    }
    for (id, step) in data["steps"].as_object().into_iter().flatten() {
        let id: StepId = id.parse().map_err(|error| Invalid::new(format!("steps: {id:?} is not a step: {error}")))?;
        for field in Field::ALL {
            if let Some(value) = step.get(field.as_str()) {
                scope.insert(Root::Step(id.clone(), field), raw(value));
            }
        }
    }
    Ok(scope)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_sees_input_context_and_steps() {
        let scope = scope(&json!({
            "input": {"dry_run": false}, "context": {"tier": "gold"},
            "steps": {"classify": {"output": {"severity": "high"}, "status": "COMPLETED"}}
        }))
        .expect("a scope");
        let holds = |text: &str| Condition::parse(text).expect("a condition").evaluate(&scope).expect("a value");
        assert!(holds("$.steps.classify.output.severity == \"high\" && !($.input.dry_run)"));
        assert!(holds("$.steps.classify.status == \"COMPLETED\" && $.context.tier != \"silver\""));
        assert!(!holds("$.steps.classify.output.nothing == 1"));
    }

    #[test]
    fn a_step_with_an_impossible_name_is_refused() {
        assert!(scope(&json!({"steps": {"a b": {}}})).is_err());
    }
}
