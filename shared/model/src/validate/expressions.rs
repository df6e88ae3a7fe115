//! Paths, templates and conditions of a definition, compiled, and whether what they read is there.

use std::collections::BTreeSet;

use super::Report;
use super::graph::Graph;
use crate::expression::{Attribute, Condition, Path, Root, Template};
use crate::plan::Expressions;
use crate::source::{Content, Node, Place};

/// Where an expression stands and what it may read.
#[derive(Debug, Clone)]
struct Reader<'a> {
    path: String,
    place: Place,
    /// The step it belongs to; `None` for the workflow.
    step: Option<usize>,
    /// Why it has no item and index; `None` when it has them.
    no_item: Option<&'a str>,
    /// Whether it is part of a compensation.
    compensates: bool,
}

/// Compiles what a step's fields say.
pub(super) fn of_step(i: usize, step: &Node, graph: &Graph<'_>, report: &mut Report) -> Expressions {
    let path = graph.path(i);
    let reader = |name: &str, node: &Node, no_item| Reader {
        path: format!("{path}.{name}"),
        place: node.place,
        step: Some(i),
        no_item,
        compensates: false,
    };
    let outside = step.get("fan_out").is_none().then_some("the step has no `fan_out`");
    let condition = step.get("condition").and_then(|node| {
        let once = Some("a condition is evaluated once per step, before there are items");
        condition(node, &reader("condition", node, once), graph, report)
    });
    let input =
        step.get("input_map").and_then(|node| template(node, &reader("input_map", node, outside), graph, report));
    let items = step.get("fan_out").and_then(|fan_out| fan_out.get("items")).and_then(|node| {
        let list = Some("this is the list that the items come from");
        items(node, &reader("fan_out.items", node, list), graph, report)
    });
    let compensation = step.get("compensate").and_then(|node| node.get("input_map")).and_then(|node| {
        let reader = Reader { compensates: true, ..reader("compensate.input_map", node, outside) };
        template(node, &reader, graph, report)
    });
    Expressions { condition, input, items, compensation }
}

/// Compiles `output_map`.
pub(super) fn of_output(tree: &Node, graph: &Graph<'_>, report: &mut Report) -> Option<Template> {
    let node = tree.get("output_map")?;
    let no_item = Some("the output belongs to the whole workflow");
    let path = "output_map".to_owned();
    let reader = Reader { path, place: node.place, step: None, no_item, compensates: false };
    template(node, &reader, graph, report)
}

/// Compiles `searchable`.
pub(super) fn of_searchable(tree: &Node, report: &mut Report) -> Vec<Attribute> {
    let members = tree.get("searchable").map(Node::members).unwrap_or_default();
    let mut attributes = Vec::with_capacity(members.len());
    for member in members {
        let Some(text) = member.value.as_str() else { continue };
        match Attribute::parse(&member.name, text) {
            Ok(attribute) => attributes.push(attribute),
            Err(error) => {
                let message = format!("the path cannot be read at its column {}: {}", error.column, error.message);
                let path = format!("searchable.{}", member.name);
                report.add(path, member.value.place, message, "");
            }
        }
    }
    attributes
}

fn condition(node: &Node, reader: &Reader<'_>, graph: &Graph<'_>, report: &mut Report) -> Option<Condition> {
    match Condition::parse(node.as_str()?) {
        Ok(condition) => {
            check_reads(condition.reads(), reader, graph, report);
            Some(condition)
        }
        Err(error) => {
            let message = format!("the condition cannot be read at its column {}: {}", error.column, error.message);
            report.add(&reader.path, reader.place, message, "");
            None
        }
    }
}

fn items(node: &Node, reader: &Reader<'_>, graph: &Graph<'_>, report: &mut Report) -> Option<Path> {
    match Path::parse(node.as_str()?) {
        Ok(path) => {
            check_reads(path.reads(), reader, graph, report);
            Some(path)
        }
        Err(error) => {
            let message = format!("the path cannot be read at its column {}: {}", error.column, error.message);
            report.add(&reader.path, reader.place, message, "");
            None
        }
    }
}

fn template(node: &Node, reader: &Reader<'_>, graph: &Graph<'_>, report: &mut Report) -> Option<Template> {
    if node.content == Content::Null {
        return None;
    }
    match Template::parse_located(&node.to_json()) {
        Ok((template, paths)) => {
            for located in paths {
                let place = node.at(&located.pointer).place;
                let reader = Reader { path: dotted(&reader.path, &located.pointer), place, ..reader.clone() };
                check_reads(&located.reads, &reader, graph, report);
            }
            Some(template)
        }
        Err(errors) => {
            for error in errors {
                let at = node.at(&error.pointer).place;
                report.add(dotted(&reader.path, &error.pointer), at, error.message, "");
            }
            None
        }
    }
}

/// A pointer (RFC 6901) in the notation of problems: `/to/0` is `.to[0]`.
fn dotted(path: &str, pointer: &str) -> String {
    pointer.split('/').skip(1).fold(path.to_owned(), |path, token| {
        if token.bytes().all(|byte| byte.is_ascii_digit()) && !token.is_empty() {
            format!("{path}[{token}]")
        } else {
            format!("{path}.{}", token.replace("~1", "/").replace("~0", "~"))
        }
    })
}

fn check_reads(reads: &BTreeSet<Root>, reader: &Reader<'_>, graph: &Graph<'_>, report: &mut Report) {
    for root in reads {
        let (message, help) = match root {
            Root::Input | Root::Context => continue,
            Root::Item | Root::Index => match reader.no_item {
                None => continue,
                Some(reason) => (
                    format!("there is no {root} here: {reason}"),
                    "items are known in `input_map` of a step with `fan_out`",
                ),
            },
            Root::Own(_) if reader.compensates => continue,
            Root::Own(_) => (
                format!("there is no {root} here: nothing is undone by this"),
                "`$.self` is the step that a compensation undoes, in `compensate.input_map`",
            ),
            Root::Outcome if reader.step.is_some_and(|step| graph.is_finally(step)) => continue,
            Root::Outcome => (
                format!("there is no {root} here: it is decided when all of `steps` have ended"),
                "`$.outcome` is known to the steps of `finally`",
            ),
            Root::Step(id, _) => {
                check_step(id.as_str(), root, reader, graph, report);
                continue;
            }
        };
        report.add(&reader.path, reader.place, message, help);
    }
}

fn check_step(id: &str, root: &Root, reader: &Reader<'_>, graph: &Graph<'_>, report: &mut Report) {
    let (message, help) = match (graph.find(id), reader.step) {
        (None, _) => (format!("{root}: there is no step `{id}`"), graph.suggest(id)),
        (Some(read), Some(step)) if read == step && reader.compensates => (
            format!("{root}: the compensation reads its own step"),
            "read `$.self`: for an item it is the item's".to_owned(),
        ),
        (Some(read), Some(step)) if read == step => {
            (format!("{root}: the step reads itself"), "read another step".to_owned())
        }
        (Some(read), _) if graph.is_finally(read) && !reader.step.is_some_and(|step| graph.is_finally(step)) => {
            let message = format!("{root}: step `{id}` is in `finally`, which starts when all of `steps` have ended");
            (message, format!("read another step, or move `{id}` to `steps`"))
        }
        (Some(read), Some(step)) if !graph.is_upstream(read, step) => {
            let message = format!("{root}: step `{id}` may not have ended when this is read");
            (message, format!("add `{id}` to `depends_on`"))
        }
        (Some(_), _) => return,
    };
    report.add(&reader.path, reader.place, message, help);
}
