//! `verify` and `verify-upgrade`: everything folded again and compared.

use console::style;
use serde_json::json;

use crate::arguments::{Nats, Verify, VerifyUpgrade};
use crate::connection::connect;
use crate::outcome::Exit;
use crate::output;
use crate::progress::count;
use crate::verify::{self, Report, Scope};

pub(super) async fn verify(arguments: Verify) -> anyhow::Result<Exit> {
    let report = look(&arguments.nats, Scope::Invariants { pause: arguments.pause }).await?;
    tell(&report, arguments.json, "Nothing contradicts anything.")
}

pub(super) async fn verify_upgrade(arguments: VerifyUpgrade) -> anyhow::Result<Exit> {
    let report = look(&arguments.nats, Scope::Folds).await?;
    tell(&report, arguments.json, "This build folds all of it to the states that were recorded.")
}

async fn look(nats: &Nats, scope: Scope) -> anyhow::Result<Report> {
    let (broker, _) = connect(nats).await?;
    let watched = console::Term::stderr().is_term();
    verify::verify(&broker, scope, |stage| {
        if watched {
            output::note(&style(format!("reading {stage}…")).dim().to_string());
        }
    })
    .await
}

fn tell(report: &Report, as_json: bool, verdict: &str) -> anyhow::Result<Exit> {
    let clean = report.is_clean();
    if as_json {
        let Report { counts, findings, found } = report;
        output::json(&json!({"ok": clean, "counts": counts, "found": found, "findings": findings}))?;
    } else {
        for finding in &report.findings {
            let place = finding.place();
            let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
            output::line(&format!("{}  {place}{}", style("FAIL").red().bold(), finding.message))?;
        }
        let counts = &report.counts;
        let parts = [
            (counts.partitions, "partitions"),
            (counts.snapshots, "snapshots"),
            (counts.messages, "messages"),
            (counts.entries, "entries"),
            (counts.executions, "executions in memory"),
            (counts.parked, "parked"),
            (counts.tasks_owed, "tasks owed"),
            (counts.records, "records of the history"),
            (counts.definitions, "definitions"),
        ];
        let looked: Vec<String> = parts.iter().map(|(number, what)| format!("{} {what}", count(*number))).collect();
        output::line(&format!("Looked at {}.", looked.join(", ")))?;
        let found: u64 = report.found.values().sum();
        let conclusion = match found {
            0 => style(verdict.to_owned()).green().to_string(),
            1 => style("1 finding.".to_owned()).red().to_string(),
            found => style(format!("{} findings.", count(found))).red().to_string(),
        };
        output::line(&conclusion)?;
    }
    Ok(if clean { Exit::Success } else { Exit::Failed })
}
