//! Something that fails for a while: when to try again, and when to say so.

use std::time::Duration;

use tokio::time::Instant;

const DELAY_MIN: Duration = Duration::from_millis(50);
/// Whoever is slow here is slow to come back when NATS does.
const DELAY_MAX: Duration = Duration::from_secs(2);
const REPEAT: Duration = Duration::from_secs(60);

/// A streak of failures of one thing; empty when it works.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    failures: u32,
    told: Option<Instant>,
}

impl Trouble {
    /// Takes in a failure; `true` when it is to be logged: the first of a streak, then once a minute.
    pub(crate) fn failed(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        let due = self.told.is_none_or(|told| told.elapsed() >= REPEAT);
        if due {
            self.told = Some(Instant::now());
        }
        due
    }

    /// Ends the streak; `true` when it was logged.
    pub(crate) fn over(&mut self) -> bool {
        self.failures = 0;
        self.told.take().is_some()
    }

    /// How long to wait before the next try.
    pub(crate) fn delay(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(10);
        DELAY_MIN.saturating_mul(1 << doublings).min(DELAY_MAX)
    }

    /// Waits until the next try.
    pub(crate) async fn pause(&self) {
        tokio::time::sleep(self.delay()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_streak_is_told_when_it_begins_and_then_once_a_minute() {
        let mut trouble = Trouble::default();
        let started = Instant::now();
        let mut told = 0;
        while started.elapsed() < Duration::from_secs(130) {
            told += u32::from(trouble.failed());
            trouble.pause().await;
        }
        assert_eq!(told, 3);
        assert!(trouble.over());
        assert_eq!((trouble.over(), trouble.failed()), (false, true));
    }
}
