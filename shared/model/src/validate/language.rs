//! The language as tables: which fields there are and what each takes.

use crate::limits::{ATTEMPTS_MAX, DEPENDENCIES_MAX, FAN_OUT_ITEMS_MAX};

/// A field of an object.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    pub(super) required: bool,
}

/// What a field takes.
pub(super) enum Takes {
    /// Names of workflows, steps, agents and capabilities.
    Name,
    Text,
    Flag,
    /// A whole number.
    Count {
        min: u64,
        max: u64,
    },
    /// A whole number of milliseconds.
    Duration {
        min: u64,
    },
    /// `retention_ms`.
    Retention,
    /// A number of at least this.
    Factor {
        min: f64,
    },
    /// `min_success`.
    Success,
    Word(&'static [&'static str]),
    /// `retry_on`.
    Codes,
    /// Any value but null.
    Value,
    /// What a JSON Schema is: an object or a boolean.
    Schema,
    Labels,
    Searchable,
    Names {
        max: usize,
    },
    Object(&'static [Field]),
    Steps {
        min: usize,
    },
}

const fn required(name: &'static str, takes: Takes) -> Field {
    Field { name, takes, required: true }
}

const fn optional(name: &'static str, takes: Takes) -> Field {
    Field { name, takes, required: false }
}

pub(super) const WORKFLOW: &[Field] = &[
    required("id", Takes::Name),
    optional("name", Takes::Text),
    optional("version", Takes::Text),
    optional("description", Takes::Text),
    optional("input_schema", Takes::Schema),
    optional("context_schema", Takes::Schema),
    optional("output_map", Takes::Value),
    optional("timeout_ms", Takes::Duration { min: 1 }),
    optional("default_step_timeout_ms", Takes::Duration { min: 1 }),
    optional("max_parallel", Takes::Count { min: 1, max: FAN_OUT_ITEMS_MAX as u64 }),
    optional("on_failure", Takes::Word(&["fail_fast", "continue", "compensate"])),
    optional("default_retry", Takes::Object(RETRY)),
    optional("labels", Takes::Labels),
    optional("retention_ms", Takes::Retention),
    optional("searchable", Takes::Searchable),
    required("steps", Takes::Steps { min: 1 }),
    optional("finally", Takes::Steps { min: 0 }),
];

pub(super) const STEP: &[Field] = &[
    required("id", Takes::Name),
    optional("name", Takes::Text),
    optional("description", Takes::Text),
    optional("agent_id", Takes::Name),
    optional("capability", Takes::Name),
    optional("input_map", Takes::Value),
    optional("depends_on", Takes::Names { max: DEPENDENCIES_MAX }),
    optional("condition", Takes::Text),
    optional("timeout_ms", Takes::Duration { min: 1 }),
    optional("schedule_to_start_ms", Takes::Duration { min: 1 }),
    optional("schedule_to_close_ms", Takes::Duration { min: 1 }),
    optional("heartbeat_ms", Takes::Duration { min: 1 }),
    optional("retry", Takes::Object(RETRY)),
    optional("fallback", Takes::Object(FALLBACK)),
    optional("compensate", Takes::Object(COMPENSATE)),
    optional("irreversible", Takes::Flag),
    optional("fan_out", Takes::Object(FAN_OUT)),
    optional("fan_in", Takes::Object(FAN_IN)),
    optional("critical", Takes::Flag),
    optional("require", Takes::Word(&["settled", "completed"])),
];

const RETRY: &[Field] = &[
    optional("max_attempts", Takes::Count { min: 1, max: ATTEMPTS_MAX as u64 }),
    optional("backoff_ms", Takes::Duration { min: 0 }),
    optional("backoff_multiplier", Takes::Factor { min: 1.0 }),
    optional("max_backoff_ms", Takes::Duration { min: 0 }),
    optional("jitter", Takes::Flag),
    optional("strategy", Takes::Word(&["exponential", "linear", "fixed"])),
    optional("retry_on", Takes::Codes),
];

const FALLBACK: &[Field] = &[
    optional("agent_id", Takes::Name),
    optional("capability", Takes::Name),
    optional("retry", Takes::Object(RETRY)),
    optional("timeout_ms", Takes::Duration { min: 1 }),
    optional("static_value", Takes::Value),
    optional("skip", Takes::Flag),
];

const COMPENSATE: &[Field] = &[
    optional("agent_id", Takes::Name),
    optional("capability", Takes::Name),
    optional("input_map", Takes::Value),
    optional("timeout_ms", Takes::Duration { min: 1 }),
    optional("retry", Takes::Object(RETRY)),
];

const FAN_OUT: &[Field] = &[
    required("items", Takes::Text),
    optional("concurrency", Takes::Count { min: 1, max: FAN_OUT_ITEMS_MAX as u64 }),
    optional("on_item_failure", Takes::Word(&["fail", "continue"])),
    optional("min_success", Takes::Success),
];

const FAN_IN: &[Field] = &[
    required("from", Takes::Names { max: DEPENDENCIES_MAX }),
    optional("aggregate", Takes::Word(&["list", "merge", "first"])),
];

/// Fields and values that are part of the language and that this version does not run.
pub(super) const LATER: &[&str] =
    &["approval", "budget", "cost", "plan", "sensitive", "transform", "verify", "wait", "workflow"];

/// What people write who know other workflow languages.
pub(super) const SYNONYMS: &[(&str, &str)] = &[
    ("agent", "agent_id"),
    ("after", "depends_on"),
    ("always", "finally"),
    ("attributes", "searchable"),
    ("catch", "fallback"),
    ("compensation", "compensate"),
    ("for_each", "fan_out"),
    ("foreach", "fan_out"),
    ("heartbeat", "heartbeat_ms"),
    ("if", "condition"),
    ("input", "input_map"),
    ("inputs", "input_map"),
    ("needs", "depends_on"),
    ("output", "output_map"),
    ("on_error", "on_failure"),
    ("on_exit", "finally"),
    ("outputs", "output_map"),
    ("requires", "depends_on"),
    ("retention", "retention_ms"),
    ("retries", "retry"),
    ("retries", "default_retry"),
    ("retry", "default_retry"),
    ("retry_policy", "retry"),
    ("retry_policy", "default_retry"),
    ("rollback", "compensate"),
    ("tasks", "steps"),
    ("timeout", "timeout_ms"),
    ("undo", "compensate"),
    ("when", "condition"),
    ("with", "input_map"),
];
