//! Definitions: what people write, under the field names they know.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ErrorCode;
use crate::hash::ContentHash;
use crate::ids::{AgentId, Capability, StepId, WorkflowId};

/// A workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    pub id: WorkflowId,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// JSON Schema (2020-12) of the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
    /// JSON Schema (2020-12) of the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_schema: Option<Value>,
    /// The execution's output; absent: the output of the last COMPLETED step in definition order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_map: Option<Value>,
    /// The execution's deadline after its submission, in milliseconds; 1 hour by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// `timeout_ms` of steps that have none; 60 seconds by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_step_timeout_ms: Option<u64>,
    /// Steps that run at the same time; 10 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
    #[serde(default)]
    pub on_failure: OnFailure,
    /// What `retry` of its steps leaves open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_retry: Option<Retry>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How long the history keeps an execution after its end, in milliseconds; 30 days by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_000))]
    pub retention_ms: Option<u64>,
    /// What executions can be found by: singular paths below `$.input` and `$.output`, by the names of the attributes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub searchable: BTreeMap<String, String>,
    pub steps: Vec<Step>,
    /// Steps that run once the outcome is decided, whatever it is; they cannot change it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finally: Vec<Step>,
}

/// What the failure of a critical step does to its execution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It ends the execution.
    #[default]
    FailFast,
    /// What does not depend on it goes on; the execution is FAILED in the end.
    Continue,
    /// It ends the execution, and what was completed is undone: a saga (H. Garcia-Molina, K. Salem, "Sagas", SIGMOD
    /// 1987).
    Compensate,
}

/// One step of a workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub id: StepId,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Who does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Which pool of workers does it; with `agent_id` one of the agent's capabilities, alone any agent that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Capability>,
    /// Any JSON value; strings that start with `$` are paths. Absent: `$.item` in a fan-out, else the workflow's input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_map: Option<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<StepId>,
    /// CEL over paths; false skips the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Start-to-close of one attempt, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// From the publication of a task to its start, in milliseconds; without limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_to_start_ms: Option<u64>,
    /// From the first publication to the end of the last attempt, in milliseconds; without limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_to_close_ms: Option<u64>,
    /// Longest silence of a running agent, in milliseconds; without limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// How its effect is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensate: Option<Compensate>,
    /// Its effect cannot be undone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub irreversible: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fan_out: Option<FanOut>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fan_in: Option<FanIn>,
    /// Whether its failure is the execution's failure.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub critical: bool,
    /// What its dependencies must have been for it to run.
    #[serde(default, skip_serializing_if = "Require::is_settled")]
    pub require: Require,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

/// What the dependencies of a step must have been for it to run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Require {
    /// Completed, skipped by their own condition, or failed without being critical.
    #[default]
    Settled,
    /// All COMPLETED; else the step is SKIPPED.
    Completed,
}

impl Require {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_settled(&self) -> bool {
        *self == Self::Settled
    }
}

/// What takes the place of a step, or of an item, whose attempts are used up. Exactly one of `agent_id` or
/// `capability`, `static_value` and `skip`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// Who does it instead, with the same input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Which pool of workers does it instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Capability>,
    /// Attempts of the fallback agent; absent: those of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Start-to-close of one attempt of the fallback agent, in milliseconds; absent: that of the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The output instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub static_value: Option<Value>,
    /// The step is SKIPPED and its dependents may run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip: bool,
}

/// How the effect of a completed step, or of each of its items, is undone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compensate {
    /// Who undoes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Which pool of workers undoes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Capability>,
    /// Absent: `$.self.output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_map: Option<Value>,
    /// Start-to-close of one attempt, in milliseconds; absent: the workflow's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// How failed attempts are repeated. What is absent comes from the configured defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all, the first included; 3 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: Option<u32>,
    /// Delay after the first attempt, in milliseconds; 1,000 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_ms: Option<u64>,
    /// Growth of the delay per attempt; 2 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1.0))]
    pub backoff_multiplier: Option<f64>,
    /// Ceiling of the delay, in milliseconds; 30,000 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backoff_ms: Option<u64>,
    /// Adds 0–25 % to each delay; on by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Error codes that are retried, instead of the default ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_on: Option<Vec<ErrorCode>>,
}

impl Retry {
    /// The policy with what it leaves open taken from `defaults`, field by field. For a step: its `retry`, then the
    /// workflow's `default_retry`; what both leave open is up to the configured defaults.
    #[must_use]
    pub fn or(&self, defaults: Option<&Self>) -> Self {
        let Some(defaults) = defaults else { return self.clone() };
        Self {
            max_attempts: self.max_attempts.or(defaults.max_attempts),
            backoff_ms: self.backoff_ms.or(defaults.backoff_ms),
            backoff_multiplier: self.backoff_multiplier.or(defaults.backoff_multiplier),
            max_backoff_ms: self.max_backoff_ms.or(defaults.max_backoff_ms),
            jitter: self.jitter.or(defaults.jitter),
            strategy: self.strategy.or(defaults.strategy),
            retry_on: self.retry_on.as_ref().or(defaults.retry_on.as_ref()).cloned(),
        }
    }
}

/// How the delay grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// `backoff_ms × backoff_multiplier^(n−1)`
    #[default]
    Exponential,
    /// `backoff_ms × n`
    Linear,
    /// `backoff_ms`
    Fixed,
}

/// Runs the step once for each element of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FanOut {
    /// Path to the list.
    pub items: String,
    /// Items that run at the same time; 1,000 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    #[serde(default)]
    pub on_item_failure: OnItemFailure,
    /// Items that must succeed: a count (1 or more) or a share (less than 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_success: Option<f64>,
}

/// What the failure of one item does to its step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnItemFailure {
    /// The step fails.
    #[default]
    Fail,
    /// The item's output is null and the others go on.
    Continue,
}

/// Joins outputs of other steps; the step has no agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FanIn {
    /// Steps whose outputs are joined, in this order.
    pub from: Vec<StepId>,
    #[serde(default)]
    pub aggregate: Aggregate,
}

/// How outputs are joined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// All outputs in the order of `from`, then index.
    #[default]
    List,
    /// Members of all objects; later ones win.
    Merge,
    /// The successful output with the lowest (position in `from`, index).
    First,
}

impl Definition {
    /// The hash it is stored and pinned by.
    pub fn hash(&self) -> ContentHash {
        let value = serde_json::to_value(self).expect("a definition always has a JSON form");
        ContentHash::of_json(&value)
    }
}
