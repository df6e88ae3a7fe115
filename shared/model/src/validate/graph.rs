//! The steps as a graph: ids, dependencies, cycles, and who is upstream of whom.
//!
//! Steps are counted over `steps` and then `finally`. No edge leads from one to the other: the steps of `finally`
//! start when all others have ended.

use std::collections::{BTreeMap, VecDeque};

use super::Report;
use super::step_set::StepSet;
use crate::source::Node;
use crate::suggestion::closest;

/// The steps of a definition, as far as they can be told apart.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    /// The first step of each id.
    index: BTreeMap<&'a str, usize>,
    ids: Vec<Option<&'a str>>,
    /// How many are in `steps`; those behind are in `finally`.
    main: usize,
    /// What each step depends on and which element says so; no unknown steps, no step itself.
    dependencies: Vec<Vec<(usize, &'a Node)>>,
    /// For each step the set of steps that end before it starts; `None` in and behind a cycle.
    upstream: Vec<Option<StepSet>>,
}

impl<'a> Graph<'a> {
    /// Builds the graph and reports what is wrong with it.
    pub(super) fn of(steps: &'a [Node], finally: &'a [Node], report: &mut Report) -> Self {
        let all = || steps.iter().chain(finally);
        let ids: Vec<Option<&str>> = all().map(|step| step.get("id").and_then(Node::as_str)).collect();
        let (index, main) = (BTreeMap::new(), steps.len());
        let mut graph = Self { index, ids, main, dependencies: Vec::new(), upstream: Vec::new() };
        for (i, step) in all().enumerate() {
            let Some(id) = graph.ids[i] else { continue };
            if let Some(first) = graph.index.get(id) {
                let place = step.get("id").map_or(step.place, |node| node.place);
                let message = format!("there is another step `{id}`: {}", graph.path(*first));
                report.add(format!("{}.id", graph.path(i)), place, message, "give each step an id of its own");
            } else {
                graph.index.insert(id, i);
            }
        }
        for (i, step) in all().enumerate() {
            let dependencies = graph.read_dependencies(i, step, report);
            graph.dependencies.push(dependencies);
        }
        graph.upstream = graph.order(report);
        graph
    }

    /// The step's place in the definition.
    pub(super) fn find(&self, id: &str) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// Whether the step is one of `finally`.
    pub(super) fn is_finally(&self, step: usize) -> bool {
        step >= self.main
    }

    /// The step in the notation of problems.
    pub(super) fn path(&self, step: usize) -> String {
        match step.checked_sub(self.main) {
            Some(step) => format!("finally[{step}]"),
            None => format!("steps[{step}]"),
        }
    }

    /// Help for who named a step that does not exist.
    pub(super) fn suggest(&self, id: &str) -> String {
        match closest(id, self.index.keys().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if self.index.len() <= 10 => {
                let mut ids: Vec<(&usize, &str)> = self.index.iter().map(|(id, step)| (step, *id)).collect();
                ids.sort_unstable();
                let ids: Vec<&str> = ids.into_iter().map(|(_, id)| id).collect();
                format!("the steps are {}", ids.join(", "))
            }
            None => "ids are written as in the step's `id`".to_owned(),
        }
    }

    /// Whether `step` starts only after `other` has ended; true where a cycle leaves it open.
    pub(super) fn is_upstream(&self, other: usize, step: usize) -> bool {
        match (self.is_finally(other), self.is_finally(step)) {
            (false, true) => true,
            (true, false) => false,
            _ => self.upstream[step].as_ref().is_none_or(|set| set.contains(other)),
        }
    }

    fn read_dependencies(&self, i: usize, step: &'a Node, report: &mut Report) -> Vec<(usize, &'a Node)> {
        let elements = step.get("depends_on").map(Node::elements).unwrap_or_default();
        let mut dependencies = Vec::with_capacity(elements.len());
        for (n, element) in elements.iter().enumerate() {
            let Some(id) = element.as_str() else { continue };
            let path = format!("{}.depends_on[{n}]", self.path(i));
            if self.ids[i] == Some(id) {
                report.add(path, element.place, format!("step `{id}` depends on itself"), "remove it");
                continue;
            }
            let Some(dependency) = self.find(id) else {
                report.add(path, element.place, format!("there is no step `{id}`"), self.suggest(id));
                continue;
            };
            match (self.is_finally(i), self.is_finally(dependency)) {
                (true, false) => {
                    let message = format!("`{id}` is not in `finally`: it has ended before any of these steps starts");
                    report.add(path, element.place, message, "remove it; what it gave can be read all the same");
                }
                (false, true) => {
                    let message = format!("`{id}` is in `finally`: it starts when all of `steps` have ended");
                    report.add(path, element.place, message, format!("remove it, or move `{id}` to `steps`"));
                }
                (true, true) | (false, false) => dependencies.push((dependency, element)),
            }
        }
        dependencies
    }

    /// Orders the steps (Kahn, "Topological sorting of large networks", CACM 5(11), 1962) and reports
    /// the cycles that are in the way.
    fn order(&self, report: &mut Report) -> Vec<Option<StepSet>> {
        let count = self.ids.len();
        let mut dependents = vec![Vec::new(); count];
        let mut open: Vec<usize> = vec![0; count];
        for (step, dependencies) in self.dependencies.iter().enumerate() {
            open[step] = dependencies.len();
            for (dependency, _) in dependencies {
                dependents[*dependency].push(step);
            }
        }
        let mut upstream: Vec<Option<StepSet>> = vec![None; count];
        let mut done = vec![false; count];
        let mut ready: VecDeque<usize> = (0..count).filter(|step| open[*step] == 0).collect();
        loop {
            while let Some(step) = ready.pop_front() {
                done[step] = true;
                upstream[step] = self.upstream_of(step, &upstream);
                for dependent in &dependents[step] {
                    open[*dependent] -= 1;
                    if open[*dependent] == 0 && !done[*dependent] {
                        ready.push_back(*dependent);
                    }
                }
            }
            let Some(first) = done.iter().position(|done| !done) else { return upstream };
            let cycle = self.cycle(first, &done);
            self.report_cycle(&cycle, report);
            for step in &cycle {
                done[*step] = true;
            }
            for step in cycle {
                ready.extend(dependents[step].iter().copied().filter(|dependent| {
                    open[*dependent] -= 1;
                    open[*dependent] == 0 && !done[*dependent]
                }));
            }
        }
    }

    fn upstream_of(&self, step: usize, upstream: &[Option<StepSet>]) -> Option<StepSet> {
        let mut set = StepSet::empty(self.ids.len());
        for (dependency, _) in &self.dependencies[step] {
            set.add_all(upstream[*dependency].as_ref()?);
            set.insert(*dependency);
        }
        Some(set)
    }

    /// A cycle that is reached from `start`, each step depending on the next. Every step that is not
    /// done has a dependency that is not done, so the walk ends in one.
    fn cycle(&self, start: usize, done: &[bool]) -> Vec<usize> {
        let mut walk = vec![start];
        let mut at = vec![None; self.ids.len()];
        at[start] = Some(0);
        loop {
            let step = walk[walk.len() - 1];
            let open = self.dependencies[step].iter().map(|(dependency, _)| *dependency).find(|step| !done[*step]);
            let next = open.expect("Kahn's order leaves only steps that wait for each other");
            match at[next] {
                Some(first) => return walk.split_off(first),
                None => {
                    at[next] = Some(walk.len());
                    walk.push(next);
                }
            }
        }
    }

    fn report_cycle(&self, cycle: &[usize], report: &mut Report) {
        let id = |step: usize| self.ids[step].unwrap_or("?");
        let start = (0..cycle.len()).min_by_key(|i| cycle[*i]).unwrap_or(0);
        let ring: Vec<usize> = cycle[start..].iter().chain(&cycle[..=start]).copied().collect();
        let names: Vec<&str> = ring.iter().map(|step| id(*step)).collect();
        let message = format!("steps wait for each other: {} (each depends on the next)", names.join(" -> "));
        let edge = self.dependencies[ring[0]].iter().find(|(dependency, _)| *dependency == ring[1]);
        let (_, element) = edge.expect("each step of a cycle depends on the next");
        let path = format!("{}.depends_on", self.path(ring[0]));
        report.add(path, element.place, message, "remove one of these dependencies");
    }
}
