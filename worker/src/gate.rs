//! Limits of agents: how many calls run here at once, how many start per second, and whether any may at all.
//!
//! They follow the newest manifest, whichever one a task pins.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use millstream_model::agent::Agent;
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::ids::AgentId;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::circuit::{Call, Circuits};

/// The gates of all agents that have limits; written by one task, read by every run, hence the lock.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    throttles: RwLock<HashMap<AgentId, Arc<Throttle>>>,
    circuits: Circuits,
}

/// Permission to call an agent once; lasts as long as the call.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    _slot: Option<OwnedSemaphorePermit>,
    pub(crate) call: Call<'a>,
    pub(crate) waited: Duration,
}

#[derive(Debug)]
struct Throttle {
    limits: Limits,
    slots: Option<Arc<Semaphore>>,
    rate: Option<DefaultDirectRateLimiter>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    concurrency: Option<u32>,
    rate_per_second: Option<u32>,
}

impl Gates {
    /// Takes over the limits of the newest manifest.
    pub(crate) fn follow(&self, agent: &Agent) {
        self.circuits.follow(agent);
        let limits = Limits { concurrency: agent.limits.concurrency, rate_per_second: agent.limits.rate_per_second };
        let mut throttles = self.throttles.write().expect("nobody panics holding it");
        if throttles.get(&agent.id).is_some_and(|throttle| throttle.limits == limits) {
            return;
        }
        match Throttle::new(limits) {
            Some(throttle) => throttles.insert(agent.id.clone(), Arc::new(throttle)),
            None => throttles.remove(&agent.id),
        };
    }

    /// Waits until the agent may be called, at most `patience`; an opening circuit ends the wait at once.
    pub(crate) async fn enter<'a>(&'a self, agent: &'a AgentId, patience: Duration) -> Result<Turn<'a>, StepError> {
        let since = Instant::now();
        let throttle = self.throttles.read().expect("nobody panics holding it").get(agent).cloned();
        let slot = match throttle {
            None => None,
            Some(throttle) => tokio::select! {
                biased;
                open = self.circuits.refused(agent) => return Err(open),
                slot = throttle.enter(agent, since, patience) => slot?,
            },
        };
        Ok(Turn { _slot: slot, call: self.circuits.admit(agent)?, waited: since.elapsed() })
    }

    /// The circuit breakers of the agents.
    pub(crate) fn circuits(&self) -> &Circuits {
        &self.circuits
    }
}

impl Throttle {
    fn new(limits: Limits) -> Option<Self> {
        let slots = limits.concurrency.map(|slots| Arc::new(Semaphore::new(slots.max(1) as usize)));
        let rate = limits.rate_per_second.and_then(NonZeroU32::new);
        let rate = rate.map(|rate| RateLimiter::direct(Quota::per_second(rate)));
        (slots.is_some() || rate.is_some()).then_some(Self { limits, slots, rate })
    }

    async fn enter(
        &self,
        agent: &AgentId,
        since: Instant,
        patience: Duration,
    ) -> Result<Option<OwnedSemaphorePermit>, StepError> {
        let until = since + patience;
        let slot = match &self.slots {
            None => None,
            Some(slots) => {
                let slot = tokio::time::timeout_at(until, Arc::clone(slots).acquire_owned()).await;
                let slot = slot.map_err(|_| {
                    let limit = self.limits.concurrency.unwrap_or_default();
                    self.limited(agent, &format!("{limit} calls at the same time"), since)
                })?;
                Some(slot.expect("the semaphore is never closed"))
            }
        };
        let Some(rate) = &self.rate else { return Ok(slot) };
        while let Err(not_until) = rate.check() {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            if Instant::now() + wait > until {
                let limit = self.limits.rate_per_second.unwrap_or_default();
                return Err(self.limited(agent, &format!("{limit} calls per second"), since));
            }
            tokio::time::sleep(wait).await;
        }
        Ok(slot)
    }

    fn limited(&self, agent: &AgentId, limit: &str, since: Instant) -> StepError {
        let message = format!("agent {agent} is limited to {limit} on this worker, and its turn did not come in time");
        StepError {
            details: Some(json!({
                "agent": agent,
                "limited_by": "worker",
                "concurrency": self.limits.concurrency,
                "rate_per_second": self.limits.rate_per_second,
                "waited_ms": u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
            })),
            ..StepError::new(ErrorCode::RateLimited, message)
        }
    }
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
        let details = error.details.expect("details");
        assert_eq!((&details["agent"], &details["concurrency"]), (&json!("erp"), &json!(1)));
        assert!(details["waited_ms"].as_u64().is_some_and(|waited| waited >= 20), "{details}");
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

    #[tokio::test]
    async fn a_change_of_the_breaker_keeps_the_slots_and_the_rate() {
        let gates = Gates::default();
        gates.follow(&agent(&serde_json::json!({"concurrency": 1})));
        let erp = agent(&serde_json::json!({"concurrency": 1, "circuit_breaker": {"failures": 2}}));
        let _first = gates.enter(&erp.id, PATIENCE).await.expect("a free slot");
        gates.follow(&erp);
        assert!(gates.enter(&erp.id, PATIENCE).await.is_err());
    }

    #[tokio::test]
    async fn whoever_waits_for_a_slot_fails_at_once_when_the_circuit_opens() {
        let gates = Gates::default();
        let erp = agent(&serde_json::json!({"concurrency": 1, "circuit_breaker": {"failures": 1, "open_ms": 60_000}}));
        gates.follow(&erp);
        let first = gates.enter(&erp.id, PATIENCE).await.expect("a free slot");
        let waits = gates.enter(&erp.id, Duration::from_secs(3_600));
        let fails = async {
            tokio::task::yield_now().await;
            let Turn { _slot, call, .. } = first;
            call.ended(Some(ErrorCode::Timeout));
            _slot
        };
        let (waited, _slot) = tokio::join!(waits, fails);
        assert_eq!(waited.expect_err("the circuit is open").code, ErrorCode::CircuitOpen);
    }
}
