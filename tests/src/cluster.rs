//! A Millstream of a test's own: nats-server, coordinator and workers as real processes.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::Mutex;

use crate::api::Api;
use crate::binaries::binaries;
use crate::nats;
use crate::process::{Process, free_port};
use crate::temp_dir::TempDir;
use crate::wait::eventually;

/// How long a process may take until it is ready.
const READY: Duration = Duration::from_secs(60);

/// The capabilities of a test's workers unless it says otherwise.
pub const CAPABILITIES: &str = "builtin,http,process";

/// One coordinator process.
#[derive(Debug)]
pub struct Coordinator {
    process: Process,
    api: Api,
}

/// One worker process.
#[derive(Debug)]
pub struct Worker {
    process: Process,
}

/// What a process is started with beside the address of NATS.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
}

impl Extra {
    /// Nothing but environment.
    pub fn environment(environment: Vec<(String, String)>) -> Self {
        Self { arguments: Vec::new(), environment }
    }
}

impl Coordinator {
    /// Starts a coordinator on a free port and does not wait for it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn launch(nats_url: &str, directory: &TempDir, extra: Extra) -> Self {
        Self::launch_named("coordinator", nats_url, directory, extra)
    }

    /// As [`Self::launch`], with a log of its own: one of several.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn launch_named(name: &str, nats_url: &str, directory: &TempDir, extra: Extra) -> Self {
        let port = free_port();
        let mut arguments = flags(&[("--nats-url", nats_url), ("--listen", &format!("127.0.0.1:{port}"))]);
        arguments.extend(extra.arguments);
        let program = &binaries().coordinator;
        let process = Process::start(name, program, arguments, extra.environment, directory.path())
            .expect("the coordinator can be started");
        Self { process, api: Api::new(format!("http://127.0.0.1:{port}")) }
    }

    pub fn api(&self) -> &Api {
        &self.api
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until it serves.
    ///
    /// # Panics
    /// When it ends instead, or takes too long.
    pub async fn ready(&mut self) {
        let api = self.api.clone();
        let process = std::sync::Mutex::new(&mut self.process);
        let ended = || process.lock().expect("nobody panics with it").has_ended();
        eventually(READY, "the coordinator is ready", || {
            assert!(!ended(), "the coordinator ended");
            async { api.get("/healthz/ready").await.ok().filter(|answer| answer.status == 200) }
        })
        .await;
    }

    /// Ends it with SIGKILL.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts it once more on the same port and waits until it serves.
    ///
    /// # Panics
    /// When it does not come back.
    pub async fn restart(&mut self) {
        self.process.start_again().expect("the coordinator can be started");
        self.ready().await;
    }
}

impl Worker {
    /// Starts a worker and does not wait for it: it pulls as soon as there is something to pull.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn launch(name: &str, nats_url: &str, directory: &TempDir, extra: Extra) -> Self {
        let mut arguments = flags(&[("--nats-url", nats_url)]);
        if !extra.arguments.iter().any(|argument| argument == "--capabilities") {
            arguments.extend(flags(&[("--capabilities", CAPABILITIES)]));
        }
        arguments.extend(extra.arguments);
        let process = Process::start(name, &binaries().worker, arguments, extra.environment, directory.path())
            .expect("the worker can be started");
        Self { process }
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Ends it with SIGKILL.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts it once more.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn restart(&mut self) {
        self.process.start_again().expect("the worker can be started");
    }

    /// Stops it in its tracks with SIGSTOP.
    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }
}

/// All of them. Workers end first, then the coordinator, then NATS.
#[derive(Debug)]
pub struct Cluster {
    pub workers: Vec<Worker>,
    pub coordinator: Coordinator,
    pub nats: nats::Server,
    pub directory: TempDir,
}

impl Cluster {
    /// Starts a nats-server, a coordinator and `workers` workers, and waits until the coordinator serves.
    ///
    /// # Panics
    /// When one of them does not start.
    pub async fn start(workers: usize) -> Self {
        Self::start_with(workers, &Extra::default()).await
    }

    /// As [`Self::start`], with more for every process.
    ///
    /// # Panics
    /// When one of them does not start.
    pub async fn start_with(workers: usize, extra: &Extra) -> Self {
        let directory = TempDir::new("cluster");
        let nats = nats::start().await;
        let mut coordinator = Coordinator::launch(&nats.url(), &directory, extra.clone());
        coordinator.ready().await;
        let workers = (1..=workers)
            .map(|i| Worker::launch(&format!("worker-{i}"), &nats.url(), &directory, extra.clone()))
            .collect();
        Self { workers, coordinator, nats, directory }
    }

    /// The cluster that the tests of this binary share, started by the first and stopped with the last
    /// that holds it. Tests keep apart by the names of their workflows and agents.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(cluster) = shared.upgrade() {
            return cluster;
        }
        let cluster = Arc::new(Self::start(2).await);
        *shared = Arc::downgrade(&cluster);
        cluster
    }

    pub fn api(&self) -> &Api {
        self.coordinator.api()
    }

    /// The command line's executable.
    pub fn millstream(&self) -> PathBuf {
        binaries().millstream.clone()
    }
}

fn flags(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]).collect()
}
