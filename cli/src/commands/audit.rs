//! `audit`: what was decided, and whether anybody touched the record of it.

use std::path::Path;

use anyhow::Context as _;
use millstream_broker::{Broker, ReadError};
use millstream_coordinator::audit::lines_of_database;
use millstream_coordinator::config::{self, Sources};
use millstream_model::audit::{self, FirstBad, Summary, Verifier};
use serde_json::{Value, json};

use crate::arguments::{ListAudit, Nats, VerifyAudit};
use crate::outcome::{Exit, Invalid};
use crate::output;
use crate::server_api::ServerApi;

/// What a file of SQLite begins with.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

pub(super) async fn verify(arguments: VerifyAudit) -> anyhow::Result<Exit> {
    let mut verifier = Verifier::new(arguments.expect_head);
    match &arguments.file {
        Some(file) => read_file(file, &mut verifier)?,
        None => read_stream(&arguments.nats, &mut verifier).await?,
    }
    let outcome = verifier.finish();
    if arguments.json {
        output::json(&shown(&outcome))?;
    }
    match outcome {
        Ok(summary) => {
            if !arguments.json {
                output::line(&sentence(&summary))?;
            }
            Ok(Exit::Success)
        }
        Err(bad) => {
            if !arguments.json {
                output::line(&format!("The audit trail is broken at {bad}."))?;
            }
            Ok(Exit::Failed)
        }
    }
}

fn read_file(path: &Path, verifier: &mut Verifier) -> anyhow::Result<()> {
    let bytes = std::fs::read(path).map_err(|error| Invalid::new(format!("{}: {error}", path.display())))?;
    if bytes.starts_with(SQLITE_MAGIC) {
        return Ok(lines_of_database(path, |line| verifier.push(line))?);
    }
    if !bytes.is_empty() {
        audit::lines(&bytes).for_each(|line| verifier.push(line));
    }
    Ok(())
}

async fn read_stream(nats: &Nats, verifier: &mut Verifier) -> anyhow::Result<()> {
    let flags = [("nats.url", nats.nats_url.clone()), ("prefix", nats.prefix.clone())];
    let sources = Sources {
        file: nats.config.clone(),
        environment: std::env::vars().collect(),
        flags: flags.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
    };
    let loaded = config::load(sources).map_err(|error| Invalid::new(error.to_string()))?;
    let url = loaded.config.nats.url.clone();
    let broker = Broker::connect(loaded.config.nats).await?;
    let read = async {
        let Some((last, _)) = broker.audit_last().await? else { return Ok(()) };
        let mut reader = broker.read_audit(1).await?;
        while reader.position() <= last {
            let message = reader.next().await?;
            audit::lines(&message.payload).for_each(|line| verifier.push(line));
        }
        Ok::<_, ReadError>(())
    };
    read.await.with_context(|| format!("the audit trail at {url} cannot be read"))?;
    broker.drain().await;
    Ok(())
}

fn sentence(summary: &Summary) -> String {
    match summary.span {
        None => "The audit trail is empty.".to_owned(),
        Some((first, last)) => format!(
            "The audit trail is whole: {} records from {first} to {last}.\nhead {}",
            summary.records, summary.head
        ),
    }
}

fn shown(outcome: &Result<Summary, FirstBad>) -> Value {
    match outcome {
        Ok(summary) => json!({
            "whole": true, "records": summary.records, "head": summary.head.to_string(),
            "from": summary.span.map(|(first, _)| first.to_string()),
            "to": summary.span.map(|(_, last)| last.to_string()),
        }),
        Err(bad) => json!({ "whole": false, "seq": bad.seq, "line": bad.line, "why": bad.to_string() }),
    }
}

pub(super) async fn list(arguments: ListAudit) -> anyhow::Result<Exit> {
    let api = ServerApi::new(&arguments.server.server)?;
    let numbers = [("cursor", arguments.cursor), ("limit", Some(u64::from(arguments.limit)))];
    let texts = [
        ("trace", arguments.trace),
        ("execution", arguments.execution),
        ("kind", arguments.kind),
        ("actor", arguments.actor),
        ("after", arguments.after),
        ("before", arguments.before),
    ];
    let numbers = numbers.into_iter().filter_map(|(name, number)| Some((name, number?.to_string())));
    let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text?)));
    let page = api.audit(&numbers.chain(texts).collect::<Vec<_>>()).await?;
    if arguments.json {
        output::json(&page)?;
        return Ok(Exit::Success);
    }
    let records = page["records"].as_array().map(Vec::as_slice).unwrap_or_default();
    if records.is_empty() {
        output::note("Nothing is recorded that fits.");
    } else {
        let rows: Vec<Vec<String>> = records.iter().map(row).collect();
        output::table(&["seq", "time", "kind", "by", "target", "why"], &rows)?;
    }
    if let Some(next) = page["next"].as_u64() {
        output::note(&format!("There is more: --cursor {next}"));
    }
    if let Some(broken) = page["broken"].as_str() {
        output::note(&format!("The audit trail is broken at {broken}."));
    }
    Ok(Exit::Success)
}

fn row(record: &Value) -> Vec<String> {
    let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
    vec![record["seq"].to_string(), text("at"), text("kind"), text("actor"), text("target"), text("reasoning")]
}
