//! A whole cluster in this process: a nats-server of its own, a coordinator, a worker.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use millstream_broker::{BrokerConfig, Storage};
use millstream_coordinator::config::CoordinatorConfig;
use millstream_coordinator::coordinator::Coordinator;
use millstream_worker::{RunningWorker, Worker, WorkerConfig};

use crate::nats_server::{self, Server, ServerOptions};

/// What the worker of a local cluster does: whatever agents of these frameworks are registered.
pub(crate) const FRAMEWORKS: &str = "http, process and built-in agents";

/// Where a local cluster listens and what it keeps.
#[derive(Debug)]
pub(crate) struct LocalOptions {
    /// Everything is kept in this directory; without one, in a temporary directory that goes when the cluster stops.
    pub data: Option<PathBuf>,
    pub storage: Storage,
    pub listen: SocketAddr,
    /// Port of nats-server; 0 takes a free one.
    pub nats_port: u16,
}

/// A running cluster. [`LocalCluster::stop`] ends it in order; dropping it stops nats-server at least.
pub(crate) struct LocalCluster {
    coordinator: Coordinator,
    worker: RunningWorker,
    nats: Server,
    /// Keeps others away from the data.
    _lock: Option<File>,
}

impl LocalCluster {
    /// Starts everything and returns when it takes requests.
    pub(crate) async fn start(options: LocalOptions, say: impl Fn(&str) + Send + 'static) -> anyhow::Result<Self> {
        let LocalOptions { data, storage, listen, nats_port } = options;
        let lock = data.as_deref().map(lock).transpose()?;
        let nats = tokio::task::spawn_blocking(move || start_nats(data.as_deref(), nats_port, say)).await??;
        let nats_config =
            |name: &str| BrokerConfig { url: nats.url(), name: name.to_owned(), ..BrokerConfig::default() };
        let coordinator = CoordinatorConfig {
            nats: nats_config("millstream-coordinator"),
            listen,
            storage,
            ..CoordinatorConfig::default()
        };
        let coordinator = Coordinator::start(coordinator).await.context("the coordinator does not start")?;
        // No capability named: it takes the work of every agent that it can run.
        let worker = WorkerConfig { nats: nats_config("millstream-worker"), ..WorkerConfig::default() };
        let worker = Worker::builder(worker).start().await?;
        Ok(Self { coordinator, worker, nats, _lock: lock })
    }

    /// Where the API is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.coordinator.address())
    }

    pub(crate) fn nats_url(&self) -> String {
        self.nats.url()
    }

    /// Ends what runs, then everything else, the broker last.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.worker.stop().await;
        self.coordinator.stop().await;
        let nats = self.nats;
        tokio::task::spawn_blocking(move || nats.stop()).await?;
        Ok(())
    }
}

fn lock(data: &Path) -> anyhow::Result<File> {
    fs::create_dir_all(data).with_context(|| format!("cannot create {}", data.display()))?;
    let path = data.join("lock");
    let lock = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => anyhow::bail!(
            "{} is in use by another `millstream dev`; stop that one, or use --data with another directory",
            data.display()
        ),
        Err(fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn start_nats(data: Option<&Path>, port: u16, say: impl Fn(&str)) -> anyhow::Result<Server> {
    let binary = nats_server::find_or_fetch(say)?;
    let mut options = match data {
        Some(data) => ServerOptions::in_directory(binary, data.join("nats")),
        None => ServerOptions::temporary(binary),
    };
    options.log_file = data.map(|data| data.join("nats-server.log"));
    Ok(Server::start(&options.port(port))?)
}

/// The port when it is free on the loopback interface, else 0, which takes any.
pub(crate) fn port_or_any(port: u16) -> u16 {
    if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() { port } else { 0 }
}
