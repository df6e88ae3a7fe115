//! Compensation gaps: effects that stay although `on_failure: compensate` should undo them.
//!
//! A **cut** is the failure of one critical step. It leaves the effect of every step that may be done by then (it is
//! neither the step that fails nor downstream of it) and that is not undone. A fan-out is a cut of its own: some of its
//! items are done when another one fails.

use std::collections::VecDeque;
use std::fmt;

use serde::Serialize;

use super::step_set::StepSet;
use super::{Place, Problem};
use crate::definition::{Aggregate, OnFailure, OnItemFailure, Step};
use crate::ids::StepId;
use crate::limits::{GAP_CUTS_MAX, GAPS_MAX};
use crate::plan::{Plan, StepIndex};
use crate::source::{self, Node};

/// An effect that some failures leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Whose effect it is.
    pub step: StepId,
    pub reason: GapReason,
    /// Steps whose failure leaves it, in definition order; at most [`GAP_CUTS_MAX`] of them.
    pub cuts: Vec<StepId>,
    /// How many there are.
    pub cuts_total: usize,
    /// Where in the definition, as `steps[2]` or `steps[2].irreversible`.
    pub path: String,
    /// Line of the source text from 1; 0 when there is no text.
    pub line: u32,
    /// Column in characters from 1; 0 when there is no text.
    pub column: u32,
    /// What is left when.
    pub message: String,
    /// How to mend it.
    pub help: String,
}

/// Why an effect is not undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// It cannot be.
    Irreversible,
    /// Nobody said how.
    NoCompensate,
}

impl From<&Gap> for Problem {
    fn from(gap: &Gap) -> Self {
        Self {
            path: gap.path.clone(),
            line: gap.line,
            column: gap.column,
            message: gap.message.clone(),
            help: gap.help.clone(),
        }
    }
}

/// The first [`GAPS_MAX`] gaps of a definition, without lines.
pub fn gaps(plan: &Plan) -> Vec<Gap> {
    find(plan, None)
}

/// The same with lines and columns of the text that the plan was read from.
pub fn gaps_in(text: &str, plan: &Plan) -> Vec<Gap> {
    find(plan, source::parse(text).ok().as_ref())
}

fn find(plan: &Plan, tree: Option<&Node>) -> Vec<Gap> {
    if plan.definition.on_failure != OnFailure::Compensate {
        return Vec::new();
    }
    let upstream = upstream(plan);
    let mut failing = StepSet::empty(plan.steps.len());
    for step in plan.indices().filter(|step| can_fail(plan.step(*step))) {
        failing.insert(place_of(step));
    }
    let gap = |index: StepIndex| {
        let (step, i) = (plan.step(index), place_of(index));
        let reason = match (&step.compensate, step.irreversible) {
            _ if step.fan_in.is_some() => return None,
            (_, true) => GapReason::Irreversible,
            (None, false) => GapReason::NoCompensate,
            (Some(_), false) => return None,
        };
        let mut done_before = upstream[i].clone();
        if !items_can_fail_it(step) {
            done_before.insert(i);
        }
        let cuts = failing.without(&done_before);
        let total = cuts.len();
        if total == 0 {
            return None;
        }
        let named: Vec<usize> = cuts.iter().take(GAP_CUTS_MAX).collect();
        let Place { line, column } = place(tree, i, reason);
        Some(Gap {
            step: step.id.clone(),
            reason,
            cuts: named.iter().map(|cut| id(plan, *cut).clone()).collect(),
            cuts_total: total,
            path: match reason {
                GapReason::Irreversible => format!("steps[{i}].irreversible"),
                GapReason::NoCompensate => format!("steps[{i}]"),
            },
            line,
            column,
            message: message(plan, i, reason, &named, total),
            help: help(plan, i, reason, &named, &upstream),
        })
    };
    plan.indices().filter_map(gap).take(GAPS_MAX).collect()
}

/// For each step what has ended before it starts.
fn upstream(plan: &Plan) -> Vec<StepSet> {
    let count = plan.steps.len();
    let mut open: Vec<usize> = plan.steps.iter().map(|step| step.depends_on.len()).collect();
    let mut sets = vec![StepSet::empty(count); count];
    let mut ready: VecDeque<usize> = (0..count).filter(|step| open[*step] == 0).collect();
    while let Some(step) = ready.pop_front() {
        for dependent in plan.steps[step].dependents.iter().map(|dependent| place_of(*dependent)) {
            let mut set = std::mem::replace(&mut sets[dependent], StepSet::empty(0));
            set.add_all(&sets[step]);
            set.insert(step);
            sets[dependent] = set;
            open[dependent] -= 1;
            if open[dependent] == 0 {
                ready.push_back(dependent);
            }
        }
    }
    sets
}

fn place_of(step: StepIndex) -> usize {
    usize::from(step.0)
}

fn id(plan: &Plan, step: usize) -> &StepId {
    &plan.definition.steps[step].id
}

/// Whether an output, or the step's absence, takes the place of what failed.
fn is_replaced(step: &Step) -> bool {
    step.fallback.as_ref().is_some_and(|fallback| fallback.skip || fallback.static_value.is_some())
}

/// Whether its failure can be the execution's.
fn can_fail(step: &Step) -> bool {
    let work_can_fail = match &step.fan_in {
        Some(fan_in) => fan_in.aggregate == Aggregate::Merge,
        // What a fan-out runs over may be no list.
        None => step.fan_out.is_some() || !is_replaced(step),
    };
    step.critical && (step.condition.is_some() || work_can_fail)
}

/// Whether the step can fail while items of it are done.
fn items_can_fail_it(step: &Step) -> bool {
    step.critical
        && step.fan_out.as_ref().is_some_and(|fan_out| {
            fan_out.min_success.is_some() || (fan_out.on_item_failure == OnItemFailure::Fail && !is_replaced(step))
        })
}

fn place(tree: Option<&Node>, step: usize, reason: GapReason) -> Place {
    let Some(node) = tree.and_then(|tree| tree.get("steps")?.elements().get(step)) else { return Place::default() };
    match (reason, node.member("irreversible"), node.get("id")) {
        (GapReason::Irreversible, Some(member), _) => member.place,
        (_, _, Some(id)) => id.place,
        (_, _, None) => node.place,
    }
}

/// Cuts that a sentence names.
const NAMED_MAX: usize = 3;

fn message(plan: &Plan, effect: usize, reason: GapReason, cuts: &[usize], total: usize) -> String {
    let why = match reason {
        GapReason::Irreversible => "cannot be undone",
        GapReason::NoCompensate => "has no `compensate`",
    };
    let name = |cut: &usize| match *cut == effect {
        true => "an item of it".to_owned(),
        false => format!("`{}`", id(plan, *cut)),
    };
    let named: Vec<String> = cuts.iter().take(NAMED_MAX).map(name).collect();
    let more = if total > named.len() { format!(" or {} more", total - named.len()) } else { String::new() };
    let cuts = if more.is_empty() { Words(&named, "or").to_string() } else { named.join(", ") + &more };
    format!("`{}` {why}: what it did stays when {cuts} fails", id(plan, effect))
}

fn help(plan: &Plan, effect: usize, reason: GapReason, cuts: &[usize], upstream: &[StepSet]) -> String {
    if reason == GapReason::NoCompensate {
        return "add `compensate`, or `irreversible: true` if nothing undoes it; a step that changes nothing may stay as \
                it is"
            .to_owned();
    }
    let others = cuts.iter().filter(|cut| **cut != effect);
    let (behind, beside): (Vec<usize>, Vec<usize>) = others.partition(|cut| upstream[**cut].contains(effect));
    let names = |steps: &[usize]| steps.iter().map(|step| format!("`{}`", id(plan, *step))).collect::<Vec<_>>();
    let beside = match beside.as_slice() {
        [] => None,
        steps => Some(format!("add {} to its `depends_on`", Words(&names(steps), "and"))),
    };
    let behind = match behind.as_slice() {
        [] => None,
        [step] => Some(format!("`{}` depends on it and should come before it", id(plan, *step))),
        steps => Some(format!("{} depend on it and should come before it", Words(&names(steps), "and"))),
    };
    let advice: Vec<String> = beside.into_iter().chain(behind).collect();
    match advice.is_empty() {
        true => "nothing takes back the items that are done; check them all in a step before".to_owned(),
        false => format!("put irreversible steps last: {}", advice.join("; ")),
    }
}

/// `a, b or c`
struct Words<'a>(&'a [String], &'a str);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            [one] => f.write_str(one),
            [first @ .., last] => write!(f, "{} {} {last}", first.join(", "), self.1),
        }
    }
}

#[cfg(test)]
mod tests;
