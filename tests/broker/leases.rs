//! Leases and coordinators: taken once, renewed, given back, run out.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millstream_broker::{Broker, LeaseChange, LeaseError, LeaseWatch, Storage, Topology};
use millstream_model::ids::{NodeId, Partition};
use millstream_model::lease::{CoordinatorPresence, Lease};
use millstream_model::time::Timestamp;
use millstream_tests::wait::eventually;

use crate::fixture::{P0, SOON, cluster, cluster_with, soon, topology};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(1);

fn node(name: &str) -> NodeId {
    name.parse().expect("a name")
}

fn by(name: &str) -> Lease {
    Lease { node: node(name) }
}

fn presence(name: &str) -> CoordinatorPresence {
    CoordinatorPresence {
        node: node(name),
        version: "0".into(),
        fold_rev: 2,
        address: "http://127.0.0.1:1".into(),
        started_at: Timestamp::from_millis(5),
        leaving: false,
        halted: BTreeSet::from([Partition(3)]),
    }
}

async fn refused(broker: &Broker, name: &str, expected: Option<u64>) {
    let error = broker.take_lease(P0, &by(name), expected, LONG).await.expect_err("it is taken");
    assert!(matches!(error, LeaseError::Taken) && !error.is_retryable(), "{error}");
}

async fn next(watch: &mut LeaseWatch) -> LeaseChange {
    soon("a change of the leases", watch.next()).await
}

#[tokio::test]
async fn a_lease_is_taken_once_until_it_is_given_back() {
    let (_server, broker) = cluster().await;
    let first = broker.take_lease(P0, &by("one"), None, LONG).await.expect("free");
    refused(&broker, "two", None).await;
    refused(&broker, "two", Some(first + 1)).await;
    let second = broker.take_lease(P0, &by("one"), Some(first), LONG).await.expect("renewed");
    assert!(second > first);
    let late = broker.release_lease(P0, first).await.expect_err("it was renewed since");
    assert!(matches!(late, LeaseError::Taken), "{late}");
    broker.release_lease(P0, second).await.expect("given back");
    refused(&broker, "one", Some(second)).await;
    let third = broker.take_lease(P0, &by("two"), None, LONG).await.expect("free again");
    refused(&broker, "one", None).await;
    broker.take_lease(Partition(1), &by("one"), None, LONG).await.expect("another partition");
    broker.take_lease(P0, &by("one"), Some(third), LONG).await.expect("taken over from a known revision");
}

#[tokio::test]
async fn a_renewed_lease_lasts_while_it_is_renewed_and_then_runs_out() {
    for storage in [Storage::File, Storage::Memory] {
        let (_server, broker) = cluster_with(&Topology { storage, ..topology() }).await;
        let mut revision = broker.take_lease(P0, &by("one"), None, SHORT).await.expect("free");
        let start = Instant::now();
        while start.elapsed() < 3 * SHORT {
            refused(&broker, "two", None).await;
            revision = broker.take_lease(P0, &by("one"), Some(revision), SHORT).await.expect("renewed");
        }
        eventually(SOON, "the lease runs out and another takes it", || async {
            broker.take_lease(P0, &by("two"), None, SHORT).await.ok()
        })
        .await;
        refused(&broker, "one", Some(revision)).await;
        eventually(SOON, "one taken over a marker runs out as well", || async {
            broker.take_lease(P0, &by("one"), None, LONG).await.ok()
        })
        .await;
    }
}

#[tokio::test]
async fn of_many_that_want_a_lease_one_gets_it() {
    let (_server, broker) = cluster().await;
    let first = broker.take_lease(P0, &by("before"), None, LONG).await.expect("free");
    broker.release_lease(P0, first).await.expect("given back");
    let takers = (0..20).map(|number| {
        let broker = broker.clone();
        async move { broker.take_lease(P0, &by(&format!("n{number}")), None, LONG).await }
    });
    let outcomes = futures::future::join_all(takers).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.iter().flat_map(|outcome| outcome.as_ref().err()).all(|error| matches!(error, LeaseError::Taken)));
}

#[tokio::test]
async fn a_watcher_is_told_what_is_there_and_then_every_change() {
    let (_server, broker) = cluster().await;
    let held = broker.take_lease(P0, &by("one"), None, LONG).await.expect("free");
    let mut watch = broker.watch_leases();
    assert_eq!(next(&mut watch).await, LeaseChange::Lease(P0, Some((by("one"), held))));
    assert_eq!(next(&mut watch).await, LeaseChange::InitialDone);

    let renewed = broker.take_lease(P0, &by("one"), Some(held), LONG).await.expect("renewed");
    assert_eq!(next(&mut watch).await, LeaseChange::Lease(P0, Some((by("one"), renewed))));
    broker.release_lease(P0, renewed).await.expect("given back");
    assert_eq!(next(&mut watch).await, LeaseChange::Lease(P0, None));

    let short = broker.take_lease(P0, &by("two"), None, SHORT).await.expect("free");
    assert_eq!(next(&mut watch).await, LeaseChange::Lease(P0, Some((by("two"), short))));
    assert_eq!(next(&mut watch).await, LeaseChange::Lease(P0, None), "it ran out");

    broker.announce_coordinator(&presence("one"), SHORT).await.expect("announced");
    assert_eq!(next(&mut watch).await, LeaseChange::Coordinator(node("one"), Some(presence("one"))));
    assert_eq!(next(&mut watch).await, LeaseChange::Coordinator(node("one"), None), "nothing was heard of it");
}

#[tokio::test]
async fn a_watcher_learns_after_a_crash_of_the_server_what_it_missed() {
    let (mut server, broker) = cluster().await;
    broker.take_lease(P0, &by("one"), None, SHORT).await.expect("free");
    let kept = broker.take_lease(Partition(1), &by("one"), None, LONG).await.expect("free");
    let mut watch = broker.watch_leases();
    let mut told = Vec::new();
    while told.last() != Some(&LeaseChange::InitialDone) {
        told.push(next(&mut watch).await);
    }
    assert!(told.contains(&LeaseChange::Lease(Partition(1), Some((by("one"), kept)))), "{told:?}");
    server.restart().await;
    if !told.contains(&LeaseChange::Lease(P0, None)) {
        assert_eq!(next(&mut watch).await, LeaseChange::Lease(P0, None), "and nothing of what is as it was");
    }
    eventually(SOON, "a lease after the crash", || async { broker.take_lease(P0, &by("two"), None, LONG).await.ok() })
        .await;
    assert!(matches!(next(&mut watch).await, LeaseChange::Lease(P0, Some((lease, _))) if lease == by("two")));
}

#[tokio::test]
async fn a_coordinator_is_there_until_it_withdraws() {
    let (_server, broker) = cluster().await;
    broker.announce_coordinator(&presence("b"), LONG).await.expect("announced");
    broker.announce_coordinator(&presence("a"), LONG).await.expect("announced");
    assert_eq!(broker.coordinators().await.expect("a list"), vec![presence("a"), presence("b")]);
    let leaving = CoordinatorPresence { leaving: true, ..presence("b") };
    broker.announce_coordinator(&leaving, LONG).await.expect("announced");
    broker.withdraw_coordinator(&node("a")).await.expect("withdrawn");
    assert_eq!(broker.coordinators().await.expect("a list"), vec![leaving]);
}
