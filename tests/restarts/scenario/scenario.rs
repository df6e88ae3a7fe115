//! Scenarios: a workflow, agents that follow a script, and what people do meanwhile; and the journal that comes of it.
//!
//! A scenario is a file of `workflows/`: definitions as people write them, then the script, as YAML documents. It is
//! driven to its end without a broker, in virtual time, over the real fold: what the fold owes is performed by scripted
//! workers, what they report is appended and folded.
//!
//! ```text
//!   script ─▶ Stage ── entries ─▶ journal ─▶ Refold (Batch::decode, Partition::apply) ─▶ state
//!               ▲                                │
//!               └───────── effects, alarms ──────┘
//! ```

pub mod journal;
mod performance;
pub mod refold;
mod requests;
mod script;
pub mod stage;
mod state;
mod workers;

use std::path::PathBuf;
use std::sync::Arc;

use millstream_engine::partition::{FOLD_REV, FOLD_REV_OLDEST};
use millstream_model::hash::canonical_json;
use millstream_model::plan::Plan;
use millstream_model::{source, validate};
use millstream_tests::workspace;

use script::Script;
use stage::Played;
pub use state::state;

/// A file of `workflows/`.
#[derive(Debug)]
pub struct Scenario {
    pub name: String,
    /// The text of each definition, canonical.
    pub definitions: Vec<String>,
    script: Script,
    /// The revision of the fold that is in force when it begins.
    fold_rev: u16,
}

impl Scenario {
    /// Reads the text of a scenario.
    fn read(name: &str, text: &str) -> Self {
        let mut documents: Vec<&str> = text.split("\n---\n").collect();
        let script = documents.pop().filter(|_| !documents.is_empty()).expect("definitions, then a script");
        let definitions = documents.into_iter().map(|text| {
            let plan = compiled(name, text);
            canonical_json(&serde_json::to_value(&*plan.definition).expect("a definition has a JSON form"))
        });
        let script = source::parse(script).unwrap_or_else(|problems| panic!("{name}: {problems:?}")).to_json();
        let script: Script =
            serde_json::from_value(script).unwrap_or_else(|error| panic!("{name}: the script: {error}"));
        let fold_rev = script.revision.unwrap_or(FOLD_REV);
        Self { name: name.to_owned(), definitions: definitions.collect(), script, fold_rev }
    }

    /// Drives it to its end.
    pub fn play(&self) -> Played {
        stage::play(&self.name, self.fold_rev, &self.script, &plans(&self.name, &self.definitions))
    }
}

/// Every scenario, by name.
pub fn all() -> Vec<Scenario> {
    let folder = workspace::root().join("tests/restarts/workflows");
    let files = std::fs::read_dir(folder).expect("the scenarios are there");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a readable folder").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a plain name");
        Scenario::read(name, &std::fs::read_to_string(&path).expect("a readable file"))
    };
    paths.into_iter().map(read).collect()
}

/// Every scenario under every revision of the fold that this build runs; one that says which it is about, under that.
#[allow(dead_code, reason = "golden journals are written under one revision")]
pub fn all_under_every_revision() -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for fold_rev in FOLD_REV_OLDEST..=FOLD_REV {
        let all = all().into_iter().filter(|scenario| scenario.script.revision.is_none_or(|of| of == fold_rev));
        let named = |scenario: &Scenario| format!("{} under revision {fold_rev}", scenario.name);
        scenarios.extend(all.map(|scenario| Scenario { name: named(&scenario), fold_rev, ..scenario }));
    }
    scenarios
}

/// Compiles definitions; `name` says whose they are.
pub fn plans(name: &str, definitions: &[String]) -> Vec<Arc<Plan>> {
    definitions.iter().map(|text| compiled(name, text)).collect()
}

fn compiled(name: &str, text: &str) -> Arc<Plan> {
    let plan = validate::definition(text).unwrap_or_else(|problems| {
        panic!("{name}: {}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    });
    Arc::new(plan)
}
