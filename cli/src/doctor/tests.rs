//! Facts in, findings out.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_broker::{
    AccountFacts, Action, ClockFacts, Difference, FoundStream, PeerFacts, Permission, Usage, Verdict,
};
use millstream_model::time::Timestamp;

use super::monitor::{JetStream, JetStreamConfig, MetaCluster, Monitored};
use super::*;

fn account() -> AccountFacts {
    let free = Usage { used: 1, max: None };
    AccountFacts { api_level: 5, api_errors: 0, memory: free, storage: free, streams: free, consumers: free }
}

fn stream(name: &str) -> StreamFacts {
    let found = FoundStream {
        differences: Vec::new(),
        created: Timestamp::default(),
        messages: 1,
        bytes: Usage { used: 100, max: None },
        first_sequence: 1,
        last_sequence: 1,
        consumers: 0,
        replicas: 3,
        leader: Some("n1".to_owned()),
        peers: vec![peer("n2"), peer("n3")],
        clock: Some(ClockFacts { ahead_us: 400, uncertain_us: 300 }),
    };
    StreamFacts { name: name.to_owned(), found: Some(found) }
}

fn peer(name: &str) -> PeerFacts {
    PeerFacts { name: name.to_owned(), current: true, offline: false, lag: 0, heard_before: Duration::ZERO }
}

fn monitored() -> Monitored {
    let config = JetStreamConfig { max_storage: 1_000, sync_interval: 120_000_000_000, sync_always: true };
    let meta_cluster = Some(MetaCluster { leader: "n1".to_owned(), cluster_size: 1 });
    let jetstream = JetStream { disabled: false, storage: 10, config, meta_cluster };
    Monitored { name: "n1".to_owned(), version: "2.15.1".to_owned(), jetstream }
}

fn healthy() -> Facts {
    let coordinator = CoordinatorPresence {
        node: "c1".parse().expect("a name"),
        version: "0.1.0".to_owned(),
        fold_rev: 2,
        address: String::new(),
        started_at: Timestamp::default(),
        leaving: false,
        halted: BTreeSet::default(),
    };
    let allowed = Permission { action: Action::Publish, subject: "ms.audit".to_owned(), verdict: Verdict::Allowed };
    Facts {
        server: ServerFacts {
            name: "n1".to_owned(),
            version: "2.15.1".to_owned(),
            version_suffices: true,
            version_oldest: "2.12".to_owned(),
            cluster: Some("c".to_owned()),
            known_urls: Vec::new(),
            max_payload: 1 << 20,
            lame_duck: false,
            round_trip: Duration::from_micros(1),
            account: Some(account()),
        },
        topology: Topology { partitions: 1, ..Topology::default() },
        partitions: Some(1),
        streams: vec![stream("MS_JOURNAL_0"), stream("MS_TASKS")],
        permissions: vec![allowed],
        coordinators: vec![coordinator],
        monitors: vec![Monitor { url: "http://127.0.0.1:8222".to_owned(), answer: Ok(monitored()) }],
    }
}

/// What is told of facts that differ from good ones, what is good left out.
fn told(change: impl FnOnce(&mut Facts)) -> String {
    let mut facts = healthy();
    change(&mut facts);
    let bad = diagnose(&facts).into_iter().filter(|diagnosis| diagnosis.level > Level::Ok);
    let lines = bad.map(|diagnosis| {
        assert!(diagnosis.change.as_ref().is_some_and(|change| !change.is_empty()), "{diagnosis:?}");
        format!("{} {}: {}", diagnosis.level.as_str(), diagnosis.check, diagnosis.message)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn first(facts: &mut Facts) -> &mut FoundStream {
    facts.streams[0].found.as_mut().expect("it is there")
}

fn answer(facts: &mut Facts) -> &mut Monitored {
    facts.monitors[0].answer.as_mut().expect("it answered")
}

#[test]
fn a_healthy_cluster_has_nothing_to_change() {
    assert_eq!(told(|_| {}), "");
    assert!(diagnose(&healthy()).len() >= 9);
}

#[test]
fn a_server_that_is_too_old_or_without_jetstream_fails() {
    let old = told(|facts| {
        facts.server.version = "2.10.1".to_owned();
        facts.server.version_suffices = false;
    });
    assert_eq!(old, "FAIL server: nats-server 2.10.1 of cluster c");
    assert_eq!(
        told(|facts| facts.server.account = None),
        "FAIL jetstream: JetStream is off on n1, or for this account"
    );
    let small = told(|facts| facts.server.max_payload = 100 * 1024);
    assert_eq!(small, "FAIL max_payload: messages of up to 100.0 KiB; submissions and results may need 512.0 KiB");
}

#[test]
fn a_disk_that_is_written_late_and_one_that_nobody_asked_are_told() {
    let late = told(|facts| answer(facts).jetstream.config.sync_always = false);
    assert_eq!(
        late,
        "WARN sync_interval: server n1 writes to its disk every 120 s: a power failure of all copies loses what was \
         confirmed since"
    );
    assert!(told(|facts| facts.monitors.clear()).starts_with("WARN sync_interval: unknown"));
    let broken = told(|facts| facts.monitors[0].answer = Err("no route".to_owned()));
    assert_eq!(broken, "WARN monitor: http://127.0.0.1:8222: no route");
}

#[test]
fn a_cluster_with_fewer_servers_than_replicas_fails() {
    let small = told(|facts| facts.topology.replicas = 3);
    assert_eq!(small, "FAIL cluster: 3 replicas are configured, and the cluster has 1 servers");
    let even = told(|facts| answer(facts).jetstream.meta_cluster.as_mut().expect("one").cluster_size = 2);
    assert_eq!(
        even,
        "WARN cluster: 2 servers survive the loss of no more than 1 do\n\
         WARN sync_interval: 1 of 2 servers were not asked for their sync_interval"
    );
}

#[test]
fn copies_that_are_offline_fail_when_no_majority_is_left() {
    let one = told(|facts| first(facts).peers[0].offline = true);
    assert_eq!(one, "WARN copies: MS_JOURNAL_0 has 2 of 3 copies; offline: n2");
    let two = told(|facts| first(facts).peers.iter_mut().for_each(|peer| peer.offline = true));
    assert_eq!(two, "FAIL copies: MS_JOURNAL_0 has 1 of 3 copies; offline: n2, n3");
    let single = told(|facts| facts.streams.iter_mut().for_each(|s| s.found.as_mut().expect("there").replicas = 1));
    assert!(single.starts_with("WARN replicas: there is one copy of the journal"), "{single}");
}

#[test]
fn a_setting_that_an_operator_chooses_is_no_damage_and_another_is() {
    let difference = |field| Difference { field, wanted: "1".to_owned(), found: "3".to_owned() };
    let chosen = told(|facts| first(facts).differences = vec![difference("num_replicas")]);
    assert_eq!(chosen, "WARN configuration: MS_JOURNAL_0: num_replicas: wanted 1, found 3");
    let wrong = told(|facts| first(facts).differences = vec![difference("discard")]);
    assert_eq!(wrong, "FAIL configuration: MS_JOURNAL_0: discard: wanted 1, found 3");
}

#[test]
fn streams_that_are_missing_and_journals_that_fill_up_are_told() {
    assert_eq!(told(|facts| facts.streams[1].found = None), "FAIL streams: MS_TASKS is missing");
    let lost = told(|facts| facts.streams[0].found = None);
    assert_eq!(lost, "FAIL streams: the journal MS_JOURNAL_0 is missing: its executions are lost");
    let fill = |used| told(|facts| first(facts).bytes = Usage { used, max: Some(1_000) });
    assert_eq!(fill(799), "");
    assert_eq!(fill(800), "WARN journal: MS_JOURNAL_0 is 80 % full, 800 B of 1000 B: submissions are refused");
    assert_eq!(fill(999), "FAIL journal: MS_JOURNAL_0 is 99 % full, 999 B of 1000 B");
    assert!(told(|facts| facts.partitions = None).starts_with("WARN streams: there is no Millstream cluster"));
}

#[test]
fn clocks_that_disagree_are_told_as_far_as_that_is_certain() {
    let skew = |ahead_us, uncertain_us| told(|facts| first(facts).clock = Some(ClockFacts { ahead_us, uncertain_us }));
    assert_eq!(skew(1_400_000, 500_000), "");
    assert_eq!(skew(-2_500_000, 500_000), "WARN clock: NATS' clock is 2.000 s behind this machine's");
    assert_eq!(skew(90_000_000, 0), "FAIL clock: NATS' clock is 90.000 s ahead of this machine's");
}

#[test]
fn what_this_user_may_not_do_is_told_with_the_permissions_it_needs() {
    let denied = |facts: &mut Facts| facts.permissions[0].verdict = Verdict::Denied;
    assert_eq!(told(denied), "FAIL permissions: this user may not publish to \"ms.audit\"");
    let mut facts = healthy();
    denied(&mut facts);
    let change = diagnose(&facts).into_iter().find_map(|d| d.change).expect("what to change");
    assert_eq!(change, "permissions { publish { allow: [\"ms.audit\"] } }");
}

#[test]
fn coordinators_that_are_gone_halted_or_of_two_versions_are_told() {
    assert_eq!(told(|facts| facts.coordinators.clear()), "WARN coordinators: no coordinator runs");
    let halted = told(|facts| {
        facts.coordinators[0].halted.insert(millstream_model::ids::Partition(4));
    });
    assert_eq!(halted, "FAIL coordinators: coordinator c1 cannot fold partitions 4");
    let two = told(|facts| {
        let newer = CoordinatorPresence { fold_rev: 3, ..facts.coordinators[0].clone() };
        facts.coordinators.push(newer);
    });
    assert!(two.starts_with("WARN coordinators: 2 running, of versions 0.1.0 (fold revision 2) and"), "{two}");
}
