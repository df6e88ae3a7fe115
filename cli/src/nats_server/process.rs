//! One nats-server process, stopped by its own pid when its owner is dropped or dies.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

use super::ready;

/// How long a server may take to recover its streams and answer.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// How long a server may take to stop on SIGTERM before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);
/// Lines of the log that an error quotes.
const LOG_TAIL: usize = 8;

/// What to start.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The nats-server executable.
    pub binary: PathBuf,
    pub storage: Storage,
    /// Client port on 127.0.0.1; 0 picks a free one.
    pub port: u16,
    /// Lines added to the end of the configuration file.
    pub extra_config: String,
    /// Where the server's log goes; a temporary file when absent.
    pub log_file: Option<PathBuf>,
}

/// Where JetStream keeps its streams.
#[derive(Debug, Clone)]
pub enum Storage {
    /// In a directory that goes with the server.
    Temporary,
    /// In this directory, which stays.
    Directory(PathBuf),
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot prepare {}: {source}", path.display())]
    Prepare {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot run {}: {source}", binary.display())]
    Spawn {
        binary: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("nats-server ended at once ({status}); it said:\n{log}")]
    Ended { status: ExitStatus, log: String },
    #[error("nats-server did not answer within {} s; it said:\n{log}", START_PATIENCE.as_secs())]
    Silent { log: String },
}

/// A running nats-server. Dropping it stops the process and waits for its end.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Stops the server when this process dies without dropping it.
    watchdog: Option<Child>,
    port: u16,
    /// Configuration, ports file and, unless named elsewhere, log and streams.
    directory: PathBuf,
    log_file: PathBuf,
    running: bool,
}

impl ServerOptions {
    /// A server on a free port whose streams go with it.
    pub fn temporary(binary: PathBuf) -> Self {
        Self { binary, storage: Storage::Temporary, port: 0, extra_config: String::new(), log_file: None }
    }

    /// A server on a free port whose streams stay in `directory`.
    pub fn in_directory(binary: PathBuf, directory: PathBuf) -> Self {
        Self { storage: Storage::Directory(directory), ..Self::temporary(binary) }
    }

    /// The same on this port.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }
}

impl Server {
    /// Starts a server and returns when it answers with JetStream.
    pub fn start(options: &ServerOptions) -> Result<Self, StartError> {
        let directory = temporary_directory()?;
        let server = Self::start_in(options, directory.clone());
        if server.is_err() {
            remove(&directory);
        }
        server
    }

    fn start_in(options: &ServerOptions, directory: PathBuf) -> Result<Self, StartError> {
        let log_file = options.log_file.clone().unwrap_or_else(|| directory.join("nats-server.log"));
        let store = match &options.storage {
            Storage::Temporary => directory.join("jetstream"),
            Storage::Directory(path) => path.clone(),
        };
        let prepare = |path: &Path| {
            let path = path.to_owned();
            move |source| StartError::Prepare { path, source }
        };
        fs::create_dir_all(&store).map_err(prepare(&store))?;
        let store = fs::canonicalize(&store).map_err(prepare(&store))?;
        let config_file = directory.join("nats-server.conf");
        fs::write(&config_file, configuration(options, &store, &directory)).map_err(prepare(&config_file))?;
        let log = File::create(&log_file).map_err(prepare(&log_file))?;
        let copy = log.try_clone().map_err(prepare(&log_file))?;

        // Its own process group: a Ctrl-C reaches the owner alone, which stops the server last.
        let child = Command::new(&options.binary)
            .arg("--config")
            .arg(&config_file)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(copy)
            .stderr(log)
            .spawn()
            .map_err(|source| StartError::Spawn { binary: options.binary.clone(), source })?;
        let watchdog = watch(child.id(), &directory).ok();
        let mut server = Self { child, watchdog, port: options.port, directory, log_file, running: true };
        server.wait_until_it_answers()?;
        Ok(server)
    }

    fn wait_until_it_answers(&mut self) -> Result<(), StartError> {
        let started = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.running = false;
                return Err(StartError::Ended { status, log: self.log_tail() });
            }
            if let Some(port) = ready::client_port(&self.directory)
                && ready::greets(port)
            {
                self.port = port;
                return Ok(());
            }
            if started.elapsed() > START_PATIENCE {
                return Err(StartError::Silent { log: self.log_tail() });
            }
            thread::sleep(POLL);
        }
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log_file).unwrap_or_else(|error| format!("(its log is gone: {error})"));
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }

    /// Stops the server in order and waits for its end.
    pub fn stop(mut self) {
        self.end(Signal::TERM);
    }

    /// Kills the server as a crash would and waits for its end.
    pub fn kill(mut self) {
        self.end(Signal::KILL);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut watchdog) = self.watchdog.take() {
            end_child(&mut watchdog);
        }
        if !self.running {
            return;
        }
        self.running = false;
        let signalled = Pid::from_child(&self.child);
        if kill_process(signalled, signal).is_ok() {
            let started = Instant::now();
            while started.elapsed() < STOP_PATIENCE {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                thread::sleep(POLL);
            }
        }
        end_child(&mut self.child);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Signal::TERM);
        remove(&self.directory);
    }
}

fn configuration(options: &ServerOptions, store: &Path, directory: &Path) -> String {
    let port = if options.port == 0 { "-1".to_owned() } else { options.port.to_string() };
    format!(
        "host: 127.0.0.1\nport: {port}\nports_file_dir: {}\njetstream {{ store_dir: {} }}\n{}\n",
        quoted(directory),
        quoted(store),
        options.extra_config
    )
}

/// A path as a string of the configuration language.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{text}\"")
}

/// A shell that reads from this process until the pipe breaks, which is when this process is gone.
fn watch(pid: u32, directory: &Path) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", "read -r _; kill -TERM \"$0\"; sleep 2; rm -rf \"$1\"", &pid.to_string()])
        .arg(directory)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Kills and reaps. Both only fail when the process is gone already.
fn end_child(child: &mut Child) {
    child.kill().ok();
    child.wait().ok();
}

fn temporary_directory() -> Result<PathBuf, StartError> {
    let base = std::env::temp_dir();
    let path = base.join(format!("millstream-nats-{}", Uuid::new_v4().simple()));
    match fs::create_dir_all(&base).and_then(|()| fs::create_dir(&path)) {
        Ok(()) => Ok(path),
        Err(source) => Err(StartError::Prepare { path, source }),
    }
}

/// What stays behind in the temporary directory harms nobody.
fn remove(directory: &Path) {
    fs::remove_dir_all(directory).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_quotes_paths() {
        let options = ServerOptions::temporary("nats-server".into());
        let text = configuration(&options, Path::new("/a b/\"c\""), Path::new("/d"));
        assert_eq!(
            text,
            "host: 127.0.0.1\nport: -1\nports_file_dir: \"/d\"\njetstream { store_dir: \"/a b/\\\"c\\\"\" }\n\n"
        );
    }

    #[test]
    fn a_server_answers_until_it_is_stopped_and_keeps_its_port_when_asked() {
        let binary = super::super::find_or_fetch(|_| {}).expect("nats-server");
        let server = Server::start(&ServerOptions::temporary(binary.clone())).expect("it starts");
        let (port, directory) = (server.port(), server.directory.clone());
        assert!(ready::greets(port));
        server.stop();
        assert!(!ready::greets(port));
        assert!(!directory.exists());

        let again = Server::start(&ServerOptions::temporary(binary.clone()).port(port)).expect("it starts again");
        assert_eq!(again.port(), port);
        let taken = Server::start(&ServerOptions::temporary(binary).port(port)).expect_err("the port is taken");
        assert!(taken.to_string().contains("address already in use"), "{taken}");
    }
}
