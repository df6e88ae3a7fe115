//! Golden journals: what later builds must make of what was written by this one.
//!
//! Each folder of `journals/` is one journal, one per feature and kind of failure:
//!
//! ```text
//! definitions.ndjson   the definitions it names, canonical
//! journal.ndjson       its messages: sequence, time, subject, and the exact text of the batch
//! outcomes.txt         what each entry did: its outcome and its effects; at the end the hash of the state and that
//!                      of the effects
//! state.ndjson         the state in the end: views, events, alarms, what is outstanding
//! ```
//!
//! Nobody edits or removes a file of them: `journals.lock` has their hashes. A view or an event may get new members
//! later, what is written here stays as it is. A new journal comes from a new scenario (`tests/restarts/workflows`):
//! `cargo test -p millstream-tests --test golden -- --ignored` writes those that are missing, adds them to the lock and
//! overwrites none.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use millstream_model::hash::{ContentHash, canonical_json};
use millstream_model::time::Timestamp;
use millstream_tests::workspace;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::scenario::journal::Message;
use crate::scenario::refold::Refold;
use crate::scenario::stage::Played;
use crate::scenario::{self, Scenario, state};

const DEFINITIONS: &str = "definitions.ndjson";
const JOURNAL: &str = "journal.ndjson";
const OUTCOMES: &str = "outcomes.txt";
const STATE: &str = "state.ndjson";

/// A line of `journal.ndjson`. What is not JSON stands in `text`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    sequence: u64,
    time: Timestamp,
    subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

impl Line {
    fn of(message: &Message) -> Self {
        let text = std::str::from_utf8(&message.payload).expect("scenarios write text");
        let batch: Option<Box<RawValue>> = serde_json::from_str(text).ok();
        let text = batch.is_none().then(|| text.to_owned());
        Self { sequence: message.sequence, time: message.time, subject: message.subject.clone(), batch, text }
    }

    fn message(self) -> Message {
        let payload = match (self.batch, self.text) {
            (Some(batch), None) => batch.get().to_owned(),
            (None, Some(text)) => text,
            (Some(_), Some(_)) | (None, None) => panic!("message {} is a batch or text", self.sequence),
        };
        Message { sequence: self.sequence, time: self.time, subject: self.subject, payload: payload.into() }
    }
}

fn folder() -> PathBuf {
    workspace::root().join("tests/golden/journals")
}

fn lock() -> PathBuf {
    workspace::root().join("tests/golden/journals.lock")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of a folder's entries, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("a readable folder").file_name().into_string().expect("a plain name")
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

/// What each entry did, and the state that is left.
fn folded(definitions: &[String], journal: &[Message], name: &str) -> (String, Vec<Value>) {
    let mut refold = Refold::new(&scenario::plans(name, definitions));
    let mut text = String::new();
    let mut effects = String::new();
    for message in journal {
        for fact in refold.message(message) {
            let outcome = if fact.outcome.is_empty() { String::new() } else { format!(": {}", fact.outcome) };
            writeln!(text, "{} {}{outcome}", message.sequence, fact.kind).expect("a string takes all");
            for effect in fact.rendered {
                writeln!(text, "  {effect}").expect("a string takes all");
                writeln!(effects, "{effect}").expect("a string takes all");
            }
        }
    }
    writeln!(text, "effects {}", ContentHash::of(effects.as_bytes())).expect("a string takes all");
    (text, state(&refold.partition).into_iter().filter_map(lasting).collect())
}

/// The part of a line of the state that is no wording for people, which may be improved.
fn lasting(mut line: Value) -> Option<Value> {
    fn forget_advice(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.remove("advice");
                members.values_mut().for_each(forget_advice);
            }
            Value::Array(elements) => elements.iter_mut().for_each(forget_advice),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    forget_advice(&mut line);
    line.get("rendered").is_none().then_some(line)
}

/// The members of `actual` that `known` has too.
fn reduced(actual: &Value, known: &Value) -> Value {
    match (actual, known) {
        (Value::Object(members), Value::Object(known)) => {
            let kept =
                members.iter().filter_map(|(name, value)| Some((name.clone(), reduced(value, known.get(name)?))));
            Value::Object(kept.collect())
        }
        (Value::Array(elements), Value::Array(known)) if elements.len() == known.len() => {
            elements.iter().zip(known).map(|(element, known)| reduced(element, known)).collect()
        }
        (actual, _) => actual.clone(),
    }
}

fn lines(state: &[Value]) -> String {
    state.iter().map(|line| canonical_json(line) + "\n").collect()
}

#[test]
fn every_journal_is_folded_as_it_was_when_it_was_written() {
    for name in names(&folder()) {
        let file = |file: &str| read(&folder().join(&name).join(file));
        let definitions: Vec<String> = file(DEFINITIONS).lines().map(str::to_owned).collect();
        let journal = file(JOURNAL);
        let journal = journal.lines().map(|line| serde_json::from_str::<Line>(line).expect("a line of a journal"));
        let journal: Vec<Message> = journal.map(Line::message).collect();
        let (mut outcomes, state) = folded(&definitions, &journal, &name);
        let known: Vec<Value> =
            file(STATE).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        for (place, (actual, known)) in state.iter().zip(&known).enumerate() {
            let (actual, known) = (canonical_json(&reduced(actual, known)), canonical_json(known));
            assert_eq!(actual, known, "{name}: line {} of the state", place + 1);
        }
        assert_eq!(state.len(), known.len(), "{name}: lines of the state");
        let state: Vec<Value> = state.iter().zip(&known).map(|(actual, known)| reduced(actual, known)).collect();
        outcomes.push_str(&format!("state {}\n", ContentHash::of(lines(&state).as_bytes())));
        assert_eq!(outcomes, file(OUTCOMES), "{name}");
    }
}

/// The hash of every file of the journals.
fn hashes() -> BTreeMap<String, String> {
    let mut hashes = BTreeMap::new();
    for name in names(&folder()) {
        for file in names(&folder().join(&name)) {
            let text = read(&folder().join(&name).join(&file));
            hashes.insert(format!("{name}/{file}"), ContentHash::of(text.as_bytes()).to_string());
        }
    }
    hashes
}

/// The hashes that were written down.
fn locked() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(lock()).unwrap_or_default();
    let pair = |line: &str| {
        let (hash, file) = line.split_once("  ").expect("a hash and a file");
        (file.to_owned(), hash.to_owned())
    };
    text.lines().map(pair).collect()
}

#[test]
fn nobody_edits_or_removes_a_journal() {
    let hashes = hashes();
    for (file, hash) in locked() {
        let found = hashes.get(&file).unwrap_or_else(|| panic!("{file} is gone; journals are kept for ever"));
        assert_eq!(*found, hash, "{file} was edited; write a new journal beside it");
    }
}

#[test]
fn every_journal_is_locked_and_every_scenario_has_one() {
    let locked = locked();
    for file in hashes().keys() {
        assert!(locked.contains_key(file), "{file} is not in journals.lock");
    }
    let journals = names(&folder());
    for scenario in scenario::all() {
        let command = "cargo test -p millstream-tests --test golden -- --ignored";
        assert!(journals.contains(&scenario.name), "{} has no journal: {command}", scenario.name);
    }
}

#[test]
fn a_member_that_a_later_build_adds_is_overlooked_and_a_changed_one_is_not() {
    let known = serde_json::json!({"view": {"steps": [{"id": "a"}]}});
    let later = serde_json::json!({"view": {"steps": [{"id": "a", "cost": 1}], "total": 2}});
    assert_eq!(reduced(&later, &known), known);
    for other in [r#"{"view":{"steps":[{"id":"b"}]}}"#, r#"{"view":{"steps":[]}}"#, r#"{"view":{}}"#] {
        let other: Value = serde_json::from_str(other).expect("JSON");
        assert_ne!(reduced(&other, &known), known);
    }
}

#[test]
#[ignore = "writes the journals of scenarios that have none"]
fn new_journals_are_written() {
    for scenario in scenario::all() {
        if !folder().join(&scenario.name).exists() {
            write(&scenario);
        }
    }
    let mut locked = locked();
    for (file, hash) in hashes() {
        locked.entry(file).or_insert(hash);
    }
    let text: String = locked.iter().map(|(file, hash)| format!("{hash}  {file}\n")).collect();
    std::fs::write(lock(), text).expect("the lock can be written");
}

fn write(scenario: &Scenario) {
    let Played { journal, .. } = scenario.play();
    let folder = folder().join(&scenario.name);
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let (mut outcomes, state) = folded(&scenario.definitions, &journal, &scenario.name);
    outcomes.push_str(&format!("state {}\n", ContentHash::of(lines(&state).as_bytes())));
    let messages = journal.iter().map(|m| serde_json::to_string(&Line::of(m)).expect("a message has a line") + "\n");
    let definitions = scenario.definitions.iter().map(|text| text.clone() + "\n");
    let files: [(&str, String); 4] = [
        (DEFINITIONS, definitions.collect()),
        (JOURNAL, messages.collect()),
        (OUTCOMES, outcomes),
        (STATE, lines(&state)),
    ];
    for (file, text) in files {
        std::fs::write(folder.join(file), text).expect("the file can be written");
    }
}
