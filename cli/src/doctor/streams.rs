//! The streams, their copies, how full the journals are, and who owns them.

use std::collections::BTreeSet;

use millstream_broker::{Difference, FoundStream, StreamFacts};

use super::{Diagnosis, Facts, percent, size};

/// Settings that an operator chooses: another value is no damage, but every coordinator must be told the same.
const CHOSEN: [&str; 4] = ["num_replicas", "storage", "max_bytes", "max_msgs_per_subject"];
/// How full a journal may be until submissions are refused.
const FULL_WARN: u64 = 80;
const FULL_FAIL: u64 = 95;

pub(super) fn check(facts: &Facts) -> Vec<Diagnosis> {
    const CHECK: &str = "streams";
    if facts.server.account.is_none() {
        return Vec::new();
    }
    let Some(partitions) = facts.partitions else {
        let message = "there is no Millstream cluster with this prefix";
        return vec![Diagnosis::warn(CHECK, message, "start a coordinator: it creates what is missing")];
    };
    let mut found = missing(&facts.streams);
    for stream in &facts.streams {
        let Some(state) = &stream.found else { continue };
        found.extend(differences(&stream.name, &state.differences));
        found.extend(copies(&stream.name, state));
        found.extend(fill(&stream.name, state));
    }
    if found.is_empty() {
        let message = format!("{} streams of {partitions} partitions are as they should be", facts.streams.len());
        found.push(Diagnosis::ok(CHECK, message));
    }
    found.extend(replicas(facts));
    found.extend(coordinators(facts));
    found
}

fn missing(streams: &[StreamFacts]) -> Vec<Diagnosis> {
    const CHECK: &str = "streams";
    let missing = streams.iter().filter(|stream| stream.found.is_none());
    let told = missing.map(|stream| {
        let name = &stream.name;
        if name.contains("_JOURNAL_") {
            let change = "restore it from a backup (`nats stream restore`); a new one would forget its executions";
            return Diagnosis::fail(CHECK, format!("the journal {name} is missing: its executions are lost"), change);
        }
        let message = format!("{name} is missing");
        Diagnosis::fail(CHECK, message, "a coordinator that runs, or is restarted, creates it again")
    });
    told.collect()
}

fn differences(name: &str, differences: &[Difference]) -> Vec<Diagnosis> {
    const CHECK: &str = "configuration";
    let (chosen, wrong): (Vec<&Difference>, Vec<&Difference>) =
        differences.iter().partition(|difference| CHOSEN.contains(&difference.field));
    let listed = |differences: &[&Difference]| {
        let told: Vec<String> = differences.iter().map(ToString::to_string).collect();
        told.join("; ")
    };
    let mut found = Vec::new();
    if !wrong.is_empty() {
        let change = format!("change it with `nats stream edit {name}`; coordinators do not start over it");
        found.push(Diagnosis::fail(CHECK, format!("{name}: {}", listed(&wrong)), change));
    }
    if !chosen.is_empty() {
        let change = format!(
            "give this command the coordinators' configuration (--config), and them the settings the stream was \
             created with (`replicas`, `storage`, `journal_bytes_max`, `tasks_per_subject_max`), or change it with \
             `nats stream edit {name}`"
        );
        found.push(Diagnosis::warn(CHECK, format!("{name}: {}", listed(&chosen)), change));
    }
    found
}

fn copies(name: &str, state: &FoundStream) -> Vec<Diagnosis> {
    const CHECK: &str = "copies";
    if state.peers.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let (current, wanted) = (state.current_copies() as u64, state.replicas);
    let names = |is: fn(&millstream_broker::PeerFacts) -> bool| -> Vec<&str> {
        state.peers.iter().filter(|peer| is(peer)).map(|peer| peer.name.as_str()).collect()
    };
    let offline = names(|peer| peer.offline);
    let behind = names(|peer| !peer.offline && !peer.current);
    if state.leader.is_none() {
        let message = format!("{name} has no leader: nothing can be written");
        found.push(Diagnosis::fail(CHECK, message, "start the servers that are missing"));
    }
    if !offline.is_empty() {
        let message = format!("{name} has {current} of {wanted} copies; offline: {}", offline.join(", "));
        let change = "start these servers; one that never returns is removed with `nats server raft peer-remove`";
        found.push(match current > wanted / 2 {
            true => Diagnosis::warn(CHECK, message, change),
            false => Diagnosis::fail(CHECK, message, change),
        });
    }
    if !behind.is_empty() {
        let message = format!("{name}: the copies of {} are not up to date yet", behind.join(", "));
        found.push(Diagnosis::warn(CHECK, message, "wait until they are before another server is stopped"));
    }
    found
}

fn fill(name: &str, state: &FoundStream) -> Option<Diagnosis> {
    const CHECK: &str = "journal";
    let max = state.bytes.max?;
    let used = percent(state.bytes.used, max);
    let message = format!("{name} is {used} % full, {} of {}", size(state.bytes.used), size(max));
    let change = "raise `journal_bytes_max` of the coordinators and the stream's `max_bytes`, or wait until running \
                  executions end";
    match used {
        FULL_FAIL.. => Some(Diagnosis::fail(CHECK, message, change)),
        FULL_WARN.. => Some(Diagnosis::warn(CHECK, format!("{message}: submissions are refused"), change)),
        _ => None,
    }
}

fn replicas(facts: &Facts) -> Option<Diagnosis> {
    const CHECK: &str = "replicas";
    let copies: BTreeSet<u64> = facts.streams.iter().filter_map(|s| s.found.as_ref()).map(|s| s.replicas).collect();
    let least = copies.first()?;
    Some(match least {
        1 => Diagnosis::warn(
            CHECK,
            "there is one copy of the journal: what was accepted is lost with one disk",
            "run three nats-servers and create the cluster with `replicas: 3`",
        ),
        copies => Diagnosis::ok(CHECK, format!("{copies} copies of each stream")),
    })
}

fn coordinators(facts: &Facts) -> Vec<Diagnosis> {
    const CHECK: &str = "coordinators";
    let live: Vec<_> = facts.coordinators.iter().filter(|coordinator| !coordinator.leaving).collect();
    if live.is_empty() {
        return vec![Diagnosis::warn(CHECK, "no coordinator runs", "start `millstream-coordinator`")];
    }
    let mut found = Vec::new();
    for coordinator in &live {
        if !coordinator.halted.is_empty() {
            let halted: Vec<String> = coordinator.halted.iter().map(ToString::to_string).collect();
            let message = format!("coordinator {} cannot fold partitions {}", coordinator.node, halted.join(", "));
            found.push(Diagnosis::fail(CHECK, message, "its log says why; `millstream verify` shows where"));
        }
    }
    let versions: BTreeSet<(&str, u16)> = live.iter().map(|c| (c.version.as_str(), c.fold_rev)).collect();
    let told: Vec<String> = versions.iter().map(|(version, rev)| format!("{version} (fold revision {rev})")).collect();
    let count = live.len();
    found.push(match versions.len() {
        1 => Diagnosis::ok(CHECK, format!("{count} running, version {}", told.join(", "))),
        _ => Diagnosis::warn(
            CHECK,
            format!("{count} running, of versions {}", told.join(" and ")),
            "an upgrade is on its way; a newer fold revision is in force only once all have it",
        ),
    });
    found
}
