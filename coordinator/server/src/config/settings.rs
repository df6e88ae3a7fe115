//! The settings: the table that `--help` shows, and the form they are read in.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;

use millstream_broker::{BrokerConfig, Storage};
use millstream_model::entry::Defaults;
use millstream_model::limits::{RETENTION_MS_MAX, RETENTION_MS_MIN};
use serde::{Deserialize, Serialize};

use super::{CoordinatorConfig, ENVIRONMENT_PREFIX, ENVIRONMENT_SEPARATOR, InvalidConfig};
use crate::audit::{AuditConfig, Backend};
use crate::owner::keeper::Keeping;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its dotted key in a file.
    pub key: &'static str,
    pub meaning: &'static str,
}

impl Setting {
    /// Its name in the environment.
    pub fn variable(&self) -> String {
        let key = self.key.to_ascii_uppercase().replace('.', ENVIRONMENT_SEPARATOR);
        format!("{ENVIRONMENT_PREFIX}{ENVIRONMENT_SEPARATOR}{key}")
    }
}

/// Every setting.
pub const SETTINGS: [Setting; 30] = [
    Setting { key: "nats.url", meaning: "URL of NATS, or several separated by commas" },
    Setting { key: "nats.user", meaning: "user" },
    Setting { key: "nats.password", meaning: "password" },
    Setting { key: "nats.token", meaning: "token" },
    Setting { key: "nats.creds_file", meaning: "a .creds file (JWT and nkey seed)" },
    Setting { key: "listen", meaning: "address and port of the API" },
    Setting { key: "node", meaning: "name of this process; random if absent" },
    Setting { key: "partitions", meaning: "partitions of a new cluster, 1-256, fixed for ever" },
    Setting { key: "prefix", meaning: "prefix of all subjects and streams" },
    Setting { key: "storage", meaning: "file or memory" },
    Setting { key: "replicas", meaning: "replicas of streams and buckets, 1, 3 or 5" },
    Setting { key: "tasks_per_subject_max", meaning: "queued tasks per capability and partition" },
    Setting { key: "journal_bytes_max", meaning: "size of each partition's journal; unlimited if absent" },
    Setting { key: "audit.backends", meaning: "where the audit trail is kept: nats, sqlite, jsonl, or none" },
    Setting { key: "audit.path", meaning: "directory of the backends sqlite and jsonl" },
    Setting { key: "audit.routing", meaning: "whether every submission's plan and routes are recorded" },
    Setting { key: "history.retention_ms", meaning: "how long the history keeps what has ended" },
    Setting { key: "index.path", meaning: "file of the index that survives restarts; temporary if absent" },
    Setting { key: "live_executions_max", meaning: "executions under way per partition; more are refused" },
    Setting { key: "park_after_ms", meaning: "how long an execution waits before it leaves memory" },
    Setting { key: "snapshot.entries", meaning: "entries of journal after which a snapshot is taken" },
    Setting { key: "snapshot.bytes", meaning: "bytes of journal after which a snapshot is taken" },
    Setting { key: "defaults.workflow_timeout_ms", meaning: "deadline of an execution" },
    Setting { key: "defaults.step_timeout_ms", meaning: "start-to-close of one attempt" },
    Setting { key: "defaults.max_parallel", meaning: "steps of an execution at the same time" },
    Setting { key: "defaults.fan_out_concurrency", meaning: "items of a fan-out at the same time" },
    Setting { key: "defaults.max_attempts", meaning: "attempts of a step" },
    Setting { key: "defaults.backoff_ms", meaning: "delay after the first attempt" },
    Setting { key: "defaults.backoff_multiplier", meaning: "growth of the delay" },
    Setting { key: "defaults.max_backoff_ms", meaning: "ceiling of the delay" },
];

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    nats: NatsSettings,
    listen: SocketAddr,
    node: Option<String>,
    partitions: u16,
    prefix: String,
    storage: StorageSetting,
    replicas: usize,
    tasks_per_subject_max: i64,
    journal_bytes_max: Option<i64>,
    audit: AuditSettings,
    history: HistorySettings,
    live_executions_max: usize,
    park_after_ms: u64,
    snapshot: SnapshotSettings,
    index: IndexSettings,
    defaults: Defaults,
}

#[derive(Debug, Serialize, Deserialize)]
struct HistorySettings {
    retention_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct SnapshotSettings {
    entries: u64,
    bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct IndexSettings {
    path: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
struct AuditSettings {
    backends: String,
    path: Option<PathBuf>,
    routing: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct NatsSettings {
    url: String,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    creds_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StorageSetting {
    File,
    Memory,
}

impl Default for Settings {
    fn default() -> Self {
        let config = CoordinatorConfig::default();
        let BrokerConfig { url, name: _, names, user, password, token, creds_file } = config.nats;
        Self {
            nats: NatsSettings { url, user, password, token, creds_file },
            listen: config.listen,
            node: None,
            partitions: config.partitions,
            prefix: names.to_string(),
            storage: match config.storage {
                Storage::File => StorageSetting::File,
                Storage::Memory => StorageSetting::Memory,
            },
            replicas: config.replicas,
            tasks_per_subject_max: config.tasks_per_subject_max,
            journal_bytes_max: config.journal_bytes_max,
            audit: AuditSettings {
                backends: listed(&config.audit.backends),
                path: config.audit.path,
                routing: config.audit.submissions,
            },
            history: HistorySettings { retention_ms: config.retention_ms },
            live_executions_max: config.keeping.live_max,
            park_after_ms: config.keeping.park_after_ms,
            snapshot: SnapshotSettings {
                entries: config.keeping.tail_entries_min,
                bytes: config.keeping.tail_bytes_min,
            },
            index: IndexSettings { path: config.index_path },
            defaults: config.defaults,
        }
    }
}

impl Settings {
    /// Checks what the form alone does not say.
    pub(super) fn check(self) -> Result<CoordinatorConfig, InvalidConfig> {
        let names = self.prefix.parse();
        let names = names.map_err(|source| InvalidConfig::Prefix { prefix: self.prefix, source })?;
        let node = self.node.filter(|node| !node.is_empty()).map(|node| {
            let parsed = node.parse();
            parsed.map_err(|source| InvalidConfig::Node { node, source })
        });
        within("partitions", self.partitions, (1..=256).contains(&self.partitions), "1 to 256")?;
        within("replicas", self.replicas, matches!(self.replicas, 1 | 3 | 5), "1, 3 or 5")?;
        let tasks = self.tasks_per_subject_max;
        within("tasks_per_subject_max", tasks, tasks > 0, "at least 1")?;
        if let Some(bytes) = self.journal_bytes_max {
            within("journal_bytes_max", bytes, bytes > 0, "at least 1")?;
        }
        let keeping = Keeping {
            live_max: self.live_executions_max,
            park_after_ms: self.park_after_ms,
            tail_entries_min: self.snapshot.entries,
            tail_bytes_min: self.snapshot.bytes,
            ..Keeping::default()
        };
        within("live_executions_max", keeping.live_max, keeping.live_max > 0, "at least 1")?;
        within("park_after_ms", keeping.park_after_ms, keeping.park_after_ms > 0, "at least 1")?;
        let entries = keeping.tail_entries_min;
        within("snapshot.entries", entries, (1..=1_000_000).contains(&entries), "1 to 1,000,000")?;
        let bytes = keeping.tail_bytes_min;
        within("snapshot.bytes", bytes, bytes > 0, "at least 1")?;
        let retention = self.history.retention_ms;
        let allowed = "1,000 (a second) to ten years";
        within("history.retention_ms", retention, (RETENTION_MS_MIN..=RETENTION_MS_MAX).contains(&retention), allowed)?;
        check_defaults(&self.defaults)?;
        Ok(CoordinatorConfig {
            nats: BrokerConfig {
                url: self.nats.url,
                names,
                user: self.nats.user,
                password: self.nats.password,
                token: self.nats.token,
                creds_file: self.nats.creds_file,
                ..CoordinatorConfig::default().nats
            },
            listen: self.listen,
            node: node.transpose()?,
            partitions: self.partitions,
            storage: match self.storage {
                StorageSetting::File => Storage::File,
                StorageSetting::Memory => Storage::Memory,
            },
            replicas: self.replicas,
            tasks_per_subject_max: tasks,
            journal_bytes_max: self.journal_bytes_max,
            defaults: self.defaults,
            audit: self.audit.check()?,
            retention_ms: retention,
            keeping,
            index_path: self.index.path.filter(|path| !path.as_os_str().is_empty()),
        })
    }
}

impl AuditSettings {
    fn check(self) -> Result<AuditConfig, InvalidConfig> {
        let backends = AuditConfig::backends_of(&self.backends).map_err(|_| InvalidConfig::Range {
            key: "audit.backends",
            value: self.backends,
            allowed: "nats, sqlite and jsonl separated by commas, or none",
        })?;
        let config = AuditConfig { backends, path: self.path, submissions: self.routing };
        let is = config.path.is_some() || !config.needs_path();
        within("audit.path", "absent", is, "a directory when audit.backends has sqlite or jsonl")?;
        Ok(config)
    }
}

/// Backends as the setting lists them.
fn listed(backends: &[Backend]) -> String {
    backends.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn check_defaults(defaults: &Defaults) -> Result<(), InvalidConfig> {
    use millstream_model::limits::{ATTEMPTS_MAX, DURATION_MS_MAX, FAN_OUT_ITEMS_MAX};
    let year = "1 to a year";
    let duration = |millis: u64| (1..=DURATION_MS_MAX).contains(&millis);
    within("defaults.workflow_timeout_ms", defaults.workflow_timeout_ms, duration(defaults.workflow_timeout_ms), year)?;
    within("defaults.step_timeout_ms", defaults.step_timeout_ms, duration(defaults.step_timeout_ms), year)?;
    within("defaults.backoff_ms", defaults.backoff_ms, defaults.backoff_ms <= DURATION_MS_MAX, "0 to a year")?;
    within("defaults.max_backoff_ms", defaults.max_backoff_ms, duration(defaults.max_backoff_ms), year)?;
    within("defaults.max_parallel", defaults.max_parallel, defaults.max_parallel > 0, "at least 1")?;
    let items = defaults.fan_out_concurrency;
    within(
        "defaults.fan_out_concurrency",
        items,
        (1..=FAN_OUT_ITEMS_MAX).contains(&(items as usize)),
        "1 to 1,000,000",
    )?;
    let attempts = defaults.max_attempts;
    within("defaults.max_attempts", attempts, (1..=ATTEMPTS_MAX).contains(&attempts), "1 to 100")?;
    let growth = defaults.backoff_multiplier;
    within("defaults.backoff_multiplier", growth, (1.0..=1_000.0).contains(&growth), "1 to 1,000")
}

fn within(key: &'static str, value: impl Display, is: bool, allowed: &'static str) -> Result<(), InvalidConfig> {
    if is { Ok(()) } else { Err(InvalidConfig::Range { key, value: value.to_string(), allowed }) }
}
