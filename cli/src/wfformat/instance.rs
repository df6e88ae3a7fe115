//! An instance as it was recorded, checked for what validation of the workflow could not name as well.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

/// The version of the format that is understood.
const VERSION: &str = "1.5";

/// Why a file is not an instance that can be imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstanceError {
    #[error("it is not JSON: {0}")]
    NotJson(#[source] serde_json::Error),
    #[error("it is not WfFormat: it has no `schemaVersion`")]
    NoVersion,
    #[error("it is WfFormat {found}; only {VERSION} is understood (the Python package wfcommons converts older ones)")]
    Version { found: String },
    #[error("it is not WfFormat {VERSION}: {0}")]
    Shape(#[source] serde_json::Error),
    #[error("it has no tasks")]
    Empty,
    #[error("two of its tasks have the id {id:?}")]
    DuplicateTask { id: String },
    #[error("task {task:?} names {relation} {named:?}, which is not among its tasks")]
    UnknownTask { task: String, relation: &'static str, named: String },
    #[error("task {task:?} ran {seconds} s, which is not a duration")]
    Duration { task: String, seconds: f64 },
}

/// A recorded workflow.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) name: String,
    pub(super) tasks: Vec<Task>,
    pub(super) file_sizes: BTreeMap<String, u64>,
}

/// A recorded task with all its parents, whoever told of them.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) parents: BTreeSet<String>,
    pub(super) input_files: Vec<String>,
    pub(super) output_files: Vec<String>,
    pub(super) seconds: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    name: String,
    workflow: Workflow,
}

#[derive(Deserialize)]
struct Workflow {
    specification: Specification,
    #[serde(default)]
    execution: Execution,
}

#[derive(Deserialize)]
struct Specification {
    tasks: Vec<SpecifiedTask>,
    #[serde(default)]
    files: Vec<SpecifiedFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecifiedTask {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    parents: Vec<String>,
    #[serde(default)]
    children: Vec<String>,
    #[serde(default)]
    input_files: Vec<String>,
    #[serde(default)]
    output_files: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecifiedFile {
    id: String,
    size_in_bytes: f64,
}

#[derive(Default, Deserialize)]
struct Execution {
    #[serde(default)]
    tasks: Vec<ExecutedTask>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecutedTask {
    id: String,
    #[serde(default)]
    runtime_in_seconds: f64,
}

impl Instance {
    pub(super) fn parse(text: &str) -> Result<Self, InstanceError> {
        let value: Value = serde_json::from_str(text).map_err(InstanceError::NotJson)?;
        match &value["schemaVersion"] {
            Value::String(version) if version == VERSION => {}
            Value::Null => return Err(InstanceError::NoVersion),
            Value::String(version) => return Err(InstanceError::Version { found: version.clone() }),
            other => return Err(InstanceError::Version { found: other.to_string() }),
        }
        // Once more from the text: errors then have a line and a column.
        let document: Document = serde_json::from_str(text).map_err(InstanceError::Shape)?;
        Self::assemble(document)
    }

    fn assemble(document: Document) -> Result<Self, InstanceError> {
        let Workflow { specification, execution } = document.workflow;
        if specification.tasks.is_empty() {
            return Err(InstanceError::Empty);
        }
        let mut parents: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for task in &specification.tasks {
            if parents.insert(task.id.clone(), BTreeSet::new()).is_some() {
                return Err(InstanceError::DuplicateTask { id: task.id.clone() });
            }
        }
        for task in &specification.tasks {
            let of_child = task.children.iter().map(|child| ("child", child, child, &task.id));
            let of_parent = task.parents.iter().map(|parent| ("parent", parent, &task.id, parent));
            for (relation, named, child, parent) in of_parent.chain(of_child) {
                let unknown = || InstanceError::UnknownTask { task: task.id.clone(), relation, named: named.clone() };
                if !parents.contains_key(parent) {
                    return Err(unknown());
                }
                parents.get_mut(child).ok_or_else(unknown)?.insert(parent.clone());
            }
        }
        let seconds: BTreeMap<String, f64> =
            execution.tasks.into_iter().map(|task| (task.id, task.runtime_in_seconds)).collect();
        let tasks = specification.tasks.into_iter().map(|task| {
            let seconds = seconds.get(&task.id).copied().unwrap_or(0.0);
            if !seconds.is_finite() || seconds < 0.0 {
                return Err(InstanceError::Duration { task: task.id, seconds });
            }
            Ok(Task {
                parents: parents.remove(&task.id).unwrap_or_default(),
                name: task.name,
                input_files: task.input_files,
                output_files: task.output_files,
                seconds,
                id: task.id,
            })
        });
        Ok(Self {
            name: document.name,
            tasks: tasks.collect::<Result<_, _>>()?,
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size, saturating")]
            file_sizes: specification.files.into_iter().map(|file| (file.id, file.size_in_bytes as u64)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Instance::parse(text).expect_err("it is refused").to_string()
    }

    #[test]
    fn a_file_that_is_not_an_instance_is_refused_with_the_reason() {
        assert!(refused("{").starts_with("it is not JSON: "));
        assert_eq!(refused("{}"), "it is not WfFormat: it has no `schemaVersion`");
        assert!(refused(r#"{"schemaVersion":"1.4"}"#).starts_with("it is WfFormat 1.4; only 1.5"));
        assert!(refused(r#"{"schemaVersion":"1.5"}"#).contains("missing field `workflow`"));
        let empty = r#"{"schemaVersion":"1.5","workflow":{"specification":{"tasks":[]}}}"#;
        assert_eq!(refused(empty), "it has no tasks");
    }

    #[test]
    fn broken_references_are_named() {
        let with = |tasks: &str| {
            refused(&format!(r#"{{"schemaVersion":"1.5","workflow":{{"specification":{{"tasks":[{tasks}]}}}}}}"#))
        };
        assert_eq!(with(r#"{"id":"a"},{"id":"a"}"#), "two of its tasks have the id \"a\"");
        assert_eq!(
            with(r#"{"id":"a","parents":["x"]}"#),
            "task \"a\" names parent \"x\", which is not among its tasks"
        );
        assert_eq!(
            with(r#"{"id":"a","children":["x"]}"#),
            "task \"a\" names child \"x\", which is not among its tasks"
        );
    }
}
