//! From a configuration and handlers to a running worker.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use millstream_broker::{Broker, ConnectError};
use millstream_model::agent::{Agent, AgentLimits, AgentStatus};
use millstream_model::error::StepError;
use millstream_model::ids::{AgentId, Capability, InvalidName, WorkerId};
use millstream_model::limits::NAME_LENGTH_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::adapter::native::{Handler, Handlers};
use crate::cancelled::Cancelled;
use crate::context::Context;
use crate::gate::Gates;
use crate::manifests::Manifests;
use crate::run::Shared;
use crate::worker::crew::Crew;
use crate::worker::{RunningWorker, WorkerConfig};

/// A worker that is being put together.
#[derive(Debug)]
pub struct WorkerBuilder {
    config: WorkerConfig,
    agents: Vec<Agent>,
    handlers: BTreeMap<AgentId, Handler>,
    refused: Option<StartError>,
}

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("`{id}` cannot be an agent's id: {source}")]
    Name {
        id: String,
        #[source]
        source: InvalidName,
    },
    #[error("agent {agent} has two handlers")]
    TwoHandlers { agent: AgentId },
    #[error("agent {agent} has a handler and must have the framework `native` and a capability")]
    NotNative { agent: AgentId },
    #[error("a worker needs a concurrency of at least 1")]
    NoConcurrency,
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl WorkerBuilder {
    pub(crate) fn new(config: WorkerConfig) -> Self {
        Self { config, agents: Vec::new(), handlers: BTreeMap::new(), refused: None }
    }

    /// Registers an async function as the native agent `id`, under a capability of the same name.
    ///
    /// Its input is anything that can be deserialised, a [`serde_json::Value`] for one, its output
    /// anything that can be serialised.
    #[must_use]
    pub fn handler<F, Fut, I, O>(mut self, id: &str, function: F) -> Self
    where
        F: Fn(Context, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, StepError>> + Send + 'static,
        I: DeserializeOwned,
        O: Serialize,
    {
        match (id.parse::<AgentId>(), id.parse::<Capability>()) {
            (Ok(agent), Ok(capability)) => self.native(manifest(agent, capability), function),
            (Err(source), _) | (_, Err(source)) => {
                self.refuse(StartError::Name { id: id.to_owned(), source });
                self
            }
        }
    }

    /// Registers an async function as the native agent that the manifest describes.
    #[must_use]
    pub fn native<F, Fut, I, O>(mut self, agent: Agent, function: F) -> Self
    where
        F: Fn(Context, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, StepError>> + Send + 'static,
        I: DeserializeOwned,
        O: Serialize,
    {
        if agent.framework != "native" || agent.capabilities.is_empty() {
            self.refuse(StartError::NotNative { agent: agent.id.clone() });
        }
        if self.handlers.insert(agent.id.clone(), Handler::new(function)).is_some() {
            self.refuse(StartError::TwoHandlers { agent: agent.id.clone() });
        }
        self.agents.push(agent);
        self
    }

    /// Connects, waiting for NATS as long as that takes, and starts to work.
    pub async fn start(self) -> Result<RunningWorker, StartError> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        let config = self.config;
        if config.concurrency == 0 || config.concurrency_per_capability.values().any(|slots| *slots == 0) {
            return Err(StartError::NoConcurrency);
        }
        let broker = Broker::connect(config.nats.clone()).await?;
        let worker = config.id.clone().unwrap_or_else(unused_name);
        let shared = Arc::new(Shared {
            manifests: Manifests::new(broker.clone(), Handlers::new(self.handlers), &self.agents),
            broker,
            worker,
            gates: Gates::default(),
            cancelled: Cancelled::default(),
            over: CancellationToken::new(),
        });
        let grace = config.shutdown_grace;
        let crew = Crew::new(Arc::clone(&shared), config, self.agents);
        let mut duties = JoinSet::new();
        crew.begin(&mut duties);
        Ok(RunningWorker { shared, crew, duties, grace })
    }

    fn refuse(&mut self, reason: StartError) {
        self.refused.get_or_insert(reason);
    }
}

fn manifest(id: AgentId, capability: Capability) -> Agent {
    Agent {
        name: id.to_string(),
        id,
        version: String::new(),
        framework: "native".to_owned(),
        capabilities: vec![capability],
        status: AgentStatus::Active,
        config: Value::Null,
        limits: AgentLimits::default(),
    }
}

/// The host's name as far as it is known, and what makes it unique.
fn unused_name() -> WorkerId {
    let unique = Uuid::now_v7().simple().to_string();
    let host = std::env::var("HOSTNAME").unwrap_or_default();
    let host: String = host.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let host = &host[..host.len().min(NAME_LENGTH_MAX - 16)];
    format!("w-{host}-{}", &unique[20..])
        .replace("--", "-")
        .parse()
        .expect("letters, digits and dashes, and not too many")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn two_workers_never_share_a_name() {
        assert_ne!(unused_name(), unused_name());
    }

    #[tokio::test]
    async fn what_cannot_work_is_refused_before_anything_starts() {
        let echo = |_: Context, input: Value| async move { Ok(input) };
        let builder = || WorkerBuilder::new(WorkerConfig::default());
        let why = |builder: WorkerBuilder| async { builder.start().await.err().map(|error| error.to_string()) };
        assert_eq!(
            why(builder().handler("a b", echo)).await.as_deref(),
            Some("`a b` cannot be an agent's id: a name has only letters, digits, '_' and '-', this one has ' '")
        );
        assert_eq!(
            why(builder().handler("a", echo).handler("a", echo)).await.as_deref(),
            Some("agent a has two handlers")
        );
        let http = json!({"id": "a", "framework": "http", "capabilities": ["http"]});
        let http: Agent = serde_json::from_value(http).expect("an agent");
        assert_eq!(
            why(builder().native(http, echo)).await.as_deref(),
            Some("agent a has a handler and must have the framework `native` and a capability")
        );
        let idle = WorkerConfig { concurrency: 0, ..WorkerConfig::default() };
        assert_eq!(why(WorkerBuilder::new(idle)).await.as_deref(), Some("a worker needs a concurrency of at least 1"));
    }
}
