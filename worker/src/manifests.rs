//! Agents by the hash that a submission pinned, each prepared once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use millstream_broker::Broker;
use millstream_model::agent::{self, Agent};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::hash::ContentHash;
use millstream_model::task::Task;
use tokio::sync::OnceCell;

use crate::adapter::http::HttpClients;
use crate::adapter::native::Handlers;
use crate::adapter::{Adapter, Unusable};
use crate::trouble::Trouble;

/// Manifests that are kept; the oldest goes when another is loaded.
const KEPT_MAX: usize = 1_024;

type Prepared = Arc<OnceCell<Result<Arc<Adapter>, Unusable>>>;

/// The manifests of a worker. The lock is held for a look-up only; loading happens in the cell,
/// once for all runs that wait for it.
pub(crate) struct Manifests {
    broker: Broker,
    handlers: Handlers,
    clients: HttpClients,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_hash: HashMap<ContentHash, Prepared>,
    order: VecDeque<ContentHash>,
}

impl Manifests {
    /// Knows `own` and the built-in agents from the start.
    pub(crate) fn new(broker: Broker, handlers: Handlers, own: &[Agent]) -> Self {
        let manifests = Self { broker, handlers, clients: HttpClients::default(), kept: Mutex::default() };
        for agent in own.iter().chain(&agent::builtin()) {
            let prepared = manifests.prepare(agent);
            // Set already only when two manifests are the same.
            drop(manifests.cell(agent.hash()).set(prepared));
        }
        manifests
    }

    /// The agent of a task.
    pub(crate) async fn adapter(&self, task: &Task) -> Result<Arc<Adapter>, StepError> {
        let cell = self.cell(task.manifest);
        let prepared = cell.get_or_try_init(|| self.load(task)).await?;
        prepared.clone().map_err(StepError::from)
    }

    fn cell(&self, hash: ContentHash) -> Prepared {
        let mut kept = self.kept.lock().expect("nobody panics holding it");
        if let Some(cell) = kept.by_hash.get(&hash) {
            return Arc::clone(cell);
        }
        if kept.order.len() == KEPT_MAX
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.by_hash.remove(&oldest);
        }
        kept.order.push_back(hash);
        Arc::clone(kept.by_hash.entry(hash).or_default())
    }

    fn prepare(&self, agent: &Agent) -> Result<Arc<Adapter>, Unusable> {
        Adapter::prepare(agent, &self.handlers, &self.clients).map(Arc::new)
    }

    /// Tries until the store answers; the step's time ends it.
    async fn load(&self, task: &Task) -> Result<Result<Arc<Adapter>, Unusable>, StepError> {
        let mut trouble = Trouble::default();
        loop {
            match self.broker.agent_by_hash(task.manifest).await {
                Ok(Some(agent)) => return Ok(self.prepare(&agent)),
                Ok(None) => {
                    let message = format!("the manifest {} of agent {} is not stored", task.manifest, task.agent);
                    return Err(StepError::new(ErrorCode::AgentNotFound, message));
                }
                Err(error) if error.is_retryable() => {
                    if trouble.failed() {
                        tracing::warn!(agent = %task.agent, %error, "a manifest cannot be loaded; trying on");
                    }
                    trouble.pause().await;
                }
                Err(error) => {
                    let message = format!("the manifest of agent {} cannot be loaded: {error}", task.agent);
                    return Err(StepError::new(ErrorCode::InternalError, message));
                }
            }
        }
    }
}
