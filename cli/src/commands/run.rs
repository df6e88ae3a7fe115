//! `run`: registers a workflow, runs it, shows its progress.

use millstream_model::event::Event;
use millstream_model::view::ExecutionView;
use uuid::Uuid;

use crate::arguments::Run;
use crate::files::{self, Source};
use crate::outcome::Exit;
use crate::progress::Stream;
use crate::runner::{self, Followed, Manner, OnInterrupt, Watcher};
use crate::server_api::{ServerApi, Submission};
use crate::{aftermath, output, report};

pub(super) async fn run(arguments: Run) -> anyhow::Result<Exit> {
    let source = Source::read(&arguments.file)?;
    let plan = match source.plan() {
        Ok(plan) => plan,
        Err(problems) => {
            output::note(&report::render(&source.name, &source.text, &problems, report::colour_on_stderr()));
            return Ok(Exit::Invalid);
        }
    };
    if !arguments.json {
        report::warn(&source, &plan);
    }
    let input = files::value("--input", &arguments.input)?;
    let context = arguments.context.as_ref().map(|context| files::value("--context", context)).transpose()?;
    let agents = files::agents(&arguments.agents)?;
    let api = ServerApi::new(&arguments.server.server)?;
    for agent in &agents {
        api.put_agent(agent).await?;
    }
    let workflow = plan.definition.id.as_str();
    api.put_workflow(workflow, source.text).await?;
    // A key of its own lets the request be repeated without starting anything twice.
    let key = arguments.idempotency_key.unwrap_or_else(|| Uuid::now_v7().to_string());
    let accepted = api.execute(workflow, &Submission { input, context }, Some(&key)).await?;
    let id = accepted.execution_id;

    let manner = Manner { patience: arguments.timeout, on_interrupt: OnInterrupt::Cancel };
    let followed = if arguments.json {
        runner::follow(&api, &id, None, manner, &mut JsonLines::default()).await?
    } else {
        let execution = api.execution(&id).await?;
        output::note(&format!("{} · execution {id}", title(&execution, &plan.definition.version)));
        runner::show(&api, &execution, None, Stream::Err, manner).await?
    };
    match followed {
        Followed::Ended => conclude(&api.execution(&id).await?, arguments.json),
        Followed::OutOfTime => {
            output::note(&format!("It goes on. Follow it with `millstream executions watch {id}`."));
            Ok(Exit::TimedOut)
        }
        Followed::Interrupted => Ok(Exit::Interrupted),
    }
}

fn title(execution: &ExecutionView, version: &str) -> String {
    let name = console::style(execution.workflow_id.to_string()).for_stderr().bold();
    if version.is_empty() { name.to_string() } else { format!("{name} {version}") }
}

/// Tells how an execution ended; its output goes to stdout.
pub(super) fn conclude(execution: &ExecutionView, json: bool) -> anyhow::Result<Exit> {
    if !json {
        output::note(&aftermath::conclusion(execution, report::colour_on_stderr()));
        if let Some(text) = aftermath::details(execution) {
            output::note(&text);
        }
        if let Some(value) = &execution.output {
            output::json(value)?;
        }
    }
    Ok(execution.status.into())
}

/// Prints events as JSON, one per line.
#[derive(Debug, Default)]
pub(super) struct JsonLines {
    closed: bool,
}

impl Watcher for JsonLines {
    fn event(&mut self, event: &Event) {
        // The execution goes on, and its outcome is still the exit code, when nobody reads any more.
        self.closed = self.closed || output::json_line(event).is_err();
    }

    fn say(&mut self, text: &str) {
        output::note(text);
    }
}
