//! A nats-server of a test's own: a real process with file storage that can be killed, paused and started again.

use std::path::PathBuf;

use anyhow::Context;
use millstream_cli::nats_server::{self, ServerOptions};
use rustix::process::{Pid, Signal, kill_process};

use crate::temp_dir::TempDir;

/// The server and the directory that outlives its crashes.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    running: Option<nats_server::Server>,
    port: u16,
    log: PathBuf,
    // Dropped last, when nothing writes there any more.
    directory: TempDir,
}

/// Starts a server on a free port.
///
/// # Panics
/// When nats-server is neither found nor fetched, or does not start.
pub async fn start() -> Server {
    start_with("").await
}

/// Starts a server on a free port with more lines of configuration.
///
/// # Panics
/// When nats-server is neither found nor fetched, or does not start.
pub async fn start_with(extra_config: &str) -> Server {
    let directory = TempDir::new("nats");
    let log = directory.join("nats-server.log");
    let mut options = ServerOptions::in_directory(binary().await, directory.join("jetstream"));
    options.extra_config = extra_config.to_owned();
    options.log_file = Some(log.clone());
    let mut server = Server { options, running: None, port: 0, log, directory };
    server.start_again().await.expect("nats-server starts");
    server
}

/// The server's executable.
///
/// # Panics
/// When it is neither found nor fetched.
pub async fn binary() -> PathBuf {
    tokio::task::spawn_blocking(|| nats_server::find_or_fetch(|line| eprintln!("{line}")))
        .await
        .expect("finding does not panic")
        .expect("there is a nats-server")
}

impl Server {
    /// Where clients connect; the same after a restart.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Ends it with SIGKILL, as a crash does; what it stored stays.
    pub fn kill9(&mut self) {
        if let Some(server) = self.running.take() {
            server.kill();
        }
    }

    /// Kills it if it runs, and starts it on the same port with what it had stored.
    ///
    /// # Panics
    /// When it does not come back.
    pub async fn restart(&mut self) {
        self.kill9();
        self.start_again().await.expect("nats-server comes back");
    }

    /// Stops it in its tracks with SIGSTOP: connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// The directory that outlives its crashes.
    pub fn directory(&self) -> &TempDir {
        &self.directory
    }

    fn signal(&self, signal: Signal) {
        let Some(server) = &self.running else { return };
        let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw).expect("a process has a pid");
        kill_process(pid, signal).expect("a child of ours takes signals");
    }

    async fn start_again(&mut self) -> anyhow::Result<()> {
        let options = self.options.clone().port(self.port);
        let started = tokio::task::spawn_blocking(move || nats_server::Server::start(&options)).await?;
        let server = started.context("starting nats-server")?;
        self.port = server.port();
        self.running = Some(server);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.resume();
        self.kill9();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("---- the last of nats-server ----\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}
