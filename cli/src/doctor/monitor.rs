//! What only the monitoring endpoint of a nats-server tells: when it writes to its disk, and how large its cluster is.

use std::time::Duration;

use millstream_broker::Storage;
use reqwest::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Diagnosis, Facts, percent, size};

const PATIENCE: Duration = Duration::from_secs(5);
const CHECK: &str = "sync_interval";
const ALWAYS: &str = "in nats-server's configuration: jetstream { sync_interval: always }, then restart it";

/// One endpoint that was asked.
#[derive(Debug)]
pub(crate) struct Monitor {
    pub url: String,
    pub answer: Result<Monitored, String>,
}

/// What it said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Monitored {
    pub name: String,
    pub version: String,
    pub jetstream: JetStream,
}

/// The answer to `/jsz?config=true`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct JetStream {
    pub disabled: bool,
    pub storage: u64,
    pub config: JetStreamConfig,
    pub meta_cluster: Option<MetaCluster>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct JetStreamConfig {
    pub max_storage: u64,
    /// Nanoseconds.
    pub sync_interval: u64,
    pub sync_always: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct MetaCluster {
    pub leader: String,
    pub cluster_size: u64,
}

#[derive(Deserialize)]
struct General {
    #[serde(default)]
    server_name: String,
    #[serde(default)]
    version: String,
}

/// Asks every endpoint.
pub(super) async fn ask_all(urls: &[String]) -> anyhow::Result<Vec<Monitor>> {
    if urls.is_empty() {
        return Ok(Vec::new());
    }
    // Fails when another part of the process installed one before, which is as good.
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = Client::builder().timeout(PATIENCE).build()?;
    let mut monitors = Vec::with_capacity(urls.len());
    for url in urls {
        monitors.push(Monitor { url: url.clone(), answer: ask(&client, url).await });
    }
    Ok(monitors)
}

async fn ask(client: &Client, url: &str) -> Result<Monitored, String> {
    let base = url.trim_end_matches('/');
    let General { server_name, version } = get(client, &format!("{base}/varz")).await?;
    let jetstream = get(client, &format!("{base}/jsz?config=true")).await?;
    Ok(Monitored { name: server_name, version, jetstream })
}

async fn get<T: DeserializeOwned>(client: &Client, url: &str) -> Result<T, String> {
    let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
    let text = match answer {
        Ok(answer) => answer.text().await.map_err(|error| error.to_string())?,
        Err(error) => return Err(error.to_string()),
    };
    serde_json::from_str(&text).map_err(|error| format!("{url} answers something else: {error}"))
}

/// What the endpoints' answers mean.
pub(super) fn check(facts: &Facts) -> Vec<Diagnosis> {
    if facts.monitors.is_empty() && facts.topology.storage == Storage::File {
        return vec![Diagnosis::warn(
            CHECK,
            "unknown: when the servers write to their disks is told by their monitoring endpoints only",
            "start nats-server with `http: 127.0.0.1:8222` and run `millstream doctor --monitor http://127.0.0.1:8222`",
        )];
    }
    let mut found = Vec::new();
    for Monitor { url, answer } in &facts.monitors {
        match answer {
            Err(reason) => found.push(Diagnosis::warn("monitor", format!("{url}: {reason}"), "check the URL")),
            Ok(monitored) => found.extend(one(facts, monitored)),
        }
    }
    let asked: Vec<&Monitored> = facts.monitors.iter().filter_map(|monitor| monitor.answer.as_ref().ok()).collect();
    let cluster = asked.iter().filter_map(|monitored| monitored.jetstream.meta_cluster.as_ref()).next();
    if let Some(cluster) = cluster {
        found.extend(members(facts, cluster, &asked));
    }
    found
}

fn one(facts: &Facts, monitored: &Monitored) -> Vec<Diagnosis> {
    let Monitored { name, jetstream, .. } = monitored;
    if jetstream.disabled {
        let message = format!("JetStream is off on server {name}");
        return vec![Diagnosis::warn("jetstream", message, "add a block `jetstream { }` to its configuration")];
    }
    let mut found = Vec::new();
    let JetStreamConfig { max_storage, sync_interval, sync_always } = jetstream.config;
    if facts.topology.storage == Storage::File {
        found.push(if sync_always {
            Diagnosis::ok(CHECK, format!("server {name} writes to its disk before it confirms"))
        } else {
            let seconds = sync_interval / 1_000_000_000;
            let message = format!(
                "server {name} writes to its disk every {seconds} s: a power failure of all copies loses what was \
                 confirmed since"
            );
            Diagnosis::warn(CHECK, message, ALWAYS)
        });
    }
    if max_storage > 0 {
        let used = percent(jetstream.storage, max_storage);
        let message = format!("server {name} uses {used} % of its {} for streams", size(max_storage));
        let change = "give it more (`jetstream { max_file_store: … }`), or keep less: `retention_ms` of workflows";
        found.push(match used {
            95.. => Diagnosis::fail("disk", message, change),
            80.. => Diagnosis::warn("disk", message, change),
            _ => Diagnosis::ok("disk", message),
        });
    }
    found
}

fn members(facts: &Facts, cluster: &MetaCluster, asked: &[&Monitored]) -> Vec<Diagnosis> {
    const CHECK: &str = "cluster";
    let (size, replicas) = (cluster.cluster_size, facts.topology.replicas as u64);
    let mut found = Vec::new();
    if cluster.leader.is_empty() {
        let message = "the cluster has no leader: too few of its servers are up";
        found.push(Diagnosis::fail(CHECK, message, "start the servers that are missing"));
    }
    if size < replicas {
        let message = format!("{replicas} replicas are configured, and the cluster has {size} servers");
        found.push(Diagnosis::fail(CHECK, message, "add servers, or set `replicas` to what there is"));
    } else if size % 2 == 0 {
        let message = format!("{size} servers survive the loss of no more than {} do", size - 1);
        found.push(Diagnosis::warn(CHECK, message, "run 3 or 5 servers"));
    } else {
        found.push(Diagnosis::ok(CHECK, format!("{size} servers, {replicas} replicas")));
    }
    if let Some(other) = asked.iter().find(|monitored| monitored.version != asked[0].version) {
        let message = format!(
            "server {} is version {}, server {} is {}",
            asked[0].name, asked[0].version, other.name, other.version
        );
        found.push(Diagnosis::warn(CHECK, message, "bring all servers to one version, one after the other"));
    }
    let unseen = size.saturating_sub(asked.len() as u64);
    if unseen > 0 {
        let message = format!("{unseen} of {size} servers were not asked for their sync_interval");
        found.push(Diagnosis::warn(self::CHECK, message, "give --monitor for each server"));
    }
    found
}
