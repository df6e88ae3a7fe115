//! The catalog: the definitions and agents that executions are made of.
//!
//! Both live in NATS. Definitions are read when they are asked for, and compiled once per content hash; agents are
//! followed by a watch.

mod agents;
mod definitions;
mod manifest;
mod plans;
mod routing;

use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{Broker, ProvisionError, StoreError};
use millstream_model::agent::{self, Agent};
use millstream_model::ids::{AgentId, Capability};
use millstream_model::limits::CAPABILITIES_MAX;
use millstream_model::plan::Plan;
use millstream_model::validate::Problem;
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};

pub use agents::{AgentsView, Registered};
pub use definitions::{
    CompileTextError, Compiled, CreateDefinitionError, PlanError, StoredDefinition, Written, compile_text,
};
pub(crate) use routing::nearest;
pub use routing::{Routing, resolve};

use plans::Plans;

/// Pause after what will pass by itself.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long the watch may take to show what was written.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A handle to the catalog; cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

struct Inner {
    broker: Broker,
    plans: Plans,
    agents: watch::Receiver<Arc<AgentsView>>,
    /// Held over look and write, so that of two requests to create the same thing here one is told that it exists.
    writing: Mutex<()>,
}

/// The watch has not shown the agents yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the agents have not been read from NATS yet")]
pub struct AgentsUnknown;

/// Why an agent was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("the manifest has {} problem(s)", .0.len())]
    Invalid(Vec<Problem>),
    #[error("agent {id} exists already")]
    Exists { id: AgentId },
    #[error("with {capability} there would be more than {CAPABILITIES_MAX} capabilities")]
    TooManyCapabilities { capability: Capability },
    #[error(transparent)]
    Unknown(#[from] AgentsUnknown),
    #[error("the agent was stored, and is not in sight of this coordinator yet")]
    NotVisible,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an agent was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum UnregisterError {
    #[error("the agent was deleted, and is still in sight of this coordinator")]
    StillVisible,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Catalog {
    /// Opens the catalog and registers the built-in agents that are absent.
    pub async fn start(broker: Broker) -> Result<Self, StoreError> {
        let agents = agents::follow(broker.clone());
        let inner = Inner { broker, plans: Plans::default(), agents, writing: Mutex::new(()) };
        let catalog = Self { inner: Arc::new(inner) };
        let mut agents = catalog.inner.agents.clone();
        let view = agents.wait_for(|view| view.is_complete()).await.map(|view| Arc::clone(&view));
        let view = view.expect("the follower runs as long as there is a receiver");
        for builtin in agent::builtin() {
            if view.get(&builtin.id).is_none() {
                catalog.put_builtin(&builtin).await?;
            }
        }
        Ok(catalog)
    }

    async fn put_builtin(&self, builtin: &Agent) -> Result<(), StoreError> {
        while let Err(error) = self.inner.broker.put_agent(builtin).await {
            if !error.is_retryable() {
                return Err(error);
            }
            tracing::warn!(%error, agent = %builtin.id, "a built-in agent cannot be registered yet");
            sleep(RETRY_DELAY).await;
        }
        if !self.sees(&builtin.id, Some(builtin)).await {
            tracing::warn!(agent = %builtin.id, "a built-in agent is registered and not in sight yet");
        }
        Ok(())
    }

    /// All agents at this moment.
    pub async fn agents(&self) -> Result<Arc<AgentsView>, AgentsUnknown> {
        let mut agents = self.inner.agents.clone();
        match timeout(VISIBLE_TIMEOUT, agents.wait_for(|view| view.is_complete())).await {
            Ok(Ok(view)) => Ok(Arc::clone(&view)),
            Ok(Err(_)) | Err(_) => Err(AgentsUnknown),
        }
    }

    /// Finds an agent for every step of `plan`, or says of every step that has none what is wrong.
    pub async fn resolve(&self, plan: &Plan) -> Result<Result<Routing, Vec<Problem>>, AgentsUnknown> {
        let resolved = resolve(plan, &*self.agents().await?);
        if resolved.is_ok() {
            return Ok(resolved);
        }
        // Another coordinator may just have registered what the watch has not told here yet.
        let Ok(stored) = self.inner.broker.agents().await else {
            return Ok(resolved);
        };
        let mut view = AgentsView::default();
        stored.into_iter().for_each(|agent| view.put(agent));
        Ok(resolve(plan, &view))
    }

    /// Registers an agent that must not exist yet.
    pub async fn create_agent(&self, agent: &Agent) -> Result<(), RegisterError> {
        let _writing = self.inner.writing.lock().await;
        let view = self.agents().await?;
        if view.get(&agent.id).is_some() {
            return Err(RegisterError::Exists { id: agent.id.clone() });
        }
        self.register(agent, &view).await
    }

    /// Registers an agent, or replaces its manifest.
    pub async fn put_agent(&self, agent: &Agent) -> Result<Written, RegisterError> {
        let _writing = self.inner.writing.lock().await;
        let view = self.agents().await?;
        self.register(agent, &view).await?;
        Ok(if view.get(&agent.id).is_some() { Written::Replaced } else { Written::Created })
    }

    async fn register(&self, agent: &Agent, view: &AgentsView) -> Result<(), RegisterError> {
        let problems = manifest::check(agent);
        if !problems.is_empty() {
            return Err(RegisterError::Invalid(problems));
        }
        let mut capabilities = view.capabilities();
        for capability in &agent.capabilities {
            if capabilities.insert(capability) && capabilities.len() > CAPABILITIES_MAX {
                return Err(RegisterError::TooManyCapabilities { capability: capability.clone() });
            }
        }
        self.inner.broker.put_agent(agent).await?;
        if self.sees(&agent.id, Some(agent)).await { Ok(()) } else { Err(RegisterError::NotVisible) }
    }

    /// Deletes an agent; false when there is none. Executions that pinned its manifest keep it.
    pub async fn delete_agent(&self, id: &AgentId) -> Result<bool, UnregisterError> {
        let _writing = self.inner.writing.lock().await;
        if !self.inner.broker.delete_agent(id).await? {
            return Ok(false);
        }
        if self.sees(id, None).await { Ok(true) } else { Err(UnregisterError::StillVisible) }
    }

    /// Asks again for the task consumer of every capability: for a task stream that was created anew.
    pub async fn restore_task_consumers(&self) -> Result<(), ProvisionError> {
        let view = Arc::clone(&self.inner.agents.borrow());
        for capability in view.capabilities() {
            agents::ensure_consumer(&self.inner.broker, capability).await?;
        }
        Ok(())
    }

    /// Waits until the watch has shown what was written, so that a request that follows finds it.
    async fn sees(&self, id: &AgentId, written: Option<&Agent>) -> bool {
        let mut agents = self.inner.agents.clone();
        let hash = written.map(Agent::hash);
        let shown = agents.wait_for(|view| view.get(id).map(|registered| registered.hash) == hash);
        matches!(timeout(VISIBLE_TIMEOUT, shown).await, Ok(Ok(_)))
    }
}
