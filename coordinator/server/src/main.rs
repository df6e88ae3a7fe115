//! The coordinator as a process of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use millstream_coordinator::config::{self, CoordinatorConfig, SETTINGS, Sources};
use millstream_coordinator::coordinator::Coordinator;
use millstream_telemetry as telemetry;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Owns partitions of a Millstream cluster and serves its REST API.
#[derive(Debug, Parser)]
#[command(name = "millstream-coordinator", version, after_long_help = settings())]
struct Arguments {
    /// A file with settings, as YAML, TOML or JSON
    #[arg(long, value_name = "FILE", env = "MILLSTREAM_CONFIG")]
    config: Option<PathBuf>,
    /// URL of NATS, or several separated by commas [default: nats://127.0.0.1:4222]
    #[arg(long, value_name = "URL")]
    nats_url: Option<String>,
    /// Address and port of the API [default: 127.0.0.1:8686]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Partitions of a new cluster, 1 to 256; an existing one must have as many [default: 8]
    #[arg(long, value_name = "N")]
    partitions: Option<String>,
    /// Prefix of all subjects and streams; one per environment [default: ms]
    #[arg(long, value_name = "NAME")]
    prefix: Option<String>,
    /// Where streams are kept: file or memory [default: file]
    #[arg(long, value_name = "KIND")]
    storage: Option<String>,
    /// Replicas of streams and buckets: 1, 3 or 5 [default: 1]
    #[arg(long, value_name = "N")]
    replicas: Option<String>,
    /// Name of this process in the cluster [default: a random one]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

impl Arguments {
    fn into_sources(self) -> Sources {
        let flags = [
            ("nats.url", self.nats_url),
            ("listen", self.listen),
            ("partitions", self.partitions),
            ("prefix", self.prefix),
            ("storage", self.storage),
            ("replicas", self.replicas),
            ("node", self.node),
        ];
        Sources {
            file: self.config,
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            flags: flags.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
        }
    }
}

fn settings() -> String {
    let mut text = "Settings, in a file under their keys, in the environment under their variables.\n\
                    Flags win over the environment, the environment over the file.\n\n"
        .to_owned();
    let width = SETTINGS.iter().map(|setting| setting.key.len()).max().unwrap_or_default();
    for setting in SETTINGS {
        text += &format!("  {:width$}  {}\n  {:width$}  {}\n", setting.key, setting.variable(), "", setting.meaning);
    }
    text += "\nLogs go to stderr: MILLSTREAM_LOG or RUST_LOG filter them, MILLSTREAM_LOG_FORMAT=json makes them JSON.\n\
             Traces are exported as the OTEL_* variables say.";
    text
}

#[tokio::main]
async fn main() -> ExitCode {
    let loaded = match config::load(Arguments::parse().into_sources()) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let instance = loaded.config.node.as_ref().map_or_else(String::new, ToString::to_string);
    let telemetry = telemetry::init("millstream-coordinator", &instance);
    for variable in &loaded.unknown_variables {
        tracing::warn!("{variable} is not a setting of the coordinator and is ignored; --help lists them");
    }
    let outcome = run(loaded.config).await;
    telemetry.shutdown();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until it is told to end. A second signal ends it at once.
async fn run(config: CoordinatorConfig) -> anyhow::Result<()> {
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?,
        interrupt: signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?,
    };
    let coordinator = tokio::select! {
        started = Coordinator::start(config) => started?,
        () = signals.next() => return Ok(()),
    };
    tracing::info!(address = %coordinator.address(), "the API is served");
    signals.next().await;
    tracing::info!("stopping");
    tokio::select! {
        () = coordinator.stop() => {}
        () = signals.next() => tracing::warn!("told a second time: not everything was brought to its end"),
    }
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
