//! The worker as a process of its own.

mod settings;

use std::process::ExitCode;

use clap::Parser;
use millstream_worker::{StartError, Worker, WorkerConfig};
use settings::Flags;
use tokio::signal::unix::{Signal, SignalKind, signal};

fn main() -> ExitCode {
    let flags = Flags::parse();
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let (config, unknown) = match settings::load(flags, environment) {
        Ok(loaded) => loaded,
        Err(error) => return refuse(&error),
    };
    let instance = config.id.as_ref().map_or_else(|| std::process::id().to_string(), ToString::to_string);
    let telemetry = millstream_telemetry::init("millstream-worker", &instance);
    for name in unknown {
        tracing::info!(name, "a variable with our prefix is none of the worker's settings");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&error),
    };
    let outcome = runtime.block_on(work(config));
    telemetry.shutdown();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("millstream-worker: {error}");
    ExitCode::FAILURE
}

/// Why the process ends with a failure.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("signals cannot be received: {0}")]
    Signals(#[from] std::io::Error),
}

async fn work(config: WorkerConfig) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let worker = tokio::select! {
        worker = Worker::builder(config).start() => worker?,
        () = stop.requested() => return Ok(()),
    };
    tracing::info!(worker = %worker.id(), "takes tasks");
    stop.requested().await;
    tracing::info!(worker = %worker.id(), "stops; running tasks may finish, a second signal ends them");
    tokio::select! {
        left = worker.stop() => tracing::info!(handed_back = left, "stopped"),
        () = stop.requested() => tracing::warn!("stopped at once; running tasks come back by themselves"),
    }
    Ok(())
}

/// SIGTERM or SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
