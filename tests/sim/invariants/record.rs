//! What the checker remembers of one execution, from its entries.

use std::collections::{BTreeMap, BTreeSet};

use millstream_model::definition::{Retry, Step};
use millstream_model::entry::{Resumed, Submitted};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::ids::Capability;
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::task::TaskKey;
use millstream_model::time::Timestamp;

use crate::simulation::agenda::Time;
use crate::simulation::witness::Subject;

/// Roles of activations, as tasks show them: run, fallback, compensation.
pub(super) const COMPENSATION: u32 = 2;

/// See the module.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) submitted: Box<Submitted>,
    /// Journal time of the last entry; it never goes back.
    pub(super) clock: Timestamp,
    /// When this round began.
    pub(super) began: Timestamp,
    /// The success that settled a subject.
    pub(super) successes: BTreeMap<Subject, Success>,
    /// Accepted failures, oldest first.
    pub(super) failures: BTreeMap<Subject, Vec<Failure>>,
    /// Tasks of which workers have reported, and as which ordinals, whether that was accepted or not.
    pub(super) reported: BTreeMap<TaskKey, BTreeSet<u32>>,
    /// The message of the first true success of each subject.
    pub(super) completed: BTreeMap<Subject, u64>,
    /// Accepted reissues.
    pub(super) reissued: BTreeMap<TaskKey, u32>,
    /// How often tasks were put into the queue.
    pub(super) queued: BTreeMap<TaskKey, u32>,
    /// Since when another worker has held the claim of a subject's attempt.
    pub(super) held: BTreeMap<Subject, Timestamp>,
    pub(super) resumed: Vec<Resumed>,
    pub(super) cancelled: bool,
    /// Steps that need not run again: they completed, and all they depend on did. Of the end of this round, and of the
    /// one before.
    pub(super) done: BTreeSet<String>,
    pub(super) kept: BTreeSet<String>,
    /// What was seen when it ended, to be the same ever after unless it is resumed.
    pub(super) end: Option<String>,
    /// The state at each of its ends, and where the history has the record of it.
    pub(super) ends: BTreeMap<Position, String>,
    pub(super) recorded: BTreeMap<Position, u64>,
    /// The revision of the fold under which it was submitted.
    pub(super) fold_rev: u16,
    /// When the outcome was first seen to be decided in this round.
    pub(super) status: Option<millstream_model::view::ExecutionStatus>,
}

/// A subject succeeded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Success {
    pub(super) position: Position,
    /// When it was stored.
    pub(super) stored_at: Time,
}

/// An attempt failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) ordinal: u32,
    pub(super) error: StepError,
}

impl Record {
    pub(super) fn new(submitted: Box<Submitted>, at: Timestamp, fold_rev: u16) -> Self {
        Self {
            submitted,
            clock: at,
            began: at,
            successes: BTreeMap::new(),
            failures: BTreeMap::new(),
            reported: BTreeMap::new(),
            completed: BTreeMap::new(),
            reissued: BTreeMap::new(),
            queued: BTreeMap::new(),
            held: BTreeMap::new(),
            resumed: Vec::new(),
            cancelled: false,
            done: BTreeSet::new(),
            kept: BTreeSet::new(),
            end: None,
            ends: BTreeMap::new(),
            recorded: BTreeMap::new(),
            fold_rev,
            status: None,
        }
    }

    /// How often it was resumed.
    pub(super) fn round(&self) -> u32 {
        u32::try_from(self.resumed.len()).expect("few resumes")
    }

    /// The pool that an activation of a step belongs to.
    pub(super) fn capability(&self, plan: &Plan, key: &TaskKey) -> Option<&Capability> {
        let step = usize::from(plan.find(&key.step)?.0);
        let round = usize::try_from(key.activation / 4).ok()?;
        let (agents, routes, fallbacks, compensations) = match round.checked_sub(1) {
            None => {
                let s = &self.submitted;
                (&s.agents, &s.routes, &s.fallbacks, &s.compensations)
            }
            Some(resume) => {
                let r = self.resumed.get(resume)?;
                (&r.agents, &r.routes, &r.fallbacks, &r.compensations)
            }
        };
        let routes = match key.activation % 4 {
            0 => routes,
            1 => fallbacks,
            _ => compensations,
        };
        let route = (*routes.get(step)?)?;
        agents.get(usize::from(route)).map(|agent| &agent.capability)
    }
}

/// A retry policy, put together from the definition as SEMANTICS says it.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) max_attempts: u32,
    retry_on: Option<Vec<ErrorCode>>,
    pub(super) delay_ms: (f64, f64),
}

impl Policy {
    /// The policy of an activation and the bounds of the delay after its failed attempt `n`.
    pub(super) fn of(plan: &Plan, record: &Record, key: &TaskKey, n: u32) -> Option<Self> {
        let step: &Step = plan.step(plan.find(&key.step)?);
        let default = plan.definition.default_retry.as_ref();
        let chain: Vec<&Retry> = match key.activation % 4 {
            1 => {
                // It stands in the place of the step's.
                let own = step.fallback.as_ref().and_then(|fallback| fallback.retry.as_ref());
                [own.or(step.retry.as_ref()), default].into_iter().flatten().collect()
            }
            COMPENSATION => {
                [step.compensate.as_ref().and_then(|c| c.retry.as_ref()), default].into_iter().flatten().collect()
            }
            _ => [step.retry.as_ref(), default].into_iter().flatten().collect(),
        };
        let defaults = &record.submitted.defaults;
        let max_attempts = chain.iter().find_map(|r| r.max_attempts).unwrap_or(defaults.max_attempts);
        let backoff = chain.iter().find_map(|r| r.backoff_ms).unwrap_or(defaults.backoff_ms) as f64;
        let multiplier = chain.iter().find_map(|r| r.backoff_multiplier).unwrap_or(defaults.backoff_multiplier);
        let cap = chain.iter().find_map(|r| r.max_backoff_ms).unwrap_or(defaults.max_backoff_ms) as f64;
        let jitter = chain.iter().find_map(|r| r.jitter).unwrap_or(true);
        let base = match chain.iter().find_map(|r| r.strategy).unwrap_or_default() {
            millstream_model::definition::Strategy::Exponential => {
                backoff * multiplier.powi(i32::try_from(n).unwrap_or(i32::MAX) - 1)
            }
            millstream_model::definition::Strategy::Linear => backoff * f64::from(n),
            millstream_model::definition::Strategy::Fixed => backoff,
        };
        let most = if jitter { base * 1.25 } else { base };
        let retry_on = chain.iter().find_map(|r| r.retry_on.clone());
        Some(Self { max_attempts, retry_on, delay_ms: (base.min(cap) - 1.0, most.min(cap) + 1.0) })
    }

    /// Whether an error may be retried: never what is on the never-list, then what the agent says, then `retry_on`.
    pub(super) fn retries(&self, error: &StepError) -> bool {
        let by_policy = || match &self.retry_on {
            Some(codes) => codes.contains(&error.code),
            None => error.code.retryable_by_default(),
        };
        !error.code.never_retryable() && error.retryable.unwrap_or_else(by_policy)
    }
}
