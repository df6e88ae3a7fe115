//! How long things took, and how much of what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;

use serde_json::Value;

use crate::chaos::judge::{self, Evidence};
use crate::chaos::ledger::Call;
use crate::chaos::load::Settled;
use crate::chaos::network;
use crate::chaos::record::Happened;
use crate::chaos::schedule::Target;
use crate::chaos::workflow;

/// Within this time after the death of NATS a step completes somewhere.
const NATS_LIMIT_MS: u64 = 20_000;
/// Within this time after the death of a coordinator every partition that has something to do goes on. It is 10 s on a
/// machine of its own; this one may build at the same time.
const COORDINATOR_LIMIT_MS: u64 = 15_000;

/// How many of the side effects that ran again are listed.
const RERUNS_SHOWN: usize = 12;

/// How long it took until work went on after a kill.
#[derive(Debug, Clone)]
pub struct Resumption {
    pub strike: Happened,
    pub took_ms: u64,
    /// Whether nothing else was struck that could be the reason.
    pub alone: bool,
}

impl Resumption {
    fn limit_ms(&self) -> u64 {
        match self.strike.target() {
            Some(Target::Coordinator(_)) => COORDINATOR_LIMIT_MS,
            _ => NATS_LIMIT_MS,
        }
    }

    /// Whether it took longer than promised, and no other strike can be the reason.
    pub fn is_late(&self) -> bool {
        self.alone && self.took_ms > self.limit_ms()
    }
}

impl fmt::Display for Resumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { strike, took_ms, alone } = self;
        write!(f, "{took_ms:>6} ms after {strike}{}", if *alone { "" } else { " (among others)" })
    }
}

/// For each kill of NATS and of coordinators after which there was something to do: when work went on.
pub fn resumptions(evidence: &Evidence, calls: &[Call], happened: &[Happened]) -> Vec<Resumption> {
    let completions = completions(evidence);
    let published = published(evidence, calls);
    let mut found = Vec::new();
    for (i, strike) in happened.iter().enumerate().filter(|(_, strike)| strike.is_kill()) {
        let at_ms = strike.start_ms;
        let others = || happened.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other);
        let (took_ms, alone) = match strike.target() {
            Some(Target::Nats(_) | Target::AllNats) => {
                let next = completions.range(at_ms + 1..).next();
                let disturbed = others().any(|other| other.touches(at_ms, at_ms + NATS_LIMIT_MS, 0));
                (next.map(|next_ms| next_ms - at_ms), !disturbed)
            }
            Some(Target::Coordinator(_)) => {
                let disturbed = others().any(|other| {
                    let felt_ms = if other.target().is_some_and(Target::is_nats) { 15_000 } else { 1_000 };
                    other.touches(at_ms, at_ms + COORDINATOR_LIMIT_MS, felt_ms)
                });
                (slowest_partition(&published, at_ms), !disturbed)
            }
            Some(Target::Worker(_)) | None => continue,
        };
        found.extend(took_ms.map(|took_ms| Resumption { strike: strike.clone(), took_ms, alone }));
    }
    found
}

/// For each partition that had something to publish within the limit: how long the first of that took. The slowest.
fn slowest_partition(published: &[Published], at_ms: u64) -> Option<u64> {
    let mut first: BTreeMap<u8, u64> = BTreeMap::new();
    let caused = published.iter().filter(|work| (at_ms..at_ms + COORDINATOR_LIMIT_MS).contains(&work.caused_ms));
    for work in caused {
        let called_ms = first.entry(work.partition).or_insert(u64::MAX);
        *called_ms = (*called_ms).min(work.called_ms);
    }
    first.values().max().map(|called_ms| called_ms.saturating_sub(at_ms))
}

/// A task that only an owner can have published.
struct Published {
    partition: u8,
    /// When the journal had what the step waited for.
    caused_ms: u64,
    /// When a worker called the witness for it.
    called_ms: u64,
}

fn published(evidence: &Evidence, calls: &[Call]) -> Vec<Published> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for call in calls.iter().filter(|call| call.item.is_none()) {
        let Some(testimony) = evidence.executions.get(&call.execution) else { continue };
        let number: usize = call.step.trim_start_matches('s').parse().expect("our steps are numbered");
        let caused = workflow::dependencies(number).into_iter().map(|step| completed_ms(&testimony.events, step));
        let Some(caused_ms) = caused.max().flatten() else { continue };
        let first = seen.insert((&call.execution, number));
        if let Some(partition) = partition(&call.execution).filter(|_| first) {
            found.push(Published { partition, caused_ms, called_ms: call.at_ms });
        }
    }
    found
}

/// The last byte of an id is its partition.
fn partition(execution: &str) -> Option<u8> {
    u8::from_str_radix(execution.get(execution.len().checked_sub(2)?..)?, 16).ok()
}

/// When a step completed, by the journal's clock, in milliseconds since 1970; of a fan-out the last item.
pub fn completed_ms(events: &[Value], step: usize) -> Option<u64> {
    let id = format!("s{step}");
    let of_it = events.iter().filter(|event| event["type"] == "step.completed" && event["step_id"] == id.as_str());
    of_it.filter_map(|event| time_ms(event["time"].as_str()?)).max()
}

fn completions(evidence: &Evidence) -> BTreeSet<u64> {
    let events = evidence.executions.values().flat_map(|testimony| &testimony.events);
    let completed = events.filter(|event| event["type"] == "step.completed");
    completed.filter_map(|event| time_ms(event["time"].as_str()?)).collect()
}

/// The longest time within these bounds in which no step completed.
pub fn longest_silence_ms(evidence: &Evidence, from_ms: u64, to_ms: u64) -> u64 {
    let within: Vec<u64> = completions(evidence).range(from_ms..to_ms).copied().collect();
    let marks: Vec<u64> = std::iter::once(from_ms).chain(within).collect();
    marks.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(to_ms - from_ms)
}

/// Milliseconds since 1970 of a time as `2026-11-20T14:25:12.000345Z`.
fn time_ms(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut time = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let millis: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    // Days of the civil calendar, counted from a first of March so that leap days come last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000 + millis)
}

/// The figures of a run for people.
pub fn figures(
    settled: &Settled,
    evidence: &Evidence,
    calls: &[Call],
    happened: &[Happened],
    settled_ms: u64,
) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: String| writeln!(text, "{what:<34} {value}").expect("a string grows");
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for fate in &settled.fates {
        let status = fate.ended.as_ref().and_then(|ended| ended["status"].as_str()).unwrap_or("not ended");
        *ends.entry(status).or_default() += 1;
    }
    line("executions", format!("{} ({ends:?})", settled.fates.len()));
    let kills = happened.iter().filter(|strike| strike.is_kill()).count();
    line("strikes", format!("{} ({kills} kills)", happened.len()));
    line("side effects", calls.len().to_string());
    let reruns = judge::reruns(calls, happened);
    line("  ran again after a success", reruns.len().to_string());
    for rerun in reruns.iter().take(RERUNS_SHOWN) {
        let judge::Rerun { first, again, reasons } = rerun;
        let apart_ms = again.at_ms.saturating_sub(first.at_ms);
        let reasons: Vec<String> = reasons.iter().rev().take(3).map(ToString::to_string).collect();
        line(
            "",
            format!(
                "{} attempts {} and {}, {apart_ms} ms apart: {}",
                first.step,
                first.attempt,
                again.attempt,
                reasons.join("; ")
            ),
        );
    }
    line("settled after the last strike", format!("{settled_ms} ms"));
    line(
        "submit to accepted",
        quantiles(
            settled.fates.iter().filter(|fate| fate.id.is_some()).map(|fate| fate.accepted_ms - fate.submitted_ms),
        ),
    );
    line(
        "accepted to seen ended",
        quantiles(
            settled.fates.iter().filter(|fate| fate.ended.is_some()).map(|fate| fate.ended_ms - fate.accepted_ms),
        ),
    );
    let completions: Vec<u64> = completions(evidence).into_iter().collect();
    let gap = completions.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    line("longest time without a result", format!("{gap} ms"));
    for silence in network::silences(evidence, happened) {
        line("longest silence in a cut and after", silence);
    }
    line("answers", evidence.answers.clone());
    for denial in &evidence.denials {
        line("accepted, and not known for a while", denial.clone());
    }
    line("work went on", String::new());
    for resumption in resumptions(evidence, calls, happened) {
        line("", resumption.to_string());
    }
    text
}

fn quantiles(values: impl Iterator<Item = u64>) -> String {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    let Some(last) = values.len().checked_sub(1) else { return "-".to_owned() };
    let at = |share: usize| values[last * share / 100];
    format!("p50 {} ms, p99 {} ms, max {} ms", at(50), at(99), values[last])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_events_are_milliseconds_since_1970() {
        assert_eq!(time_ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(time_ms("2024-02-29T12:30:15.5Z"), Some(1_709_209_815_500));
        assert_eq!(time_ms("2026-11-20T14:25:12.000345Z"), Some(1_795_184_712_000));
        assert_eq!(time_ms("yesterday"), None);
    }

    #[test]
    fn the_partition_is_the_last_byte_of_an_id() {
        assert_eq!(partition("019a0000-0000-7000-8000-000000000a07"), Some(7));
    }
}
