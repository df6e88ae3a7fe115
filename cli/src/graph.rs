//! Pictures of a workflow: text for the terminal, SVG for people, DOT for other tools.

mod curve;
mod dot;
mod svg;
mod text;

use std::collections::BTreeMap;

use millstream_model::definition::{Aggregate, Definition, Step};

/// A workflow reduced to what a picture shows.
#[derive(Debug)]
pub(crate) struct Drawing {
    title: String,
    nodes: Vec<Node>,
    /// From a dependency to what depends on it, as indices of nodes.
    edges: Vec<(usize, usize)>,
}

#[derive(Debug)]
struct Node {
    id: String,
    /// Who does it, or what it does with what others did.
    doer: String,
    kind: Kind,
    condition: Option<String>,
    /// Longest chain of dependencies above it.
    level: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Single,
    FanOut,
    FanIn,
}

impl Drawing {
    /// Reduces a definition that passed validation: its dependencies exist and have no cycle.
    pub(crate) fn of(definition: &Definition) -> Self {
        let index: BTreeMap<&str, usize> =
            definition.steps.iter().enumerate().map(|(i, step)| (step.id.as_str(), i)).collect();
        let mut edges = Vec::new();
        for (to, step) in definition.steps.iter().enumerate() {
            edges.extend(step.depends_on.iter().filter_map(|from| index.get(from.as_str())).map(|from| (*from, to)));
        }
        let levels = levels(definition.steps.len(), &edges);
        let nodes = definition.steps.iter().zip(levels).map(|(step, level)| Node::of(step, level)).collect();
        Self { title: definition.id.to_string(), nodes, edges }
    }

    pub(crate) fn to_text(&self) -> String {
        text::render(self)
    }

    pub(crate) fn to_svg(&self) -> String {
        svg::render(self)
    }

    pub(crate) fn to_dot(&self) -> String {
        dot::render(self)
    }

    fn level_count(&self) -> usize {
        self.nodes.iter().map(|node| node.level + 1).max().unwrap_or(0)
    }
}

impl Node {
    fn of(step: &Step, level: usize) -> Self {
        let (kind, doer) = match (&step.fan_in, &step.fan_out) {
            (Some(fan_in), _) => (
                Kind::FanIn,
                match fan_in.aggregate {
                    Aggregate::List => "all in a list".to_owned(),
                    Aggregate::Merge => "merged".to_owned(),
                    Aggregate::First => "the first".to_owned(),
                },
            ),
            (None, Some(fan_out)) => (Kind::FanOut, format!("{} for each of {}", doer(step), fan_out.items)),
            (None, None) => (Kind::Single, doer(step)),
        };
        let condition = step.condition.as_ref().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        Self { id: step.id.to_string(), doer, kind, condition, level }
    }
}

fn doer(step: &Step) -> String {
    match (&step.agent_id, &step.capability) {
        (Some(agent), _) => agent.to_string(),
        (None, Some(capability)) => format!("any {capability}"),
        (None, None) => String::new(),
    }
}

/// The longest chain of edges that leads to each node.
fn levels(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut waiting = vec![0_usize; nodes];
    let mut followers = vec![Vec::new(); nodes];
    for (from, to) in edges {
        waiting[*to] += 1;
        followers[*from].push(*to);
    }
    let mut levels = vec![0; nodes];
    let mut ready: Vec<usize> = (0..nodes).filter(|node| waiting[*node] == 0).collect();
    while let Some(node) = ready.pop() {
        for &follower in &followers[node] {
            levels[follower] = levels[follower].max(levels[node] + 1);
            waiting[follower] -= 1;
            if waiting[follower] == 0 {
                ready.push(follower);
            }
        }
    }
    levels
}

/// At most `length` characters, with the middle left out of what is longer: names differ at their ends.
fn shortened(text: &str, length: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= length {
        return text.to_owned();
    }
    let head = (length - 1) / 3;
    let tail = length - 1 - head;
    let (first, last) = (&characters[..head], &characters[characters.len() - tail..]);
    first.iter().chain(&['…']).chain(last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small workflow with every kind of step.
    pub(super) fn sample() -> Drawing {
        let definition = serde_json::json!({
            "id": "invoices",
            "steps": [
                {"id": "list", "agent_id": "erp"},
                {"id": "book", "agent_id": "billing", "depends_on": ["list"], "condition": "size($.input.x) > 0",
                 "fan_out": {"items": "$.steps.list.output.items"}},
                {"id": "check", "capability": "audit", "depends_on": ["list"]},
                {"id": "total", "depends_on": ["book", "check"], "fan_in": {"from": ["book"]}}
            ]
        });
        Drawing::of(&serde_json::from_value(definition).expect("a definition"))
    }

    #[test]
    fn a_step_stands_one_level_below_its_lowest_dependency() {
        assert_eq!(levels(4, &[(0, 1), (1, 2), (0, 2), (2, 3)]), [0, 1, 2, 3]);
        assert_eq!(levels(3, &[]), [0, 0, 0]);
        assert_eq!(sample().level_count(), 3);
    }

    #[test]
    fn a_long_name_keeps_both_ends() {
        assert_eq!(shortened("short", 10), "short");
        assert_eq!(shortened("abcdefghijklmnop", 10), "abc…klmnop");
    }
}
