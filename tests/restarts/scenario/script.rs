//! What a script says.
//!
//! ```yaml
//! input: {n: 1}
//! agents:                       # by step; the runs of each in order, the last one again and again
//!   fetch:
//!   - {fail: TIMEOUT, message: slow, after: 100}
//!   - {ok: {a: 1}}
//!   book[2] fallback: [{hang: true}]
//!   pay compensation: [{ok: refunded}]
//! people:
//! - {at: 500, cancel: a, by: ada}
//! - {at_end_of: a, resume: a, reason: mended}
//! ```
//!
//! An agent without a script succeeds with its name and the number of its run. Executions are named by letters: the
//! one that is submitted when no `submit` is said is `a`.

use std::collections::BTreeMap;

use millstream_model::error::ErrorCode;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    pub input: Value,
    pub context: Option<Value>,
    pub agents: BTreeMap<String, Vec<Run>>,
    pub people: Vec<Act>,
    /// The revision of the fold that is in force at first, where it matters.
    pub revision: Option<u16>,
}

/// What comes of one run of an agent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// Milliseconds that it takes; 20 when it is not said.
    pub after: Option<u64>,
    /// Its output; null when nothing else is said.
    pub ok: Value,
    /// The output goes to the payload store.
    pub stored: bool,
    pub metrics: Option<Value>,
    pub fail: Option<ErrorCode>,
    pub message: Option<String>,
    pub retryable: Option<bool>,
    pub details: Option<Value>,
    pub trace: Option<String>,
    /// It answers nobody; the worker's clock ends it.
    pub hang: bool,
    /// It goes on when it is told to stop.
    pub deaf: bool,
    pub vanish: Option<Vanish>,
    /// The broker forgets that it delivered the task to who vanished.
    pub forgotten: bool,
    /// Milliseconds that its report is under way; who vanished reports only when this is said.
    pub delayed: Option<u64>,
    /// Its task gets lost in the queue.
    pub missing: bool,
    /// Its task is met when it is too late.
    pub late: bool,
    /// Nobody takes its task.
    pub unseen: bool,
    /// The broker refuses its task for good.
    pub denied: Option<String>,
    /// The result is reported twice.
    pub twice: bool,
    /// What an intruder reports before.
    pub forged: Option<Forgery>,
}

/// How a worker is lost in the middle of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vanish {
    /// Its process dies, and its presence with it.
    Worker,
    /// It is cut off; its presence is kept.
    Network,
}

/// What is wrong with a forged success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forgery {
    Token,
    Capability,
    Ordinal,
    Step,
    Execution,
    /// It is written as if the coordinator had.
    Control,
}

/// What somebody does.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Act {
    /// Milliseconds after the beginning.
    pub at: Option<u64>,
    /// A second after this execution has ended; the first such act after the first end, and so on.
    pub at_end_of: Option<String>,
    /// Submits the workflow of this id.
    pub submit: Option<String>,
    /// The name of the new execution.
    #[serde(rename = "as")]
    pub name: Option<String>,
    pub input: Option<Value>,
    /// The idempotency key.
    pub key: Option<String>,
    /// It is submitted or resumed without routes.
    pub unrouted: bool,
    pub cancel: Option<String>,
    pub compensate: bool,
    pub resume: Option<String>,
    /// What is resumed was archived: its transcript is in the payload store.
    pub from_history: bool,
    /// The history has the record of this execution, if it has ended.
    pub archive: Option<String>,
    pub fork: Option<String>,
    /// The first step that runs anew.
    pub from: Option<String>,
    /// The definition of a fork, when it is another one.
    pub workflow: Option<String>,
    pub by: Option<String>,
    pub reason: Option<String>,
    /// Writes this text to the journal.
    pub garbage: Option<String>,
    /// The end of the subject that garbage is written to.
    pub on: Option<String>,
    /// Another coordinator takes the partition.
    pub take_over: Option<String>,
    /// The number of the epoch, when it is not that of its message.
    pub epoch: Option<u64>,
    /// The revision of the fold from the epoch on, when it is another one.
    pub revision: Option<u16>,
    /// A coordinator whose clock is fast fires the deadline of this execution.
    pub fire_early: Option<String>,
    /// The broker's clock goes back by as many milliseconds.
    pub clock_back: Option<u64>,
}
