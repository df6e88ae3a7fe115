//! What a worker does all the time: lanes, presence, and keeping up with agents and cancels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_broker::AgentChange;
use millstream_model::agent::Agent;
use millstream_model::ids::{AgentId, Capability};
use millstream_model::limits::{PRESENCE_RENEW_MS, PRESENCE_TTL_MS};
use millstream_model::task::{PROTOCOL, PROTOCOL_OLDEST};
use millstream_model::time::Timestamp;
use millstream_model::view::WorkerPresence;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::now;
use crate::lane::Lane;
use crate::run::Shared;
use crate::trouble::Trouble;
use crate::worker::WorkerConfig;

/// How far two announcements are apart at least: a change is told promptly, and a flurry of them at once.
const PRESENCE_REST: Duration = Duration::from_secs(1);

/// The duties of a worker and what they share.
pub(crate) struct Crew {
    shared: Arc<Shared>,
    config: WorkerConfig,
    /// Manifests of the worker's own handlers.
    own: Vec<Agent>,
    process: Arc<Semaphore>,
    stopping: CancellationToken,
    pulls: TaskTracker,
    runs: TaskTracker,
    started_at: Timestamp,
    /// Changed by whoever follows the agents, read when presence is announced, hence the lock.
    lanes: Mutex<BTreeMap<Capability, Open>>,
    lanes_changed: Notify,
}

/// A lane and what closes it.
struct Open {
    lane: Arc<Lane>,
    closing: CancellationToken,
}

impl Crew {
    pub(crate) fn new(shared: Arc<Shared>, config: WorkerConfig, own: Vec<Agent>) -> Arc<Self> {
        Arc::new(Self {
            process: Arc::new(Semaphore::new(config.concurrency as usize)),
            shared,
            config,
            own,
            stopping: CancellationToken::new(),
            pulls: TaskTracker::new(),
            runs: TaskTracker::new(),
            started_at: now(),
            lanes: Mutex::default(),
            lanes_changed: Notify::new(),
        })
    }

    /// Starts everything. What is in `duties` goes on until it is aborted.
    pub(crate) fn begin(self: &Arc<Self>, duties: &mut JoinSet<()>) {
        let (cancels, presence, agents) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        duties.spawn(async move { cancels.shared.cancelled.follow(&cancels.shared.broker).await });
        duties.spawn(async move { agents.register().await });
        let agents = Arc::clone(self);
        duties.spawn(async move { agents.follow_agents().await });
        duties.spawn(async move { presence.announce().await });
    }

    /// Stops pulling.
    pub(crate) fn halt(&self) {
        self.stopping.cancel();
    }

    /// Stops pulling and waits until everything that runs has ended.
    pub(crate) async fn finish(&self) {
        self.halt();
        self.pulls.close();
        self.pulls.wait().await;
        self.runs.close();
        self.runs.wait().await;
    }

    /// Tasks that run.
    pub(crate) fn running(&self) -> usize {
        self.runs.len()
    }

    /// Whether it takes work for whatever it can run, because nobody named anything.
    fn takes_everything(&self) -> bool {
        self.config.capabilities.is_empty() && self.own.is_empty()
    }

    fn open(&self, capability: Capability) {
        let mut lanes = self.lanes.lock().expect("nobody panics holding it");
        if lanes.contains_key(&capability) {
            return;
        }
        let slots = self.config.concurrency_per_capability.get(&capability).copied().unwrap_or(self.config.concurrency);
        let (shared, process, runs) = (Arc::clone(&self.shared), Arc::clone(&self.process), self.runs.clone());
        let lane = Arc::new(Lane::new(capability.clone(), slots, shared, process, runs));
        let closing = self.stopping.child_token();
        self.pulls.spawn(Arc::clone(&lane).serve(closing.clone()));
        lanes.insert(capability, Open { lane, closing });
        self.lanes_changed.notify_one();
    }

    /// Makes the handlers' manifests known.
    async fn register(&self) {
        for agent in &self.own {
            let mut trouble = Trouble::default();
            while let Err(error) = self.shared.broker.put_agent(agent).await {
                if trouble.failed() {
                    tracing::warn!(agent = %agent.id, %error, "an agent cannot be registered yet; trying on");
                }
                trouble.pause().await;
            }
        }
    }

    /// Keeps limits at the newest manifests, and the lanes at what can be run. No lane opens before the limits are
    /// known: a worker that starts with a full queue would overrun them.
    async fn follow_agents(&self) {
        for agent in &self.own {
            self.shared.gates.follow(agent);
        }
        let mut watch = self.shared.broker.watch_agents();
        let mut trouble = Trouble::default();
        let mut agents = BTreeMap::new();
        let mut all_seen = false;
        loop {
            match watch.next().await {
                Ok(AgentChange::Put(agent)) => {
                    self.shared.gates.follow(&agent);
                    agents.insert(agent.id.clone(), agent);
                }
                Ok(AgentChange::Deleted(id)) => {
                    agents.remove(&id);
                }
                Ok(AgentChange::InitialDone) => all_seen = true,
                Err(error) => {
                    if trouble.failed() {
                        tracing::warn!(%error, "agents are not followed at the moment");
                    }
                    trouble.pause().await;
                    continue;
                }
            }
            trouble.over();
            if all_seen {
                if self.takes_everything() { self.take(&runnable(&agents)) } else { self.take(&self.named()) }
            }
        }
    }

    /// What somebody named, in the configuration or in a handler's manifest.
    fn named(&self) -> BTreeSet<Capability> {
        let own = self.own.iter().flat_map(|agent| &agent.capabilities);
        self.config.capabilities.iter().chain(own).cloned().collect()
    }

    /// Opens and closes lanes until they are these.
    fn take(&self, capabilities: &BTreeSet<Capability>) {
        self.lanes.lock().expect("nobody panics holding it").retain(|capability, open| {
            let wanted = capabilities.contains(capability);
            if !wanted {
                open.closing.cancel();
            }
            wanted
        });
        for capability in capabilities {
            self.open(capability.clone());
        }
    }

    /// Says every few seconds that the worker is here, and soon when its lanes or circuits have changed.
    async fn announce(&self) {
        let mut trouble = Trouble::default();
        let mut circuits = self.shared.gates.circuits().changes();
        let ttl = Duration::from_millis(PRESENCE_TTL_MS);
        loop {
            let announced = Instant::now();
            let presence = self.presence();
            let pause = match self.shared.broker.announce(&presence, ttl).await {
                Ok(()) => {
                    trouble.over();
                    Duration::from_millis(PRESENCE_RENEW_MS)
                }
                Err(error) => {
                    if trouble.failed() {
                        tracing::warn!(%error, "the worker's presence is not announced at the moment");
                    }
                    trouble.delay()
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(announced + pause) => continue,
                () = circuits.changed() => {}
                () = self.lanes_changed.notified() => {}
            }
            tokio::time::sleep_until(announced + PRESENCE_REST.min(pause)).await;
        }
    }

    fn presence(&self) -> WorkerPresence {
        let lanes = self.lanes.lock().expect("nobody panics holding it");
        WorkerPresence {
            id: self.shared.worker.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: (PROTOCOL_OLDEST, PROTOCOL),
            capabilities: lanes.iter().map(|(name, open)| (name.clone(), open.lane.slots())).collect(),
            circuits: self.shared.gates.circuits().not_closed(),
            started_at: self.started_at,
        }
    }
}

/// Capabilities of which a worker without handlers can run every agent. A native agent's handler
/// is in another process, whose tasks are not to be taken.
fn runnable(agents: &BTreeMap<AgentId, Agent>) -> BTreeSet<Capability> {
    let of = |native: bool| {
        let chosen = agents.values().filter(move |agent| (agent.framework == "native") == native);
        chosen.flat_map(|agent| agent.capabilities.iter().cloned()).collect::<BTreeSet<_>>()
    };
    of(false).difference(&of(true)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_worker_without_handlers_leaves_native_agents_and_their_pools_to_others() {
        let agents: BTreeMap<AgentId, Agent> = [
            json!({"id": "erp", "framework": "http", "capabilities": ["http", "slow"]}),
            json!({"id": "echo", "framework": "builtin", "capabilities": ["builtin"]}),
            json!({"id": "resize", "framework": "native", "capabilities": ["media", "slow"]}),
        ]
        .into_iter()
        .map(|agent| serde_json::from_value::<Agent>(agent).expect("an agent"))
        .map(|agent| (agent.id.clone(), agent))
        .collect();
        let names: Vec<String> = runnable(&agents).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["builtin", "http"]);
    }
}
