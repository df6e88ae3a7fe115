//! Definitions, agents and live events.

use millstream_broker::AgentChange;
use millstream_model::agent::{Agent, AgentLimits, AgentStatus};
use millstream_model::event::{Event, EventType};
use millstream_model::hash::ContentHash;
use millstream_model::time::Timestamp;
use millstream_model::trace::{SpanId, TraceId};
use millstream_tests::wait::eventually;
use serde_json::Value;

use crate::fixture::{SOON, cluster, connect, execution, soon};

fn agent(id: &str, version: &str) -> Agent {
    Agent {
        id: id.parse().expect("a name"),
        name: String::new(),
        version: version.into(),
        framework: "builtin".into(),
        capabilities: vec!["http".parse().expect("a name")],
        status: AgentStatus::Active,
        config: Value::Null,
        limits: AgentLimits::default(),
    }
}

#[tokio::test]
async fn a_definition_is_found_by_id_and_for_ever_by_hash() {
    let (_server, broker) = cluster().await;
    let workflow = "invoices".parse().expect("a name");
    let (first, second) = (r#"{"id":"invoices","version":"1"}"#, r#"{"id":"invoices"}"#);
    let (hash, other) = (ContentHash::of(first.as_bytes()), ContentHash::of(second.as_bytes()));
    broker.put_definition(&workflow, hash, first).await.expect("put");
    let record = broker.definition(&workflow).await.expect("read").expect("there");
    assert_eq!((record.hash, record.version.as_str()), (hash, "1"));
    assert!(record.updated_at > Timestamp::from_millis(1_600_000_000_000));

    broker.put_definition(&workflow, other, second).await.expect("put");
    let listed = broker.definitions().await.expect("listed");
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].0, listed[0].1.hash, listed[0].1.version.as_str()), (&workflow, other, ""));

    assert!(broker.delete_definition(&workflow).await.expect("deleted"));
    assert!(!broker.delete_definition(&workflow).await.expect("nothing to delete"));
    assert_eq!(broker.definition(&workflow).await.expect("read"), None);
    assert_eq!(broker.definitions().await.expect("listed"), vec![]);
    assert_eq!(broker.definition_by_hash(hash).await.expect("read").as_deref(), Some(first));
    assert_eq!(broker.definition_by_hash(ContentHash::of(b"never")).await.expect("read"), None);
}

#[tokio::test]
async fn a_definition_larger_than_a_message_is_stored_all_the_same() {
    let (_server, broker) = cluster().await;
    let text = format!(r#"{{"id":"large","description":"{}"}}"#, "x".repeat(3 * 1024 * 1024));
    let hash = ContentHash::of(text.as_bytes());
    for _ in 0..2 {
        broker.put_definition(&"large".parse().expect("a name"), hash, &text).await.expect("put");
    }
    assert!(broker.definition_by_hash(hash).await.expect("read") == Some(text), "it reads back as it was written");
}

#[tokio::test]
async fn a_manifest_that_was_replaced_is_still_there_by_its_hash() {
    let (_server, broker) = cluster().await;
    broker.put_agent(&agent("erp", "1")).await.expect("put");
    broker.put_agent(&agent("erp", "2")).await.expect("put");
    broker.put_agent(&agent("crm", "1")).await.expect("put");
    let old = agent("erp", "1");
    assert_eq!(broker.agent_by_hash(old.hash()).await.expect("read"), Some(old));
    assert_eq!(broker.agent(&agent("erp", "").id).await.expect("read"), Some(agent("erp", "2")));
    assert_eq!(broker.agents().await.expect("listed"), vec![agent("crm", "1"), agent("erp", "2")]);
}

#[tokio::test]
async fn watching_agents_tells_what_is_there_and_every_change_across_a_crash() {
    let (mut server, broker) = cluster().await;
    broker.put_agent(&agent("a", "1")).await.expect("put");
    broker.put_agent(&agent("gone", "1")).await.expect("put");
    broker.delete_agent(&agent("gone", "").id).await.expect("deleted");
    let mut watch = broker.watch_agents();
    let mut next = async || soon("a change", watch.next()).await.expect("watched");
    assert_eq!(next().await, AgentChange::Put(agent("a", "1")));
    assert_eq!(next().await, AgentChange::InitialDone);
    broker.put_agent(&agent("b", "1")).await.expect("put");
    assert_eq!(next().await, AgentChange::Put(agent("b", "1")));
    broker.delete_agent(&agent("a", "").id).await.expect("deleted");
    assert_eq!(next().await, AgentChange::Deleted(agent("a", "").id));

    server.restart().await;
    let other = connect(&server).await;
    eventually(SOON, "a put after the crash", || async { other.put_agent(&agent("c", "1")).await.ok() }).await;
    other.delete_agent(&agent("b", "").id).await.expect("deleted");
    let mut told = vec![next().await, next().await];
    if told.contains(&AgentChange::Put(agent("b", "1"))) {
        panic!("what did not change is not told again: {told:?}");
    }
    told.sort_by_key(|change| matches!(change, AgentChange::Deleted(_)));
    assert_eq!(told, vec![AgentChange::Put(agent("c", "1")), AgentChange::Deleted(agent("b", "").id)]);
}

#[tokio::test]
async fn watching_an_empty_bucket_is_done_at_once() {
    let (_server, broker) = cluster().await;
    let mut watch = broker.watch_agents();
    assert_eq!(soon("the end of nothing", watch.next()).await.expect("watched"), AgentChange::InitialDone);
}

#[tokio::test]
async fn live_events_reach_who_listens() {
    let (_server, broker) = cluster().await;
    let mut events = broker.subscribe_live().await.expect("subscribed");
    broker.flush().await;
    let event = Event {
        id: None,
        kind: EventType::WorkflowStarted,
        stage: EventType::WorkflowStarted.stage(),
        time: Timestamp::from_millis(1),
        execution_id: execution(1),
        workflow_id: "w".parse().expect("a name"),
        step_id: None,
        item: None,
        attempt: None,
        worker_id: None,
        trace_id: TraceId::of(execution(1)),
        span_id: SpanId::of_execution(execution(1)),
        data: Value::Null,
    };
    broker.publish_live(&event).await.expect("sent");
    assert_eq!(soon("the event", events.next()).await, Some(event));
}
