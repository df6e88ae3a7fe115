//! What must be true of a run, whatever was struck.
//!
//! - every execution that was accepted ends, within the settling time, and none is refused for good;
//! - no result is applied twice, nothing happens after the end, a cancelled execution starts nothing;
//! - a step starts after what it depends on, and data took its way;
//! - a side effect runs at most `max_attempts` times, and twice only where a strike explains it; each attempt once,
//!   except where a struck nats-server may have forgotten that it delivered a task;
//! - every coordinator shows the same, and an idempotency key means the same execution as at first;
//! - no process ends by itself;
//! - work goes on soon after a strike: see [`figures`](crate::chaos::figures).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures::StreamExt;
use serde_json::Value;

use crate::chaos::client::Outcome;
use crate::chaos::figures;
use crate::chaos::ledger::Call;
use crate::chaos::load::{Fate, Settled, TERMINAL};
use crate::chaos::record::Happened;
use crate::chaos::schedule::Target;
use crate::chaos::settings::Settings;
use crate::chaos::workflow;
use crate::chaos::world::{Fallen, World};

/// Requests of the questions afterwards that are under way at the same time.
const ASKED_AT_ONCE: usize = 8;
/// Executions whose key is submitted once more.
const REPEATED_MAX: usize = 500;
/// How many findings of one kind are told.
const TOLD_MAX: usize = 12;

/// What all coordinators say of one execution at the end.
#[derive(Debug, Clone, Default)]
pub struct Testimony {
    pub events: Vec<Value>,
    /// What each coordinator shows; `None` when it does not know it.
    pub shown: Vec<Option<Value>>,
    /// The execution that its key stands for when it is submitted once more.
    pub repeated: Option<String>,
}

/// The testimonies by execution, and the clients' count of answers.
#[derive(Debug, Default)]
pub struct Evidence {
    pub executions: BTreeMap<String, Testimony>,
    pub answers: String,
    /// When a coordinator did not know for a while what had been accepted.
    pub denials: Vec<String>,
}

/// Everything that was found; clean when that is nothing.
#[derive(Debug, Default)]
pub struct Verdict {
    findings: BTreeMap<&'static str, Vec<String>>,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    pub fn add(&mut self, kind: &'static str, finding: impl Into<String>) {
        self.findings.entry(kind).or_default().push(finding.into());
    }

    /// How often something of this kind was found.
    pub fn count(&self, kind: &str) -> usize {
        self.findings.get(kind).map_or(0, Vec::len)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return writeln!(f, "clean: every promise held");
        }
        for (kind, findings) in &self.findings {
            writeln!(f, "{kind}: {}", findings.len())?;
            for finding in findings.iter().take(TOLD_MAX) {
                writeln!(f, "  {finding}")?;
            }
        }
        Ok(())
    }
}

/// The finding that an accepted execution is not known, or did not end.
pub const LOST: &str = "lost executions";
pub const STUCK: &str = "stuck executions";

/// Asks every coordinator about every execution.
pub async fn gather(world: &World, settled: &Settled) -> Evidence {
    let clients = world.clients();
    let asked = settled.fates.iter().filter_map(|fate| fate.id.clone().map(|id| (fate, id)));
    let executions = futures::stream::iter(asked)
        .map(|(fate, id)| async move {
            let mut dice = clients.dice(&id);
            let mut testimony = Testimony::default();
            if fate.odd.is_empty()
                && let Outcome::Done(Value::Array(events)) = clients.events(&id, &mut dice).await
            {
                testimony.events = events;
            }
            for api in clients.apis() {
                let answer = api.get(&format!("/executions/{id}")).await.ok();
                testimony.shown.push(answer.filter(|answer| answer.status == 200).map(|answer| answer.body));
            }
            if fate.number < REPEATED_MAX {
                let input = workflow::input(fate.number, fate.ballast);
                if let Outcome::Done(body) = clients.submit(&fate.key, &input, &mut dice).await {
                    testimony.repeated = body["execution_id"].as_str().map(ToOwned::to_owned);
                }
            }
            (id, testimony)
        })
        .buffer_unordered(ASKED_AT_ONCE)
        .collect()
        .await;
    Evidence { executions, answers: clients.answers(), denials: clients.denials() }
}

/// Judges a run.
pub fn judge(
    settings: &Settings,
    settled: &Settled,
    evidence: &Evidence,
    calls: &[Call],
    happened: &[Happened],
    fallen: &[Fallen],
    verified: Vec<String>,
) -> Verdict {
    let mut verdict = Verdict::default();
    for fate in &settled.fates {
        ends(settings, fate, &mut verdict);
        if let Some((id, testimony)) = fate.id.as_ref().and_then(|id| evidence.executions.get_key_value(id)) {
            history(settings, fate, id, testimony, &mut verdict);
            agreement(fate, id, testimony, &mut verdict);
        }
    }
    effects(calls, happened, &mut verdict);
    order(evidence, calls, &mut verdict);
    for fallen in fallen {
        verdict.add("processes that ended by themselves", format!("{} at {}", fallen.target, fallen.at_ms));
    }
    for problem in verified {
        verdict.add("millstream verify", problem);
    }
    for late in figures::resumptions(evidence, calls, happened).iter().filter(|resumption| resumption.is_late()) {
        verdict.add("resumed late", late.to_string());
    }
    verdict
}

fn ends(settings: &Settings, fate: &Fate, verdict: &mut Verdict) {
    let Fate { number, key, id, .. } = fate;
    for odd in &fate.odd {
        let kind = if odd.contains("404") { LOST } else { "answers that a good client must not get" };
        verdict.add(kind, format!("{key} {}: {odd}", id.as_deref().unwrap_or("-")));
    }
    let (Some(id), Some(ended)) = (id, &fate.ended) else {
        if fate.odd.is_empty() {
            let kind = if id.is_some() { STUCK } else { "submissions that never got in" };
            verdict.add(kind, format!("{key} {}", id.as_deref().unwrap_or("-")));
        }
        return;
    };
    match ended["status"].as_str() {
        Some("COMPLETED") => {
            let expected = workflow::output(*number, settings.steps);
            if ended["output"] != expected {
                verdict.add("wrong outputs", format!("{id}: {} and not {expected}", ended["output"]));
            }
        }
        Some("CANCELLED") if fate.cancelled => {}
        status => {
            let status = status.unwrap_or_default();
            verdict.add("ends that nobody asked for", format!("{id}: {status} {}", ended["error"]));
        }
    }
}

/// The events of one execution.
fn history(settings: &Settings, fate: &Fate, id: &str, testimony: &Testimony, verdict: &mut Verdict) {
    let mut completed: BTreeMap<(&str, Option<u64>), usize> = BTreeMap::new();
    let (mut cancel_requested, mut ended) = (false, false);
    for event in &testimony.events {
        let kind = event["type"].as_str().unwrap_or_default();
        if ended {
            verdict.add("events after the end", format!("{id}: {event}"));
        }
        match kind {
            "step.completed" => {
                let step = event["step_id"].as_str().unwrap_or_default();
                *completed.entry((step, event["item"].as_u64())).or_default() += 1;
            }
            // A later attempt is a reissue: a worker has to say that the step does not run.
            "step.scheduled" if cancel_requested && event["attempt"] == 1 => {
                verdict.add("steps that a cancelled execution started", format!("{id}: {event}"));
            }
            "workflow.cancel_requested" => cancel_requested = true,
            _ => {
                ended |= kind
                    .strip_prefix("workflow.")
                    .is_some_and(|end| TERMINAL.iter().any(|state| state.eq_ignore_ascii_case(end)))
            }
        }
    }
    for ((step, item), count) in completed.iter().filter(|(_, count)| **count > 1) {
        verdict.add("results applied twice", format!("{id}: {step} {item:?} completed {count} times"));
    }
    let is_whole = fate.ended.as_ref().is_some_and(|ended| ended["status"] == "COMPLETED");
    let steps: BTreeSet<&str> = completed.keys().map(|(step, _)| *step).collect();
    if is_whole && steps.len() != settings.steps {
        verdict.add("completed executions without all their steps", format!("{id}: {steps:?}"));
    }
}

fn agreement(fate: &Fate, id: &str, testimony: &Testimony, verdict: &mut Verdict) {
    for (i, shown) in testimony.shown.iter().enumerate() {
        let by = Target::Coordinator(i);
        match (shown, &fate.ended) {
            (None, _) => verdict.add(LOST, format!("{by} does not know {id}")),
            (Some(shown), Some(ended)) if shown != ended => {
                verdict.add(
                    "executions that differ from what was shown at their end",
                    format!("{by}: {shown}\n    {ended}"),
                );
            }
            (Some(_), _) => {}
        }
    }
    if let Some(repeated) = testimony.repeated.as_ref().filter(|repeated| *repeated != id) {
        verdict.add("keys that became another execution", format!("{}: {id} and {repeated}", fate.key));
    }
}

/// A side effect that ran more than once.
#[derive(Debug, Clone)]
pub struct Rerun<'a> {
    pub first: &'a Call,
    pub again: &'a Call,
    /// The strikes that can be the reason.
    pub reasons: Vec<&'a Happened>,
}

/// How long a strike is felt after what was struck is back: a cluster of NATS elects, a worker reconnects and asks.
const FELT_NATS_MS: u64 = 20_000;
const FELT_COORDINATOR_MS: u64 = 15_000;
const FELT_WORKER_MS: u64 = 1_000;
/// How long a run and the storing of its result take when nothing is the matter.
const RUN_MS: u64 = 4_000;

/// Every side effect that ran again though it had succeeded, or again for the same attempt.
pub fn reruns<'a>(calls: &'a [Call], happened: &'a [Happened]) -> Vec<Rerun<'a>> {
    let mut last: BTreeMap<&str, &Call> = BTreeMap::new();
    let mut found = Vec::new();
    for call in calls {
        if let Some(first) = last.insert(&call.key, call)
            && (!first.refused || first.attempt == call.attempt)
        {
            let reasons = happened.iter().filter(|strike| {
                let felt_ms = match strike.target() {
                    None | Some(Target::Nats(_) | Target::AllNats) => FELT_NATS_MS,
                    Some(Target::Coordinator(_)) => FELT_COORDINATOR_MS,
                    Some(Target::Worker(_)) => FELT_WORKER_MS,
                };
                strike.touches(first.at_ms, first.at_ms + RUN_MS, felt_ms)
            });
            found.push(Rerun { first, again: call, reasons: reasons.collect() });
        }
    }
    found
}

fn effects(calls: &[Call], happened: &[Happened], verdict: &mut Verdict) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for call in calls {
        *counts.entry(&call.key).or_default() += 1;
    }
    for (key, count) in counts.iter().filter(|(_, count)| **count > workflow::ATTEMPTS_MAX) {
        verdict.add("side effects that ran too often", format!("{key}: {count} times"));
    }
    let mut attempts: BTreeMap<(&str, u64), Vec<u64>> = BTreeMap::new();
    for call in calls {
        attempts.entry((&call.key, call.attempt)).or_default().push(call.at_ms);
    }
    for ((key, attempt), times_ms) in attempts.iter().filter(|(_, times_ms)| times_ms.len() > 1) {
        let (first_ms, last_ms) = (times_ms[0], times_ms[times_ms.len() - 1]);
        let forgetful = happened.iter().filter(|strike| {
            strike.target().is_none_or(Target::is_nats) && strike.touches(first_ms, last_ms, FELT_NATS_MS)
        });
        if times_ms.len() > 1 + forgetful.count() {
            let kind = "attempts that ran twice though no server forgot a delivery";
            verdict.add(kind, format!("{key} attempt {attempt}: at {times_ms:?}"));
        }
    }
    for rerun in reruns(calls, happened).iter().filter(|rerun| rerun.reasons.is_empty()) {
        let Rerun { first, again, .. } = rerun;
        verdict.add(
            "reruns that no strike explains",
            format!("{} {} {:?}: at {} and {}", first.execution, first.step, first.item, first.at_ms, again.at_ms),
        );
    }
}

/// No step is called before what it depends on has completed, by the journal's clock.
fn order(evidence: &Evidence, calls: &[Call], verdict: &mut Verdict) {
    for call in calls {
        let Some(testimony) = evidence.executions.get(&call.execution) else { continue };
        let number = call.step.trim_start_matches('s').parse().expect("our steps are numbered");
        for dependency in workflow::dependencies(number) {
            let done_ms = figures::completed_ms(&testimony.events, dependency);
            if done_ms.is_none_or(|done_ms| call.at_ms < done_ms) && !testimony.events.is_empty() {
                let finding =
                    format!("{} {} at {} before s{dependency} at {done_ms:?}", call.execution, call.step, call.at_ms);
                verdict.add("steps that started too early", finding);
            }
        }
    }
}
