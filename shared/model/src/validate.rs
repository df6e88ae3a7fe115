//! Validation: everything that is wrong with a definition, at once, with its place and how to mend it.
//!
//! The checks work on the tree of the source text, so that one mistake does not hide another:
//! [`fields`](self) first (names, types, limits), then the steps as a graph, then what each step
//! does, its policies and its expressions. What is valid can still be unwise: [`gaps`].

use std::fmt;

use serde::Serialize;

use crate::definition::Definition;
use crate::expression::{Attribute, Template};
use crate::plan::{Expressions, Plan};
use crate::schema;
use crate::source::{self, Content, Node, Place};

mod expressions;
mod fields;
mod gaps;
mod graph;
mod language;
mod policies;
mod step_set;
mod steps;

pub use gaps::{Gap, GapReason, gaps, gaps_in};

/// One thing that is wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where in the definition, as `steps[2].depends_on[0]`; empty for the whole.
    pub path: String,
    /// Line of the source text from 1; 0 when there is no text.
    pub line: u32,
    /// Column in characters from 1; 0 when there is no text.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// How to mend it; can be empty.
    pub help: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{} ", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if !self.help.is_empty() {
            write!(f, "; {}", self.help)?;
        }
        Ok(())
    }
}

/// Reads, checks and compiles the text of a definition, YAML or JSON.
pub fn definition(text: &str) -> Result<Plan, Vec<Problem>> {
    let tree = source::parse(text)?;
    let compiled = check(&tree, Origin::Text)?;
    let definition = serde_json::from_value(tree.to_json())
        .map_err(|error| vec![tree.place.problem(format!("the definition cannot be read: {error}"), "")])?;
    Ok(Plan::assemble(definition, compiled.steps, compiled.output, compiled.attributes))
}

impl Plan {
    /// Checks and compiles a definition, as it is stored.
    pub fn compile(definition: Definition) -> Result<Self, Vec<Problem>> {
        let value = serde_json::to_value(&definition).expect("a definition always has a JSON form");
        let compiled = check(&Node::of_json(&value), Origin::Store)?;
        Ok(Self::assemble(definition, compiled.steps, compiled.output, compiled.attributes))
    }
}

/// The expressions of a definition without mistakes.
struct Compiled {
    steps: Vec<Expressions>,
    output: Option<Template>,
    attributes: Vec<Attribute>,
}

/// Where a definition comes from. What is stored was accepted once, maybe by an older version: what a later version
/// only advises against, it still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Text,
    Store,
}

fn check(tree: &Node, origin: Origin) -> Result<Compiled, Vec<Problem>> {
    let mut report = Report::default();
    fields::check(tree, &mut report);
    for name in ["input_schema", "context_schema"] {
        check_schema(tree, name, &mut report);
    }
    policies::of_workflow(tree, origin, &mut report);
    let elements = |name| tree.get(name).map(Node::elements).unwrap_or_default();
    let (main, finally) = (elements("steps"), elements("finally"));
    let graph = graph::Graph::of(main, finally, &mut report);
    let mut compiled: Vec<Expressions> = Vec::with_capacity(main.len() + finally.len());
    for (i, step) in main.iter().chain(finally).enumerate() {
        steps::check(i, step, &graph, &mut report);
        policies::of_step(&graph.path(i), step, tree, origin, &mut report);
        compiled.push(expressions::of_step(i, step, &graph, &mut report));
    }
    let output = expressions::of_output(tree, &graph, &mut report);
    let attributes = expressions::of_searchable(tree, &mut report);
    if report.problems.is_empty() {
        return Ok(Compiled { steps: compiled, output, attributes });
    }
    report.problems.sort_by_key(|problem| (problem.line, problem.column));
    Err(report.problems)
}

fn check_schema(tree: &Node, name: &str, report: &mut Report) {
    if let Some(node) = tree.get(name)
        && matches!(node.content, Content::Object(_) | Content::Bool(_))
        && let Err(error) = schema::compile(&node.to_json())
    {
        report.add(
            name,
            node.at(&error.schema_path).place,
            format!("this is not a JSON Schema: {}", error.message),
            "write it as JSON Schema 2020-12, without references to other documents",
        );
    }
}

/// What was found so far.
#[derive(Debug, Default)]
struct Report {
    problems: Vec<Problem>,
}

impl Report {
    fn add(&mut self, path: impl Into<String>, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), ..place.problem(message, help) });
    }
}

#[cfg(test)]
mod tests;
