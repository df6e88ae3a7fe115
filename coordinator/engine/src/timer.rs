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

    /// Takes off what waits for one step or item.
    pub(crate) fn disarm_attempt(&mut self, step: StepIndex, item: Option<u32>) {
        const MAX: u32 = u32::MAX;
        let backoffs = Alarm::Backoff { step, item, activation: 0, attempt: 0 }..=Alarm::Backoff {
            step,
            item,
            activation: MAX,
            attempt: MAX,
        };
        let claims = Alarm::Claim { step, item, activation: 0, ordinal: 0 }..=Alarm::Claim {
            step,
            item,
            activation: MAX,
            ordinal: MAX,
        };
        while let Some((&alarm, _)) =
            self.by_alarm.range(backoffs.clone()).next().or_else(|| self.by_alarm.range(claims.clone()).next())
        {
            self.disarm(alarm);
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
