//! What can be found out about NATS and our streams with an ordinary connection, without changing anything.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::stream::Config;
use millstream_model::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::drift::{Difference, differences};
use crate::provision::{SERVER_OLDEST, StreamInfo};
use crate::request::{RequestError, code};
use crate::{Broker, Topology};

/// The server that this connection is with, and the account it is in.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerFacts {
    pub name: String,
    pub version: String,
    /// Whether all that we use is in this version.
    pub version_suffices: bool,
    pub version_oldest: String,
    /// The cluster's name, when it is one.
    pub cluster: Option<String>,
    /// Where the cluster's servers take clients; empty when the server does not say.
    pub known_urls: Vec<String>,
    /// Largest message that it takes.
    pub max_payload: usize,
    /// It asks its clients to leave.
    pub lame_duck: bool,
    /// How long a request and its answer took.
    pub round_trip: Duration,
    /// `None`: JetStream is off, for the server or for this account.
    pub account: Option<AccountFacts>,
}

/// What an account uses of JetStream, and what it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountFacts {
    /// Level of the JetStream API.
    pub api_level: u64,
    pub api_errors: u64,
    pub memory: Usage,
    pub storage: Usage,
    pub streams: Usage,
    pub consumers: Usage,
}

/// How much of something is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub used: u64,
    /// `None` is unlimited.
    pub max: Option<u64>,
}

/// One stream that there should be.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamFacts {
    pub name: String,
    /// `None`: it is missing.
    pub found: Option<FoundStream>,
}

/// A stream that is there. While it has several copies and no leader, nobody answers for it and nothing else is known
/// of it: everything that is counted is 0, and `replicas` is what the topology says.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundStream {
    /// Settings that are not those of this build and topology.
    pub differences: Vec<Difference>,
    pub created: Timestamp,
    pub messages: u64,
    pub bytes: Usage,
    pub first_sequence: u64,
    pub last_sequence: u64,
    pub consumers: u64,
    /// Copies that it is configured to have.
    pub replicas: u64,
    /// Who leads it; `None` while nobody does, and without a cluster.
    pub leader: Option<String>,
    /// Who else has a copy; empty without a cluster.
    pub peers: Vec<PeerFacts>,
    /// The clock of its leader, when the server tells.
    pub clock: Option<ClockFacts>,
}

impl FoundStream {
    fn leaderless(wanted: &Config) -> Self {
        Self {
            differences: Vec::new(),
            created: Timestamp::default(),
            messages: 0,
            bytes: Usage::default(),
            first_sequence: 0,
            last_sequence: 0,
            consumers: 0,
            replicas: wanted.num_replicas as u64,
            leader: None,
            peers: Vec::new(),
            clock: None,
        }
    }

    /// Copies that are there and up to date, the leader's included.
    pub fn current_copies(&self) -> usize {
        let peers = self.peers.iter().filter(|peer| peer.current && !peer.offline).count();
        if self.leader.is_none() && self.replicas > 1 { peers } else { 1 + peers }
    }
}

/// A server that has a copy of a stream and does not lead it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerFacts {
    pub name: String,
    pub current: bool,
    pub offline: bool,
    /// Operations that it has yet to do.
    pub lag: u64,
    /// How long ago the leader heard of it.
    pub heard_before: Duration,
}

/// How a server's clock differs from this machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockFacts {
    /// Microseconds that the server's clock is ahead; negative when it is behind.
    pub ahead_us: i64,
    /// How far that may be from the truth: half a round trip.
    pub uncertain_us: u64,
}

/// The server's answer to `$JS.API.INFO`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Account {
    memory: u64,
    storage: u64,
    streams: u64,
    consumers: u64,
    limits: Limits,
    api: Api,
}

/// Limits of an account; negative is unlimited.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Limits {
    max_memory: i64,
    max_storage: i64,
    max_streams: i64,
    max_consumers: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_memory: -1, max_storage: -1, max_streams: -1, max_consumers: -1 }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Api {
    level: u64,
    errors: u64,
}

impl Usage {
    fn of(used: u64, max: i64) -> Self {
        Self { used, max: u64::try_from(max).ok() }
    }
}

impl Account {
    fn facts(&self) -> AccountFacts {
        AccountFacts {
            api_level: self.api.level,
            api_errors: self.api.errors,
            memory: Usage::of(self.memory, self.limits.max_memory),
            storage: Usage::of(self.storage, self.limits.max_storage),
            streams: Usage::of(self.streams, self.limits.max_streams),
            consumers: Usage::of(self.consumers, self.limits.max_consumers),
        }
    }
}

impl Broker {
    /// What the server says of itself and of this account.
    pub async fn server_facts(&self) -> Result<ServerFacts, RequestError> {
        let before = Instant::now();
        let account = match self.api::<Account>("INFO", &Map::new()).await {
            Ok(account) => Some(account.facts()),
            // Without JetStream nobody listens there.
            Err(RequestError::NoResponders { .. }) => None,
            Err(error) if matches!(error.code(), Some(code::NOT_ENABLED | code::NOT_ENABLED_FOR_ACCOUNT)) => None,
            Err(error) => return Err(error),
        };
        let round_trip = before.elapsed();
        let (major, minor) = SERVER_OLDEST;
        let server = self.client().server_info();
        Ok(ServerFacts {
            version_suffices: self.client().is_server_compatible(major, minor, 0),
            version_oldest: format!("{major}.{minor}"),
            name: server.server_name,
            version: server.version,
            cluster: server.cluster,
            known_urls: server.connect_urls,
            max_payload: server.max_payload,
            lame_duck: server.lame_duck_mode,
            round_trip,
            account,
        })
    }

    /// Every stream that a cluster of this topology has, as it is.
    pub async fn stream_facts(&self, topology: &Topology) -> Result<Vec<StreamFacts>, RequestError> {
        let mut wanted = topology.streams(self.names());
        wanted.extend(self.names().tasks_streams().into_iter().map(|name| topology.tasks(self.names(), name, 1)));
        // One after the other, several without a leader would take minutes.
        futures::future::try_join_all(wanted.iter().map(|stream| self.facts_of(stream))).await
    }

    async fn facts_of(&self, wanted: &Config) -> Result<StreamFacts, RequestError> {
        let (before, sent_at) = (Instant::now(), now());
        let found = match self.stream_info(&wanted.name).await {
            Ok(info) => Some(found(wanted, info, &ClockReading { sent_at, round_trip: before.elapsed() })),
            Err(error) if error.code() == Some(code::STREAM_NOT_FOUND) => None,
            // The leader answers, and only one of several copies can be without one.
            Err(RequestError::NoAnswer { .. }) if wanted.num_replicas > 1 && self.is_connected() => {
                Some(FoundStream::leaderless(wanted))
            }
            Err(error) => return Err(error),
        };
        Ok(StreamFacts { name: wanted.name.clone(), found })
    }
}

/// This machine's clock when a request was sent, and how long its answer took.
struct ClockReading {
    sent_at: Timestamp,
    round_trip: Duration,
}

impl ClockReading {
    /// The server wrote its time somewhere between the request and the answer, half way for all we know.
    fn compare(&self, server: Timestamp) -> ClockFacts {
        let half = u64::try_from(self.round_trip.as_micros() / 2).unwrap_or(u64::MAX);
        let ours = self.sent_at.as_micros().saturating_add(half);
        ClockFacts { ahead_us: server.as_micros().cast_signed().saturating_sub(ours.cast_signed()), uncertain_us: half }
    }
}

fn found(wanted: &Config, info: StreamInfo, reading: &ClockReading) -> FoundStream {
    let Ok(Value::Object(settings)) = serde_json::to_value(wanted) else {
        unreachable!("a stream's configuration always has a JSON form");
    };
    let setting = |name: &str| info.config.get(name).and_then(Value::as_u64).filter(|value| *value > 0);
    let cluster = info.cluster.unwrap_or_default();
    let peers = cluster.replicas.unwrap_or_default().into_iter().map(|peer| PeerFacts {
        name: peer.name,
        current: peer.current,
        offline: peer.offline,
        lag: peer.lag,
        heard_before: Duration::from_nanos(peer.active),
    });
    FoundStream {
        differences: differences(&settings, &info.config),
        created: info.created,
        messages: info.state.messages,
        bytes: Usage { used: info.state.bytes, max: setting("max_bytes") },
        first_sequence: info.state.first_seq,
        last_sequence: info.state.last_seq,
        consumers: info.state.consumer_count,
        replicas: setting("num_replicas").unwrap_or(1),
        leader: cluster.leader.filter(|leader| !leader.is_empty()),
        peers: peers.collect(),
        clock: info.ts.as_deref().and_then(Timestamp::from_rfc3339).map(|server| reading.compare(server)),
    }
}

fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_half_way_between_request_and_answer() {
        let reading =
            ClockReading { sent_at: Timestamp::from_micros(1_000_000), round_trip: Duration::from_micros(400) };
        let compare = |server| reading.compare(Timestamp::from_micros(server));
        assert_eq!(compare(1_000_200), ClockFacts { ahead_us: 0, uncertain_us: 200 });
        assert_eq!(compare(3_000_200), ClockFacts { ahead_us: 2_000_000, uncertain_us: 200 });
        assert_eq!(compare(500_200), ClockFacts { ahead_us: -500_000, uncertain_us: 200 });
    }

    #[test]
    fn a_negative_limit_is_none() {
        assert_eq!(Usage::of(5, -1), Usage { used: 5, max: None });
        assert_eq!(Usage::of(5, 9), Usage { used: 5, max: Some(9) });
    }
}
