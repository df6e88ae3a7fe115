//! The agents as this coordinator sees them: a copy of the bucket, kept by a watch.
//!
//! One task owns the copy and follows the watch; everybody else reads snapshots of it. An agent is shown only after
//! the task consumers of its capabilities were asked for, so that what is submitted for it can be pulled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{AgentChange, Broker};
use millstream_model::agent::Agent;
use millstream_model::hash::ContentHash;
use millstream_model::ids::{AgentId, Capability};
use millstream_model::limits::CAPABILITIES_MAX;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::RETRY_DELAY;

/// Pause before a consumer that could not be made is asked for again.
const MISSING_RETRY_DELAY: Duration = Duration::from_secs(30);

/// All agents at one moment.
#[derive(Debug, Clone, Default)]
pub struct AgentsView {
    agents: BTreeMap<AgentId, Registered>,
    complete: bool,
}

/// An agent and the hash that submissions pin.
#[derive(Debug, Clone)]
pub struct Registered {
    pub agent: Arc<Agent>,
    pub hash: ContentHash,
}

impl AgentsView {
    /// Finds an agent.
    pub fn get(&self, id: &AgentId) -> Option<&Registered> {
        self.agents.get(id)
    }

    /// All agents by id.
    pub fn iter(&self) -> impl Iterator<Item = &Registered> {
        self.agents.values()
    }

    /// The ids of all agents.
    pub fn ids(&self) -> impl Iterator<Item = &AgentId> {
        self.agents.keys()
    }

    /// Every capability that an agent has, active or not.
    pub fn capabilities(&self) -> BTreeSet<&Capability> {
        self.agents.values().flat_map(|registered| &registered.agent.capabilities).collect()
    }

    /// Whether it holds everything that was registered when the watch began.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Adds or replaces an agent.
    pub fn put(&mut self, agent: Agent) {
        let hash = agent.hash();
        self.agents.insert(agent.id.clone(), Registered { agent: Arc::new(agent), hash });
    }

    fn remove(&mut self, id: &AgentId) {
        self.agents.remove(id);
    }
}

/// Starts to follow the bucket. The task ends when the last receiver is gone.
pub(super) fn follow(broker: Broker) -> watch::Receiver<Arc<AgentsView>> {
    let (sender, receiver) = watch::channel(Arc::new(AgentsView::default()));
    let closed = sender.clone();
    let follower = Follower { broker, view: AgentsView::default(), sender, ensured: BTreeSet::new() };
    tokio::spawn(async move {
        tokio::select! {
            () = follower.run() => {}
            () = closed.closed() => {}
        }
    });
    receiver
}

struct Follower {
    broker: Broker,
    view: AgentsView,
    sender: watch::Sender<Arc<AgentsView>>,
    /// Capabilities whose consumer exists.
    ensured: BTreeSet<Capability>,
}

impl Follower {
    async fn run(mut self) {
        let mut changes = self.broker.watch_agents();
        loop {
            let change = match timeout(self.patience(), changes.next()).await {
                Ok(change) => change,
                Err(_) => {
                    self.ensure_consumers().await;
                    continue;
                }
            };
            match change {
                Ok(AgentChange::Put(agent)) => self.view.put(agent),
                Ok(AgentChange::Deleted(id)) => self.view.remove(&id),
                Ok(AgentChange::InitialDone) => self.view.complete = true,
                Err(error) => {
                    tracing::warn!(%error, "agents cannot be watched at the moment");
                    sleep(RETRY_DELAY).await;
                    continue;
                }
            }
            if self.view.complete {
                self.ensure_consumers().await;
                self.sender.send_replace(Arc::new(self.view.clone()));
            }
        }
    }

    /// How long to wait for a change: without end when no consumer is missing.
    fn patience(&self) -> Duration {
        if self.missing().next().is_some() { MISSING_RETRY_DELAY } else { Duration::MAX }
    }

    /// Capabilities whose consumer was not made yet.
    fn missing(&self) -> impl Iterator<Item = &Capability> {
        self.view.capabilities().into_iter().filter(|known| !self.ensured.contains(*known))
    }

    /// Asks for the consumers that are missing. What fails is asked for again later.
    async fn ensure_consumers(&mut self) {
        let missing: Vec<Capability> = self.missing().cloned().collect();
        for capability in missing {
            if self.ensured.len() >= CAPABILITIES_MAX {
                tracing::error!(%capability, "nobody can pull its tasks: there are {CAPABILITIES_MAX} capabilities");
                continue;
            }
            match ensure_consumer(&self.broker, &capability).await {
                Ok(()) => {
                    self.ensured.insert(capability);
                }
                Err(error) => tracing::error!(%error, %capability, "nobody can pull the tasks of a capability"),
            }
        }
    }
}

/// Asks for the consumer of a capability, as long as it takes for the broker to answer.
pub(super) async fn ensure_consumer(
    broker: &Broker,
    capability: &Capability,
) -> Result<(), millstream_broker::ProvisionError> {
    loop {
        match broker.ensure_task_consumer(capability).await {
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, %capability, "a task consumer cannot be made yet");
                sleep(RETRY_DELAY).await;
            }
            outcome => return outcome,
        }
    }
}
