//! `demo`: everything started, two examples run for real, everything cleaned up.

mod examples;
mod services;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use console::style;
use millstream_broker::Storage;
use millstream_model::validate;
use millstream_model::view::{ExecutionStatus, ExecutionView};
use serde_json::Value;
use uuid::Uuid;

use self::examples::{Example, FAN_OUT, INCIDENT};
use self::services::Services;
use crate::arguments::Demo;
use crate::local_cluster::{FRAMEWORKS, LocalCluster, LocalOptions, port_or_any};
use crate::logs;
use crate::outcome::Exit;
use crate::output::{self, line};
use crate::progress::{Stream, count, duration};
use crate::runner::{self, Followed, Manner, OnInterrupt};
use crate::server_api::{DEFAULT_SERVER, ServerApi, Submission};
use crate::signals::told_to_end;
use crate::{aftermath, invocation};

/// The port of [`DEFAULT_SERVER`].
const API_PORT: u16 = 8686;

pub(crate) async fn demo(arguments: Demo) -> anyhow::Result<Exit> {
    if arguments.services_only {
        return services_only().await;
    }
    logs::quiet();
    let telemetry = millstream_telemetry::init("millstream-demo", &std::process::id().to_string());
    let started = tokio::select! {
        started = start() => started,
        () = told_to_end() => return Ok(Exit::Interrupted),
    };
    let (cluster, services) = started?;
    let outcome = show(&cluster, arguments.keep).await;
    line(&style("\nCleaning up…").dim().to_string())?;
    drop(services);
    let stopped = tokio::select! {
        stopped = cluster.stop() => stopped,
        () = told_to_end() => return Ok(Exit::Interrupted),
    };
    telemetry.shutdown();
    let exit = outcome?;
    stopped?;
    if exit == Exit::Success {
        line(&style("Everything is stopped; nothing is left behind.").dim().to_string())?;
    }
    Ok(exit)
}

async fn services_only() -> anyhow::Result<Exit> {
    let services = Services::start(services::PORT).await.map_err(|error| {
        anyhow::anyhow!("the stand-in services cannot listen on 127.0.0.1:{}: {error}", services::PORT)
    })?;
    line(&format!("Stand-ins for monitoring, logging, tickets, remediation and pager answer at {}", services.url()))?;
    line("Ctrl-C stops them.")?;
    told_to_end().await;
    Ok(Exit::Success)
}

async fn start() -> anyhow::Result<(LocalCluster, Services)> {
    heading("Starting a cluster")?;
    let begun = Instant::now();
    let options = LocalOptions {
        data: None,
        storage: Storage::File,
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port_or_any(API_PORT))),
        nats_port: 0,
    };
    let cluster = LocalCluster::start(options, |text| output::note(&format!("  {text}"))).await?;
    let services = Services::start(port_or_any(services::PORT)).await?;
    let took = duration(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
    started("nats-server", &format!("{}, streams in files", cluster.nats_url()))?;
    started("coordinator", &format!("{}, 8 partitions", cluster.url()))?;
    started("worker", FRAMEWORKS)?;
    started("stand-ins", &format!("{} for monitoring, logging, tickets, remediation, pager", services.url()))?;
    line(&style(format!("  up in {took}")).dim().to_string())?;
    let api = ServerApi::new(&cluster.url())?;
    for agent in examples::agents(&services.url()) {
        api.put_agent(&agent).await?;
    }
    Ok((cluster, services))
}

async fn show(cluster: &LocalCluster, keep: bool) -> anyhow::Result<Exit> {
    let api = ServerApi::new(&cluster.url())?;

    heading("1  An incident: gather, classify, remediate or escalate")?;
    let input = INCIDENT.input();
    let alert = format!("  {} · {}", text(&input["incident_id"]), text(&input["alert"]));
    line(&style(alert).dim().to_string())?;
    let Some(incident) = execute(&api, &INCIDENT).await? else { return Ok(Exit::Interrupted) };
    tell_incident(&incident)?;

    heading("2  A fan-out over 1,000 items, and a fan-in")?;
    let Some(fan_out) = execute(&api, &FAN_OUT).await? else { return Ok(Exit::Interrupted) };
    tell_fan_out(&fan_out)?;

    let completed = [&incident, &fan_out].iter().all(|run| run.status == ExecutionStatus::Completed);
    what_next(cluster, &incident, keep)?;
    if keep {
        told_to_end().await;
        line("")?;
    }
    Ok(if completed { Exit::Success } else { Exit::Failed })
}

/// Runs an example to its end; `None` after Ctrl-C.
async fn execute(api: &ServerApi, example: &Example) -> anyhow::Result<Option<ExecutionView>> {
    let plan = validate::definition(example.definition).expect("the examples are tested");
    let workflow = plan.definition.id.as_str();
    api.put_workflow(workflow, example.definition.to_owned()).await?;
    let submission = Submission { input: example.input(), context: None };
    let accepted = api.execute(workflow, &submission, Some(&Uuid::now_v7().to_string())).await?;
    let execution = api.execution(&accepted.execution_id).await?;
    let manner = Manner { patience: None, on_interrupt: OnInterrupt::Leave };
    match runner::show(api, &execution, None, Stream::Out, manner).await? {
        Followed::Ended => Ok(Some(api.execution(&accepted.execution_id).await?)),
        Followed::OutOfTime | Followed::Interrupted => Ok(None),
    }
}

fn tell_incident(execution: &ExecutionView) -> anyhow::Result<()> {
    conclude(execution)?;
    let Some(output) = &execution.output else { return Ok(()) };
    let severity = style(text(&output["severity"])).red().bold();
    fact("severity", &format!("{severity}, {}", text(&output["root_cause"]).to_lowercase()))?;
    let errors =
        execution.steps.iter().find(|step| step.id.as_str() == "findings").and_then(|step| step.output.as_ref());
    let errors = errors.and_then(|findings| findings["errors"].as_array()).map_or(0, Vec::len);
    let related = list(&output["related"]);
    fact("findings", &format!("cpu {} %, {errors} errors in the log, open incidents {related}", output["cpu"]))?;
    let escalation = &output["escalation"];
    match escalation["page"].as_str() {
        Some(page) => fact("escalated", &format!("{} to {}", style(page).bold(), text(&escalation["oncall"]))),
        None => fact("escalated", "no"),
    }
}

fn tell_fan_out(execution: &ExecutionView) -> anyhow::Result<()> {
    conclude(execution)?;
    let Some(step) = execution.steps.iter().find(|step| step.fan_out.is_some()) else { return Ok(()) };
    let (Some(items), Some(ended_at)) = (step.fan_out, execution.ended_at) else { return Ok(()) };
    let micros = ended_at.as_micros().saturating_sub(execution.started_at.as_micros()).max(1);
    let rate = u64::from(items.completed) * 1_000_000 / micros;
    fact("items", &format!("{} of {} completed", count(items.completed.into()), count(items.total.into())))?;
    fact("speed", &format!("{} items/s, each one a durable step", style(count(rate)).bold()))
}

fn conclude(execution: &ExecutionView) -> anyhow::Result<()> {
    let colour = console::Term::stdout().features().colors_supported();
    line(&format!("\n  {}", aftermath::conclusion(execution, colour).replace('\n', "\n  ")))?;
    Ok(())
}

fn what_next(cluster: &LocalCluster, incident: &ExecutionView, keep: bool) -> anyhow::Result<()> {
    let program = invocation::program();
    let here = invocation::examples_are_here();
    heading(if keep { "It stays up. Try in another terminal" } else { "Try next" })?;
    if keep {
        let url = cluster.url();
        let server = if url == DEFAULT_SERVER { String::new() } else { format!(" --server {url}") };
        suggest(&format!("{program} executions get {}{server}", incident.id))?;
        suggest(&format!("curl {url}/executions/{}/events", incident.id))?;
        suggest(&format!("{program} agents list{server}"))?;
        if here {
            suggest(&format!("{program} run {} --input @{}{server}", INCIDENT.file, INCIDENT.input_file))?;
        }
        fact("API", &url)?;
        line("  Ctrl-C stops everything.")?;
        return Ok(());
    }
    suggest(&format!("{program} demo --keep"))?;
    suggest(&format!("{program} dev"))?;
    if here {
        suggest(&format!("{program} graph {}", INCIDENT.file))?;
        suggest(&format!("{program} run examples/hello.yaml --input '{{\"name\":\"Ada\"}}'"))?;
        suggest(&format!("{program} run {} --input @{}", FAN_OUT.file, FAN_OUT.input_file))?;
    }
    line(
        &style(format!("  (`run` needs `dev` in another terminal; its API is at {DEFAULT_SERVER})")).dim().to_string(),
    )?;
    Ok(())
}

fn heading(title: &str) -> anyhow::Result<()> {
    line(&format!("\n{}\n", style(title).bold().cyan()))?;
    Ok(())
}

fn started(what: &str, detail: &str) -> anyhow::Result<()> {
    line(&format!("  {} {what:12} {}", style("✓").green(), style(detail).dim()))?;
    Ok(())
}

fn fact(name: &str, value: &str) -> anyhow::Result<()> {
    line(&format!("  {} {value}", style(format!("{name:10}")).dim()))?;
    Ok(())
}

fn suggest(command: &str) -> anyhow::Result<()> {
    line(&format!("  {}", style(command).cyan()))?;
    Ok(())
}

/// A string without its quotes; what is missing shows as such.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn list(value: &Value) -> String {
    let items: Vec<String> = value.as_array().map(|items| items.iter().map(text).collect()).unwrap_or_default();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
