//! Deadlines of the folded state.

use std::collections::{BTreeMap, BTreeSet};

use millstream_model::entry::Timer;
use millstream_model::plan::{Plan, StepIndex};
use millstream_model::time::Timestamp;

/// A deadline of an execution, by step index. Its wire form is [`Timer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// The execution's time is up.
    Deadline,
    /// Running steps had their time to acknowledge the cancel.
    Grace,
    /// The next attempt may start.
    Backoff { step: StepIndex, item: Option<u32>, activation: u32, attempt: u32 },
    /// The holder of a claim had its time.
    Claim { step: StepIndex, item: Option<u32>, activation: u32, ordinal: u32 },
    /// The task should have been started.
    ScheduleToStart { step: StepIndex, item: Option<u32>, activation: u32, attempt: u32 },
    /// All attempts should have ended.
    ScheduleToClose { step: StepIndex, item: Option<u32>, activation: u32 },
}

impl Alarm {
    /// The wire form.
    pub(crate) fn to_timer(self, plan: &Plan) -> Timer {
        match self {
            Self::Deadline => Timer::Deadline,
            Self::Grace => Timer::Grace,
            Self::Backoff { step, item, activation, attempt } => {
                Timer::Backoff { step: plan.step(step).id.clone(), item, activation, attempt }
            }
            Self::Claim { step, item, activation, ordinal } => {
                Timer::Claim { step: plan.step(step).id.clone(), item, activation, ordinal }
            }
            Self::ScheduleToStart { step, item, activation, attempt } => {
                Timer::ScheduleToStart { step: plan.step(step).id.clone(), item, activation, attempt }
            }
            Self::ScheduleToClose { step, item, activation } => {
                Timer::ScheduleToClose { step: plan.step(step).id.clone(), item, activation }
            }
        }
    }

    /// Reads the wire form; `None` when the definition has no such step.
    pub(crate) fn from_timer(timer: &Timer, plan: &Plan) -> Option<Self> {
        Some(match timer {
            Timer::Deadline => Self::Deadline,
            Timer::Grace => Self::Grace,
            Timer::Backoff { step, item, activation, attempt } => {
                Self::Backoff { step: plan.find(step)?, item: *item, activation: *activation, attempt: *attempt }
            }
            Timer::Claim { step, item, activation, ordinal } => {
                Self::Claim { step: plan.find(step)?, item: *item, activation: *activation, ordinal: *ordinal }
            }
            Timer::ScheduleToStart { step, item, activation, attempt } => Self::ScheduleToStart {
                step: plan.find(step)?,
                item: *item,
                activation: *activation,
                attempt: *attempt,
            },
            Timer::ScheduleToClose { step, item, activation } => {
                Self::ScheduleToClose { step: plan.find(step)?, item: *item, activation: *activation }
            }
        })
    }
}

/// The armed deadlines of one execution, earliest first.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    by_time: BTreeSet<(Timestamp, Alarm)>,
    by_alarm: BTreeMap<Alarm, Timestamp>,
}

impl Alarms {
    pub(crate) fn arm(&mut self, at: Timestamp, alarm: Alarm) {
        self.disarm(alarm);
        self.by_alarm.insert(alarm, at);
        self.by_time.insert((at, alarm));
    }

    /// When the alarm is due, if it is armed.
    pub(crate) fn armed(&self, alarm: Alarm) -> Option<Timestamp> {
        self.by_alarm.get(&alarm).copied()
    }

    pub(crate) fn disarm(&mut self, alarm: Alarm) {
        if let Some(at) = self.by_alarm.remove(&alarm) {
            self.by_time.remove(&(at, alarm));
        }
    }

    /// Takes off what waits for the attempt of a step or item.
    pub(crate) fn disarm_attempt(&mut self, step: StepIndex, item: Option<u32>) {
        self.disarm_all(|activation, attempt| Alarm::Backoff { step, item, activation, attempt });
        self.disarm_all(|activation, ordinal| Alarm::Claim { step, item, activation, ordinal });
        self.disarm_start(step, item);
    }

    /// The task of a step or item was started.
    pub(crate) fn disarm_start(&mut self, step: StepIndex, item: Option<u32>) {
        self.disarm_all(|activation, attempt| Alarm::ScheduleToStart { step, item, activation, attempt });
    }

    /// Takes off what waits for all attempts of a step or item.
    pub(crate) fn disarm_close(&mut self, step: StepIndex, item: Option<u32>) {
        self.disarm_all(|activation, _| Alarm::ScheduleToClose { step, item, activation });
    }

    /// Takes off the alarms of one kind, whatever their activation and number.
    fn disarm_all(&mut self, alarm: impl Fn(u32, u32) -> Alarm) {
        if self.by_alarm.is_empty() {
            return;
        }
        let range = alarm(0, 0)..=alarm(u32::MAX, u32::MAX);
        while let Some((&armed, _)) = self.by_alarm.range(range.clone()).next() {
            self.disarm(armed);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.by_time.clear();
        self.by_alarm.clear();
    }

    pub(crate) fn first(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Timestamp, Alarm)> + '_ {
        self.by_time.iter().copied()
    }
}
