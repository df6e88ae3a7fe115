//! Is this NATS good enough, and is what Millstream keeps there as it should be? Facts are gathered first; what they
//! mean is decided from them alone.

mod monitor;
mod server;
mod streams;

use millstream_broker::{Broker, Permission, ProvisionError, ServerFacts, StreamFacts, Topology};
use millstream_model::lease::CoordinatorPresence;
use serde::Serialize;

use monitor::Monitor;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Level {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Diagnosis {
    pub level: Level,
    /// What was looked at, in a word or two.
    pub check: &'static str,
    pub message: String,
    /// What to change, as a setting or a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

/// What could be found out.
#[derive(Debug)]
pub(crate) struct Facts {
    pub server: ServerFacts,
    /// What the cluster's streams should be.
    pub topology: Topology,
    /// Partitions that the cluster was created with; `None`: there is no cluster yet.
    pub partitions: Option<u16>,
    pub streams: Vec<StreamFacts>,
    pub permissions: Vec<Permission>,
    pub coordinators: Vec<CoordinatorPresence>,
    pub monitors: Vec<Monitor>,
}

impl Level {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

impl Diagnosis {
    pub(crate) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Ok, check, message: message.into(), change: None }
    }

    pub(crate) fn warn(check: &'static str, message: impl Into<String>, change: impl Into<String>) -> Self {
        Self { level: Level::Warn, check, message: message.into(), change: Some(change.into()) }
    }

    pub(crate) fn fail(check: &'static str, message: impl Into<String>, change: impl Into<String>) -> Self {
        Self { level: Level::Fail, check, message: message.into(), change: Some(change.into()) }
    }
}

/// Looks at everything that can be seen.
pub(crate) async fn gather(broker: &Broker, topology: Topology, monitors: &[String]) -> anyhow::Result<Facts> {
    let monitors = monitor::ask_all(monitors).await?;
    let server = broker.server_facts().await?;
    let mut facts = Facts {
        server,
        topology,
        partitions: None,
        streams: Vec::new(),
        permissions: Vec::new(),
        coordinators: Vec::new(),
        monitors,
    };
    // Without JetStream there is nothing else to see.
    if facts.server.account.is_none() {
        return Ok(facts);
    }
    facts.partitions = match broker.partitions().await {
        Ok(partitions) => partitions,
        Err(ProvisionError::OldServer { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(partitions) = facts.partitions {
        facts.topology.partitions = partitions;
        facts.streams = broker.stream_facts(&facts.topology).await?;
        let has_leases = facts.streams.iter().any(|s| s.name.ends_with(&broker.names().leases()) && s.found.is_some());
        if has_leases {
            facts.coordinators = broker.coordinators().await?;
        }
        facts.permissions = broker.probe_permissions(&facts.topology).await?;
    }
    Ok(facts)
}

/// What the facts mean.
pub(crate) fn diagnose(facts: &Facts) -> Vec<Diagnosis> {
    let mut found = server::check(facts);
    found.extend(monitor::check(facts));
    found.extend(streams::check(facts));
    found
}

/// A size as people read it.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        #[allow(clippy::cast_precision_loss, reason = "for reading")]
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// Percent of a limit; of nothing, all is used.
fn percent(used: u64, max: u64) -> u64 {
    used.saturating_mul(100).checked_div(max).unwrap_or(100)
}

#[cfg(test)]
mod tests;
