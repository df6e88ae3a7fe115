//! Agents: who does a step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hash::ContentHash;
use crate::ids::{AgentId, Capability};

/// An agent's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    pub id: AgentId,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub version: String,
    /// Names the worker's adapter: `native`, `http`, `process` or `builtin`.
    pub framework: String,
    /// Pools of workers that can run it; a step that does not name one uses the first.
    pub capabilities: Vec<Capability>,
    #[serde(default)]
    pub status: AgentStatus,
    /// What the adapter needs, by framework.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub config: Value,
    #[serde(default)]
    pub limits: AgentLimits,
}

/// Whether an agent takes work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AgentStatus {
    #[default]
    Active,
    Inactive,
}

/// What a worker may ask of an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentLimits {
    /// Calls that one worker runs at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Calls that one worker starts per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<u32>,
    /// Leaves an agent alone that fails again and again; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
}

/// When a worker stops calling an agent, and when it tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CircuitBreaker {
    /// Failures in a row that open the circuit; 5 by default.
    #[serde(default = "failures")]
    pub failures: u32,
    /// How long calls fail at once, in milliseconds; 30,000 by default.
    #[serde(default = "open_ms")]
    pub open_ms: u64,
}

fn failures() -> u32 {
    crate::limits::CIRCUIT_FAILURES
}

fn open_ms() -> u64 {
    crate::limits::CIRCUIT_OPEN_MS
}

impl Agent {
    /// The hash that submissions pin and workers load the manifest by.
    pub fn hash(&self) -> ContentHash {
        let value = serde_json::to_value(self).expect("a manifest always has a JSON form");
        ContentHash::of_json(&value)
    }
}

/// Capability of the built-in agents.
pub const BUILTIN_CAPABILITY: &str = "builtin";

/// The built-in agents, which every worker of the capability `builtin` can run.
pub fn builtin() -> Vec<Agent> {
    [("builtin-echo", "Echo", "echo"), ("builtin-sleep", "Sleep", "sleep"), ("builtin-fail", "Fail", "fail")]
        .into_iter()
        .map(|(id, name, op)| Agent {
            id: id.parse().expect("a name"),
            name: name.to_owned(),
            version: "1".to_owned(),
            framework: "builtin".to_owned(),
            capabilities: vec![BUILTIN_CAPABILITY.parse().expect("a name")],
            status: AgentStatus::Active,
            config: serde_json::json!({ "op": op }),
            limits: AgentLimits::default(),
        })
        .collect()
}
