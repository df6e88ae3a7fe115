//! `doctor`: what is wrong with NATS and the streams, and what to change.

use anyhow::Context as _;
use console::style;
use serde_json::json;

use crate::arguments::Doctor;
use crate::connection::connect;
use crate::doctor::{self, Diagnosis, Level};
use crate::outcome::Exit;
use crate::output;

pub(super) async fn doctor(arguments: Doctor) -> anyhow::Result<Exit> {
    let (broker, config) = connect(&arguments.nats).await?;
    let facts = doctor::gather(&broker, config.topology(), &arguments.monitor).await;
    let found = doctor::diagnose(&facts.context("NATS does not tell what is to be checked")?);
    let count = |level: Level| found.iter().filter(|diagnosis| diagnosis.level == level).count();
    let (fails, warns) = (count(Level::Fail), count(Level::Warn));
    if arguments.json {
        output::json(&json!({"ok": fails == 0, "fail": fails, "warn": warns, "findings": found}))?;
    } else {
        for diagnosis in &found {
            output::line(&text(diagnosis))?;
        }
        output::line(&format!("\n{} checks, {warns} warnings, {fails} failures", found.len()))?;
    }
    Ok(if fails == 0 { Exit::Success } else { Exit::Failed })
}

fn text(diagnosis: &Diagnosis) -> String {
    let level = format!("{:4}", diagnosis.level.as_str());
    let level = match diagnosis.level {
        Level::Ok => style(level).green(),
        Level::Warn => style(level).yellow(),
        Level::Fail => style(level).red().bold(),
    };
    let mut text = format!("{level}  {:<14} {}", diagnosis.check, diagnosis.message);
    if let Some(change) = &diagnosis.change {
        text.push_str(&format!("\n      {:<14} {} {change}", "", style("→").dim()));
    }
    text
}
