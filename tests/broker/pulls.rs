//! The task queue from the worker's side.

use std::time::{Duration, Instant};

use millstream_broker::{Broker, Delivery, PullError, TaskPuller};
use millstream_model::trace::TraceParent;
use millstream_tests::wait::eventually;

use crate::fixture::{P0, SOON, cluster, http, publish, soon, task};

async fn puller(broker: &Broker) -> TaskPuller {
    broker.task_puller(&http()).await.expect("a queue")
}

async fn pull(puller: &mut TaskPuller, max: usize) -> Vec<Delivery> {
    soon("a pull", puller.pull(max, SOON)).await.expect("pulled")
}

#[tokio::test]
async fn a_pull_brings_what_is_there_and_no_more_than_asked() {
    let (_server, broker) = cluster().await;
    let mut puller = puller(&broker).await;
    for number in 0..5 {
        publish(&broker, number).await;
    }
    assert_eq!(pull(&mut puller, 3).await.len(), 3);
    let start = Instant::now();
    assert_eq!(pull(&mut puller, 100).await.len(), 2, "the rest comes without waiting for more");
    assert!(start.elapsed() < SOON / 2);
    assert!(puller.pull(100, Duration::ZERO).await.expect("pulled").is_empty());
    assert!(puller.pull(100, Duration::from_millis(50)).await.expect("pulled").is_empty());
}

#[tokio::test]
async fn a_pull_waits_for_the_first_task() {
    let (_server, broker) = cluster().await;
    let mut puller = puller(&broker).await;
    let (pulled, ()) = tokio::join!(pull(&mut puller, 10), async {
        tokio::task::yield_now().await;
        publish(&broker, 1).await;
    });
    assert_eq!(pulled.len(), 1);
    assert_eq!(pulled[0].payload, task(1));
    assert_eq!(pulled[0].delivered, 1);
}

#[tokio::test]
async fn nothing_comes_between_pulls() {
    let (_server, broker) = cluster().await;
    let (mut greedy, mut other) = (puller(&broker).await, puller(&broker).await);
    publish(&broker, 1).await;
    assert_eq!(pull(&mut greedy, 100).await.len(), 1);
    publish(&broker, 2).await;
    let pulled = pull(&mut other, 1).await;
    assert_eq!(pulled[0].payload, task(2), "what the first pull did not get is free for others");
}

#[tokio::test]
async fn deliveries_are_counted_and_the_trace_travels() {
    let (_server, broker) = cluster().await;
    let mut puller = puller(&broker).await;
    let trace: TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().expect("a trace");
    broker.publish_task(&http(), P0, task(1), Some(trace)).await.expect("sent").await.expect("stored");
    for count in 1..=3 {
        let delivery = pull(&mut puller, 1).await.remove(0);
        assert_eq!(delivery.delivered, count);
        assert_eq!(delivery.traceparent, Some(trace));
        delivery.acker().progress().await.expect("the queue heard it");
        delivery.acker().nak(Some(Duration::from_millis(u64::from(count == 2)))).await.expect("sent");
    }
}

#[tokio::test]
async fn a_worker_that_dies_leaves_its_tasks_to_others() {
    let (server, broker) = cluster().await;
    publish(&broker, 1).await;
    let doomed = crate::fixture::connect(&server).await;
    let first = pull(&mut puller(&doomed).await, 1).await.remove(0);
    drop(doomed);
    let mut puller = puller(&broker).await;
    let again = pull(&mut puller, 1).await.remove(0);
    assert_eq!((first.delivered, again.delivered), (1, 2));
    assert_eq!(first.stream_sequence, again.stream_sequence);
    again.acker().ack_confirmed().await.expect("confirmed");
    eventually(SOON, "the queue is empty", || async {
        broker.scan_tasks(P0).await.expect("a list").is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_dropped_pull_loses_nothing() {
    let (_server, broker) = cluster().await;
    let mut puller = puller(&broker).await;
    let mut pulled = 0;
    for number in 0..200 {
        publish(&broker, number).await;
        let patience = Duration::from_micros(u64::from(number) * 5);
        if let Ok(deliveries) = tokio::time::timeout(patience, puller.pull(3, SOON)).await {
            pulled += deliveries.expect("pulled").len();
        }
    }
    while pulled < 200 {
        let deliveries = pull(&mut puller, 50).await;
        assert!(deliveries.iter().all(|delivery| delivery.delivered == 1));
        pulled += deliveries.len();
    }
}

#[tokio::test]
async fn pulling_goes_on_after_a_crash_of_the_server() {
    let (mut server, broker) = cluster().await;
    publish(&broker, 1).await;
    let mut puller = puller(&broker).await;
    assert_eq!(pull(&mut puller, 1).await.len(), 1);
    server.restart().await;
    eventually(SOON, "a task after the crash", || async {
        let sent = broker.publish_task(&http(), P0, task(2), None).await.ok()?;
        sent.await.ok()
    })
    .await;
    let pulled = async {
        loop {
            let found = puller.pull(10, Duration::from_millis(500)).await.unwrap_or_default();
            if found.iter().any(|delivery| delivery.payload == task(2)) {
                return;
            }
        }
    };
    soon("the new task", pulled).await;
}

#[tokio::test]
async fn a_capability_without_a_queue_is_told() {
    let (_server, broker) = cluster().await;
    let unknown = "unknown".parse().expect("a name");
    let Err(error) = broker.task_puller(&unknown).await else { panic!("nobody made it") };
    assert!(matches!(error, PullError::NoConsumer { .. }) && error.is_retryable(), "{error}");
}
