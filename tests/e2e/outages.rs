//! Crashes and outages: what was accepted ends, and nothing is done twice that must not be.

use std::time::Duration;

use millstream_tests::api::{Api, step};
use millstream_tests::cluster::{Cluster, Coordinator, Extra, Worker};
use millstream_tests::nats;
use millstream_tests::temp_dir::TempDir;
use millstream_tests::wait::{eventually, lasting};
use millstream_tests::witness::Witness;
use serde_json::{Value, json};

/// A crash costs up to the ack wait of 10 s, and an attempt more.
const PATIENCE: Duration = Duration::from_secs(120);
const ITEMS: usize = 60;

/// A workflow whose middle step sends 60 items, ten at a time, to the witness.
async fn prepare(api: &Api, witness: &Witness) {
    let config = json!({"url": witness.url("/")});
    api.register(&json!({"id": "witness", "framework": "http", "capabilities": ["http"], "config": config})).await;
    api.define(
        "
id: survivor
steps:
  - {id: before, agent_id: builtin-echo}
  - id: each
    agent_id: witness
    depends_on: [before]
    fan_out: {items: $.input.items, concurrency: 10}
    retry: {max_attempts: 5, backoff_ms: 100}
  - {id: after, agent_id: builtin-sleep, depends_on: [each], input_map: {ms: 10}}
output_map: $.steps.each.output
",
    )
    .await;
}

fn input() -> Value {
    json!({"items": (0..ITEMS).collect::<Vec<_>>()})
}

async fn called(witness: &Witness, count: usize) {
    eventually(PATIENCE, "the witness is called", || async { (witness.calls().len() >= count).then_some(()) }).await;
}

/// The execution completed, each item has one result, and no attempt of any item ran more than `runs_max` times.
async fn whole(api: &Api, witness: &Witness, id: &str, runs_max: usize) {
    let execution = api.ended(id, PATIENCE).await;
    assert_eq!(execution["status"], "COMPLETED", "{execution}");
    assert_eq!(execution["output"], json!((0..ITEMS).map(|n| n + 1000).collect::<Vec<_>>()));
    assert_eq!(step(&execution, "each")["fan_out"]["completed"], ITEMS);
    let events = api.events(id).await;
    for item in 0..ITEMS {
        let of_item =
            |event: &&Value| event["type"] == "step.completed" && event["step_id"] == "each" && event["item"] == item;
        assert_eq!(events.iter().filter(of_item).count(), 1, "item {item} of {id}");
    }
    let mut items: Vec<usize> = Vec::new();
    for ((execution, _, item, attempt, _), count) in witness.counts() {
        assert!(count <= runs_max, "attempt {attempt} of item {item:?} of {execution} ran {count} times");
        items.extend(item.filter(|_| execution == id).map(|item| item.parse::<usize>().expect("an index")));
    }
    items.sort_unstable();
    items.dedup();
    assert_eq!(items.len(), ITEMS, "every item was done");
}

async fn echo() -> Witness {
    Witness::start(|call| (200, json!(call.body.parse::<usize>().expect("the item is the body") + 1000))).await
}

#[tokio::test]
async fn a_worker_that_is_killed_loses_nothing() {
    let mut cluster = Cluster::start(2).await;
    let witness = echo().await;
    prepare(cluster.api(), &witness).await;
    // Five of the ten calls that are held belong, more or less, to each worker.
    let id = cluster.api().execute("survivor", input()).await;
    called(&witness, ITEMS / 3).await;
    witness.hold();
    let seen = witness.calls().len();
    called(&witness, (seen + 5).min(ITEMS - 1)).await;
    cluster.workers[0].kill9();
    witness.release();
    whole(cluster.api(), &witness, &id, 1).await;
}

#[tokio::test]
async fn a_coordinator_that_is_killed_takes_up_where_it_was() {
    let mut cluster = Cluster::start(2).await;
    let witness = echo().await;
    prepare(cluster.api(), &witness).await;
    let ended = cluster.api().execute("survivor", input()).await;
    whole(cluster.api(), &witness, &ended, 1).await;
    let before = cluster.api().execution(&ended).await;
    let events = cluster.api().events(&ended).await;

    let running = cluster.api().execute("survivor", input()).await;
    called(&witness, ITEMS + ITEMS / 3).await;
    cluster.coordinator.kill9();
    cluster.coordinator.restart().await;
    whole(cluster.api(), &witness, &running, 1).await;
    assert_eq!(cluster.api().execution(&ended).await, before, "the fold gives the same state again");
    assert_eq!(cluster.api().events(&ended).await, events, "and the same events");
}

#[tokio::test]
async fn a_coordinator_and_a_worker_wait_for_a_nats_that_is_down_at_the_start() {
    let directory = TempDir::new("late-nats");
    let mut nats = nats::start().await;
    nats.kill9();
    let mut coordinator = Coordinator::launch(&nats.url(), &directory, Extra::default());
    let mut worker = Worker::launch("worker", &nats.url(), &directory, Extra::default());
    let api = coordinator.api().clone();
    let waiting =
        eventually(PATIENCE, "the coordinator answers probes", || async { api.get("/healthz/ready").await.ok() });
    assert_eq!(waiting.await.status, 503);
    let live = api.get("/healthz/live").await.expect("an answer");
    assert_eq!(live.status, 200);
    let early =
        api.post_text("/workflows", "id: early\nsteps: [{id: a, agent_id: builtin-echo}]").await.expect("an answer");
    assert_eq!(early.status, 503, "{}", early.body);
    assert!(early.headers.contains_key("retry-after"));
    // Long enough to have tried more than once.
    lasting(Duration::from_secs(2)).await;
    assert!(!coordinator.process().has_ended() && !worker.process().has_ended());

    nats.restart().await;
    coordinator.ready().await;
    api.define("id: late\nsteps:\n  - {id: a, agent_id: builtin-echo, input_map: {n: 1}}\n").await;
    let execution = api.run("late", json!({}), PATIENCE).await;
    assert_eq!(execution["output"], json!({"n": 1}), "{execution}");
}

#[tokio::test]
async fn a_nats_that_is_gone_for_twenty_seconds_loses_nothing() {
    let mut cluster = Cluster::start(2).await;
    let witness = echo().await;
    prepare(cluster.api(), &witness).await;
    let first = cluster.api().execute("survivor", input()).await;
    let second = cluster.api().execute("survivor", input()).await;
    called(&witness, ITEMS).await;
    cluster.nats.kill9();
    lasting(Duration::from_secs(1)).await;
    let refused =
        cluster.api().post("/workflows/survivor/execute", &json!({"input": input()})).await.expect("an answer");
    assert_eq!(refused.status, 503, "{}", refused.body);
    lasting(Duration::from_secs(19)).await;
    assert!(!cluster.coordinator.process().has_ended());
    for worker in &mut cluster.workers {
        assert!(!worker.process().has_ended());
    }

    cluster.nats.restart().await;
    cluster.coordinator.ready().await;
    // A broker that is killed can forget that it has delivered a task.
    whole(cluster.api(), &witness, &first, 2).await;
    whole(cluster.api(), &witness, &second, 2).await;
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_finishes_what_it_has() {
    let mut cluster = Cluster::start(1).await;
    let witness = echo().await;
    prepare(cluster.api(), &witness).await;
    witness.hold();
    let id = cluster.api().execute("survivor", input()).await;
    called(&witness, 10).await;
    cluster.workers[0].process().signal(rustix::process::Signal::TERM);
    witness.release();
    let name = "survivor-2";
    let second = Worker::launch(name, &cluster.nats.url(), &cluster.directory, Extra::default());
    whole(cluster.api(), &witness, &id, 1).await;
    assert_eq!(witness.calls().len(), ITEMS, "nothing had to be run again");
    let status = cluster.workers[0].process().terminate(Duration::from_secs(40)).await;
    assert!(status.success(), "{status}");
    cluster.workers.push(second);
}
