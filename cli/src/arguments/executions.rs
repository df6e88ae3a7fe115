//! What can be said about executions.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use millstream_model::position::Position;
use millstream_model::time::Timestamp;
use millstream_model::view::ExecutionStatus;

use super::{Nats, Server, duration, place};

/// One execution on a server.
#[derive(Debug, Args)]
pub(crate) struct Execution {
    /// The execution's id
    pub id: String,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Executions {
    /// Lists executions, the newest first
    List(Box<ListExecutions>),
    /// Shows an execution with its steps
    #[command(visible_alias = "get")]
    Show(Show),
    /// Lists what happened so far
    Events(Execution),
    /// Follows an execution to its end; the exit code tells how it ended
    Watch(Execution),
    /// Asks for an execution's end and tells how far that is
    Cancel(Cancel),
    /// Lets a failed or timed-out execution go on from where it stopped
    Resume(Resume),
    /// Starts a new execution from a step of an old one, with something changed
    Fork(Fork),
    /// Writes an execution to a file that holds all that it was folded from
    Export(Export),
    /// Puts an exported execution into the history of a cluster
    Import(ImportExecution),
}

/// Which executions are listed, and how.
#[derive(Debug, Args)]
pub(crate) struct ListExecutions {
    /// Only those of this workflow; may be repeated
    #[arg(long, value_name = "ID")]
    pub workflow: Vec<String>,
    /// Only those in this state; may be repeated
    #[arg(long, value_name = "STATE", value_parser = status)]
    pub status: Vec<ExecutionStatus>,
    /// Only those that started at this time or later, as 2026-01-31T00:00:00Z, or as 2h for two hours ago
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub started_after: Option<Timestamp>,
    /// Only those that started before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub started_before: Option<Timestamp>,
    /// Only those that ended at this time or later
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub ended_after: Option<Timestamp>,
    /// Only those that ended before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub ended_before: Option<Timestamp>,
    /// Only those with this label; may be repeated
    #[arg(long = "label", value_name = "NAME:VALUE", value_parser = pair)]
    pub labels: Vec<String>,
    /// Only those with this searchable attribute, as total:5 or total>=5; may be repeated
    #[arg(long = "attribute", value_name = "NAME:VALUE")]
    pub attributes: Vec<String>,
    /// What they are ordered by: started_at, ended_at, duration or workflow; - before it turns the order round
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: u32,
    /// Goes on where an earlier list stopped
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
    /// Tells of all that fit: how many, their states, how long they took
    #[arg(long)]
    pub summary: bool,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The execution's id
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub id: Option<String>,
    /// An exported execution; no server is asked
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// As it was after the entry at this position of the journal, as 17.0, or 17 for all of message 17
    #[arg(long, value_name = "POSITION", value_parser = place)]
    pub at: Option<Position>,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The execution's id
    pub id: String,
    /// Where it goes; - is stdout [default: ID.millstream]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Blanks the strings in inputs, outputs and errors; refused when the execution would take another course with that
    #[arg(long)]
    pub redact: bool,
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub nats: Nats,
}

#[derive(Debug, Args)]
pub(crate) struct ImportExecution {
    /// An exported execution that has ended
    pub file: PathBuf,
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub nats: Nats,
}

/// A state as it is written everywhere, in capitals or not.
fn status(text: &str) -> Result<ExecutionStatus, String> {
    serde_json::from_value(serde_json::Value::from(text.to_uppercase()))
        .map_err(|_| "expected pending, running, completed, failed, cancelled or timeout".to_owned())
}

/// A moment: RFC 3339, or how long ago.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Some(moment) = Timestamp::from_rfc3339(text) {
        return Ok(moment);
    }
    let ago =
        duration(text).map_err(|_| "expected a time as 2026-01-31T00:00:00Z, or 2h for two hours ago".to_owned())?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(ago);
    Ok(Timestamp::from_micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)))
}

fn pair(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err("expected a name, a colon and a value, as team:billing".to_owned()),
    }
}

/// Who asks for something, and why; both are kept with the execution.
#[derive(Debug, Args)]
pub(crate) struct Provenance {
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who asks for it
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true)]
    pub by: Option<String>,
}

impl Provenance {
    /// Who asks, when that is known.
    pub(crate) fn by(&self) -> Option<&str> {
        self.by.as_deref().filter(|by| !by.is_empty())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    #[command(flatten)]
    pub execution: Execution,
    /// Undoes what was completed
    #[arg(long)]
    pub compensate: bool,
    /// Returns when it has ended
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub provenance: Provenance,
}

#[derive(Debug, Args)]
pub(crate) struct Resume {
    #[command(flatten)]
    pub execution: Execution,
    /// Shows its progress to its end; the exit code then tells how it ended
    #[arg(long)]
    pub follow: bool,
    #[command(flatten)]
    pub provenance: Provenance,
}

#[derive(Debug, Args)]
pub(crate) struct Fork {
    #[command(flatten)]
    pub execution: Execution,
    /// The first step that runs anew; what does not depend on it is kept [default: all run anew]
    #[arg(long, value_name = "STEP")]
    pub from: Option<String>,
    /// Another input: JSON, or @ and a file that holds it
    #[arg(long, value_name = "JSON|@FILE")]
    pub input: Option<String>,
    /// Another context: JSON, or @ and a file that holds it
    #[arg(long, value_name = "JSON|@FILE")]
    pub context: Option<String>,
    /// Another definition, YAML or JSON, for this execution alone; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "workflow")]
    pub file: Option<PathBuf>,
    /// The definition that is stored under this id
    #[arg(long, value_name = "ID")]
    pub workflow: Option<String>,
    /// Shows its progress to its end; the exit code then tells how it ended
    #[arg(long)]
    pub follow: bool,
    #[command(flatten)]
    pub provenance: Provenance,
}
