//! Limits of agents: how many calls run here at once, and how many start per second.
//!
//! They follow the newest manifest, whichever one a task pins.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use millstream_model::agent::{Agent, AgentLimits};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::ids::AgentId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The gates of all agents that have limits; written by one task, read by every run, hence the lock.
#[derive(Debug, Default)]
pub(crate) struct Gates(RwLock<HashMap<AgentId, Arc<Gate>>>);

#[derive(Debug)]
struct Gate {
    limits: AgentLimits,
    slots: Option<Arc<Semaphore>>,
    rate: Option<DefaultDirectRateLimiter>,
}

impl Gates {
    /// Takes over the limits of the newest manifest.
    pub(crate) fn follow(&self, agent: &Agent) {
        let mut gates = self.0.write().expect("nobody panics holding it");
        if gates.get(&agent.id).is_some_and(|gate| gate.limits == agent.limits) {
            return;
        }
        match Gate::new(agent.limits) {
            Some(gate) => gates.insert(agent.id.clone(), Arc::new(gate)),
            None => gates.remove(&agent.id),
        };
    }

    /// Waits until the agent may be called, at most `patience`; the permit lasts as long as the call.
    pub(crate) async fn enter(
        &self,
        agent: &AgentId,
        patience: Duration,
    ) -> Result<Option<OwnedSemaphorePermit>, StepError> {
        let gate = self.0.read().expect("nobody panics holding it").get(agent).cloned();
        match gate {
            Some(gate) => gate.enter(agent, Instant::now() + patience).await,
            None => Ok(None),
        }
    }
}

impl Gate {
    fn new(limits: AgentLimits) -> Option<Self> {
        let slots = limits.concurrency.map(|slots| Arc::new(Semaphore::new(slots.max(1) as usize)));
        let rate = limits.rate_per_second.and_then(NonZeroU32::new);
        let rate = rate.map(|rate| RateLimiter::direct(Quota::per_second(rate)));
        (slots.is_some() || rate.is_some()).then_some(Self { limits, slots, rate })
    }

    async fn enter(&self, agent: &AgentId, until: Instant) -> Result<Option<OwnedSemaphorePermit>, StepError> {
        let slot = match &self.slots {
            None => None,
            Some(slots) => {
                let slot = tokio::time::timeout_at(until, Arc::clone(slots).acquire_owned()).await;
                let slot = slot.map_err(|_| {
                    let limit = self.limits.concurrency.unwrap_or_default();
                    limited(agent, &format!("{limit} calls at the same time"))
                })?;
                Some(slot.expect("the semaphore is never closed"))
            }
        };
        let Some(rate) = &self.rate else { return Ok(slot) };
        while let Err(not_until) = rate.check() {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            if Instant::now() + wait > until {
                let limit = self.limits.rate_per_second.unwrap_or_default();
                return Err(limited(agent, &format!("{limit} calls per second")));
            }
            tokio::time::sleep(wait).await;
        }
        Ok(slot)
    }
}

fn limited(agent: &AgentId, limit: &str) -> StepError {
    let message = format!("agent {agent} is limited to {limit} on this worker, and its turn did not come in time");
    StepError::new(ErrorCode::RateLimited, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(20);

    fn agent(limits: &serde_json::Value) -> Agent {
        serde_json::from_value(serde_json::json!({
            "id": "erp", "framework": "http", "capabilities": ["http"], "limits": limits
        }))
        .expect("an agent")
    }

    #[tokio::test]
    async fn a_call_beyond_the_concurrency_waits_for_a_slot_or_is_limited() {
        let gates = Gates::default();
        let agent = agent(&serde_json::json!({"concurrency": 1}));
        gates.follow(&agent);
        let first = gates.enter(&agent.id, PATIENCE).await.expect("a free slot");
        let error = gates.enter(&agent.id, PATIENCE).await.expect_err("no slot");
        assert_eq!(error.code, ErrorCode::RateLimited);
        assert!(error.message.contains("1 calls at the same time"), "{}", error.message);
        drop(first);
        assert!(gates.enter(&agent.id, PATIENCE).await.is_ok());
    }

    #[tokio::test]
    async fn a_call_beyond_the_rate_is_limited_when_its_turn_comes_too_late() {
        let gates = Gates::default();
        let agent = agent(&serde_json::json!({"rate_per_second": 2}));
        gates.follow(&agent);
        assert!(gates.enter(&agent.id, PATIENCE).await.is_ok());
        assert!(gates.enter(&agent.id, PATIENCE).await.is_ok());
        let error = gates.enter(&agent.id, PATIENCE).await.expect_err("half a second too early");
        assert_eq!(error.code, ErrorCode::RateLimited);
        let started = Instant::now();
        assert!(gates.enter(&agent.id, Duration::from_secs(5)).await.is_ok());
        assert!(started.elapsed() >= Duration::from_millis(300));
    }

    #[tokio::test]
    async fn limits_follow_the_newest_manifest() {
        let gates = Gates::default();
        let limited = agent(&serde_json::json!({"concurrency": 1}));
        gates.follow(&limited);
        let slot = gates.enter(&limited.id, PATIENCE).await.expect("a free slot");
        gates.follow(&limited);
        assert!(gates.enter(&limited.id, PATIENCE).await.is_err(), "an unchanged limit keeps its slots");
        gates.follow(&agent(&serde_json::json!({})));
        assert!(gates.enter(&limited.id, PATIENCE).await.is_ok());
        drop(slot);
    }
}
