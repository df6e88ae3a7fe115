//! Several coordinators: any of them answers, and none is missed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millstream_tests::api::{Api, text};
use millstream_tests::cluster::{Coordinator, Extra, Worker};
use millstream_tests::nats;
use millstream_tests::temp_dir::TempDir;
use millstream_tests::wait::eventually;
use serde_json::{Value, json};

use crate::PATIENCE;

const PARTITIONS: u64 = 8;
/// How soon what a killed coordinator owned is owned again.
const TAKE_OVER_MAX: Duration = Duration::from_secs(10);
/// How soon what a stopped coordinator owned is owned again, on a machine that is busy with other tests.
const HAND_OVER_MAX: Duration = Duration::from_secs(3);

const SLOW: &str = "
id: slow
steps:
  - {id: a, agent_id: builtin-echo, input_map: {n: 1}}
  - {id: b, agent_id: builtin-sleep, depends_on: [a], input_map: {ms: 500}}
  - {id: c, agent_id: builtin-sleep, depends_on: [b], input_map: {ms: 500}}
  - {id: d, agent_id: builtin-echo, depends_on: [c], input_map: $.steps.b.output}
";

/// Coordinators and workers of one cluster. Workers end first, NATS last.
struct Several {
    _workers: Vec<Worker>,
    coordinators: Vec<Coordinator>,
    nats: nats::Server,
    directory: TempDir,
}

impl Several {
    async fn start(count: usize) -> Self {
        let directory = TempDir::new("several");
        let nats = nats::start().await;
        let launch = |number: usize| {
            Coordinator::launch_named(&format!("coordinator-{number}"), &nats.url(), &directory, Extra::default())
        };
        let coordinators: Vec<Coordinator> = (1..=count).map(launch).collect();
        let worker =
            |number: usize| Worker::launch(&format!("worker-{number}"), &nats.url(), &directory, Extra::default());
        let workers = (1..=2).map(worker).collect();
        let mut several = Self { _workers: workers, coordinators, nats, directory };
        several.settled().await;
        several
    }

    fn launch(&self, name: &str, arguments: &[&str]) -> Coordinator {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let extra = Extra { arguments, environment: Vec::new() };
        Coordinator::launch_named(name, &self.nats.url(), &self.directory, extra)
    }

    fn api(&self, number: usize) -> &Api {
        self.coordinators[number].api()
    }

    /// Waits until every partition is owned by exactly one of those that run, and each has a share.
    async fn settled(&mut self) -> Vec<u64> {
        let count = u64::try_from(self.coordinators.len()).expect("a few");
        let apis: Vec<Api> = self.coordinators.iter().map(|coordinator| coordinator.api().clone()).collect();
        let apis = &apis;
        eventually(PATIENCE, "each partition has one owner", || async move {
            let mut shares = Vec::new();
            for api in apis {
                let answer = api.get("/healthz/ready").await.ok().filter(|answer| answer.status == 200)?;
                let present = answer.body["coordinators"].as_array().map_or(0, Vec::len);
                shares.push(answer.body["partitions"]["caught_up"].as_u64().filter(|_| present == apis.len())?);
            }
            let even = shares.iter().all(|share| *share > 0 && *share <= PARTITIONS.div_ceil(count));
            (shares.iter().sum::<u64>() == PARTITIONS && even).then_some(shares)
        })
        .await
    }
}

async fn execute_many(apis: &[&Api], count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(apis[n % apis.len()].execute("slow", json!({"n": n})).await);
    }
    ids
}

fn ids_of(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| text(event, "/id")).collect()
}

#[tokio::test]
async fn any_coordinator_takes_any_request() {
    let several = Several::start(3).await;
    several.api(0).define(SLOW).await;
    let apis = [several.api(0), several.api(1), several.api(2)];
    let ids = execute_many(&apis, 18).await;
    for id in &ids {
        let ended = apis[1].ended(id, PATIENCE).await;
        assert_eq!(ended["status"], "COMPLETED", "{ended}");
        assert_eq!(apis[0].execution(id).await, ended);
        assert_eq!(apis[2].execution(id).await, ended);
        let events = apis[0].events(id).await;
        assert_eq!(apis[1].events(id).await, events);
        assert_eq!(apis[2].events(id).await, events);
    }
    for (n, api) in apis.iter().enumerate() {
        let id = apis[(n + 1) % 3].execute("slow", json!({})).await;
        let answer = api.delete(&format!("/executions/{id}?wait=20s")).await.expect("an answer");
        assert_eq!((answer.status, &answer.body["status"]), (200, &json!("CANCELLED")), "{}", answer.body);
        let again = apis[(n + 2) % 3].delete(&format!("/executions/{id}")).await.expect("an answer");
        assert_eq!(again.status, 409, "{}", again.body);
    }
}

#[tokio::test]
async fn what_a_killed_coordinator_ran_completes_and_streams_go_on_without_loss_or_repeat() {
    let mut several = Several::start(3).await;
    several.api(0).define(SLOW).await;
    let ids = execute_many(&[several.api(0), several.api(1)], 40).await;
    let streams: Vec<_> = ids
        .iter()
        .map(|id| {
            let (api, id) = (several.api(0).clone(), id.clone());
            tokio::spawn(async move { api.follow(&id, None).await })
        })
        .collect();
    several.coordinators[2].kill9();
    drop(several.coordinators.pop());
    let killed = Instant::now();
    several.settled().await;
    assert!(killed.elapsed() < TAKE_OVER_MAX, "the partitions were taken over after {:?}", killed.elapsed());

    for (id, stream) in ids.iter().zip(streams) {
        let ended = several.api(1).ended(id, PATIENCE).await;
        assert_eq!(ended["status"], "COMPLETED", "{ended}");
        let messages = stream.await.expect("no panic").expect("the stream ends by itself");
        let streamed: Vec<String> = messages.into_iter().filter_map(|message| message.id).collect();
        assert_eq!(streamed, ids_of(&several.api(1).events(id).await), "the events of {id}");
    }
}

#[tokio::test]
async fn a_coordinator_that_is_stopped_hands_over_at_once() {
    let mut several = Several::start(3).await;
    several.api(0).define(SLOW).await;
    let mut stopped = several.coordinators.pop().expect("there are three");
    let ids = execute_many(&[several.api(0), stopped.api()], 20).await;
    let asked = Instant::now();
    let stop = stopped.process().terminate(PATIENCE);
    let (status, took) = tokio::join!(stop, async {
        several.settled().await;
        asked.elapsed()
    });
    assert!(status.success(), "{status:?}");
    assert!(took < HAND_OVER_MAX, "the partitions were handed over after {took:?}");
    for id in &ids {
        let ended = several.api(1).ended(id, PATIENCE).await;
        assert_eq!(ended["status"], "COMPLETED", "{ended}");
    }
}

#[tokio::test]
async fn who_joins_gets_a_share_and_a_name_of_its_own() {
    let mut several = Several::start(1).await;
    several.api(0).define(SLOW).await;
    let mut ids = execute_many(&[several.api(0)], 10).await;
    for name in ["second", "third"] {
        let joined = several.launch(name, &["--node", "twin"]);
        several.coordinators.push(joined);
    }
    let shares = several.settled().await;
    assert_eq!(shares.len(), 3);
    let ready = several.api(1).get("/healthz/ready").await.expect("an answer").body;
    let nodes: BTreeSet<&str> =
        ready["coordinators"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(nodes.iter().filter(|node| node.starts_with("twin-")).count(), 2, "{nodes:?}");
    ids.extend(execute_many(&[several.api(2)], 10).await);
    for id in &ids {
        let ended = several.api(1).ended(id, PATIENCE).await;
        assert_eq!(ended["status"], "COMPLETED", "{ended}");
    }
    let figures = several.api(1).get("/metrics").await.expect("an answer").body;
    let figures = figures.as_str().expect("text");
    assert!(figures.contains("millstream_coordinators 3\n"), "{figures}");
    assert!(figures.ends_with("# EOF\n"), "{figures}");
}
