//! A server, a connection, and the words of a test.

use std::time::Duration;

use bytes::Bytes;
use millstream_broker::{Broker, BrokerConfig, Topology};
use millstream_model::ids::{Capability, ExecutionId, Partition};
use millstream_tests::nats::{self, Server};
use serde_json::json;

pub(crate) const P0: Partition = Partition(0);
/// What should take no time at all may take this long on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) async fn connect(server: &Server) -> Broker {
    Broker::connect(config(server)).await.expect("a good configuration")
}

pub(crate) fn config(server: &Server) -> BrokerConfig {
    BrokerConfig { url: server.url(), name: "test".into(), ..BrokerConfig::default() }
}

pub(crate) fn topology() -> Topology {
    Topology { partitions: 2, ..Topology::default() }
}

/// A server with everything provisioned and the queue of [`http`].
pub(crate) async fn cluster() -> (Server, Broker) {
    cluster_with(&topology()).await
}

pub(crate) async fn cluster_with(topology: &Topology) -> (Server, Broker) {
    let server = nats::start().await;
    let broker = connect(&server).await;
    broker.provision(topology).await.expect("provisioned");
    broker.ensure_task_consumer(&http()).await.expect("a consumer");
    (server, broker)
}

pub(crate) fn http() -> Capability {
    "http".parse().expect("a name")
}

pub(crate) fn execution(number: u32) -> ExecutionId {
    format!("0193a5a0-0000-7000-8000-{number:08x}0000").parse().expect("an id")
}

/// What a scan reads of a task, and a little more.
pub(crate) fn task(number: u32) -> Bytes {
    let key = json!({"execution": execution(number), "step": "fetch", "activation": 0, "attempt": 1});
    Bytes::from(json!({"v": 1, "key": key, "more": [1, 2, 3]}).to_string())
}

pub(crate) async fn publish(broker: &Broker, number: u32) {
    let sent = broker.publish_task(&http(), P0, task(number), None).await.expect("sent");
    sent.await.expect("stored");
}

/// Ends the test when what it waits for does not happen.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(SOON, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {SOON:?}: {what}"),
    }
}
