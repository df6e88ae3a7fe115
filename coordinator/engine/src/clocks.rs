//! The clocks of a step that the fold keeps: schedule-to-start and schedule-to-close.
//!
//! Start-to-close and heartbeats are the worker's; the execution's deadline ends everything.

use millstream_model::limits::SCHEDULE_GRACE_MS;
use millstream_model::plan::StepIndex;
use millstream_model::time::Timestamp;

use crate::activation::{self, Role};
use crate::attempt::{Attempt, Outstanding};
use crate::effect::TaskRef;
use crate::execution::{Execution, Fold};
use crate::partition::FOLD_REV_TIMELY_RETRIES;
use crate::record::Subject;
use crate::timer::Alarm;

/// How long an attempt has, as its task says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskClocks {
    pub timeout_ms: u64,
    pub not_after: Option<Timestamp>,
    pub deadline: Option<Timestamp>,
}

impl Execution {
    /// An attempt is published: its clocks run.
    pub(crate) fn arm_schedule(&mut self, fold: &Fold<'_>, subject: Subject) {
        let Subject { step, item, activation, attempt } = subject;
        let definition = self.plan.step(step);
        let (start_ms, close_ms) = (definition.schedule_to_start_ms, definition.schedule_to_close_ms);
        if let Some(limit) = start_ms {
            self.alarms.disarm_start(step, item);
            // The worker refuses what is late by its own clock; the fold gives its word time to arrive.
            let due = fold.at.plus_millis(limit.saturating_add(SCHEDULE_GRACE_MS));
            self.alarms.arm(due, Alarm::ScheduleToStart { step, item, activation, attempt });
        }
        if let Some(limit) = close_ms {
            let alarm = Alarm::ScheduleToClose { step, item, activation };
            if self.alarms.armed(alarm).is_none() {
                self.alarms.arm(fold.at.plus_millis(limit), alarm);
            }
        }
    }

    /// Milliseconds that it rests after attempt `failed`.
    pub(crate) fn delay_ms(&self, subject: Subject, failed: u32) -> u64 {
        let Subject { step, item, activation, .. } = subject;
        self.policy(step, activation).delay_ms(failed, self.id(), &self.plan.step(step).id, item)
    }

    /// Whether the attempt after `failed` could start before schedule-to-close has run out. Under older revisions of
    /// the fold every attempt is waited for.
    pub(crate) fn comes_in_time(&self, fold: &Fold<'_>, subject: Subject, failed: u32) -> bool {
        let Subject { step, item, activation, .. } = subject;
        let close = self.alarms.armed(Alarm::ScheduleToClose { step, item, activation });
        self.fold_rev < FOLD_REV_TIMELY_RETRIES
            || close.is_none_or(|close| fold.at.plus_millis(self.delay_ms(subject, failed)) < close)
    }

    /// How long an attempt that is outstanding has: no clock of the worker outlasts those of the fold.
    pub(crate) fn task_clocks(&self, task: &TaskRef) -> TaskClocks {
        let TaskRef { step, item, activation, .. } = *task;
        let timeout_ms = self.timeout_ms(step, activation);
        if activation::role(activation) == Some(Role::Compensation) {
            return TaskClocks { timeout_ms, not_after: None, deadline: None };
        }
        let since = match self.attempt(step, item, activation) {
            Ok(Attempt::Outstanding(Outstanding { since, .. })) => since,
            Ok(Attempt::BackingOff { .. } | Attempt::Due { .. }) | Err(_) => self.clock(),
        };
        let close = self.alarms.armed(Alarm::ScheduleToClose { step, item, activation });
        let deadline = close.map_or(self.deadline, |close| close.min(self.deadline));
        let start = self.plan.step(step).schedule_to_start_ms.map(|limit| since.plus_millis(limit));
        TaskClocks {
            timeout_ms: timeout_ms.min(deadline.millis_since(since)).max(1),
            not_after: Some(start.map_or(deadline, |start| start.min(deadline))),
            deadline: Some(deadline),
        }
    }

    /// Start-to-close of one attempt, before it is cut to the time that remains.
    pub(crate) fn timeout_ms(&self, step: StepIndex, activation: u32) -> u64 {
        let definition = self.plan.step(step);
        let own = match activation::role(activation) {
            Some(Role::Compensation) => definition.compensate.as_ref().and_then(|c| c.timeout_ms),
            Some(Role::Fallback) => definition.fallback.as_ref().and_then(|f| f.timeout_ms).or(definition.timeout_ms),
            Some(Role::Run) | None => definition.timeout_ms,
        };
        own.or(self.plan.definition.default_step_timeout_ms).unwrap_or(self.submitted.defaults.step_timeout_ms)
    }
}
