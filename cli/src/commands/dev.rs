//! `dev`: a whole cluster in one terminal.

use console::style;

use millstream_broker::Storage;
use millstream_coordinator::coordinator::StartError;

use crate::arguments::Dev;
use crate::invocation;
use crate::local_cluster::{FRAMEWORKS, LocalCluster, LocalOptions, port_or_any};
use crate::outcome::Exit;
use crate::signals::told_to_end;
use crate::{logs, output};

/// Where nats-server listens by custom.
const NATS_PORT: u16 = 4222;

pub(super) async fn dev(arguments: Dev) -> anyhow::Result<Exit> {
    logs::quiet();
    let telemetry = millstream_telemetry::init("millstream-dev", &std::process::id().to_string());
    let memory = arguments.memory;
    let data = (!memory).then(|| arguments.data.clone());
    let kept = match &data {
        Some(data) => data.display().to_string(),
        None => "in memory, gone when this stops".to_owned(),
    };
    let options = LocalOptions {
        data,
        storage: if memory { Storage::Memory } else { Storage::File },
        listen: arguments.listen,
        nats_port: arguments.nats_port.unwrap_or_else(|| port_or_any(NATS_PORT)),
    };
    let started = tokio::select! {
        started = LocalCluster::start(options, output::note) => started,
        () = told_to_end() => return Ok(Exit::Interrupted),
    };
    let cluster = started.map_err(|error| match error.downcast_ref::<StartError>() {
        Some(StartError::Listen { .. }) => error.context("choose another address with --listen"),
        _ => error,
    })?;
    output::line(&greeting(&cluster, &kept))?;
    told_to_end().await;
    output::note("\nStopping…");
    let stopped = tokio::select! {
        stopped = cluster.stop() => stopped,
        () = told_to_end() => return Ok(Exit::Interrupted),
    };
    telemetry.shutdown();
    stopped?;
    if memory {
        output::note("Everything was in memory and is gone; without --memory it is kept.");
    }
    Ok(Exit::Success)
}

fn greeting(cluster: &LocalCluster, kept: &str) -> String {
    let program = invocation::program();
    let url = cluster.url();
    let server = if url == crate::server_api::DEFAULT_SERVER { String::new() } else { format!(" --server {url}") };
    let attempt = if invocation::examples_are_here() {
        format!("{program} run examples/hello.yaml --input '{{\"name\":\"Ada\"}}'{server}")
    } else {
        format!("{program} run FILE --input JSON{server}")
    };
    let entry = |name: &str, value: &str| format!("  {} {value}\n", style(format!("{name:8}")).dim());
    let mut text = format!("{} is up\n\n", style("Millstream").bold().cyan());
    text.push_str(&entry("API", &style(&url).underlined().to_string()));
    text.push_str(&entry("NATS", &cluster.nats_url()));
    text.push_str(&entry("worker", FRAMEWORKS));
    text.push_str(&entry("data", kept));
    text.push_str(&format!("\nTry in another terminal:  {}\nCtrl-C stops everything.", style(attempt).cyan()));
    text
}
