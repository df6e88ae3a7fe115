//! The processes of a run, each with what it takes to start it again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use crate::api::Api;
use crate::binaries::binaries;
use crate::chaos::client::Clients;
use crate::chaos::record::now_ms;
use crate::chaos::schedule::Target;
use crate::chaos::servers::{self, Server};
use crate::chaos::settings::Settings;
use crate::process::Process;
use crate::temp_dir::TempDir;
use crate::wait::eventually;

/// How long a coordinator may take until it serves.
const READY: Duration = Duration::from_secs(60);

/// Where the nats-servers stand: on loopback, or each behind a cable or on a disk of its own.
#[derive(Debug, Clone, Default)]
pub struct Ground {
    hosts: Vec<String>,
    prefixes: Vec<Vec<String>>,
    stores: Vec<PathBuf>,
}

impl Ground {
    /// All on loopback, with stores in the world's directory.
    pub fn loopback() -> Self {
        Self::default()
    }

    /// Each at an address of its own, started by a command of its own.
    pub fn places(hosts: Vec<String>, prefixes: Vec<Vec<String>>) -> Self {
        Self { hosts, prefixes, stores: Vec::new() }
    }

    /// On loopback, each with a store of its own.
    pub fn disks(stores: Vec<PathBuf>) -> Self {
        Self { stores, ..Self::default() }
    }

    pub(crate) fn host(&self, server: usize) -> &str {
        self.hosts.get(server).map_or("127.0.0.1", String::as_str)
    }

    pub(crate) fn prefix(&self, server: usize) -> &[String] {
        self.prefixes.get(server).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn store(&self, server: usize) -> Option<PathBuf> {
        self.stores.get(server).cloned()
    }
}

/// A process that ended without being told to.
#[derive(Debug, Clone)]
pub struct Fallen {
    pub at_ms: u64,
    pub target: Target,
}

/// Snapshots, cuts of the journal and parking happen within a short run.
const KEEPING: [(&str, &str); 3] = [
    ("MILLSTREAM__SNAPSHOT__ENTRIES", "100"),
    ("MILLSTREAM__SNAPSHOT__BYTES", "65536"),
    ("MILLSTREAM__PARK_AFTER_MS", "1000"),
];

/// The world. Dropping it ends every process.
#[derive(Debug)]
pub struct World {
    workers: Vec<Process>,
    coordinators: Vec<Process>,
    servers: Vec<Server>,
    clients: Arc<Clients>,
    /// Processes that are down or paused because they were struck.
    away: BTreeMap<Target, &'static str>,
    fallen: Vec<Fallen>,
    // Dropped last, when nothing writes there any more.
    directory: TempDir,
}

impl World {
    /// Starts everything and waits until every coordinator serves.
    ///
    /// # Panics
    /// When that fails.
    pub async fn build(settings: &Settings, ground: Ground) -> Self {
        let directory = TempDir::new("chaos");
        let servers = servers::start(settings.replicas, settings.sync_always, &ground, directory.path()).await;
        let nats: Vec<&str> = servers.iter().map(|server| server.url.as_str()).collect();
        let nats = nats.join(",");
        let listens: Vec<String> =
            servers::free_ports(settings.coordinators).iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let apis: Vec<Api> = listens.iter().map(|listen| Api::new(format!("http://{listen}"))).collect();
        let mut world = Self {
            workers: Vec::new(),
            coordinators: Vec::new(),
            servers,
            clients: Arc::new(Clients::new(apis, settings.seed)),
            away: BTreeMap::new(),
            fallen: Vec::new(),
            directory,
        };
        for (i, listen) in listens.iter().enumerate() {
            world.add_coordinator(i, listen, &nats, settings);
            // The first one makes the streams; the others find them.
            world.ready(i).await;
        }
        for i in 0..settings.workers {
            world.add_worker(i, &nats);
        }
        world
    }

    fn add_coordinator(&mut self, index: usize, listen: &str, nats: &str, settings: &Settings) {
        let name = format!("coordinator-{}", index + 1);
        let (partitions, replicas) = (settings.partitions.to_string(), settings.replicas.to_string());
        let arguments = [
            ("--nats-url", nats),
            ("--listen", listen),
            ("--node", &name),
            ("--partitions", &partitions),
            ("--replicas", &replicas),
        ];
        let process = self.launch(&name, &binaries().coordinator, &arguments, &KEEPING);
        self.coordinators.push(process);
    }

    fn add_worker(&mut self, index: usize, nats: &str) {
        let name = format!("worker-{}", index + 1);
        let arguments =
            [("--nats-url", nats), ("--id", &name), ("--capabilities", "http,builtin"), ("--concurrency", "32")];
        let process = self.launch(&name, &binaries().worker, &arguments, &[]);
        self.workers.push(process);
    }

    fn launch(&self, name: &str, program: &Path, arguments: &[(&str, &str)], environment: &[(&str, &str)]) -> Process {
        let words = arguments.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Process::start(name, program, words, environment, self.directory.path()).expect("our binaries can be started")
    }

    /// Waits until a coordinator serves.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn ready(&self, coordinator: usize) {
        let api = &self.clients.apis()[coordinator];
        let what = format!("coordinator-{} is ready", coordinator + 1);
        eventually(READY, &what, || async {
            let asked = tokio::time::timeout(Duration::from_secs(5), api.get("/healthz/ready")).await;
            asked.ok()?.ok().filter(|answer| answer.status == 200)
        })
        .await;
    }

    pub fn clients(&self) -> &Arc<Clients> {
        &self.clients
    }

    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The addresses of all nats-servers, separated by commas.
    pub fn nats_urls(&self) -> String {
        self.servers.iter().map(|server| server.url.as_str()).collect::<Vec<_>>().join(",")
    }

    /// Whether all nats-servers are in step.
    pub async fn nats_is_whole(&self) -> bool {
        for server in &self.servers {
            if !server.is_healthy().await {
                return false;
            }
        }
        true
    }

    fn processes(&mut self, target: Target) -> Vec<&mut Process> {
        match target {
            Target::AllNats => self.servers.iter_mut().map(|server| &mut server.process).collect(),
            Target::Nats(i) => vec![&mut self.servers[i].process],
            Target::Coordinator(i) => vec![&mut self.coordinators[i]],
            Target::Worker(i) => vec![&mut self.workers[i]],
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self, target: Target) {
        self.away.insert(target, "killed");
        for process in self.processes(target) {
            process.kill9();
        }
    }

    /// Starts what was killed and does not wait for it.
    pub fn start_again(&mut self, target: Target) {
        self.away.remove(&target);
        for process in self.processes(target) {
            process.start_again().expect("what ran can be started");
        }
    }

    /// SIGSTOP.
    pub fn pause(&mut self, target: Target) {
        self.away.insert(target, "paused");
        for process in self.processes(target) {
            process.signal(Signal::STOP);
        }
    }

    /// SIGCONT.
    pub fn resume(&mut self, target: Target) {
        self.away.remove(&target);
        for process in self.processes(target) {
            process.signal(Signal::CONT);
        }
    }

    /// Notes every process that ended by itself, and starts it again.
    pub fn look_after(&mut self) {
        let nats = (0..self.servers.len()).map(Target::Nats);
        let coordinators = (0..self.coordinators.len()).map(Target::Coordinator);
        let all: Vec<Target> = nats.chain(coordinators).chain((0..self.workers.len()).map(Target::Worker)).collect();
        for target in all {
            let struck =
                self.away.contains_key(&target) || target.is_nats() && self.away.contains_key(&Target::AllNats);
            if struck || !self.processes(target)[0].has_ended() {
                continue;
            }
            println!("  {target} ended by itself");
            self.fallen.push(Fallen { at_ms: now_ms(), target });
            self.kill(target);
            self.start_again(target);
        }
    }

    /// The processes that ended by themselves.
    pub fn fallen(&mut self) -> Vec<Fallen> {
        self.look_after();
        self.fallen.clone()
    }

    /// Ends every process. The directory goes when `clean`, and is named otherwise.
    pub fn end(mut self, clean: bool) {
        for process in self.workers.iter_mut().chain(&mut self.coordinators) {
            process.kill9();
        }
        for server in &mut self.servers {
            server.process.kill9();
        }
        if !clean {
            println!("logs, stores and the witness's file are kept in {}", self.directory.path().display());
            self.directory.keep();
        }
    }
}
