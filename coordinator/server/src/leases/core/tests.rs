//! What one coordinator does, step by step; what several come to is in [`world`].

mod world;

use millstream_model::time::Timestamp;

use super::*;
use world::World;

#[test]
fn a_coordinator_that_is_alone_takes_everything_once_it_has_seen_the_bucket() {
    let mut core = alone(2);
    assert_eq!(commands(&mut core), "");
    core.listed(at(0));
    assert_eq!(commands(&mut core), "announce, take 0, take 1");
    core.wrote(Partition(0), Written::Stored { revision: 7 }, at(1));
    assert_eq!(commands(&mut core), "start 0");
    core.wrote(Partition(1), Written::Taken, at(1));
    assert_eq!(commands(&mut core), "");
    assert_eq!(core.wakes_at(), Some(at(1 + RETRY_MS)));
}

#[test]
fn a_lease_is_renewed_and_the_presence_announced_in_time() {
    let mut core = owning(1);
    core.tick(at(1_499));
    assert_eq!(commands(&mut core), "");
    assert_eq!(core.wakes_at(), Some(at(1_500)));
    core.tick(at(1_500));
    assert_eq!(commands(&mut core), "renew 0 at 1");
    core.wrote(Partition(0), Written::Stored { revision: 2 }, at(1_510));
    core.tick(at(2_000));
    assert_eq!(commands(&mut core), "announce");
    core.announced(true, at(2_010));
    core.tick(at(3_000));
    assert_eq!(commands(&mut core), "renew 0 at 2");
}

#[test]
fn an_owner_survives_an_outage_and_takes_its_lease_again() {
    let mut core = owning(1);
    core.link(false, at(100));
    core.tick(at(60_000));
    assert_eq!(commands(&mut core), "");
    core.link(true, at(60_000));
    assert_eq!(commands(&mut core), "announce, renew 0 at 1");
    core.lease(Partition(0), None, at(60_001));
    core.wrote(Partition(0), Written::Taken, at(60_002));
    core.tick(at(60_252));
    assert_eq!(commands(&mut core), "take 0");
    core.wrote(Partition(0), Written::Stored { revision: 9 }, at(60_253));
    assert_eq!(commands(&mut core), "");
}

#[test]
fn another_name_in_the_lease_stops_the_owner() {
    let mut core = owning(1);
    core.lease(Partition(0), Some((lease("other"), 5)), at(10));
    assert_eq!(commands(&mut core), "stop 0");
    core.stopped(Partition(0), Why::Asked, at(11));
    assert_eq!(commands(&mut core), "");
}

#[test]
fn what_is_to_be_anothers_is_stopped_then_released() {
    let mut core = owning(2);
    core.coordinator(node("other"), Some(presence("other")), at(10));
    let given = *core.assigned().iter().find(|(_, owner)| **owner == node("other")).expect("its share").0;
    assert_eq!(commands(&mut core), format!("stop {given}"));
    core.tick(at(1_500));
    assert!(commands(&mut core).contains(&format!("renew {given} at 1")), "it is held until the owner has stopped");
    core.wrote(given, Written::Stored { revision: 8 }, at(1_501));
    core.stopped(given, Why::Asked, at(1_502));
    assert_eq!(commands(&mut core), format!("release {given} at 8"));
    core.wrote(given, Written::Released, at(1_503));
    core.lease(given, Some((lease("own"), 8)), at(1_504));
    assert!(core.held().any(|(partition, held)| partition == given && *held == Held::Nobody), "old news are none");
}

#[test]
fn a_lost_owner_is_started_again_after_a_growing_pause() {
    let mut core = owning(1);
    let mut time = 0;
    for pause in [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000] {
        core.stopped(Partition(0), Why::Lost, at(time));
        renewing(&mut core, time);
        core.tick(at(time + pause - 1));
        assert!(!commands(&mut core).contains("start"), "{pause}");
        renewing(&mut core, time + pause - 1);
        core.tick(at(time + pause));
        assert!(commands(&mut core).contains("start 0"), "{pause}");
        time += pause;
    }
    renewing(&mut core, time);
    core.stopped(Partition(0), Why::Lost, at(time + STEADY_MS));
    renewing(&mut core, time + STEADY_MS);
    core.tick(at(time + STEADY_MS + 250));
    assert!(commands(&mut core).contains("start 0"), "one that ran for long is started soon");
}

#[test]
fn a_halted_partition_is_left_to_others_and_tried_again_when_nobody_has_it() {
    let mut core = owning(1);
    core.stopped(Partition(0), Why::Halted, at(10));
    assert_eq!(commands(&mut core), "announce without 0, release 0 at 1");
    core.announced(true, at(11));
    core.wrote(Partition(0), Written::Released, at(11));
    assert!(core.assigned().is_empty(), "nobody can fold it");
    core.lease(Partition(0), Some((lease("other"), 5)), at(60_000));
    core.coordinator(node("other"), Some(presence("other")), at(60_000));
    core.tick(at(60_010));
    assert_eq!(commands(&mut core), "announce without 0", "who has it is not disturbed");
    core.announced(true, at(60_010));
    core.coordinator(node("other"), None, at(110_000));
    core.lease(Partition(0), None, at(110_000));
    commands(&mut core);
    core.announced(true, at(110_001));
    core.tick(at(120_010));
    assert_eq!(commands(&mut core), "announce, take 0");
}

#[test]
fn who_leaves_says_so_stops_its_owners_releases_and_withdraws() {
    let mut core = owning(1);
    core.leave(at(10));
    assert_eq!(commands(&mut core), "announce leaving, stop 0");
    core.announced(true, at(11));
    core.stopped(Partition(0), Why::Asked, at(20));
    assert_eq!(commands(&mut core), "release 0 at 1");
    core.wrote(Partition(0), Written::Released, at(22));
    assert_eq!(commands(&mut core), "withdraw");
    core.withdrawn(at(23));
    assert!(core.is_gone());
}

#[test]
fn what_nobody_speaks_of_is_taken_for_gone_even_if_its_end_is_never_told() {
    let mut core = alone(1);
    core.coordinator(node("other"), Some(presence("other")), at(0));
    core.lease(Partition(0), Some((lease("other"), 1)), at(0));
    core.listed(at(0));
    commands(&mut core);
    core.tick(at(PRESENCE_TTL_MS + SILENCE_GRACE_MS));
    assert!(commands(&mut core).contains("take 0"));
}

#[test]
fn the_fold_revision_is_what_everybody_folds() {
    let mut core = owning(1);
    assert_eq!(core.fold_rev(), 2);
    core.coordinator(node("other"), Some(CoordinatorPresence { fold_rev: 1, ..presence("other") }), at(1));
    assert_eq!(core.fold_rev(), 1);
    core.coordinator(node("other"), None, at(2));
    assert_eq!(core.fold_rev(), 2);
}

#[test]
fn however_things_interleave_in_the_end_each_partition_has_one_owner() {
    for seed in 0..150 {
        let count = 2 + usize::try_from(seed % 2).expect("small");
        World::new(seed, count).run();
    }
}

#[test]
fn a_seed_gives_the_same_history_twice() {
    let history = |seed| World::new(seed, 3).run();
    assert_eq!(history(7), history(7));
    assert_ne!(history(7), history(8));
}

fn at(millis: u64) -> Mono {
    Mono::default().plus_millis(millis)
}

fn node(name: &str) -> NodeId {
    name.parse().expect("a name")
}

fn lease(name: &str) -> Lease {
    Lease { node: node(name) }
}

fn presence(name: &str) -> CoordinatorPresence {
    CoordinatorPresence {
        node: node(name),
        version: "0".to_owned(),
        fold_rev: 2,
        address: String::new(),
        started_at: Timestamp::from_millis(0),
        leaving: false,
        halted: BTreeSet::new(),
    }
}

fn alone(partitions: u16) -> Core {
    Core::new(partitions, presence("own"), at(0))
}

/// A coordinator that owns every partition since 0, under revision 1.
fn owning(partitions: u16) -> Core {
    let mut core = alone(partitions);
    core.listed(at(0));
    for partition in all(partitions) {
        core.wrote(partition, Written::Stored { revision: 1 }, at(0));
    }
    core.tick(at(0));
    let started = commands(&mut core);
    assert!(all(partitions).all(|partition| started.contains(&format!("start {partition}"))), "{started}");
    core.announced(true, at(0));
    core
}

/// Lets the next renewals of partition 0 be stored, so that only its owner is looked at.
fn renewing(core: &mut Core, time: u64) {
    core.announced(true, at(time));
    let revision = core.held().find_map(|(_, held)| match held {
        Held::Mine { revision } => Some(revision + 1),
        Held::Nobody | Held::Other { .. } => None,
    });
    core.lease(Partition(0), revision.map(|revision| (lease("own"), revision)), at(time));
    core.wrote(Partition(0), Written::Unknown, at(time));
}

fn commands(core: &mut Core) -> String {
    let mut told = Vec::new();
    while let Some(command) = core.next_command() {
        told.push(match command {
            Command::Take { partition } => format!("take {partition}"),
            Command::Renew { partition, revision } => format!("renew {partition} at {revision}"),
            Command::Release { partition, revision } => format!("release {partition} at {revision}"),
            Command::Announce(CoordinatorPresence { leaving: true, .. }) => "announce leaving".to_owned(),
            Command::Announce(presence) if presence.halted.is_empty() => "announce".to_owned(),
            Command::Announce(presence) => {
                let halted: Vec<String> = presence.halted.iter().map(ToString::to_string).collect();
                format!("announce without {}", halted.join(" "))
            }
            Command::Withdraw => "withdraw".to_owned(),
            Command::Start(partition) => format!("start {partition}"),
            Command::Stop(partition) => format!("stop {partition}"),
        });
    }
    told.join(", ")
}
