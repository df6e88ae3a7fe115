//! Entries of the journal: what they may be, and what they may change.

use std::collections::{BTreeMap, BTreeSet};

use millstream_engine::Outcome;
use millstream_model::entry::{Entry, Run, Timer, TimerFired};
use millstream_model::error::ErrorCode;
use millstream_model::ids::StepId;
use millstream_model::limits::CLAIM_GRACE_MS;
use millstream_model::payload::Body;
use millstream_model::plan::{Plan, StepIndex};
use millstream_model::position::Position;
use millstream_model::task::TaskKey;
use millstream_model::view::{EffectState, ExecutionView, Held, StepStatus};

use super::record::{COMPENSATION, Failure, Policy, Record, Success};
use super::{Checker, Violation, about, is_accepted, owners, violated};
use crate::simulation::broker::Stored;
use crate::simulation::witness::Subject;
use crate::simulation::worker::{LIE, Outside};
use crate::simulation::workload::FINALLY_PREFIX;
use crate::simulation::workload::agents::AS_WRITTEN;

impl Checker {
    /// An entry was folded.
    pub(super) fn after(
        &mut self,
        entry: &Entry,
        outcome: &Outcome,
        position: Position,
        stored: &Stored,
        outside: &Outside,
    ) -> Result<(), Violation> {
        let accepted = is_accepted(outcome);
        match entry {
            Entry::Epoch(epoch) if accepted => self.epochs.push((position.sequence, epoch.node.clone(), epoch.epoch)),
            Entry::Submitted(submitted) if accepted => {
                let id = submitted.execution;
                let record = Record::new(submitted.clone(), stored.time, self.reference.partition().fold_rev());
                if self.reference.has_forgotten(id) || self.records.insert(id, record).is_some() {
                    return violated("no execution begins twice", id.to_string());
                }
            }
            _ => {}
        }
        self.count(entry, outcome)?;
        let Some(id) = entry.execution() else { return Ok(()) };
        let Some(record) = self.records.get_mut(&id) else { return Ok(()) };
        if let Some(execution) = self.reference.execution(id) {
            record.clock = execution.clock();
        }
        if accepted {
            self.progress_at = stored.at;
            self.accepted(entry, position, stored, outside)?;
        }
        self.look_at(id, entry, accepted)
    }

    /// A worker's report is in the journal, whatever becomes of it.
    pub(super) fn reported(&mut self, entry: &Entry, stored: &Stored) -> Result<(), Violation> {
        let (key, ordinal) = match entry {
            Entry::TaskSucceeded(e) => (&e.task, e.run.ordinal),
            Entry::TaskFailed(e) => (&e.task, e.run.ordinal),
            Entry::ClaimHeld(e) => (&e.task, e.ordinal),
            Entry::Expired(e) => (&e.task, e.ordinal),
            _ => return Ok(()),
        };
        let Some(record) = self.records.get_mut(&key.execution) else { return Ok(()) };
        if let Entry::TaskSucceeded(e) = entry {
            let plan = self.plans.get(&record.submitted.definition);
            let capability = plan.and_then(|plan| record.capability(plan, key));
            let token = record.submitted.secret.token(&key.step, key.item, key.activation, key.attempt);
            let true_one = token == e.run.token
                && capability.is_some_and(|capability| stored.subject.ends_with(&format!(".{capability}")));
            if true_one {
                record.completed.entry(Subject::of(key)).or_insert(stored.sequence);
            }
        }
        let first = record.reported.entry(key.clone()).or_default().insert(ordinal);
        if self.calm && !first {
            return violated("on a calm day every attempt is reported once", about(entry));
        }
        Ok(())
    }

    fn count(&mut self, entry: &Entry, outcome: &Outcome) -> Result<(), Violation> {
        if let Outcome::Ignored(reason) = outcome {
            *self.ignored.entry(reason.as_str()).or_default() += 1;
            if self.calm && matches!(reason.as_str(), "wrong token" | "forbidden" | "unknown step") {
                let what = format!("{}: {}", about(entry), reason.as_str());
                return violated("on a calm day nothing impossible is written", what);
            }
        }
        if let Entry::Reissued(_) | Entry::ClaimAbandoned(_) = entry
            && self.calm
        {
            return violated("on a calm day nothing is reissued or given up", about(entry));
        }
        if let Entry::ClaimHeld(_) = entry
            && self.calm
        {
            return violated("on a calm day no claim is held by another", about(entry));
        }
        Ok(())
    }

    /// An entry changed the state.
    fn accepted(
        &mut self,
        entry: &Entry,
        position: Position,
        stored: &Stored,
        outside: &Outside,
    ) -> Result<(), Violation> {
        let id = entry.execution().expect("entries about the partition have no record");
        let record = self.records.get_mut(&id).expect("it has a record");
        if record.end.is_some() && !matches!(entry, Entry::Resumed(_)) {
            return violated("nothing changes after the end but by a resume", format!("{id}: {}", about(entry)));
        }
        match entry {
            Entry::Resumed(resumed) => {
                record.kept = std::mem::take(&mut record.done);
                record.resumed.push((**resumed).clone());
                record.end = None;
                record.status = None;
                record.cancelled = false;
                record.began = record.clock;
            }
            Entry::CancelRequested(_) => record.cancelled = true,
            Entry::Reissued(reissued) => {
                *record.reissued.entry(reissued.task.clone()).or_default() += 1;
                self.reissues += 1;
            }
            Entry::TaskSucceeded(e) => {
                self.check_worker(&e.task, &e.run, stored)?;
                self.was_run(&e.task, e.run.ordinal, outside)?;
                if matches!(&e.output.body, Body::Inline(text) if text.get().contains(LIE)) {
                    return violated("only who was given a task can complete it", about(entry));
                }
                let subject = Subject::of(&e.task);
                let record = self.records.get_mut(&id).expect("it has a record");
                let success = Success { position, stored_at: stored.at };
                if let Some(earlier) = record.successes.insert(subject.clone(), success) {
                    let what = format!("{subject:?} at {} and {position}", earlier.position);
                    return violated("no result is applied twice", what);
                }
            }
            Entry::TaskFailed(e) => {
                self.check_worker(&e.task, &e.run, stored)?;
                if e.error.message == AS_WRITTEN {
                    self.was_run(&e.task, e.run.ordinal, outside)?;
                }
                if e.error.code == ErrorCode::Lost {
                    return violated("only the fold declares an attempt lost", about(entry));
                }
                let exempt = e.task.activation % 4 == COMPENSATION || e.task.step.as_str().starts_with(FINALLY_PREFIX);
                if exempt && e.error.code == ErrorCode::Cancelled {
                    let what = about(entry);
                    return violated("compensations and what runs after the outcome heed no cancel", what);
                }
                self.failed(&e.task, &Failure { ordinal: e.run.ordinal, error: e.error.clone() })?;
            }
            Entry::ClaimHeld(e) => {
                record.held.insert(Subject::of(&e.task), e.claimed_at.min(record.clock));
            }
            Entry::TimerFired(fired) => self.fired(fired)?,
            _ => {}
        }
        Ok(())
    }

    /// A result that was accepted is by a worker of the right pool, with the right token.
    fn check_worker(&self, task: &TaskKey, run: &Run, stored: &Stored) -> Result<(), Violation> {
        let record = &self.records[&task.execution];
        let plan = self.plan(record)?;
        let token = record.submitted.secret.token(&task.step, task.item, task.activation, task.attempt);
        let capability = record.capability(plan, task);
        let right_pool = capability.is_some_and(|capability| stored.subject.ends_with(&format!(".{capability}")));
        if token != run.token || !right_pool {
            let what = format!("{task:?} ordinal {} on {}", run.ordinal, stored.subject);
            return violated("only who was given a task can complete it", what);
        }
        if task.activation / 4 > record.round() {
            return violated("no task is of a round to come", format!("{task:?}"));
        }
        Ok(())
    }

    /// Somebody saw the run that a result is of.
    fn was_run(&self, task: &TaskKey, ordinal: u32, outside: &Outside) -> Result<(), Violation> {
        let runs = outside.witness.of(&Subject::of(task));
        if runs.iter().any(|effect| effect.ordinal == ordinal) {
            return Ok(());
        }
        violated("what completed was run", format!("{task:?} ordinal {ordinal}, seen: {}", runs.len()))
    }

    /// A failure counts once, and in the order of the ordinals.
    fn failed(&mut self, task: &TaskKey, failure: &Failure) -> Result<(), Violation> {
        let subject = Subject::of(task);
        let record = self.records.get_mut(&task.execution).expect("it has a record");
        if record.successes.contains_key(&subject) {
            return violated("no result is applied twice", format!("{subject:?} failed after it had succeeded"));
        }
        let failures = record.failures.entry(subject).or_default();
        if let Some(earlier) = failures.iter().find(|earlier| earlier.ordinal >= failure.ordinal) {
            let what = format!("{task:?}: ordinal {} after {}", failure.ordinal, earlier.ordinal);
            return violated("a failure counts only if its ordinal is the current one or later", what);
        }
        failures.push(failure.clone());
        self.backs_off(task, failure)
    }

    /// The delay before the next attempt follows the formula.
    fn backs_off(&self, task: &TaskKey, failure: &Failure) -> Result<(), Violation> {
        let ordinal = failure.ordinal;
        let record = &self.records[&task.execution];
        let plan = self.plan(record)?;
        let Some(policy) = Policy::of(plan, record, task, ordinal) else { return Ok(()) };
        if ordinal > policy.max_attempts {
            return violated("attempts stay within the policy", format!("{task:?} ordinal {ordinal}"));
        }
        let Some(execution) = self.reference.execution(task.execution) else { return Ok(()) };
        for (due, alarm) in execution.alarms() {
            let name = millstream_engine::render::alarm(execution, alarm);
            let item = task.item.map_or_else(String::new, |item| format!("[{item}]"));
            let expected = format!("backoff {}{item} #{}", task.step, ordinal + 1);
            if name.split(" round").next() == Some(expected.as_str()) {
                let delay = due.as_micros().saturating_sub(execution.clock().as_micros()) as f64 / 1_000.0;
                if !policy.retries(&failure.error) {
                    return violated("only what may be retried is", format!("{name} after {:?}", failure.error));
                }
                if delay < policy.delay_ms.0 || delay > policy.delay_ms.1 || ordinal >= policy.max_attempts {
                    let what = format!("{name}: {delay} ms, the formula gives {:?}", policy.delay_ms);
                    return violated("the retry delay follows the formula", what);
                }
            }
        }
        Ok(())
    }

    /// No timer goes off before its time, by the time of the journal.
    fn fired(&self, fired: &TimerFired) -> Result<(), Violation> {
        let record = &self.records[&fired.execution];
        let plan = self.plan(record)?;
        let clock = record.clock;
        let timeout = plan.definition.timeout_ms.unwrap_or(record.submitted.defaults.workflow_timeout_ms);
        let earliest = match &fired.timer {
            Timer::Deadline => record.began.plus_millis(timeout),
            Timer::Claim { step, item, activation, .. } => {
                let execution = fired.execution;
                let subject = Subject { execution, step: step.to_string(), item: *item, activation: *activation };
                let held = record.held.get(&subject).copied().unwrap_or_default();
                held.plus_millis(timeout_ms(plan, step, *activation) + CLAIM_GRACE_MS)
            }
            Timer::ScheduleToStart { step, .. } => {
                let limit = plan.find(step).and_then(|step| plan.step(step).schedule_to_start_ms);
                record.began.plus_millis(limit.unwrap_or(0))
            }
            Timer::ScheduleToClose { step, .. } => {
                let limit = plan.find(step).and_then(|step| plan.step(step).schedule_to_close_ms);
                record.began.plus_millis(limit.unwrap_or(0))
            }
            Timer::Grace | Timer::Backoff { .. } => record.began,
        };
        if clock < earliest {
            let what = format!("{:?} at {clock}, not before {earliest}", fired.timer);
            return violated("timers are never early by the time of the journal", what);
        }
        Ok(())
    }

    /// What holds of an execution after every entry about it.
    fn look_at(
        &mut self,
        id: millstream_model::ids::ExecutionId,
        entry: &Entry,
        accepted: bool,
    ) -> Result<(), Violation> {
        let Some(execution) = self.reference.execution(id) else { return Ok(()) };
        let record = self.records.get_mut(&id).expect("it has a record");
        let fold_rev = execution.revisions().fold;
        if fold_rev != record.fold_rev {
            let what = format!("{id}: {fold_rev}, submitted under {}", record.fold_rev);
            return violated("an execution keeps its revision of the fold", what);
        }
        if execution.status().is_terminal() {
            if record.end.is_none() {
                let state = owners::state(execution);
                if let Some(end) = execution.end_position() {
                    record.ends.insert(end, state.clone());
                }
                record.end = Some(state);
                record.done = done(&execution.view(), execution.plan());
                self.running.remove(&id);
                self.ended.push(id);
            } else if accepted {
                let state = owners::state(execution);
                if record.end.as_ref() != Some(&state) {
                    return violated(
                        "nothing changes after the end but by a resume",
                        format!("{id}: {}", about(entry)),
                    );
                }
            }
            return Ok(());
        }
        self.running.insert(id);
        if !accepted {
            return Ok(());
        }
        if let Some(contradiction) = execution.contradiction() {
            return violated("the state does not contradict itself", format!("{id}: {contradiction}"));
        }
        let outstanding = execution.outstanding();
        let waits = !outstanding.is_empty()
            || !execution.evaluations().is_empty()
            || execution.alarms().any(|(_, alarm)| millstream_engine::render::alarm(execution, alarm) != "deadline");
        if !waits {
            let what = format!("{id} after {}:\n{}", about(entry), owners::state(execution));
            return violated("a running execution waits for something that will come", what);
        }
        self.check_slots(id)
    }

    /// No more runs at once than may.
    fn check_slots(&self, id: millstream_model::ids::ExecutionId) -> Result<(), Violation> {
        let execution = self.reference.execution(id).expect("it was just looked at");
        let plan = execution.plan();
        let limit = plan.definition.max_parallel.unwrap_or(millstream_model::limits::MAX_PARALLEL);
        let mut steps = BTreeMap::new();
        for (task, _) in execution.outstanding() {
            *steps.entry(task.step).or_insert(0_u32) += 1;
        }
        if steps.len() > limit as usize {
            let what = format!("{id}: {} steps at once, {limit} may", steps.len());
            return violated("no more steps run at once than may", what);
        }
        for (step, items) in steps {
            let concurrency = plan
                .fan_out(step)
                .map_or(1, |fan_out| fan_out.concurrency.unwrap_or(millstream_model::limits::FAN_OUT_CONCURRENCY));
            if items > concurrency {
                let what = format!("{id} {}: {items} items at once, {concurrency} may", plan.step(step).id);
                return violated("no more items run at once than may", what);
            }
        }
        Ok(())
    }
}

/// Start-to-close of one attempt.
fn timeout_ms(plan: &Plan, step: &StepId, activation: u32) -> u64 {
    let Some(index) = plan.find(step) else { return 0 };
    let definition = plan.step(index);
    let own = match activation % 4 {
        0 => definition.timeout_ms,
        1 => definition.fallback.as_ref().and_then(|fallback| fallback.timeout_ms).or(definition.timeout_ms),
        _ => definition.compensate.as_ref().and_then(|compensate| compensate.timeout_ms),
    };
    own.or(plan.definition.default_step_timeout_ms).unwrap_or_default()
}

/// Steps that completed with all they depend on, and of which nothing was undone.
fn done(view: &ExecutionView<Held>, plan: &Plan) -> BTreeSet<String> {
    let mut done: BTreeSet<String> = BTreeSet::new();
    for step in plan.indices() {
        let id = &plan.step(step).id;
        let undone = view.effects.iter().any(|e| e.step_id == *id && e.state == EffectState::Compensated);
        let completed = view.steps[usize::from(step.0)].status == StepStatus::Completed && !undone;
        let of_done = |dependency: &StepIndex| done.contains(plan.step(*dependency).id.as_str());
        if completed && plan.planned(step).depends_on.iter().all(of_done) {
            done.insert(id.to_string());
        }
    }
    done
}
