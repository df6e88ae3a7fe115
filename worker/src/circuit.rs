//! Circuit breakers: an agent that fails again and again is left alone for a while (M. Nygard, "Release It!", 2007).
//!
//! ```text
//!              N failures in a row              open_ms later
//!   closed ──────────────────────────▶ open ───────────────────▶ half-open
//!     ▲                                 ▲                         │  │
//!     │                                 └── the probe fails ──────┘  │
//!     └──────────────────── the probe succeeds ──────────────────────┘
//! ```
//!
//! Half-open, one call at a time is the probe. A call that was admitted before the circuit changed says nothing about
//! what it is afterwards.
//!
//! | how a call ended | what it says of the agent |
//! |---|---|
//! | with a result | well |
//! | TIMEOUT, EXTERNAL_SERVICE_ERROR, INTERNAL_ERROR | ill |
//! | INVALID_INPUT, PERMISSION_DENIED, RESULT_TOO_LARGE, BUDGET_EXCEEDED, APPROVAL_… | well: it answered |
//! | RATE_LIMITED, CIRCUIT_OPEN, CANCELLED, LOST, AGENT_…; stopped for the worker's own reasons | nothing |

use std::collections::BTreeMap;

use millstream_model::agent::{Agent, CircuitBreaker};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::ids::AgentId;
use millstream_model::view::Circuit;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::now;

/// The breaker of one agent on this worker. Times are milliseconds of a monotonic clock.
#[derive(Debug, Default)]
struct Breaker {
    policy: Option<CircuitBreaker>,
    state: State,
    /// Counts the changes of the state, so that a call knows whether it still speaks of it.
    changes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until_ms: u64, failures: u32 },
    HalfOpen { probing: bool, failures: u32 },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

/// A call that was admitted in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Admitted {
    changes: u64,
}

/// A call that was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refused {
    state: Circuit,
    /// How long the circuit stays open at least; 0 while a probe runs.
    closes_after_ms: u64,
    failures: u32,
}

/// What the end of a call says of its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Well,
    Ill,
    Unknown,
}

impl Health {
    fn of(error: Option<ErrorCode>) -> Self {
        match error {
            None => Self::Well,
            Some(ErrorCode::Timeout | ErrorCode::ExternalServiceError | ErrorCode::InternalError) => Self::Ill,
            Some(
                ErrorCode::InvalidInput
                | ErrorCode::PermissionDenied
                | ErrorCode::ResultTooLarge
                | ErrorCode::BudgetExceeded
                | ErrorCode::ApprovalDenied
                | ErrorCode::ApprovalTimeout,
            ) => Self::Well,
            Some(
                ErrorCode::RateLimited
                | ErrorCode::CircuitOpen
                | ErrorCode::Cancelled
                | ErrorCode::Lost
                | ErrorCode::AgentNotFound
                | ErrorCode::AgentInactive,
            ) => Self::Unknown,
        }
    }
}

impl Breaker {
    /// Takes over the policy of the newest manifest; another policy begins with a closed circuit.
    fn follow(&mut self, policy: Option<CircuitBreaker>) {
        if self.policy != policy {
            self.policy = policy;
            self.change_to(State::default());
        }
    }

    fn circuit(&self, now_ms: u64) -> Circuit {
        match self.state {
            State::Closed { .. } => Circuit::Closed,
            State::Open { until_ms, .. } if now_ms < until_ms => Circuit::Open,
            State::Open { .. } | State::HalfOpen { .. } => Circuit::HalfOpen,
        }
    }

    /// Whether a call would be refused at that moment.
    fn refusal(&self, now_ms: u64) -> Option<Refused> {
        match self.state {
            State::Open { until_ms, failures } if now_ms < until_ms => {
                Some(Refused { state: Circuit::Open, closes_after_ms: until_ms - now_ms, failures })
            }
            State::HalfOpen { probing: true, failures } => {
                Some(Refused { state: Circuit::HalfOpen, closes_after_ms: 0, failures })
            }
            State::Closed { .. } | State::Open { .. } | State::HalfOpen { probing: false, .. } => None,
        }
    }

    /// Lets a call pass, or not. Every admitted call ends with [`Breaker::ended`], exactly once.
    fn admit(&mut self, now_ms: u64) -> Result<Admitted, Refused> {
        if let Some(refused) = self.refusal(now_ms) {
            return Err(refused);
        }
        match self.state {
            State::Closed { .. } => {}
            State::Open { failures, .. } => self.change_to(State::HalfOpen { probing: true, failures }),
            State::HalfOpen { failures, .. } => self.state = State::HalfOpen { probing: true, failures },
        }
        Ok(Admitted { changes: self.changes })
    }

    fn ended(&mut self, call: Admitted, health: Health, now_ms: u64) {
        let Some(policy) = self.policy else { return };
        if call.changes != self.changes {
            return;
        }
        match (self.state, health) {
            (State::Closed { .. }, Health::Well) => self.state = State::Closed { failures: 0 },
            (State::Closed { failures }, Health::Ill) => {
                let failures = failures.saturating_add(1);
                if failures >= policy.failures {
                    self.change_to(State::Open { until_ms: now_ms.saturating_add(policy.open_ms), failures });
                } else {
                    self.state = State::Closed { failures };
                }
            }
            (State::HalfOpen { .. }, Health::Well) => self.change_to(State::default()),
            (State::HalfOpen { failures, .. }, Health::Ill) => {
                let failures = failures.saturating_add(1);
                self.change_to(State::Open { until_ms: now_ms.saturating_add(policy.open_ms), failures });
            }
            (State::HalfOpen { failures, .. }, Health::Unknown) => {
                self.state = State::HalfOpen { probing: false, failures };
            }
            (State::Closed { .. }, Health::Unknown) | (State::Open { .. }, _) => {}
        }
    }

    fn change_to(&mut self, state: State) {
        self.state = state;
        self.changes += 1;
    }
}

/// The breakers of all agents that have one; whoever waits learns of every change.
#[derive(Debug)]
pub(crate) struct Circuits {
    breakers: watch::Sender<BTreeMap<AgentId, Breaker>>,
    since: Instant,
}

impl Default for Circuits {
    fn default() -> Self {
        Self { breakers: watch::Sender::default(), since: Instant::now() }
    }
}

impl Circuits {
    /// Takes over the policy of the newest manifest.
    pub(crate) fn follow(&self, agent: &Agent) {
        let policy = agent.limits.circuit_breaker;
        self.breakers.send_if_modified(|breakers| match breakers.get_mut(&agent.id) {
            Some(breaker) => {
                let before = breaker.changes;
                breaker.follow(policy);
                breaker.changes != before
            }
            None if policy.is_some() => {
                breakers.entry(agent.id.clone()).or_default().follow(policy);
                true
            }
            None => false,
        });
    }

    /// Fails with CIRCUIT_OPEN as soon as the agent is to be left alone.
    pub(crate) async fn refused(&self, agent: &AgentId) -> StepError {
        let mut changes = self.breakers.subscribe();
        loop {
            let refused = changes.borrow_and_update().get(agent).and_then(|breaker| breaker.refusal(self.now_ms()));
            match refused {
                Some(refused) => return open(agent, refused),
                // The sender lives as long as this borrow of it.
                None => drop(changes.changed().await),
            }
        }
    }

    /// Lets a call pass. Where no answer is told, dropping it says that nothing was learned.
    pub(crate) fn admit<'a>(&'a self, agent: &'a AgentId) -> Result<Call<'a>, StepError> {
        let mut admitted = Ok(None);
        self.breakers.send_if_modified(|breakers| {
            let Some(breaker) = breakers.get_mut(agent) else { return false };
            let before = breaker.changes;
            admitted = breaker.admit(self.now_ms()).map(Some);
            breaker.changes != before
        });
        match admitted {
            Ok(admitted) => Ok(Call { circuits: self, agent, admitted }),
            Err(refused) => Err(open(agent, refused)),
        }
    }

    /// The circuits that are not closed.
    pub(crate) fn not_closed(&self) -> BTreeMap<AgentId, Circuit> {
        let now_ms = self.now_ms();
        let breakers = self.breakers.borrow();
        let all = breakers.iter().map(|(agent, breaker)| (agent.clone(), breaker.circuit(now_ms)));
        all.filter(|(_, circuit)| *circuit != Circuit::Closed).collect()
    }

    /// Learns of changes from here on.
    pub(crate) fn changes(&self) -> CircuitChanges {
        CircuitChanges(self.breakers.subscribe())
    }

    fn ended(&self, agent: &AgentId, call: Admitted, health: Health) {
        self.breakers.send_if_modified(|breakers| {
            let Some(breaker) = breakers.get_mut(agent) else { return false };
            let before = breaker.changes;
            breaker.ended(call, health, self.now_ms());
            if breaker.changes != before {
                tracing::warn!(%agent, circuit = ?breaker.circuit(self.now_ms()), "the circuit of an agent has changed");
            }
            breaker.changes != before
        });
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Tells when a circuit has opened, half-opened or closed.
pub(crate) struct CircuitChanges(watch::Receiver<BTreeMap<AgentId, Breaker>>);

impl CircuitChanges {
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// A call under way. However it ends, its probe slot is free afterwards.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    circuits: &'a Circuits,
    agent: &'a AgentId,
    admitted: Option<Admitted>,
}

impl Call<'_> {
    /// The call came to an end that may say something of the agent.
    pub(crate) fn ended(mut self, error: Option<ErrorCode>) {
        if let Some(call) = self.admitted.take() {
            self.circuits.ended(self.agent, call, Health::of(error));
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.admitted.take() {
            self.circuits.ended(self.agent, call, Health::Unknown);
        }
    }
}

fn open(agent: &AgentId, refused: Refused) -> StepError {
    let failures = refused.failures;
    let message = match refused.state {
        Circuit::Open => format!(
            "agent {agent} failed {failures} times in a row and is left alone for another {} ms",
            refused.closes_after_ms
        ),
        Circuit::Closed | Circuit::HalfOpen => {
            format!("agent {agent} failed {failures} times in a row; one call finds out whether it is well again")
        }
    };
    let may_close = now().plus_millis(refused.closes_after_ms).to_rfc3339();
    StepError {
        details: Some(json!({
            "agent": agent,
            "state": refused.state,
            "failures": failures,
            "may_close_after_ms": refused.closes_after_ms,
            "may_close_at": may_close,
        })),
        ..StepError::new(ErrorCode::CircuitOpen, message)
    }
}

#[cfg(test)]
mod tests;
