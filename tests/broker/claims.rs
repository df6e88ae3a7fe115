//! Claims, presence and cancelled executions: records that run out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millstream_broker::{Broker, ClaimHandle, ClaimOutcome};
use millstream_model::task::Claim;
use millstream_model::time::Timestamp;
use millstream_model::view::WorkerPresence;
use millstream_tests::wait::eventually;

use crate::fixture::{SOON, cluster, execution, soon};
use crate::raw_nats::RawNats;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(1);

fn by(worker: &str) -> Claim {
    Claim { worker: worker.parse().expect("a name"), claimed_at: Timestamp::from_millis(1), message: 1 }
}

async fn won(broker: &Broker, claim: &Claim, ttl: Duration) -> Option<ClaimHandle> {
    match broker.claim("http.abc", claim, ttl).await.expect("answered") {
        ClaimOutcome::Won(handle) => Some(handle),
        ClaimOutcome::Held { claim: held, stored_at } => {
            assert_ne!(&held, claim);
            assert!(stored_at > Timestamp::from_millis(1_600_000_000_000), "the store's time, not the worker's");
            None
        }
    }
}

#[tokio::test]
async fn a_claim_is_won_once_until_it_is_released() {
    let (_server, broker) = cluster().await;
    let handle = won(&broker, &by("one"), LONG).await.expect("free");
    assert!(won(&broker, &by("two"), LONG).await.is_none());
    broker.release_claim(handle.clone()).await.expect("released");
    let second = won(&broker, &by("two"), LONG).await.expect("free again");
    broker.release_claim(handle).await.expect("nothing to do");
    assert!(won(&broker, &by("one"), LONG).await.is_none(), "a late release does not free another's claim");
    broker.release_claim(second).await.expect("released");
}

#[tokio::test]
async fn a_claim_runs_out_even_one_over_a_released_one() {
    let (_server, broker) = cluster().await;
    let handle = won(&broker, &by("one"), SHORT).await.expect("free");
    broker.release_claim(handle).await.expect("released");
    assert!(won(&broker, &by("two"), SHORT).await.is_some());
    eventually(SOON, "the claim runs out", || async { won(&broker, &by("three"), LONG).await }).await;
}

#[tokio::test]
async fn of_many_claimants_one_wins() {
    let (_server, broker) = cluster().await;
    let claims = (0..20).map(|number| {
        let broker = broker.clone();
        async move { broker.claim("http.same", &by(&format!("w{number}")), LONG).await.expect("answered") }
    });
    let outcomes = futures::future::join_all(claims).await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, ClaimOutcome::Won(_))).count(), 1);
}

fn presence(id: &str) -> WorkerPresence {
    WorkerPresence {
        id: id.parse().expect("a name"),
        version: "0".into(),
        protocol: (1, 1),
        capabilities: BTreeMap::new(),
        circuits: BTreeMap::new(),
        started_at: Timestamp::from_millis(5),
    }
}

#[tokio::test]
async fn a_presence_lasts_while_it_is_renewed_and_then_runs_out() {
    let (_server, broker) = cluster().await;
    let start = Instant::now();
    while start.elapsed() < 3 * SHORT {
        broker.announce(&presence("w"), SHORT).await.expect("announced");
        assert_eq!(broker.workers().await.expect("a list"), vec![presence("w")]);
    }
    eventually(SOON, "the presence runs out", || async {
        broker.workers().await.expect("a list").is_empty().then_some(())
    })
    .await;
    broker.announce(&presence("w"), SHORT).await.expect("back after it ran out");
    assert_eq!(broker.workers().await.expect("a list").len(), 1);
}

#[tokio::test]
async fn a_withdrawn_worker_is_gone_at_once() {
    let (_server, broker) = cluster().await;
    broker.announce(&presence("b"), LONG).await.expect("announced");
    broker.announce(&presence("a"), LONG).await.expect("announced");
    assert_eq!(broker.workers().await.expect("a list"), vec![presence("a"), presence("b")]);
    broker.withdraw(&presence("a").id).await.expect("withdrawn");
    assert_eq!(broker.workers().await.expect("a list"), vec![presence("b")]);
}

#[tokio::test]
async fn cancelled_executions_are_told_first_those_that_were_then_those_that_come() {
    let (mut server, broker) = cluster().await;
    broker.mark_cancelled(execution(1), 4, LONG).await.expect("marked");
    let mut watch = broker.watch_cancelled();
    assert_eq!(soon("what was", watch.next()).await.expect("watched"), (execution(1), 4));
    broker.mark_cancelled(execution(2), 8, LONG).await.expect("marked");
    assert_eq!(soon("what came", watch.next()).await.expect("watched"), (execution(2), 8));
    broker.mark_cancelled(execution(1), 12, LONG).await.expect("marked");
    assert_eq!(soon("what came again", watch.next()).await.expect("watched"), (execution(1), 12));
    server.restart().await;
    eventually(SOON, "marked after the crash", || async { broker.mark_cancelled(execution(3), 4, LONG).await.ok() })
        .await;
    assert_eq!(soon("what came after", watch.next()).await.expect("watched"), (execution(3), 4));
}

#[tokio::test]
async fn a_mark_without_a_bound_speaks_of_every_task_and_one_that_nobody_can_read_of_none() {
    let (server, broker) = cluster().await;
    let mut raw = RawNats::connect(&server.url()).await;
    let subject = |number| format!("$KV.MS_CANCELLED.{}", execution(number));
    raw.publish(&subject(1), b"{\"below\":4}").await;
    raw.publish(&subject(2), b"").await;
    let mut watch = broker.watch_cancelled();
    assert_eq!(soon("the mark", watch.next()).await.expect("watched"), (execution(2), u32::MAX));
}
