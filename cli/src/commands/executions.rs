//! `executions`: what became of submissions.

use std::path::Path;

use millstream_model::event::Event;
use millstream_model::position::Position;
use millstream_model::view::{ExecutionView, StepView};

use super::run::{JsonLines, conclude};
use super::transfer;
use crate::arguments::{Execution, Show};
use crate::outcome::{Exit, Invalid};
use crate::progress::{Stream, count, duration};
use crate::runner::{self, Followed, Manner, OnInterrupt};
use crate::server_api::ServerApi;
use crate::{aftermath, export_file, output};

pub(super) async fn show(arguments: Show) -> anyhow::Result<Exit> {
    let execution = match (&arguments.file, &arguments.id) {
        (Some(file), _) => of_file(file, arguments.at)?,
        (None, Some(id)) => {
            let api = ServerApi::new(&arguments.server.server)?;
            match arguments.at {
                Some(at) => api.execution_at(id, &at.to_string()).await?,
                None => api.execution(id).await?,
            }
        }
        (None, None) => return Err(Invalid::new("an execution's id or --file is needed").into()),
    };
    if arguments.json {
        output::json(&execution)?;
        return Ok(Exit::Success);
    }
    let colour = console::Term::stdout().features().colors_supported();
    output::line(&format!("execution  {}\nworkflow   {}", execution.id, execution.workflow_id))?;
    output::line(&format!("trace      {}\nstarted    {}", execution.trace_id, execution.started_at))?;
    output::line(&format!(
        "status     {}\n",
        aftermath::conclusion(&execution, colour).replace('\n', "\n           ")
    ))?;
    output::table(&["step", "status", "time", "attempts", "by", ""], &rows(&execution))?;
    if let Some(text) = aftermath::details(&execution) {
        output::line(&format!("\n{text}"))?;
    }
    if let Some(value) = &execution.output {
        output::line("\noutput")?;
        output::json(value)?;
    }
    Ok(Exit::Success)
}

/// An exported execution, folded here.
fn of_file(file: &Path, at: Option<Position>) -> anyhow::Result<ExecutionView> {
    let exported = transfer::read(file)?;
    let plan = exported.plan()?;
    let execution = millstream_engine::Execution::refold_until(&exported.transcript, plan, at);
    let execution = execution.map_err(|halt| Invalid::new(format!("{}: {halt}", file.display())))?;
    Ok(export_file::view(&execution, &exported.payloads))
}

fn rows(execution: &ExecutionView) -> Vec<Vec<String>> {
    execution.steps.iter().map(row).collect()
}

fn row(step: &StepView) -> Vec<String> {
    let since = step.started_at.or(step.scheduled_at);
    let time = since.zip(step.ended_at).map(|(since, end)| duration(end.as_micros().saturating_sub(since.as_micros())));
    let doer = step.agent_id.as_ref().map(ToString::to_string);
    vec![
        if step.finally { format!("{} (finally)", step.id) } else { step.id.to_string() },
        step.status.as_str().to_owned(),
        time.unwrap_or_default(),
        if step.attempts > 0 { step.attempts.to_string() } else { String::new() },
        doer.or_else(|| step.capability.as_ref().map(ToString::to_string)).unwrap_or_default(),
        remark(step),
    ]
}

/// How far a fan-out is or why a step did not run or complete, and what else happened to it.
fn remark(step: &StepView) -> String {
    let mut told = Vec::new();
    if let Some(items) = step.fan_out {
        let part = |number: u32, what: &str| (number > 0).then(|| format!(", {} {what}", count(number.into())));
        let (failed, skipped) = (part(items.failed, "failed"), part(items.skipped, "skipped"));
        let (completed, total) = (count(items.completed.into()), count(items.total.into()));
        let rest = [failed, skipped].into_iter().flatten().collect::<String>();
        told.push(format!("{completed} of {total} items{rest}"));
    } else if let Some(error) = &step.error {
        told.push(format!("{} {}", error.code, error.message));
    } else if let Some(reason) = &step.reason {
        told.push(reason.clone());
    }
    match step.fallbacks {
        0 => {}
        1 => told.push("by its fallback".to_owned()),
        several => told.push(format!("{} by their fallback", count(several.into()))),
    }
    if let Some(compensation) = &step.compensation {
        let by = compensation.agent_id.as_ref().map(|agent| format!(" by {agent}")).unwrap_or_default();
        told.push(match (&compensation.error, compensation.ended_at) {
            (Some(error), _) => format!("not undone{by}: {} {}", error.code, error.message),
            (None, Some(_)) => format!("undone{by}"),
            (None, None) => format!("being undone{by}"),
        });
    }
    told.join("; ")
}

pub(super) async fn events(arguments: Execution) -> anyhow::Result<Exit> {
    let api = ServerApi::new(&arguments.server.server)?;
    let events = api.events(&arguments.id).await?;
    if arguments.json {
        output::json(&events)?;
        return Ok(Exit::Success);
    }
    output::table(
        &["time", "event", "step", "attempt", "by", "id"],
        &events.iter().map(event_row).collect::<Vec<_>>(),
    )?;
    Ok(Exit::Success)
}

fn event_row(event: &Event) -> Vec<String> {
    let step = event.step_id.as_ref().map(ToString::to_string).unwrap_or_default();
    let item = event.item.map(|item| format!("[{item}]")).unwrap_or_default();
    vec![
        event.time.to_string(),
        event.kind.to_string(),
        format!("{step}{item}"),
        event.attempt.map(|attempt| attempt.to_string()).unwrap_or_default(),
        event.worker_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        event.id.map(|id| id.to_string()).unwrap_or_default(),
    ]
}

pub(super) async fn watch(arguments: Execution) -> anyhow::Result<Exit> {
    let api = ServerApi::new(&arguments.server.server)?;
    let manner = Manner { patience: None, on_interrupt: OnInterrupt::Leave };
    let followed = if arguments.json {
        runner::follow(&api, &arguments.id, None, manner, &mut JsonLines::default()).await?
    } else {
        let execution = api.execution(&arguments.id).await?;
        runner::show(&api, &execution, None, Stream::Err, manner).await?
    };
    match followed {
        Followed::Ended => conclude(&api.execution(&arguments.id).await?, arguments.json),
        Followed::OutOfTime | Followed::Interrupted => Ok(Exit::Interrupted),
    }
}
