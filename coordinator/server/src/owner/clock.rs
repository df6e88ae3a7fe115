//! Journal time, estimated, and when alarms may go off by it.

use millstream_model::limits::ACK_WAIT_MS;
use millstream_model::time::Timestamp;

/// A moment of this process's monotonic clock, in microseconds since some start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mono(pub u64);

impl Mono {
    #[must_use]
    pub fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis.saturating_mul(1_000)))
    }
}

/// Estimates the journal's time from the messages that were read: the newest one's stored time and what has passed
/// here since it was read. It is late by the time reading takes, never early, unless the broker's clock jumps back:
/// then alarms that come too early are ignored by the fold and the estimate follows.
#[derive(Debug, Default)]
pub struct JournalClock {
    newest: Option<(Timestamp, Mono)>,
}

impl JournalClock {
    pub fn observe(&mut self, stored: Timestamp, now: Mono) {
        self.newest = Some((stored, now));
    }

    /// The journal's time at `now`; `None` before the first message.
    pub fn estimate(&self, now: Mono) -> Option<Timestamp> {
        let (stored, at) = self.newest?;
        Some(Timestamp::from_micros(stored.as_micros().saturating_add(now.0.saturating_sub(at.0))))
    }

    /// When the journal's time will be `due`.
    pub fn when(&self, due: Timestamp) -> Option<Mono> {
        let (stored, at) = self.newest?;
        Some(Mono(at.0.saturating_add(due.as_micros().saturating_sub(stored.as_micros()))))
    }
}

/// Whether alarms may go off. After a disconnection they are silent until a marker has been folded and ack_wait has
/// passed: what workers finished meanwhile must be read first.
///
/// ```text
///   Silent ── marker folded ─▶ Settling ── ack_wait ─▶ Running
///     ▲                           │                       │
///     └────── disconnected ───────┴───────────────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wheel {
    Silent { after_disconnection: bool },
    Settling { until: Mono },
    Running,
}

impl Wheel {
    pub fn disconnected(&mut self) {
        *self = Self::Silent { after_disconnection: true };
    }

    pub fn marker_folded(&mut self, now: Mono) {
        *self = match *self {
            Self::Silent { after_disconnection: true } => Self::Settling { until: now.plus_millis(ACK_WAIT_MS) },
            Self::Silent { after_disconnection: false } => Self::Running,
            state @ (Self::Settling { .. } | Self::Running) => state,
        };
    }

    /// Whether alarms may go off at `now`.
    pub fn runs(&mut self, now: Mono) -> bool {
        if let Self::Settling { until } = *self
            && now >= until
        {
            *self = Self::Running;
        }
        *self == Self::Running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_runs_on_between_messages() {
        let mut clock = JournalClock::default();
        assert_eq!(clock.estimate(Mono(5)), None);
        clock.observe(Timestamp::from_micros(1_000), Mono(100));
        assert_eq!(clock.estimate(Mono(350)), Some(Timestamp::from_micros(1_250)));
        assert_eq!(clock.when(Timestamp::from_micros(1_500)), Some(Mono(600)));
        clock.observe(Timestamp::from_micros(900), Mono(400));
        assert_eq!(clock.estimate(Mono(400)), Some(Timestamp::from_micros(900)));
    }

    #[test]
    fn after_a_disconnection_alarms_wait_for_a_marker_and_ack_wait() {
        let mut wheel = Wheel::Silent { after_disconnection: false };
        assert!(!wheel.runs(Mono(0)));
        wheel.marker_folded(Mono(0));
        assert!(wheel.runs(Mono(0)));
        wheel.disconnected();
        assert!(!wheel.runs(Mono(u64::MAX)));
        wheel.marker_folded(Mono(1_000));
        assert!(!wheel.runs(Mono(1_000)));
        assert!(wheel.runs(Mono(1_000).plus_millis(ACK_WAIT_MS)));
    }
}
