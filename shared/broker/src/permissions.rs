//! Whether this connection may do what a coordinator does, tried out with requests that change nothing.
//!
//! A publish to a stream names another stream as the one it expects, which the stream refuses; a call of the
//! JetStream API has a body that the server refuses. What matters is only that the server took it.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_STREAM;
use bytes::Bytes;
use futures::StreamExt;
use millstream_model::ids::{Capability, NodeId, Partition};
use serde_json::{Value, json};

use crate::bucket::{bucket_stream, key_subject};
use crate::objects::{chunks_subject, store_stream};
use crate::request::{ANSWER_WAIT, RequestError};
use crate::{Broker, Topology};

/// A key, subject token, node and stream that there is not.
const PROBE: &str = "permission-probe";
/// An execution that there is not.
const NOBODY: &str = "00000000-0000-7000-8000-000000000000";
/// How long a message to ourselves may take.
const ECHO_WAIT: Duration = Duration::from_secs(2);

/// What a connection does with a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Publish,
    Subscribe,
}

/// Whether this connection may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    pub action: Action,
    pub subject: String,
    pub verdict: Verdict,
}

/// What trying it out showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Denied,
    /// Nothing came back: nobody listens there, or answers do not reach this connection.
    Unanswered,
}

impl Broker {
    /// Tries out what a coordinator does. Ends early with an error when the connection is lost.
    pub async fn probe_permissions(&self, topology: &Topology) -> Result<Vec<Permission>, RequestError> {
        let mut found = Vec::new();
        for (subject, headers, body) in self.publish_probes(topology) {
            let verdict = match self.request(&subject, headers, body, ANSWER_WAIT).await {
                Ok(_) => Verdict::Allowed,
                Err(RequestError::Denied { .. }) => Verdict::Denied,
                Err(error @ RequestError::Offline) => return Err(error),
                Err(_) => Verdict::Unanswered,
            };
            found.push(Permission { action: Action::Publish, subject, verdict });
        }
        let names = self.names();
        let node: NodeId = PROBE.parse().expect("the probe's name is a good one");
        let query = names.query_of(Partition(0), &node);
        found.push(self.probe_subscribe(query.clone(), query).await?);
        found.push(self.probe_subscribe(names.live_all(), names.live(NOBODY.parse().expect("an id"))).await?);
        Ok(found)
    }

    fn publish_probes(&self, topology: &Topology) -> Vec<(String, Option<HeaderMap>, Bytes)> {
        let names = self.names();
        let capability: Capability = PROBE.parse().expect("the probe's name is a good one");
        let partitions = (0..topology.partitions).filter_map(|partition| u8::try_from(partition).ok()).map(Partition);
        let journals: Vec<Partition> = partitions.collect();
        let mut stored: Vec<String> = journals.iter().map(|partition| names.journal_control(*partition)).collect();
        stored.extend(journals.iter().map(|partition| names.history(*partition)));
        stored.extend([names.task(&capability, Partition(0)), names.audit()]);
        let buckets = [names.definitions(), names.agents(), names.workers(), names.claims(), names.cancelled()];
        stored.extend(buckets.iter().chain([&names.leases()]).map(|bucket| key_subject(bucket, PROBE)));
        let stores = [names.payloads(), names.snapshots()];
        stored.extend(stores.iter().map(|store| chunks_subject(store, PROBE)));
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_STREAM, PROBE);
        let stored = stored.into_iter().map(|subject| (subject, Some(headers.clone()), Bytes::new()));

        let journal = names.journal_stream(Partition(0));
        let calls: Vec<(String, Value)> = vec![
            ("INFO".to_owned(), json!({})),
            ("STREAM.NAMES".to_owned(), json!({})),
            (format!("STREAM.CREATE.{PROBE}"), json!({ "name": "another" })),
            (format!("STREAM.INFO.{journal}"), json!({})),
            (format!("STREAM.PURGE.{journal}"), json!({ "seq": 1, "keep": 1 })),
            (format!("STREAM.MSG.GET.{journal}"), json!({ "seq": 0 })),
            (format!("STREAM.MSG.DELETE.{}", names.history_stream()), json!({ "seq": 0 })),
            (format!("STREAM.PURGE.{}", store_stream(&names.snapshots())), json!({ "seq": 1, "keep": 1 })),
            (format!("CONSUMER.CREATE.{journal}"), json!({ "stream_name": "another" })),
            (format!("CONSUMER.CREATE.{}", bucket_stream(&names.leases())), json!({ "stream_name": "another" })),
            (format!("DIRECT.GET.{}", bucket_stream(&names.leases())), json!({})),
        ];
        let calls =
            calls.into_iter().map(|(method, body)| (format!("$JS.API.{method}"), None, Bytes::from(body.to_string())));
        stored.chain(calls).collect()
    }

    /// Whether a message that is published to a subject reaches a subscription. It is empty, which nobody takes for
    /// anything.
    async fn probe_subscribe(&self, filter: String, subject: String) -> Result<Permission, RequestError> {
        let mut echoes = self.client().subscribe(filter.clone()).await.map_err(|_| RequestError::Offline)?;
        let sent = self.client().publish(subject, Bytes::new()).await;
        sent.map_err(|_| RequestError::Offline)?;
        let verdict = match tokio::time::timeout(ECHO_WAIT, echoes.next()).await {
            Ok(Some(_)) => Verdict::Allowed,
            Ok(None) => return Err(RequestError::Offline),
            Err(_) => Verdict::Unanswered,
        };
        Ok(Permission { action: Action::Subscribe, subject: filter, verdict })
    }
}
