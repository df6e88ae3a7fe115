//! JSON Schemas (2020-12): the one of definitions, and those that definitions bring.

use jsonschema::{Draft, Validator};
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::Value;

use crate::definition::Definition;

/// One place where a value is not what a schema wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SchemaViolation {
    /// JSON pointer (RFC 6901) into the value.
    pub instance_path: String,
    pub message: String,
}

/// The value is no JSON Schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{schema_path}: {message}")]
pub struct InvalidSchema {
    /// JSON pointer (RFC 6901) into the schema.
    pub schema_path: String,
    pub message: String,
}

/// The name of the published schema of definitions.
pub const DEFINITION_SCHEMA_ID: &str = "urn:millstream:schema:definition";

/// The JSON Schema of definitions, for editors and other tools. [`crate::validate`] finds more.
pub fn definition_schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Definition>();
    schema.insert("$id".to_owned(), DEFINITION_SCHEMA_ID.into());
    schema.insert("title".to_owned(), "Millstream workflow".into());
    schema.to_value()
}

/// Whether `instance` is what `schema` wants. Nothing is fetched: a schema that refers to other
/// documents is a violation of its own.
pub fn check(schema: &Value, instance: &Value) -> Result<(), Vec<SchemaViolation>> {
    let validator = compile(schema).map_err(|error| {
        vec![SchemaViolation { instance_path: String::new(), message: format!("the schema is no schema: {error}") }]
    })?;
    let mut violations: Vec<SchemaViolation> = validator
        .iter_errors(instance)
        .map(|error| SchemaViolation { instance_path: error.instance_path().to_string(), message: error.to_string() })
        .collect();
    violations.sort_by(|a, b| (&a.instance_path, &a.message).cmp(&(&b.instance_path, &b.message)));
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

pub(crate) fn compile(schema: &Value) -> Result<Validator, InvalidSchema> {
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .build(schema)
        .map_err(|error| InvalidSchema { schema_path: error.instance_path().to_string(), message: error.to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn violations(schema: &Value, instance: &Value) -> Vec<String> {
        let violations = check(schema, instance).expect_err("violations");
        violations.iter().map(|violation| format!("{}: {}", violation.instance_path, violation.message)).collect()
    }

    #[test]
    fn all_violations_are_reported_with_their_place() {
        let schema = json!({
            "type": "object", "required": ["day"],
            "properties": {"list": {"items": {"type": "integer"}}, "a/b": {"$ref": "#/$defs/text"}},
            "$defs": {"text": {"type": "string"}}
        });
        assert_eq!(check(&schema, &json!({"day": 1, "list": [1], "a/b": "x"})), Ok(()));
        assert_eq!(
            violations(&schema, &json!({"list": [1, "x", 2.5], "a/b": 7})),
            [
                ": \"day\" is a required property",
                "/a~1b: 7 is not of type \"string\"",
                "/list/1: \"x\" is not of type \"integer\"",
                "/list/2: 2.5 is not of type \"integer\"",
            ]
        );
    }

    #[test]
    fn other_documents_are_not_fetched() {
        for reference in ["http://127.0.0.1:1/x", "file:///etc/hostname", "other.json"] {
            let found = violations(&json!({"$ref": reference}), &json!(1));
            assert!(found[0].starts_with(": the schema is no schema"), "{found:?}");
        }
    }

    #[test]
    fn the_schema_of_definitions_takes_what_we_take() {
        let schema = definition_schema();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["$id"], DEFINITION_SCHEMA_ID);
        let good = json!({
            "id": "w", "version": "1.0.0", "input_schema": {"type": "object"}, "on_failure": "compensate",
            "retention_ms": 1000, "searchable": {"day": "$.input.day"},
            "default_retry": {"max_attempts": 2, "strategy": "fixed", "jitter": false},
            "steps": [
                {"id": "a", "agent_id": "x", "retry": {"max_attempts": 3, "retry_on": ["TIMEOUT"]}, "timeout_ms": 5,
                 "schedule_to_start_ms": 5, "schedule_to_close_ms": 9, "heartbeat_ms": 2,
                 "fallback": {"agent_id": "y", "retry": {"max_attempts": 1}, "timeout_ms": 7},
                 "compensate": {"capability": "z", "input_map": {"ref": "$.self.output"}, "retry": {"backoff_ms": 5}}},
                {"id": "b", "fan_in": {"from": ["a"], "aggregate": "merge"}, "depends_on": ["a"], "require": "completed"},
                {"id": "c", "capability": "x", "fan_out": {"items": "$.input", "min_success": 5}, "input_map": [1],
                 "irreversible": true, "fallback": {"static_value": {"a": "$.input"}}}
            ],
            "finally": [{"id": "d", "agent_id": "x", "input_map": "$.outcome", "fallback": {"skip": true}}]
        });
        assert_eq!(check(&schema, &good), Ok(()));
        assert!(crate::validate::definition(&good.to_string()).is_ok());
        for (pointer, bad) in [
            ("/id", json!("a b")),
            ("/steps/0/retry", json!({"attempts": 3})),
            ("/steps/1/fan_in/aggregate", json!("sum")),
            ("/steps/2/capability", json!(7)),
            ("/on_failure", json!("undo")),
            ("/default_retry/jitter", json!(3)),
            ("/default_retry/strategy", json!("quadratic")),
            ("/default_retry/max_attempts", json!(0)),
            ("/steps/0/retry/retry_on", json!(["NEVER_HEARD_OF"])),
            ("/steps/0/heartbeat_ms", json!("5s")),
            ("/steps/0/schedule_to_start_ms", json!(-1)),
            ("/steps/0/fallback", json!({"agents": ["x"]})),
            ("/steps/0/compensate/retry/backoff_ms", json!(-5)),
            ("/steps/0/compensate/retry", json!({"backoff_multiplier": 0.5})),
            ("/steps/2/irreversible", json!("yes")),
            ("/finally/0/fallback/skip", json!(1)),
            ("/finally", json!({"id": "d"})),
            ("/retention_ms", json!(999)),
            ("/searchable", json!(["$.input.day"])),
        ] {
            let mut broken = good.clone();
            *broken.pointer_mut(pointer).expect("a place") = bad;
            assert!(check(&schema, &broken).is_err(), "{pointer}");
            assert!(crate::validate::definition(&broken.to_string()).is_err(), "{pointer}");
        }
    }
}
