//! What an execution is, as a hash: equal for every build that folds the same entries to the same state. Wordings for
//! people are not in it, nor what only tells of the past (records of events, outputs of earlier rounds).
//!
//! It is the hash of a text with a line for each part of the state. Hashes are stored with snapshots and records: a
//! change of the text makes all of those wrong.

use std::fmt::Write as _;

use millstream_model::hash::ContentHash;
use millstream_model::payload::{Body, Payload};

use crate::attempt::{Attempt, Outstanding};
use crate::execution::{Execution, Phase, Verdict};
use crate::step::{Evaluating, Output, Settlement, Skip, Start, State, Step};
use crate::timer::Alarm;

/// The text that grows.
#[derive(Debug, Default)]
pub(crate) struct StateText(String);

impl StateText {
    pub(crate) fn line(&mut self, what: std::fmt::Arguments<'_>) {
        self.0.write_fmt(what).expect("a string takes all");
        self.0.push('\n');
    }

    pub(crate) fn value(&mut self, payload: &Payload) {
        if let Some(coding) = &payload.enc {
            self.line(format_args!("coded {coding}"));
        }
        match &payload.body {
            Body::Inline(json) => self.line(format_args!("{}", json.get())),
            Body::Stored(reference) => self.line(format_args!("stored {} {}", reference.hash, reference.size)),
        }
    }

    pub(crate) fn values(&mut self, outputs: &[Option<Payload>]) {
        for (index, output) in outputs.iter().enumerate() {
            if let Some(output) = output {
                self.line(format_args!("output {index} of {}", outputs.len()));
                self.value(output);
            }
        }
    }

    pub(crate) fn attempt(&mut self, of: std::fmt::Arguments<'_>, attempt: Attempt) {
        match attempt {
            Attempt::Outstanding(Outstanding { number, since, held }) => {
                self.line(format_args!("{of} outstanding {number} since {} held {held}", since.as_micros()));
            }
            Attempt::BackingOff { next } => self.line(format_args!("{of} backs off {next}")),
            Attempt::Due { next } => self.line(format_args!("{of} due {next}")),
        }
    }

    fn hash(&self) -> ContentHash {
        ContentHash::of(self.0.as_bytes())
    }
}

/// An index of an item, or a dash for what is not of a fan-out.
pub(crate) fn item(item: Option<u32>) -> String {
    item.map_or_else(|| "-".to_owned(), |item| item.to_string())
}

impl Execution {
    /// Hash of its state: where it and its steps stand, their outputs, what it waits for, what is to be undone.
    pub fn state_hash(&self) -> ContentHash {
        let mut text = StateText::default();
        self.write_head(&mut text);
        for step in self.plan.all() {
            text.line(format_args!("step {}", step.0));
            write_step(&mut text, self.step(step));
        }
        self.saga.write_state(&mut text);
        for (at, alarm) in self.alarms() {
            let at = at.as_micros();
            let (kind, step, of, activation, number) = match alarm {
                Alarm::Deadline => ("deadline", 0, None, 0, 0),
                Alarm::Grace => ("grace", 0, None, 0, 0),
                Alarm::Backoff { step, item, activation, attempt } => ("backoff", step.0, item, activation, attempt),
                Alarm::Claim { step, item, activation, ordinal } => ("claim", step.0, item, activation, ordinal),
                Alarm::ScheduleToStart { step, item, activation, attempt } => {
                    ("start", step.0, item, activation, attempt)
                }
                Alarm::ScheduleToClose { step, item, activation } => ("close", step.0, item, activation, 0),
            };
            text.line(format_args!("alarm {at} {kind} {step} {} {activation} {number}", item(of)));
        }
        for ((step, of), worker) in &self.claimants {
            text.line(format_args!("claimed {} {} by {worker}", step.0, item(*of)));
        }
        text.hash()
    }

    fn write_head(&self, text: &mut StateText) {
        let (fold, expressions, round) = (self.fold_rev, self.submitted.expr_rev, self.round());
        text.line(format_args!("{} of {}", self.id(), self.submitted.definition));
        text.line(format_args!("fold {fold} expressions {expressions} round {round} partial {}", self.partial));
        match &self.phase {
            Phase::Running => text.line(format_args!("running")),
            Phase::Aggregating => text.line(format_args!("aggregating")),
            Phase::Stopping(Verdict::Failed(failure)) => {
                let step = failure.step.as_ref().map_or("-", |step| step.as_str());
                text.line(format_args!("stopping {} of {step}", failure.error.code));
            }
            Phase::Stopping(Verdict::Cancelled) => text.line(format_args!("stopping cancelled")),
            Phase::Stopping(Verdict::Timeout) => text.line(format_args!("stopping timeout")),
            Phase::Compensating(status) => text.line(format_args!("compensating {}", status.as_str())),
            Phase::Finalizing(status) => text.line(format_args!("finalizing {}", status.as_str())),
            Phase::Ended(status) => text.line(format_args!("ended {}", status.as_str())),
        }
        let counts = &self.counts;
        text.line(format_args!(
            "retries {} fallbacks {} reissues {} compensations {}",
            counts.retries, counts.fallbacks, counts.reissues, counts.compensations
        ));
        let (started, deadline, clock) =
            (self.started_at.as_micros(), self.deadline.as_micros(), self.clock.as_micros());
        text.line(format_args!("from {started} deadline {deadline} clock {clock}"));
        if let Some(ended) = self.ended_at {
            text.line(format_args!("to {}", ended.as_micros()));
        }
        if let Some(cancel) = &self.cancel {
            let (at, compensate) = (cancel.request.at.as_micros(), cancel.request.compensate);
            let (acknowledged, forced) = (cancel.acknowledged, cancel.forced);
            text.line(format_args!("cancel {at} compensate {compensate} acknowledged {acknowledged} forced {forced}"));
        }
        if let Some(failure) = &self.failure {
            let step = failure.step.as_ref().map_or("-", |step| step.as_str());
            text.line(format_args!("failure {} of {step}", failure.error.code));
        }
        if let Some(output) = &self.output {
            text.line(format_args!("output"));
            text.value(output);
        }
    }
}

fn write_step(text: &mut StateText, step: &Step) {
    let Step { round, attempts, retries, fallbacks, .. } = step;
    text.line(format_args!("round {round} attempts {attempts} retries {retries} fallbacks {fallbacks}"));
    for (what, at) in [("scheduled", step.scheduled_at), ("started", step.started_at), ("ended", step.ended_at)] {
        if let Some(at) = at {
            text.line(format_args!("{what} {}", at.as_micros()));
        }
    }
    if let Some(worker) = &step.worker {
        text.line(format_args!("by {worker}"));
    }
    if let Some(metrics) = &step.metrics {
        text.line(format_args!("metrics"));
        text.value(metrics);
    }
    if let Some(kept) = &step.kept {
        text.line(format_args!("kept"));
        text.values(kept);
    }
    if let Some(ended) = &step.fan_out {
        text.line(format_args!("items {} {} {} {}", ended.total, ended.completed, ended.failed, ended.skipped));
    }
    match &step.state {
        State::Pending { missing } => text.line(format_args!("pending {missing}")),
        State::Evaluating(Evaluating::Condition) => text.line(format_args!("evaluating condition")),
        State::Evaluating(Evaluating::Items) => text.line(format_args!("evaluating items")),
        State::Evaluating(Evaluating::Aggregate) => text.line(format_args!("evaluating aggregate")),
        State::Ready(Start::Attempt { activation, number }) => text.line(format_args!("ready {activation} {number}")),
        State::Ready(Start::FanOut { items }) => text.line(format_args!("ready for {items} items")),
        State::Running { activation, attempt } => text.attempt(format_args!("running {activation}"), *attempt),
        State::FanningOut(fan_out) => fan_out.write_state(text),
        State::Settled(settlement) => write_settlement(text, settlement),
    }
}

fn write_settlement(text: &mut StateText, settlement: &Settlement) {
    match settlement {
        Settlement::Completed(output) => {
            text.line(format_args!("completed"));
            match output {
                Output::One(payload) => text.value(payload),
                Output::Whole(payload) => {
                    text.line(format_args!("whole"));
                    text.value(payload);
                }
                Output::List(outputs) => {
                    text.line(format_args!("list of {}", outputs.len()));
                    text.values(outputs);
                }
            }
        }
        Settlement::Failed { error, outputs } => {
            text.line(format_args!("failed {}", error.code));
            outputs.iter().for_each(|outputs| text.values(outputs));
        }
        Settlement::Skipped(Skip::Condition) => text.line(format_args!("skipped by its condition")),
        Settlement::Skipped(Skip::Fallback) => text.line(format_args!("skipped by its fallback")),
        Settlement::Skipped(Skip::NotCompleted(step)) => text.line(format_args!("skipped without {}", step.0)),
        Settlement::Skipped(Skip::Upstream(cause)) => {
            let (through, first, status) = (cause.through.0, cause.first.0, cause.status.as_str());
            text.line(format_args!("skipped through {through} of {first} {status}"));
        }
        Settlement::Skipped(Skip::Ended) => text.line(format_args!("skipped at the end")),
        Settlement::Cancelled { outputs } => {
            text.line(format_args!("cancelled"));
            outputs.iter().for_each(|outputs| text.values(outputs));
        }
    }
}
