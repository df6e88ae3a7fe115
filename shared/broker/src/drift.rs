//! What differs between a stream as it is and as it should be.

use std::fmt;

use serde_json::{Map, Value};

/// Settings that decide what a stream does. Others are the operator's (placement, description, metadata) or
/// differ by nature (`first_seq` of the task stream is its time of creation).
const COMPARED: [&str; 24] = [
    "subjects",
    "retention",
    "storage",
    "num_replicas",
    "discard",
    "discard_new_per_subject",
    "max_msgs",
    "max_bytes",
    "max_age",
    "max_msgs_per_subject",
    "max_msg_size",
    "max_consumers",
    "duplicate_window",
    "no_ack",
    "sealed",
    "deny_delete",
    "deny_purge",
    "allow_direct",
    "allow_rollup_hdrs",
    "allow_msg_ttl",
    "subject_delete_marker_ttl",
    "persist_mode",
    "mirror",
    "sources",
];

/// One setting of an existing stream that is not what this build would create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The setting's name in the server's JSON.
    pub field: &'static str,
    pub wanted: String,
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: wanted {}, found {}", self.field, self.wanted, self.found)
    }
}

/// Several differences as one text.
pub(crate) struct Differences<'a>(pub(crate) &'a [Difference]);

impl fmt::Display for Differences<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, difference) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{difference}")?;
        }
        Ok(())
    }
}

/// Compares two stream configurations in the server's JSON.
pub(crate) fn differences(wanted: &Map<String, Value>, found: &Map<String, Value>) -> Vec<Difference> {
    COMPARED
        .into_iter()
        .filter_map(|field| {
            let (wanted, found) = (normal(field, wanted.get(field)), normal(field, found.get(field)));
            (wanted != found).then(|| Difference { field, wanted: shown(field, &wanted), found: shown(field, &found) })
        })
        .collect()
}

/// The server writes defaults that we leave out, and has two ways to say "unlimited".
fn normal(field: &str, value: Option<&Value>) -> Value {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => Value::Null,
        Some(Value::String(text)) if text.is_empty() || (field == "persist_mode" && text == "default") => Value::Null,
        Some(Value::Number(number)) if number.as_i64() == Some(0) => Value::Null,
        Some(Value::Number(number)) if field.starts_with("max_") && number.as_i64() == Some(-1) => Value::Null,
        Some(Value::Array(elements)) if elements.is_empty() => Value::Null,
        Some(value) => value.clone(),
    }
}

fn shown(field: &str, value: &Value) -> String {
    match value {
        Value::Null if field.starts_with("max_") => "unlimited".to_owned(),
        Value::Null => "off".to_owned(),
        Value::Bool(true) => "on".to_owned(),
        Value::Number(nanos) if is_duration(field) => match nanos.as_u64() {
            Some(nanos) if nanos % 1_000_000_000 == 0 => format!("{}s", nanos / 1_000_000_000),
            Some(_) | None => format!("{nanos}ns"),
        },
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn is_duration(field: &str) -> bool {
    matches!(field, "max_age" | "duplicate_window" | "subject_delete_marker_ttl")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(wanted: Value, found: Value, expected: &str) {
        let object = |value: Value| value.as_object().cloned().expect("an object");
        let differences = differences(&object(wanted), &object(found));
        assert_eq!(Differences(&differences).to_string(), expected);
    }

    #[test]
    fn defaults_are_no_difference() {
        check(
            json!({"max_msgs": 0, "subjects": ["a"], "first_seq": 5}),
            json!({"max_msgs": -1, "subjects": ["a"], "first_seq": 9, "deny_purge": false, "compression": "none",
                   "metadata": {"_nats.level": "0"}, "persist_mode": "default", "mirror": null}),
            "",
        );
    }

    #[test]
    fn differences_are_readable() {
        check(
            json!({"storage": "file", "num_replicas": 3, "duplicate_window": 120_000_000_000_u64, "allow_direct": true}),
            json!({"storage": "memory", "num_replicas": 1, "duplicate_window": 1_500_000_000, "max_bytes": 10}),
            "storage: wanted \"file\", found \"memory\"; num_replicas: wanted 3, found 1; \
             max_bytes: wanted unlimited, found 10; duplicate_window: wanted 120s, found 1500000000ns; \
             allow_direct: wanted on, found off",
        );
    }
}
