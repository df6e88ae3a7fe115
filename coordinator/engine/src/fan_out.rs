//! A fan-out: a cursor over a list, not a step per item.
//!
//! Hot state is what is in flight; beside it an item costs its output.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_model::definition::{OnFailure, OnItemFailure};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::payload::Payload;
use millstream_model::plan::StepIndex;
use millstream_model::view::FanOutView;

use crate::activation::{self, Role};
use crate::attempt::{Attempt, Outstanding};
use crate::execution::{Execution, Fold, Phase, Verdict};
use crate::record::{Cancel, Ran, Subject, What};
use crate::state::StateText;
use crate::step::{Output, Outputs, Settlement, State};

/// Where a fan-out stands.
#[derive(Debug)]
pub(crate) struct FanOut {
    round: u32,
    pub total: u32,
    /// Items below it were started.
    pub next: u32,
    pub concurrency: u32,
    pub outstanding: BTreeMap<u32, Outstanding>,
    /// Next attempt by item.
    backing_off: BTreeMap<u32, u32>,
    /// Next attempt by item, waiting for a slot of this fan-out.
    due: BTreeMap<u32, u32>,
    /// Items that are not settled and that the fallback agent does.
    fell_back: BTreeSet<u32>,
    /// By index; `None` where there is none (yet).
    outputs: Vec<Option<Payload>>,
    completed: u32,
    failed: u32,
    /// Left out by their fallback.
    skipped: u32,
    last_error: Option<StepError>,
    /// Nothing more is started: an item failed and the step with it, or the execution stops.
    closed: bool,
    /// The failure of an item that is the step's failure.
    failing: bool,
}

impl FanOut {
    /// A fan-out over `total` items; those that have an output in `kept` are not run.
    pub(crate) fn new(total: u32, concurrency: u32, round: u32, kept: Option<Outputs>) -> Self {
        let outputs = kept.map_or_else(|| vec![None; total as usize], |kept| kept.to_vec());
        let completed = u32::try_from(outputs.iter().flatten().count()).unwrap_or(u32::MAX);
        Self {
            round,
            total,
            next: 0,
            concurrency,
            outstanding: BTreeMap::new(),
            backing_off: BTreeMap::new(),
            due: BTreeMap::new(),
            fell_back: BTreeSet::new(),
            outputs,
            completed,
            failed: 0,
            skipped: 0,
            last_error: None,
            closed: false,
            failing: false,
        }
    }

    /// The activation in which an item is, or is started.
    pub(crate) fn activation_of(&self, item: u32) -> u32 {
        let role = if self.fell_back.contains(&item) { Role::Fallback } else { Role::Run };
        activation::number(self.round, role)
    }

    /// The fallback agent does an item when there is a slot.
    pub(crate) fn fall_back(&mut self, item: u32) {
        self.remove(item);
        self.fell_back.insert(item);
        self.due.insert(item, 1);
    }

    pub(crate) fn attempt(&self, item: u32) -> Option<Attempt> {
        if let Some(outstanding) = self.outstanding.get(&item) {
            return Some(Attempt::Outstanding(*outstanding));
        }
        if let Some(&next) = self.backing_off.get(&item) {
            return Some(Attempt::BackingOff { next });
        }
        self.due.get(&item).map(|&next| Attempt::Due { next })
    }

    pub(crate) fn set(&mut self, item: u32, attempt: Attempt) {
        self.remove(item);
        match attempt {
            Attempt::Outstanding(outstanding) => {
                self.outstanding.insert(item, outstanding);
            }
            Attempt::BackingOff { next } => {
                self.backing_off.insert(item, next);
            }
            Attempt::Due { next } => {
                self.due.insert(item, next);
            }
        }
    }

    /// The item is settled.
    fn settle(&mut self, item: u32) {
        self.remove(item);
        self.fell_back.remove(&item);
    }

    fn remove(&mut self, item: u32) {
        if self.outstanding.remove(&item).is_none() && self.backing_off.remove(&item).is_none() {
            self.due.remove(&item);
        }
    }

    /// The next item to start and its attempt, if there is a slot.
    fn take_next(&mut self) -> Option<(u32, u32)> {
        if self.closed || self.outstanding.len() >= self.concurrency as usize {
            return None;
        }
        if let Some(due) = self.due.pop_first() {
            return Some(due);
        }
        self.skip_kept();
        (self.next < self.total).then(|| {
            let item = self.next;
            self.next += 1;
            (item, 1)
        })
    }

    /// Moves the cursor over items whose outputs are kept.
    fn skip_kept(&mut self) {
        while self.outputs.get(self.next as usize).is_some_and(Option::is_some) {
            self.next += 1;
        }
    }

    fn is_finished(&self) -> bool {
        let waiting = !(self.outstanding.is_empty() && self.backing_off.is_empty() && self.due.is_empty());
        !waiting && (self.closed || self.next == self.total)
    }

    pub(crate) fn output(&self, item: u32) -> Option<&Payload> {
        self.outputs.get(item as usize)?.as_ref()
    }

    /// All of it that is state: see [`Execution::state_hash`].
    pub(crate) fn write_state(&self, text: &mut StateText) {
        let Self { round, total, next, concurrency, .. } = self;
        let Self { completed, failed, skipped, closed, failing, .. } = self;
        text.line(format_args!("fanning out {total} in round {round} from {next} by {concurrency}"));
        text.line(format_args!("completed {completed} failed {failed} skipped {skipped} {closed} {failing}"));
        if let Some(error) = &self.last_error {
            text.line(format_args!("last {}", error.code));
        }
        for (item, outstanding) in &self.outstanding {
            text.attempt(format_args!("item {item}"), Attempt::Outstanding(*outstanding));
        }
        for (item, &next) in &self.backing_off {
            text.attempt(format_args!("item {item}"), Attempt::BackingOff { next });
        }
        for (item, &next) in &self.due {
            text.attempt(format_args!("item {item}"), Attempt::Due { next });
        }
        for item in &self.fell_back {
            text.line(format_args!("item {item} by its fallback"));
        }
        text.values(&self.outputs);
    }

    pub(crate) fn view(&self) -> FanOutView {
        let outstanding = self.outstanding.len() + self.backing_off.len() + self.due.len();
        FanOutView {
            total: self.total,
            completed: self.completed,
            failed: self.failed,
            skipped: self.skipped,
            outstanding: u32::try_from(outstanding).unwrap_or(u32::MAX),
        }
    }
}

impl Execution {
    pub(crate) fn fan_out_mut(&mut self, step: StepIndex) -> Option<&mut FanOut> {
        match &mut self.step_mut(step).state {
            State::FanningOut(fan_out) => Some(fan_out),
            State::Pending { .. }
            | State::Evaluating(_)
            | State::Ready(_)
            | State::Running { .. }
            | State::Settled(_) => None,
        }
    }

    /// Whether the item's fan-out starts nothing more, so that there is no other attempt for it.
    pub(crate) fn is_closed(&self, subject: Subject) -> bool {
        matches!(&self.step(subject.step).state, State::FanningOut(fan_out) if fan_out.closed)
    }

    /// Starts items while there are slots, and ends the step when nothing is left.
    pub(crate) fn fill_fan_out(&mut self, fold: &mut Fold<'_>, step: StepIndex) {
        while let Some(fan_out) = self.fan_out_mut(step) {
            let Some((item, number)) = fan_out.take_next() else {
                break;
            };
            let activation = fan_out.activation_of(item);
            self.publish(fold, step, Some(item), activation, number);
        }
        self.finish_fan_out(fold, step);
    }

    pub(crate) fn complete_item(
        &mut self,
        fold: &mut Fold<'_>,
        subject: Subject,
        item: u32,
        output: Payload,
        ran: Option<Box<Ran>>,
    ) {
        if let Some(fan_out) = self.fan_out_mut(subject.step) {
            fan_out.settle(item);
            fan_out.completed += 1;
            fan_out.outputs[item as usize] = Some(output);
        }
        if let Some(ran) = &ran {
            self.note_run(subject.step, ran);
            self.note_effect(subject.step, Some(item), subject.activation);
        }
        self.forget_activation(subject.step, Some(item));
        self.record(fold, What::Completed(subject, ran));
        self.fill_fan_out(fold, subject.step);
    }

    /// The fallback of an item is to go on without it.
    pub(crate) fn skip_item(&mut self, fold: &mut Fold<'_>, step: StepIndex, item: u32) {
        if let Some(fan_out) = self.fan_out_mut(step) {
            fan_out.settle(item);
            fan_out.skipped += 1;
        }
        self.forget_activation(step, Some(item));
        self.fill_fan_out(fold, step);
    }

    /// An item failed for good, or was cancelled.
    pub(crate) fn fail_item(
        &mut self,
        fold: &mut Fold<'_>,
        subject: Subject,
        item: u32,
        error: StepError,
        ran: Option<Box<Ran>>,
    ) {
        let step = subject.step;
        let fails_step =
            self.starts_steps() && self.plan.fan_out(step).is_some_and(|f| f.on_item_failure == OnItemFailure::Fail);
        if let Some(ran) = &ran {
            self.note_run(step, ran);
        }
        self.forget_activation(step, Some(item));
        let cancelled = error.code == ErrorCode::Cancelled;
        self.record(
            fold,
            if cancelled {
                What::Cancelled(subject, ran, Cancel::Acknowledged)
            } else {
                What::Failed(subject, ran, Box::new(error.clone()))
            },
        );
        if let Some(fan_out) = self.fan_out_mut(step) {
            fan_out.settle(item);
            fan_out.failed += 1;
            if fails_step && !fan_out.failing {
                fan_out.failing = true;
                fan_out.closed = true;
                fan_out.last_error = Some(error.clone());
            } else if !fan_out.failing {
                fan_out.last_error = Some(error.clone());
            }
        }
        if fails_step {
            self.abandon_waiting_items(fold, step);
            let ends_execution = self.phase == Phase::Running
                && self.plan.step(step).critical
                && self.plan.definition.on_failure != OnFailure::Continue;
            if ends_execution {
                let error = self.error_of(step, error);
                self.stop(fold, Verdict::Failed(error));
                return;
            }
        }
        self.fill_fan_out(fold, step);
    }

    /// The execution stops: no item is started any more; what is outstanding may acknowledge.
    pub(crate) fn close_fan_out(&mut self, fold: &mut Fold<'_>, step: StepIndex) {
        if let Some(fan_out) = self.fan_out_mut(step) {
            fan_out.closed = true;
        }
        self.abandon_waiting_items(fold, step);
        self.finish_fan_out(fold, step);
    }

    /// The grace is over: what did not acknowledge is cancelled.
    pub(crate) fn abandon_outstanding_items(&mut self, fold: &mut Fold<'_>, step: StepIndex) {
        if let Some(fan_out) = self.fan_out_mut(step) {
            let outstanding = std::mem::take(&mut fan_out.outstanding);
            let lost = outstanding.into_iter().map(|(item, o)| (item, o.number)).collect();
            self.cancel_items(fold, step, lost, Cancel::Forced);
        }
        self.finish_fan_out(fold, step);
    }

    fn abandon_waiting_items(&mut self, fold: &mut Fold<'_>, step: StepIndex) {
        if let Some(fan_out) = self.fan_out_mut(step) {
            let mut waiting = std::mem::take(&mut fan_out.backing_off);
            waiting.append(&mut fan_out.due);
            let waiting = waiting.into_iter().map(|(item, next)| (item, next.saturating_sub(1))).collect();
            self.cancel_items(fold, step, waiting, Cancel::NotRunning);
        }
    }

    fn cancel_items(&mut self, fold: &mut Fold<'_>, step: StepIndex, items: Vec<(u32, u32)>, how: Cancel) {
        for (item, attempt) in items {
            let mut activation = 0;
            if let Some(fan_out) = self.fan_out_mut(step) {
                activation = fan_out.activation_of(item);
                fan_out.settle(item);
                fan_out.failed += 1;
            }
            if how == Cancel::Forced {
                self.note_doubt(step, Some(item), activation);
            }
            self.forget_activation(step, Some(item));
            self.record(fold, What::Cancelled(Subject { step, item: Some(item), activation, attempt }, None, how));
        }
    }

    fn finish_fan_out(&mut self, fold: &mut Fold<'_>, step: StepIndex) {
        let min_success = self.plan.fan_out(step).and_then(|f| f.min_success);
        let Some(fan_out) = self.fan_out_mut(step).filter(|f| f.is_finished()) else {
            return;
        };
        let outputs: Outputs = Arc::new(std::mem::take(&mut fan_out.outputs));
        let (total, completed, failed) = (fan_out.total, fan_out.completed, fan_out.failed);
        let ended = completed + failed + fan_out.skipped;
        let (failing, closed) = (fan_out.failing, fan_out.closed);
        let error = fan_out.last_error.take();
        let settlement = match (failing, error) {
            (true, Some(error)) => Settlement::Failed { error, outputs: Some(outputs) },
            (_, _) if closed && (ended < total || failed > 0) => Settlement::Cancelled { outputs: Some(outputs) },
            (_, error) if f64::from(completed) < required(min_success, total) => {
                let asked = required(min_success, total);
                let message = format!("{completed} of {total} items succeeded, min_success asks for {asked}");
                let error = match error {
                    Some(last) => {
                        StepError { message: format!("{message}; the last failure: {}", last.message), ..last }
                    }
                    None => StepError::new(ErrorCode::InvalidInput, message),
                };
                Settlement::Failed { error, outputs: Some(outputs) }
            }
            (_, _) => Settlement::Completed(Output::List(outputs)),
        };
        self.partial |= failed > 0 && !self.plan.is_finally(step);
        self.settle(fold, step, settlement);
    }
}

/// How many items must succeed: a count, or a share (less than 1) of all, rounded up.
fn required(min_success: Option<f64>, total: u32) -> f64 {
    match min_success {
        None => 0.0,
        // A share of a number of items may be a whole number that floats miss by a little: 0.55 of 100.
        Some(share) if share < 1.0 => (share * f64::from(total) - 1e-9).ceil(),
        Some(count) => count,
    }
}
