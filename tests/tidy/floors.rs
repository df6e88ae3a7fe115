//! Who may know whom: an arrow points down only, and the manifests are the proof.

use toml::Table;

use crate::sources::{Finding, Source};

/// What a room is allowed.
struct Room {
    folder: &'static str,
    /// Other rooms it may name.
    knows: &'static [&'static str],
    /// Crates of others that it must not name.
    never: &'static [&'static str],
}

/// Every member of the workspace. A new one gets its line here first.
const ROOMS: [Room; 8] = [
    Room { folder: "shared/model", knows: &[], never: &["tokio", "async-nats", "axum", "anyhow", "rand", "futures"] },
    Room {
        folder: "coordinator/engine",
        knows: &["millstream-model"],
        never: &["tokio", "async-nats", "rand", "chrono", "anyhow", "axum", "futures", "uuid"],
    },
    Room { folder: "shared/broker", knows: &["millstream-model"], never: &["axum", "anyhow"] },
    Room { folder: "shared/telemetry", knows: &["millstream-model"], never: &["async-nats", "axum", "anyhow"] },
    Room {
        folder: "coordinator/server",
        knows: &["millstream-model", "millstream-broker", "millstream-telemetry", "millstream-engine"],
        never: &["async-nats"],
    },
    Room {
        folder: "worker",
        knows: &["millstream-model", "millstream-broker", "millstream-telemetry"],
        never: &["async-nats"],
    },
    Room {
        folder: "cli",
        knows: &[
            "millstream-model",
            "millstream-broker",
            "millstream-telemetry",
            "millstream-engine",
            "millstream-coordinator",
            "millstream-worker",
        ],
        never: &["async-nats"],
    },
    Room {
        folder: "tests",
        knows: &[
            "millstream-model",
            "millstream-broker",
            "millstream-telemetry",
            "millstream-engine",
            "millstream-coordinator",
            "millstream-worker",
            "millstream-cli",
        ],
        never: &["async-nats"],
    },
];

/// Mock crates: what is ours is pure or real in tests.
const MOCKS: [&str; 6] = ["faux", "mockall", "mockiato", "mockito", "mry", "unimock"];

/// Features of chrono that read the clock.
const CLOCKS: [&str; 4] = ["clock", "default", "now", "wasmbind"];

/// Findings over all manifests.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.path.ends_with("Cargo.toml")) {
        match source.path.strip_suffix("/Cargo.toml") {
            None => findings.extend(root(source)),
            Some(folder) => match ROOMS.iter().find(|room| room.folder == folder) {
                Some(room) => findings.extend(member(source, room)),
                None => {
                    findings.push(source.finding(0, "this room has no floor: give it a line in tests/tidy/floors.rs"))
                }
            },
        }
    }
    findings
}

fn root(source: &Source) -> Vec<Finding> {
    let manifest: Table = source.text.parse().expect("manifests are TOML");
    let chrono = manifest["workspace"]["dependencies"].get("chrono");
    let features = chrono.and_then(|chrono| chrono.get("features")).and_then(|features| features.as_array());
    let mut findings: Vec<Finding> = features
        .into_iter()
        .flatten()
        .filter_map(|feature| feature.as_str())
        .filter(|feature| CLOCKS.contains(feature))
        .map(|feature| source.finding(0, format!("chrono with `{feature}` can read the clock")))
        .collect();
    let defaults = chrono.and_then(|chrono| chrono.get("default-features")).and_then(toml::Value::as_bool);
    if chrono.is_some() && defaults != Some(false) {
        findings.push(source.finding(0, "chrono with its default features can read the clock"));
    }
    findings
}

fn member(source: &Source, room: &Room) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in dependencies(&source.text) {
        let ours = name.starts_with("millstream-");
        if ours && !room.knows.contains(&name.as_str()) && !is_itself(room, &name) {
            findings.push(source.finding(0, format!("{} must not know {name}", room.folder)));
        }
        if room.never.contains(&name.as_str()) {
            findings.push(source.finding(0, format!("{} must not have {name} in its manifest", room.folder)));
        }
        if MOCKS.contains(&name.as_str()) {
            findings.push(source.finding(0, format!("{name} is a mock crate")));
        }
    }
    findings
}

/// A package may name itself in its dev-dependencies to switch features on.
fn is_itself(room: &Room, name: &str) -> bool {
    room.folder.rsplit('/').next() == name.strip_prefix("millstream-")
}

/// All names in all dependency tables of a manifest.
pub(crate) fn dependencies(manifest: &str) -> Vec<String> {
    let manifest: Table = manifest.parse().expect("manifests are TOML");
    let mut tables: Vec<&Table> = vec![&manifest];
    tables.extend(
        manifest
            .get("target")
            .and_then(toml::Value::as_table)
            .into_iter()
            .flat_map(Table::values)
            .filter_map(toml::Value::as_table),
    );
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let mut names: Vec<String> = tables
        .into_iter()
        .flat_map(|table| kinds.iter().filter_map(|kind| table.get(*kind)?.as_table()))
        .flat_map(Table::keys)
        .cloned()
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(&[Source::new(path, text)]).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn an_engine_that_could_wait_is_found() {
        let text = "[dependencies]\nmillstream-model.workspace = true\ntokio.workspace = true\n";
        assert_eq!(
            messages("coordinator/engine/Cargo.toml", text),
            ["coordinator/engine must not have tokio in its manifest"]
        );
    }

    #[test]
    fn a_worker_that_knows_the_engine_is_found_in_dev_and_target_tables_too() {
        for table in ["dependencies", "dev-dependencies", "target.'cfg(unix)'.dependencies"] {
            let text = format!("[{table}]\nmillstream-engine.workspace = true\n");
            assert_eq!(messages("worker/Cargo.toml", &text), ["worker must not know millstream-engine"], "{table}");
        }
    }

    #[test]
    fn only_the_broker_may_name_async_nats() {
        let text = "[dependencies]\nasync-nats.workspace = true\n";
        for room in &ROOMS {
            let found = messages(&format!("{}/Cargo.toml", room.folder), text);
            assert_eq!(found.is_empty(), room.folder == "shared/broker", "{}", room.folder);
        }
    }

    #[test]
    fn a_clock_for_chrono_is_found() {
        let text = "[workspace.dependencies]\nchrono = { version = \"0.4\", default-features = false, features = [\"clock\"] }";
        assert_eq!(messages("Cargo.toml", text), ["chrono with `clock` can read the clock"]);
        let text = "[workspace.dependencies]\nchrono = { version = \"0.4\" }";
        assert_eq!(messages("Cargo.toml", text), ["chrono with its default features can read the clock"]);
    }

    #[test]
    fn a_room_without_a_floor_is_found() {
        assert_eq!(messages("attic/Cargo.toml", "[package]\nname = \"x\"").len(), 1);
    }
}
