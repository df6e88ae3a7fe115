//! Creating what lives in NATS, and refusing what is there but different. Nothing is ever deleted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy};
use async_nats::jetstream::stream::Config;
use millstream_model::ids::{Capability, Partition};
use millstream_model::limits::{ACK_PENDING_MAX, ACK_WAIT_MS};
use millstream_model::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::info;

use crate::Broker;
use crate::drift::{Difference, Differences, differences};
use crate::layout::Topology;
use crate::request::{RequestError, code};

/// Oldest server whose JetStream has all that we use.
pub(crate) const SERVER_OLDEST: (i64, i64) = (2, 12);

/// Workers of one capability that may wait for tasks at the same time.
const PULLS_WAITING_MAX: i64 = 8_192;

/// Why the streams are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    #[error(
        "stream {stream} exists with another configuration ({}); change it with `nats stream edit {stream}`, or run \
         with the settings it was created with",
        Differences(differences)
    )]
    Drift { stream: String, differences: Vec<Difference> },
    #[error("this cluster was created with {found} partitions and that cannot be changed; {wanted} are configured")]
    Partitions { wanted: u16, found: u16 },
    #[error("{wanted} partitions are configured; a cluster has 1 to 256")]
    InvalidPartitions { wanted: u16 },
    #[error(
        "the journal {stream} of an existing cluster is missing; restore it from a backup, a new one would forget \
         its executions"
    )]
    JournalLost { stream: String },
    #[error(
        "JetStream is off on the NATS server {server}; start it with `nats-server --jetstream`, or enable JetStream \
         for this account"
    )]
    NoJetStream { server: String },
    #[error(
        "the NATS server is version {version}; at least {}.{} is needed", SERVER_OLDEST.0, SERVER_OLDEST.1
    )]
    OldServer { version: String },
    #[error("{object} cannot be set up: {source}")]
    Request {
        object: String,
        #[source]
        source: RequestError,
    },
}

impl ProvisionError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Request { source, .. } => source.is_retryable(),
            Self::Drift { .. }
            | Self::Partitions { .. }
            | Self::InvalidPartitions { .. }
            | Self::JournalLost { .. }
            | Self::NoJetStream { .. }
            | Self::OldServer { .. } => false,
        }
    }
}

/// A stream as the server describes it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct StreamInfo {
    pub(crate) config: Map<String, Value>,
    #[serde(with = "millstream_model::time::rfc3339")]
    pub(crate) created: Timestamp,
    pub(crate) state: StreamState,
    /// Who holds copies; absent without a cluster.
    #[serde(default)]
    pub(crate) cluster: Option<StreamCluster>,
    /// When the leader wrote this answer, by its own clock.
    #[serde(default)]
    pub(crate) ts: Option<String>,
}

/// The Raft group of a stream.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct StreamCluster {
    #[serde(default)]
    pub(crate) leader: Option<String>,
    /// All but the leader.
    #[serde(default)]
    pub(crate) replicas: Option<Vec<StreamPeer>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct StreamPeer {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) current: bool,
    #[serde(default)]
    pub(crate) offline: bool,
    /// Nanoseconds since the leader heard of it.
    #[serde(default)]
    pub(crate) active: u64,
    /// Operations that it has yet to do.
    #[serde(default)]
    pub(crate) lag: u64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct StreamState {
    #[serde(default)]
    pub(crate) messages: u64,
    #[serde(default)]
    pub(crate) bytes: u64,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    #[serde(default)]
    pub(crate) consumer_count: u64,
}

impl Broker {
    /// Creates what is missing. Only coordinators do this.
    ///
    /// Journals are created from the last partition to the first: while the first is missing, the cluster is still
    /// being created; afterwards a missing one is a loss.
    pub async fn provision(&self, topology: &Topology) -> Result<(), ProvisionError> {
        let wanted = topology.partitions;
        let last = u8::try_from(wanted.wrapping_sub(1)).map_err(|_| ProvisionError::InvalidPartitions { wanted })?;
        self.check_server().await?;
        let present = self.journals().await?;
        if let Some(found) = cluster_size(&present)
            && found != wanted
        {
            return Err(ProvisionError::Partitions { wanted, found });
        }
        if present.contains(&Partition(0))
            && let Some(lost) = (0..=last).map(Partition).find(|partition| !present.contains(partition))
        {
            return Err(ProvisionError::JournalLost { stream: self.names().journal_stream(lost) });
        }
        for partition in (0..=last).rev().map(Partition) {
            self.ensure_stream(&topology.journal(self.names(), partition)).await?;
        }
        // Another coordinator may have created a cluster of another size meanwhile.
        match cluster_size(&self.journals().await?) {
            Some(found) if found != wanted => return Err(ProvisionError::Partitions { wanted, found }),
            Some(_) | None => {}
        }
        self.ensure_task_stream(topology).await?;
        self.ensure_stream(&topology.history(self.names())).await?;
        self.ensure_stream(&topology.audit(self.names())).await?;
        for store in topology.stores(self.names()) {
            self.ensure_stream(&store).await?;
        }
        Ok(())
    }

    /// Number of partitions of the cluster; `None` when there is no cluster.
    pub async fn partitions(&self) -> Result<Option<u16>, ProvisionError> {
        self.check_server().await?;
        Ok(cluster_size(&self.journals().await?))
    }

    /// Creates the task streams if they are missing; whether one was, and so lost the tasks it held.
    pub async fn ensure_task_stream(&self, topology: &Topology) -> Result<bool, ProvisionError> {
        let mut created = false;
        for stream in self.names().tasks_streams() {
            created |= self.ensure_stream(&topology.tasks(self.names(), stream, now_micros())).await?;
        }
        Ok(created)
    }

    /// Creates the consumer that the workers of a capability share. Only coordinators do this.
    pub async fn ensure_task_consumer(&self, capability: &Capability) -> Result<(), ProvisionError> {
        #[derive(Serialize)]
        struct Create<'a> {
            stream_name: &'a str,
            config: consumer::Config,
        }
        let name = self.names().task_consumer(capability);
        let filter = self.names().tasks_of_capability(capability);
        let config = consumer::Config {
            durable_name: Some(name.clone()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_millis(ACK_WAIT_MS),
            max_deliver: -1,
            max_ack_pending: ACK_PENDING_MAX,
            max_waiting: PULLS_WAITING_MAX,
            filter_subject: filter.clone(),
            ..consumer::Config::default()
        };
        for stream in self.names().tasks_streams() {
            let method = format!("CONSUMER.CREATE.{stream}.{name}.{filter}");
            let create = Create { stream_name: &stream, config: config.clone() };
            self.api::<Value>(&method, &create)
                .await
                .map_err(|source| ProvisionError::Request { object: format!("consumer {name}"), source })?;
        }
        Ok(())
    }

    pub(crate) async fn stream_info(&self, stream: &str) -> Result<StreamInfo, RequestError> {
        self.api(&format!("STREAM.INFO.{stream}"), &Map::new()).await
    }

    async fn check_server(&self) -> Result<(), ProvisionError> {
        self.connected().await;
        let server = self.client().server_info();
        if !self.client().is_server_compatible(SERVER_OLDEST.0, SERVER_OLDEST.1, 0) {
            return Err(ProvisionError::OldServer { version: server.version });
        }
        match self.api::<Value>("INFO", &Map::new()).await {
            Ok(_) => Ok(()),
            Err(RequestError::NoResponders { .. }) if !server.jetstream => {
                Err(ProvisionError::NoJetStream { server: server.server_name })
            }
            Err(source) if matches!(source.code(), Some(code::NOT_ENABLED | code::NOT_ENABLED_FOR_ACCOUNT)) => {
                Err(ProvisionError::NoJetStream { server: server.server_name })
            }
            Err(source) => Err(ProvisionError::Request { object: "JetStream".to_owned(), source }),
        }
    }

    /// The partitions whose journals exist.
    async fn journals(&self) -> Result<Vec<Partition>, ProvisionError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            total: usize,
            #[serde(default)]
            streams: Option<Vec<String>>,
        }
        let mut names = Vec::new();
        loop {
            let page: Page = self
                .api("STREAM.NAMES", &serde_json::json!({ "offset": names.len() }))
                .await
                .map_err(|source| ProvisionError::Request { object: "the list of streams".to_owned(), source })?;
            let streams = page.streams.unwrap_or_default();
            let more = !streams.is_empty();
            names.extend(streams);
            if !more || names.len() >= page.total {
                break;
            }
        }
        let all = (0..=u8::MAX).map(Partition);
        Ok(all.filter(|partition| names.contains(&self.names().journal_stream(*partition))).collect())
    }

    /// Creates a stream unless it is there; whether it was created.
    async fn ensure_stream(&self, wanted: &Config) -> Result<bool, ProvisionError> {
        let failed = |source| ProvisionError::Request { object: format!("stream {}", wanted.name), source };
        let found = match self.stream_info(&wanted.name).await {
            Ok(info) => info,
            Err(error) if error.code() == Some(code::STREAM_NOT_FOUND) => {
                match self.api::<StreamInfo>(&format!("STREAM.CREATE.{}", wanted.name), wanted).await {
                    Ok(_) => {
                        info!(stream = wanted.name, "created");
                        return Ok(true);
                    }
                    // Somebody else was faster.
                    Err(error) if error.code() == Some(code::STREAM_NAME_IN_USE) => {
                        self.stream_info(&wanted.name).await.map_err(failed)?
                    }
                    Err(error) => return Err(failed(error)),
                }
            }
            Err(error) => return Err(failed(error)),
        };
        let Ok(Value::Object(settings)) = serde_json::to_value(wanted) else {
            unreachable!("a stream's configuration always has a JSON form");
        };
        let differences = differences(&settings, &found.config);
        if differences.is_empty() {
            return Ok(false);
        }
        Err(ProvisionError::Drift { stream: wanted.name.clone(), differences })
    }
}

/// The journal with the highest number is created first.
fn cluster_size(journals: &[Partition]) -> Option<u16> {
    journals.iter().map(|partition| u16::from(partition.0) + 1).max()
}

fn now_micros() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}
