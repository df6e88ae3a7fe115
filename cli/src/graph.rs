//! Pictures of a workflow: text for the terminal, SVG for people, DOT for other tools.

mod curve;
mod dot;
mod svg;
mod text;

use std::collections::BTreeMap;

use millstream_model::definition::{Aggregate, Compensate, Definition, Fallback, Step};
use millstream_model::ids::{AgentId, Capability};

/// Pairs of a step and one of `finally` that a layout is told about.
const AFTER_MAX: usize = 100;

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
    /// Longest chain of dependencies above it; the steps of `finally` are below all others.
    level: usize,
    /// Whether it is one of `finally`.
    finally: bool,
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
        let all = || definition.steps.iter().chain(&definition.finally);
        let index: BTreeMap<&str, usize> = all().enumerate().map(|(i, step)| (step.id.as_str(), i)).collect();
        let mut edges = Vec::new();
        for (to, step) in all().enumerate() {
            edges.extend(step.depends_on.iter().filter_map(|from| index.get(from.as_str())).map(|from| (*from, to)));
        }
        let main = definition.steps.len();
        let mut levels = levels(index.len(), &edges);
        let below = levels[..main].iter().map(|level| level + 1).max().unwrap_or(0);
        levels[main..].iter_mut().for_each(|level| *level += below);
        let nodes = all().zip(levels).enumerate().map(|(i, (step, level))| Node::of(step, level, i >= main)).collect();
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

    /// Pairs that put `finally` below the rest: from what nothing depends on to what depends on nothing there.
    fn after(&self) -> Vec<(usize, usize)> {
        let (mut above, mut below) = (vec![false; self.nodes.len()], vec![false; self.nodes.len()]);
        for (from, to) in &self.edges {
            (below[*from], above[*to]) = (true, true);
        }
        let main = self.nodes.iter().take_while(|node| !node.finally).count();
        let ends = (0..main).filter(|node| !below[*node]);
        let starts: Vec<usize> = (main..self.nodes.len()).filter(|node| !above[*node]).collect();
        // More of them would cost more than they help.
        ends.flat_map(|end| starts.iter().map(move |start| (end, *start))).take(AFTER_MAX).collect()
    }

    /// The first level of `finally`; the number of levels when there is none.
    fn main_levels(&self) -> usize {
        self.nodes.iter().filter(|node| !node.finally).map(|node| node.level + 1).max().unwrap_or(0)
    }
}

impl Node {
    fn of(step: &Step, level: usize, finally: bool) -> Self {
        let (kind, mut doer) = match (&step.fan_in, &step.fan_out) {
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
        if let Some(fallback) = &step.fallback {
            doer.push_str(&format!(", else {}", otherwise(fallback)));
        }
        if let Some(Compensate { agent_id, capability, .. }) = &step.compensate {
            doer.push_str(&format!(", undone by {}", name(agent_id.as_ref(), capability.as_ref())));
        }
        if step.irreversible {
            doer.push_str(", irreversible");
        }
        let condition = step.condition.as_ref().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        Self { id: step.id.to_string(), doer, kind, condition, level, finally }
    }
}

fn doer(step: &Step) -> String {
    name(step.agent_id.as_ref(), step.capability.as_ref())
}

fn name(agent: Option<&AgentId>, capability: Option<&Capability>) -> String {
    match (agent, capability) {
        (Some(agent), _) => agent.to_string(),
        (None, Some(capability)) => format!("any {capability}"),
        (None, None) => String::new(),
    }
}

fn otherwise(fallback: &Fallback) -> String {
    match fallback {
        Fallback { static_value: Some(_), .. } => "a fixed output".to_owned(),
        Fallback { skip: true, .. } => "skipped".to_owned(),
        Fallback { agent_id, capability, .. } => name(agent_id.as_ref(), capability.as_ref()),
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

    /// One with everything that is for failures.
    pub(super) fn saga() -> Drawing {
        let definition = serde_json::json!({
            "id": "order",
            "steps": [
                {"id": "book", "agent_id": "crm", "compensate": {"agent_id": "unbook"}},
                {"id": "rate", "agent_id": "rates", "fallback": {"static_value": 1}},
                {"id": "pay", "agent_id": "bank", "depends_on": ["book", "rate"], "fallback": {"capability": "pay"},
                 "irreversible": true}
            ],
            "finally": [
                {"id": "tidy", "agent_id": "janitor"},
                {"id": "tell", "agent_id": "chat", "depends_on": ["tidy"], "fallback": {"skip": true}}
            ]
        });
        Drawing::of(&serde_json::from_value(definition).expect("a definition"))
    }

    #[test]
    fn a_step_stands_one_level_below_its_lowest_dependency() {
        assert_eq!(levels(4, &[(0, 1), (1, 2), (0, 2), (2, 3)]), [0, 1, 2, 3]);
        assert_eq!(levels(3, &[]), [0, 0, 0]);
        assert_eq!((sample().level_count(), sample().main_levels()), (3, 3));
        assert_eq!((saga().level_count(), saga().main_levels()), (4, 2));
    }

    #[test]
    fn a_long_name_keeps_both_ends() {
        assert_eq!(shortened("short", 10), "short");
        assert_eq!(shortened("abcdefghijklmnop", 10), "abc…klmnop");
    }
}
