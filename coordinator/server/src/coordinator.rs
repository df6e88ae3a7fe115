//! A coordinator: connected, its catalog read, its API served.

use std::net::SocketAddr;
use std::time::Duration;

use millstream_broker::{Broker, ConnectError, ProvisionError, StoreError};
use millstream_model::ids::NodeId;
use millstream_model::limits::NAME_LENGTH_MAX;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::audit::{AuditTrail, StartAuditError};
use crate::catalog::Catalog;
use crate::cluster::Cluster;
use crate::config::CoordinatorConfig;
use crate::history::{History, IndexError};
use crate::http::{self, Api};
use crate::leases::Leases;
use crate::owner::Surroundings;

/// Between two tries of what NATS does not do yet.
const RETRY: Duration = Duration::from_millis(500);

/// A running coordinator.
pub struct Coordinator {
    address: SocketAddr,
    broker: Broker,
    audit: AuditTrail,
    leases: Leases,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

/// Why a coordinator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the API cannot listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    #[error(transparent)]
    Catalog(#[from] StoreError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("the audit trail cannot be kept: {0}")]
    Audit(#[from] StartAuditError),
}

impl Coordinator {
    /// Starts a coordinator: returns when it takes requests, however long NATS lets it wait.
    pub async fn start(config: CoordinatorConfig) -> Result<Self, StartError> {
        let listen = |source| StartError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let stop = CancellationToken::new();
        // A start that fails or is given up takes the listener with it.
        let unfinished = stop.clone().drop_guard();
        let api = Api::starting(stop.clone());
        let server = tokio::spawn(http::serve(listener, http::router(api.clone()), stop.clone()));

        let broker = Broker::connect(config.nats.clone()).await?;
        let topology = config.topology();
        while let Err(error) = broker.provision(&topology).await {
            if !error.is_retryable() {
                return Err(error.into());
            }
            tracing::warn!(%error, "the streams cannot be made yet");
            tokio::time::sleep(RETRY).await;
        }
        let catalog = loop {
            match Catalog::start(broker.clone()).await {
                Ok(catalog) => break catalog,
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "the catalog cannot be read yet");
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let node = own_node(config.node.as_ref());
        let surroundings = Surroundings {
            broker: broker.clone(),
            catalog: catalog.clone(),
            topology,
            node,
            stop: stop.clone(),
            fold_rev: tokio::sync::watch::Sender::new(millstream_engine::partition::FOLD_REV).subscribe(),
            keeping: config.keeping,
            retention_ms: config.retention_ms,
        };
        let history = History::start(broker.clone(), config.index_path, stop.clone()).await?;
        api.open_history(history.clone());
        let leases = Leases::start(surroundings.clone(), config.listen.to_string());
        let cluster = Cluster::new(&surroundings, leases.clone(), history, config.defaults);
        cluster.caught_up().await;
        let audit = AuditTrail::start(&config.audit, &broker)?;
        api.open_audit(audit.clone());
        api.open(cluster, catalog);
        let stop = unfinished.disarm();
        Ok(Self { address, broker, audit, leases, stop, server })
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hands the partitions over to other coordinators, ends event streams, lets open requests end, and closes the
    /// connection.
    pub async fn stop(self) {
        self.leases.leave().await;
        self.stop.cancel();
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the API's server failed");
        }
        self.audit.close().await;
        self.broker.drain().await;
    }
}

/// The process's name in the cluster: what it is configured to be and a few characters of its own. No two processes have
/// the same, not even one and its successor.
fn own_node(configured: Option<&NodeId>) -> NodeId {
    let unique = Uuid::new_v4().simple().to_string();
    let (name, unique) = match configured {
        Some(name) => (name.as_str(), &unique[..8]),
        None => ("node", unique.as_str()),
    };
    let name = &name[..name.len().min(NAME_LENGTH_MAX - unique.len() - 1)];
    format!("{name}-{unique}").parse().expect("a name, a dash, letters and digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_of_one_name_are_two_nodes() {
        let name: NodeId = "a".parse().expect("a name");
        assert!(own_node(Some(&name)).as_str().starts_with("a-"));
        assert_ne!(own_node(Some(&name)), own_node(Some(&name)));
        let long: NodeId = "n".repeat(NAME_LENGTH_MAX).parse().expect("a name");
        assert_eq!(own_node(Some(&long)).as_str().len(), NAME_LENGTH_MAX);
        assert_ne!(own_node(None), own_node(None));
    }
}
