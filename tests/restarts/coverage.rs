//! Whether the scenarios reach everything there is: a kind that a later build adds gets a scenario with it.

use std::collections::BTreeSet;

use millstream_engine::Partition;
use millstream_model::error::ErrorCode;
use millstream_tests::workspace;
use serde_json::Value;

use crate::scenario::refold::{Fact, Refold};
use crate::scenario::stage::Played;
use crate::scenario::{self, plans, state};

/// What was reached, as names.
#[derive(Debug, Default)]
struct Reached {
    names: BTreeSet<String>,
}

impl Reached {
    fn note(&mut self, fact: &Fact) {
        self.names.insert(fact.kind.clone());
        self.names.extend(fact.outcome.strip_prefix("ignored: ").map(str::to_owned));
    }

    fn note_state(&mut self, partition: &Partition) {
        for line in state(partition) {
            self.note_texts(&line);
        }
    }

    /// Every text of the state, whatever it is the name of.
    fn note_texts(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.names.extend([text.clone()]),
            Value::Array(elements) => elements.iter().for_each(|element| self.note_texts(element)),
            Value::Object(members) => members.values().for_each(|member| self.note_texts(member)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// The names that a source file has between these two marks, on one line each.
fn names_in(file: &str, before: &str, after: &str) -> Vec<String> {
    let text = std::fs::read_to_string(workspace::root().join(file)).expect("the source is there");
    let name = |line: &str| Some(line.split_once(before)?.1.split_once(after)?.0.to_owned());
    let names: Vec<String> = text.lines().filter_map(name).collect();
    assert!(!names.is_empty(), "{file} has no names between {before} and {after}");
    names
}

#[test]
fn the_scenarios_reach_every_entry_event_status_error_and_reason() {
    let mut reached = Reached::default();
    for scenario in scenario::all() {
        let Played { journal, .. } = scenario.play();
        let mut refold = Refold::new(&plans(&scenario.name, &scenario.definitions));
        for message in &journal {
            refold.message(message).iter().for_each(|fact| reached.note(fact));
            reached.note_state(&refold.partition);
        }
    }
    let mut wanted: Vec<String> = ErrorCode::ALL.iter().map(ToString::to_string).collect();
    wanted.extend(names_in("shared/model/src/event.rs", "=> \"", "\""));
    wanted.extend(names_in("coordinator/engine/src/outcome.rs", "=> \"", "\""));
    wanted.extend(names_in("shared/model/src/view.rs", "=> \"", "\""));
    let entries = std::fs::read_dir(workspace::root().join("tests/golden/entries")).expect("the entries are there");
    for entry in entries {
        let name = entry.expect("a readable folder").file_name().into_string().expect("a plain name");
        wanted.push(name.split('.').next().expect("a name has a first part").to_owned());
    }
    wanted.retain(|name| !reached.names.contains(name));
    assert!(wanted.is_empty(), "no scenario reaches: {}", wanted.join(", "));
}
