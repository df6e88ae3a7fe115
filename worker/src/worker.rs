//! A worker: what it offers, how it starts and how it stops.

mod builder;
mod crew;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::BrokerConfig;
use millstream_model::ids::{Capability, WorkerId};
use tokio::task::JoinSet;

use crate::run::Shared;
use crate::worker::crew::Crew;

pub use builder::{StartError, WorkerBuilder};

/// How long runs that were stopped may take to hand their tasks back.
const HAND_BACK_TIME: Duration = Duration::from_secs(5);

/// What a worker works on, and how much at once.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    pub nats: BrokerConfig,
    /// `None`: a name that no other worker has.
    pub id: Option<WorkerId>,
    /// Pools it takes work from, beside those of its handlers. Empty without handlers means every
    /// capability whose registered agents it can run.
    pub capabilities: Vec<Capability>,
    /// Tasks that run at once in this process.
    pub concurrency: u32,
    /// Tasks that run at once for one capability; where it is silent, `concurrency`.
    pub concurrency_per_capability: BTreeMap<Capability, u32>,
    /// How long running tasks may take to finish when the worker stops.
    pub shutdown_grace: Duration,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            nats: BrokerConfig::default(),
            id: None,
            capabilities: Vec::new(),
            concurrency: 256,
            concurrency_per_capability: BTreeMap::new(),
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

/// Where workers begin.
#[derive(Debug)]
pub struct Worker;

impl Worker {
    /// A worker without handlers of its own: it runs http, process and built-in agents.
    pub fn builder(config: WorkerConfig) -> WorkerBuilder {
        WorkerBuilder::new(config)
    }
}

/// A worker that takes tasks until it is stopped. Dropping it stops it without any grace.
pub struct RunningWorker {
    shared: Arc<Shared>,
    crew: Arc<Crew>,
    /// What follows and announces, until the last task has ended: a silent worker loses its claims.
    duties: JoinSet<()>,
    grace: Duration,
}

impl RunningWorker {
    /// The worker's name.
    pub fn id(&self) -> &WorkerId {
        &self.shared.worker
    }

    /// Stops pulling, lets running tasks finish within the grace, then stops them and hands their
    /// tasks back. Returns how many were handed back.
    pub async fn stop(mut self) -> usize {
        let left = match tokio::time::timeout(self.grace, self.crew.finish()).await {
            Ok(()) => 0,
            Err(_) => self.crew.running(),
        };
        if left > 0 {
            tracing::warn!(left, "the grace is over; running tasks are stopped and handed back");
        }
        self.shared.over.cancel();
        if tokio::time::timeout(HAND_BACK_TIME, self.crew.finish()).await.is_err() {
            tracing::warn!("tasks could not be handed back; they come back by themselves");
        }
        self.duties.shutdown().await;
        if let Err(error) = self.shared.broker.withdraw(&self.shared.worker).await {
            tracing::debug!(%error, "the presence was not withdrawn; it ends by its TTL");
        }
        // Acks and NAKs are on their way; a broker that is gone keeps nobody here.
        drop(tokio::time::timeout(HAND_BACK_TIME, self.shared.broker.flush()).await);
        left
    }
}

impl Drop for RunningWorker {
    fn drop(&mut self) {
        self.crew.halt();
        self.shared.over.cancel();
    }
}
