//! What can be said on the command line.

mod audit;
mod checks;
mod executions;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};
use millstream_model::position::Position;

use crate::server_api::DEFAULT_SERVER;

pub(crate) use audit::{Audit, ListAudit, VerifyAudit};
pub(crate) use checks::{Doctor, Nats, Replay, Verify, VerifyUpgrade};
pub(crate) use executions::{
    Cancel, Execution, Executions, Export, Fork, ImportExecution, ListExecutions, Provenance, Resume, Show,
};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXIT_CODES: &str = "\
Exit codes: 0 done (an execution: COMPLETED), 1 FAILED, or a check has found something, 2 something said or given is \
not valid, 3 CANCELLED, 4 TIMEOUT, 5 the command could not be carried out.";

/// Durable workflows over NATS: run, watch and check them.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, styles = STYLES, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a whole cluster in this terminal: nats-server, coordinator and one worker
    Dev(Dev),
    /// Shows what Millstream does: starts everything, runs two examples, cleans up
    Demo(Demo),
    /// Registers a workflow, runs it and shows its progress
    Run(Run),
    /// Checks a workflow and reports everything that is wrong with it
    Validate(Validate),
    /// Draws a workflow
    Graph(Graph),
    /// Turns recorded workflows of others into ours
    #[command(subcommand)]
    Import(Import),
    /// Evaluates a path or a condition over a JSON file
    Eval(Eval),
    /// Prints the JSON Schema of definitions
    Schema,
    /// Lists, shows, follows, cancels, resumes, forks, exports and imports executions
    #[command(subcommand)]
    Executions(Executions),
    /// Prints an execution entry by entry: what each did, and the state after it
    Replay(Replay),
    /// Lists, shows and deletes stored workflows
    #[command(subcommand)]
    Workflows(Workflows),
    /// Lists and registers agents
    #[command(subcommand)]
    Agents(Agents),
    /// Lists what was decided, and checks that nobody touched the record of it
    #[command(subcommand)]
    Audit(Audit),
    /// Checks NATS and what Millstream keeps there, and says what to change
    Doctor(Doctor),
    /// Folds everything again, changes nothing, and reports what contradicts what
    Verify(Verify),
    /// Tells whether this build folds all that is kept as the builds before it did
    VerifyUpgrade(VerifyUpgrade),
}

/// Which server is asked.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// Address of the coordinator's API
    #[arg(long, value_name = "URL", env = "MILLSTREAM_SERVER", default_value = DEFAULT_SERVER)]
    pub server: String,
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Keeps nothing: everything is gone when it stops
    #[arg(long, conflicts_with = "data")]
    pub memory: bool,
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = ".millstream")]
    pub data: PathBuf,
    /// Where the API listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8686")]
    pub listen: SocketAddr,
    /// Where nats-server listens on 127.0.0.1 [default: 4222, or a free port when that is taken]
    #[arg(long, value_name = "PORT")]
    pub nats_port: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Keeps everything up afterwards, for trying things out, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Runs only the stand-in services that the incident example talks to
    #[arg(long, conflicts_with = "keep")]
    pub services_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The workflow, YAML or JSON; - is stdin
    pub file: PathBuf,
    /// The input: JSON, or @ and a file that holds it
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    pub input: String,
    /// The context: JSON, or @ and a file that holds it
    #[arg(long, value_name = "JSON|@FILE")]
    pub context: Option<String>,
    /// Manifests to register first: files, or folders of them
    #[arg(long, value_name = "DIR|FILE", num_args = 1..)]
    pub agents: Vec<PathBuf>,
    /// Runs the same key and input only once, however often this is called
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Prints the events as JSON, one per line
    #[arg(long)]
    pub json: bool,
    /// Stops waiting after this time, as 30s or 5m; the execution goes on
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// The workflow, YAML or JSON; - is stdin
    pub file: PathBuf,
    /// Prints the problems as a JSON array
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Graph {
    /// The workflow, YAML or JSON; - is stdin
    pub file: PathBuf,
    /// Draws an SVG
    #[arg(long, conflicts_with = "dot")]
    pub svg: bool,
    /// Writes Graphviz DOT
    #[arg(long)]
    pub dot: bool,
    /// Writes to a file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// An instance of WfFormat 1.5 (wfcommons.org): each task becomes a step that sleeps its scaled run time
    Wfformat(ImportWfformat),
}

#[derive(Debug, Args)]
pub(crate) struct ImportWfformat {
    /// The recorded instance; - is stdin
    pub file: PathBuf,
    /// Where the workflow goes: .json for JSON, anything else for YAML, - for stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Seconds of sleep per recorded second
    #[arg(long, value_name = "FACTOR", default_value_t = 0.01, value_parser = non_negative)]
    pub time_scale: f64,
    /// The longest sleep of one step, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = non_negative)]
    pub max_sleep: Option<f64>,
    /// The workflow's id [default: the file's name]
    #[arg(long)]
    pub id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// A JSONPath (RFC 9535); prints the JSON array of what it selects
    #[arg(
        long,
        value_name = "JSONPATH",
        allow_hyphen_values = true,
        required_unless_present = "condition",
        conflicts_with = "condition"
    )]
    pub path: Option<String>,
    /// A condition (CEL over paths); prints true or false
    #[arg(long, value_name = "CEL", allow_hyphen_values = true)]
    pub condition: Option<String>,
    /// The JSON it is evaluated over, for a condition {"input":…, "context":…, "steps":…}; - is stdin
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
}

/// Everything of a kind on a server.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: Server,
}

/// One workflow on a server.
#[derive(Debug, Args)]
pub(crate) struct Workflow {
    /// The workflow's id
    pub id: String,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Workflows {
    /// Lists stored workflows
    List(List),
    /// Prints a stored workflow as JSON
    Get(Workflow),
    /// Deletes a stored workflow; its executions go on
    Delete(Workflow),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agents {
    /// Lists registered agents
    List(List),
    /// Registers agents, or replaces them
    Apply(ApplyAgents),
}

#[derive(Debug, Args)]
pub(crate) struct ApplyAgents {
    /// Manifests, YAML or JSON: files, or folders of them
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub server: Server,
}

fn non_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("expected a number that is not negative".to_owned()),
    }
}

/// A number with a unit; without one it counts seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return Err("expected a time such as 500ms, 30s, 5m or 1h".to_owned()),
    };
    let number = non_negative(digits).map_err(|_| "expected a time such as 500ms, 30s, 5m or 1h".to_owned())?;
    Duration::try_from_secs_f64(number * scale).map_err(|error| error.to_string())
}

/// A place in a journal; a sequence alone is the end of its message.
fn place(text: &str) -> Result<Position, String> {
    let whole = text.parse().ok().map(|sequence| Position { sequence, index: u16::MAX });
    whole
        .or_else(|| text.parse().ok())
        .ok_or_else(|| "expected a position as 17.0, or 17 for all of message 17".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_time_has_a_unit_or_counts_seconds() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("soon").is_err() && duration("5 parsecs").is_err() && duration("").is_err());
    }

    #[test]
    fn a_fork_has_one_definition_at_most() {
        let parse =
            |rest: &str| Arguments::try_parse_from(format!("millstream executions fork x {rest}").split_whitespace());
        assert!(parse("--from a --file f --reason because").is_ok() && parse("--workflow w --follow").is_ok());
        assert!(parse("--file f --workflow w").is_err());
    }

    #[test]
    fn an_execution_is_shown_from_a_server_or_a_file_at_any_place() {
        let parse = |rest: &str| Arguments::try_parse_from(format!("millstream executions {rest}").split_whitespace());
        assert!(parse("show x --at 17.0").is_ok() && parse("get x").is_ok() && parse("show --file f --at 17").is_ok());
        assert!(parse("show").is_err() && parse("show x --file f").is_err() && parse("show x --at soon").is_err());
        assert_eq!(place("17"), Ok(Position { sequence: 17, index: u16::MAX }));
    }

    #[test]
    fn a_list_takes_states_in_any_case_and_times_as_moments_or_as_long_ago() {
        let parse =
            |rest: &str| Arguments::try_parse_from(format!("millstream executions list {rest}").split_whitespace());
        assert!(parse("--status failed --status TIMEOUT --started-after 2h --sort -duration --label a:b").is_ok());
        assert!(parse("--started-before 2026-01-31T00:00:00Z --attribute total>=5").is_ok());
        assert!(parse("--status broken").is_err() && parse("--started-after soon").is_err());
        assert!(parse("--label a").is_err());
    }

    #[test]
    fn eval_wants_exactly_one_expression() {
        let parse =
            |rest: &str| Arguments::try_parse_from(format!("millstream eval --data d {rest}").split_whitespace());
        assert!(parse("--path $.a").is_ok() && parse("--condition true").is_ok());
        assert!(parse("").is_err() && parse("--path $ --condition true").is_err());
    }
}
