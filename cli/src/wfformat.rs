//! Recorded scientific workflows (WfFormat 1.5, <https://wfcommons.org/format>) as workflows of ours.
//!
//! Each recorded task becomes a step that sleeps its scaled run time and carries the task's name, files and sizes;
//! each recorded edge, whether a parent or a child tells of it, becomes a dependency.

mod document;
mod instance;
mod names;

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_model::definition::Definition;
use millstream_model::validate::{self, Problem};

pub(crate) use instance::InstanceError;

use instance::Instance;
use names::Names;

/// How an instance is turned into a workflow.
#[derive(Debug, Clone)]
pub(crate) struct ImportOptions {
    /// The workflow's id before it is made a valid name.
    pub id: String,
    /// Seconds of sleep per recorded second.
    pub time_scale: f64,
    /// The longest sleep of one step, in seconds.
    pub max_sleep: Option<f64>,
}

/// A workflow that passed validation, and what is in it.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The definition as YAML.
    pub text: String,
    pub definition: Arc<Definition>,
    pub edges: usize,
    /// Seconds that all steps sleep together.
    pub sleep_total: f64,
}

/// Why an instance could not be imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Each edge is valid and the whole is not: a cycle, or more than a definition may hold.
    #[error("the workflow it describes is not valid: {}", listed(.0))]
    Workflow(Vec<Problem>),
}

fn listed(problems: &[Problem]) -> String {
    let shown = problems.iter().take(5).map(|problem| format!("{}: {}", problem.path, problem.message));
    let mut text = shown.collect::<Vec<_>>().join("; ");
    if problems.len() > 5 {
        text.push_str(&format!("; and {} more", problems.len() - 5));
    }
    text
}

/// One task with everything that its step needs.
#[derive(Debug)]
struct Work<'a> {
    step: String,
    task: &'a str,
    name: &'a str,
    depends_on: Vec<String>,
    seconds: f64,
    inputs: BTreeMap<&'a str, Option<u64>>,
    outputs: BTreeMap<&'a str, Option<u64>>,
}

/// Reads an instance and writes the workflow it describes.
pub(crate) fn import(text: &str, options: &ImportOptions) -> Result<Imported, ImportError> {
    let instance = Instance::parse(text)?;
    let work = work_of(&instance, options);
    let text = document::write(&names::valid(&options.id), &instance.name, options, &work);
    let plan = validate::definition(&text).map_err(ImportError::Workflow)?;
    Ok(Imported {
        text,
        definition: plan.definition,
        edges: work.iter().map(|work| work.depends_on.len()).sum(),
        sleep_total: work.iter().map(|work| work.seconds).sum(),
    })
}

fn work_of<'a>(instance: &'a Instance, options: &ImportOptions) -> Vec<Work<'a>> {
    let names = Names::of(instance.tasks.iter().map(|task| task.id.as_str()));
    let sizes = |files: &'a [String]| -> BTreeMap<&'a str, Option<u64>> {
        files.iter().map(|file| (file.as_str(), instance.file_sizes.get(file).copied())).collect()
    };
    instance
        .tasks
        .iter()
        .map(|task| {
            let sleep = task.seconds * options.time_scale;
            Work {
                step: names.step(&task.id).to_owned(),
                task: &task.id,
                name: &task.name,
                depends_on: task.parents.iter().map(|parent| names.step(parent).to_owned()).collect(),
                seconds: options.max_sleep.map_or(sleep, |longest| sleep.min(longest)),
                inputs: sizes(&task.input_files),
                outputs: sizes(&task.output_files),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use serde_json::Value;

    use super::*;

    fn options() -> ImportOptions {
        ImportOptions { id: "sample".into(), time_scale: 0.01, max_sleep: None }
    }

    fn sample(tasks: &str) -> String {
        format!(
            r#"{{"name":"n","schemaVersion":"1.5","workflow":{{
                "specification":{{"tasks":[{tasks}],"files":[{{"id":"f","sizeInBytes":7}}]}},
                "execution":{{"tasks":[{{"id":"a.1","runtimeInSeconds":100.376}}]}}}}}}"#
        )
    }

    #[test]
    fn a_task_becomes_a_step_that_sleeps_and_carries_its_files() {
        let text = sample(
            r#"{"id":"a.1","name":"a","parents":[],"children":["b"],"inputFiles":["f"],"outputFiles":["g"]},
               {"id":"b","name":"b","parents":[],"children":[]}"#,
        );
        let imported = import(&text, &options()).expect("it imports");
        let [a, b] = &imported.definition.steps[..] else { panic!("two steps") };
        assert!(a.id.as_str().starts_with("a_1-"), "{}", a.id);
        assert_eq!(
            a.input_map,
            Some(serde_json::json!({"literal": {
                "seconds": 1.00376, "task": "a.1", "name": "a", "inputs": {"f": 7}, "outputs": {"g": null}
            }}))
        );
        assert_eq!(b.depends_on, std::slice::from_ref(&a.id), "the edge that only the child list names");
        assert_eq!(imported.edges, 1);
        assert_eq!(imported.definition.max_parallel, Some(2));
    }

    #[test]
    fn sleeps_are_cut_to_the_longest_allowed() {
        let text = sample(r#"{"id":"a.1","name":"a","parents":[],"children":[]}"#);
        let imported = import(&text, &ImportOptions { max_sleep: Some(0.25), ..options() }).expect("it imports");
        assert!((imported.sleep_total - 0.25).abs() < 1e-9);
    }

    #[test]
    fn a_cycle_is_refused_with_its_edges() {
        let text = sample(
            r#"{"id":"a","name":"a","parents":["b"],"children":[]},{"id":"b","name":"b","parents":["a"],"children":[]}"#,
        );
        let error = import(&text, &options()).expect_err("a cycle");
        assert!(error.to_string().contains("a") && matches!(error, ImportError::Workflow(_)), "{error}");
    }

    #[test]
    fn every_recorded_instance_becomes_a_valid_workflow_with_every_edge() {
        let Some(folder) = instances() else { return };
        let mut seen = 0;
        for entry in std::fs::read_dir(&folder).expect("the folder") {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("text");
            let imported = import(&text, &options()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(recorded_edges(&text), imported_edges(&imported.definition), "{}", path.display());
            seen += 1;
        }
        assert_eq!(seen, 12);
    }

    /// The edges as a reader independent of the importer sees them, by task id.
    fn recorded_edges(text: &str) -> BTreeSet<(String, String)> {
        let document: Value = serde_json::from_str(text).expect("JSON");
        let tasks = document["workflow"]["specification"]["tasks"].as_array().expect("tasks").clone();
        let string = |value: &Value| value.as_str().expect("a string").to_owned();
        let mut edges = BTreeSet::new();
        for task in &tasks {
            for parent in task["parents"].as_array().into_iter().flatten() {
                edges.insert((string(parent), string(&task["id"])));
            }
            for child in task["children"].as_array().into_iter().flatten() {
                edges.insert((string(&task["id"]), string(child)));
            }
        }
        edges
    }

    fn imported_edges(definition: &Definition) -> BTreeSet<(String, String)> {
        let task = |id: &str| {
            let step = definition.steps.iter().find(|step| step.id.as_str() == id).expect("a step");
            step.input_map.as_ref().expect("an input")["literal"]["task"].as_str().expect("a task").to_owned()
        };
        let edges = definition.steps.iter().flat_map(|step| {
            step.depends_on.iter().map(|dependency| (task(dependency.as_str()), task(step.id.as_str())))
        });
        edges.collect()
    }

    /// The outside test inputs; without `MILLSTREAM_TESTDATA` they may be absent.
    fn instances() -> Option<PathBuf> {
        let named = std::env::var_os("MILLSTREAM_TESTDATA").map(PathBuf::from);
        let required = named.is_some();
        let root =
            named.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/testdata")));
        let folder = root.join("wfinstances");
        if folder.is_dir() {
            return Some(folder);
        }
        assert!(!required, "MILLSTREAM_TESTDATA has no folder wfinstances");
        eprintln!("skipped: there is no {}", folder.display());
        None
    }
}
