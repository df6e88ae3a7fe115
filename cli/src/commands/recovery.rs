//! `executions cancel`, `resume` and `fork`: what people do about executions that go wrong.

use millstream_model::view::ExecutionStatus;
use uuid::Uuid;

use super::run::{JsonLines, conclude};
use crate::arguments::{Cancel, Fork, Resume};
use crate::files::{self, Source};
use crate::outcome::Exit;
use crate::progress::Stream;
use crate::runner::{self, Followed, Manner, OnInterrupt, Silent};
use crate::server_api::{Cancelling, Forking, Provenance, ServerApi};
use crate::{aftermath, output, report};

/// Ctrl-C leaves the execution alone.
const LEAVE: Manner = Manner { patience: None, on_interrupt: OnInterrupt::Leave };

pub(super) async fn cancel(arguments: Cancel) -> anyhow::Result<Exit> {
    let execution = &arguments.execution;
    let api = ServerApi::new(&execution.server.server)?;
    let provenance = provenance(&arguments.provenance);
    let mut cancelling = api.cancel(&execution.id, arguments.compensate, &provenance).await?;
    if arguments.wait && !cancelling.status.is_terminal() {
        match runner::follow(&api, &execution.id, None, LEAVE, &mut Silent).await? {
            Followed::Ended => cancelling = after_its_end(&api, cancelling).await?,
            Followed::OutOfTime | Followed::Interrupted => return Ok(Exit::Interrupted),
        }
    }
    if execution.json {
        output::json(&cancelling)?;
    } else {
        let Cancelling { execution_id, status, phase, cancel } = &cancelling;
        output::line(&format!("{execution_id} is {}: {}", status.as_str(), aftermath::cancelled(cancel)))?;
        if !status.is_terminal() {
            let phase = phase.as_str().to_lowercase();
            output::line(&format!("It is {phase}; `millstream executions watch {execution_id}` shows when it ended."))?;
        }
    }
    Ok(match cancelling.status {
        ExecutionStatus::Pending | ExecutionStatus::Running | ExecutionStatus::Cancelled => Exit::Success,
        other => other.into(),
    })
}

async fn after_its_end(api: &ServerApi, cancelling: Cancelling) -> anyhow::Result<Cancelling> {
    let view = api.execution(&cancelling.execution_id).await?;
    let cancel = view.cancel.unwrap_or(cancelling.cancel);
    Ok(Cancelling { execution_id: cancelling.execution_id, status: view.status, phase: view.phase, cancel })
}

pub(super) async fn resume(arguments: Resume) -> anyhow::Result<Exit> {
    let Resume { execution, follow, provenance: asked } = &arguments;
    let api = ServerApi::new(&execution.server.server)?;
    // What happened before the resume was told before.
    let seen = match follow {
        true => api.events(&execution.id).await?.last().and_then(|event| event.id).map(|id| id.to_string()),
        false => None,
    };
    let accepted = api.resume(&execution.id, &provenance(asked)).await?;
    if *follow {
        return watch(&api, &accepted.execution_id, seen, execution.json).await;
    }
    if execution.json {
        output::json(&accepted)?;
    } else {
        let id = &accepted.execution_id;
        output::line(&format!("{id} goes on; `millstream executions watch {id}` shows how."))?;
    }
    Ok(Exit::Success)
}

pub(super) async fn fork(arguments: Fork) -> anyhow::Result<Exit> {
    let execution = &arguments.execution;
    let source = arguments.file.as_deref().map(Source::read).transpose()?;
    if let Some(source) = &source {
        match source.plan() {
            Ok(plan) => report::warn(source, &plan),
            Err(problems) => {
                output::note(&report::render(&source.name, &source.text, &problems, report::colour_on_stderr()));
                return Ok(Exit::Invalid);
            }
        }
    }
    let value =
        |option: &str, given: &Option<String>| given.as_ref().map(|given| files::value(option, given)).transpose();
    let forking = Forking {
        from: arguments.from.as_deref(),
        input: value("--input", &arguments.input)?,
        context: value("--context", &arguments.context)?,
        workflow_id: arguments.workflow.as_deref(),
        definition: source.as_ref().map(|source| source.text.as_str()),
        provenance: provenance(&arguments.provenance),
    };
    let api = ServerApi::new(&execution.server.server)?;
    let accepted = api.fork(&execution.id, &forking, &Uuid::now_v7().to_string()).await?;
    let id = &accepted.execution_id;
    let kept = accepted.kept.as_deref().unwrap_or_default().join(", ");
    let kept = if kept.is_empty() { "all steps run".to_owned() } else { format!("it keeps {kept}") };
    if arguments.follow {
        output::note(&format!("{} · execution {id}, {kept}", console::style("fork").for_stderr().bold()));
        return watch(&api, id, None, execution.json).await;
    }
    if execution.json {
        output::json(&accepted)?;
    } else {
        output::line(&format!("Started {id}; {kept}.\n`millstream executions watch {id}` shows how it goes."))?;
    }
    Ok(Exit::Success)
}

fn provenance(given: &crate::arguments::Provenance) -> Provenance<'_> {
    Provenance { by: given.by(), reason: given.reason.as_deref() }
}

async fn watch(api: &ServerApi, id: &str, after: Option<String>, json: bool) -> anyhow::Result<Exit> {
    let followed = if json {
        runner::follow(api, id, after, LEAVE, &mut JsonLines::default()).await?
    } else {
        let execution = api.execution(id).await?;
        runner::show(api, &execution, after, Stream::Err, LEAVE).await?
    };
    match followed {
        Followed::Ended => conclude(&api.execution(id).await?, json),
        Followed::OutOfTime | Followed::Interrupted => Ok(Exit::Interrupted),
    }
}
