//! What can be said to the commands that look into executions and clusters.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use millstream_model::position::Position;

use super::{Server, duration, place};

/// How NATS is reached: as the coordinator of the cluster is told, by the same file and the same environment.
#[derive(Debug, Args)]
pub(crate) struct Nats {
    /// The coordinator's configuration file
    #[arg(long, value_name = "FILE", env = "MILLSTREAM_CONFIG")]
    pub config: Option<PathBuf>,
    /// URL of NATS [default: nats://127.0.0.1:4222]
    #[arg(long, value_name = "URL")]
    pub nats_url: Option<String>,
    /// Prefix of all subjects and streams [default: ms]
    #[arg(long, value_name = "NAME")]
    pub prefix: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The execution's id, or a file that `executions export` wrote
    #[arg(value_name = "ID|FILE")]
    pub what: String,
    /// Stops after the entry at this position of the journal, as 17.0, or 17 for all of message 17
    #[arg(long, value_name = "POSITION", value_parser = place)]
    pub until: Option<Position>,
    /// Prints the effects of each entry too
    #[arg(long)]
    pub effects: bool,
    /// Prints JSON, one line for each entry
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub nats: Nats,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// A monitoring endpoint of nats-server, as http://127.0.0.1:8222; may be repeated, for each server
    #[arg(long, value_name = "URL")]
    pub monitor: Vec<String>,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub nats: Nats,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Between the two looks at the queue that tell what is missing from what is on its way
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub pause: Duration,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub nats: Nats,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyUpgrade {
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub nats: Nats,
}
