//! A coordinator: connected, its catalog read, its API served.

use std::net::SocketAddr;
use std::time::Duration;

use millstream_broker::{Broker, ConnectError, ProvisionError, StoreError};
use millstream_model::ids::NodeId;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::cluster::Cluster;
use crate::config::CoordinatorConfig;
use crate::http::{self, Api};
use crate::owner::Surroundings;

/// Between two tries of what NATS does not do yet.
const RETRY: Duration = Duration::from_millis(500);

/// A running coordinator.
pub struct Coordinator {
    address: SocketAddr,
    broker: Broker,
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
        let node = config.node.unwrap_or_else(random_node);
        let surroundings =
            Surroundings { broker: broker.clone(), catalog: catalog.clone(), topology, node, stop: stop.clone() };
        let cluster = Cluster::start(&surroundings, config.defaults);
        tokio::spawn(pass_notices(cluster.clone(), stop.clone()));
        cluster.caught_up().await;
        api.open(cluster, catalog);
        let stop = unfinished.disarm();
        Ok(Self { address, broker, stop, server })
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends event streams, lets open requests end, and closes the connection.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the API's server failed");
        }
        self.broker.drain().await;
    }
}

/// A name that no other coordinator has.
fn random_node() -> NodeId {
    format!("node-{}", Uuid::new_v4().simple()).parse().expect("letters, digits and a dash")
}

/// Hands what workers say they do to those who follow the executions. Notices are best effort.
async fn pass_notices(cluster: Cluster, stop: CancellationToken) {
    let follow = async {
        loop {
            match cluster.broker().subscribe_live().await {
                Ok(mut notices) => {
                    while let Some(notice) = notices.next().await {
                        cluster.notify(notice);
                    }
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "notices of workers cannot be followed yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    };
    tokio::select! {
        () = follow => {}
        () = stop.cancelled() => {}
    }
}
