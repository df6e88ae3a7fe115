//! When a task that is being worked on needs attention.

use millstream_model::limits::{ACK_WAIT_MS, PROGRESS_MS};

/// Runs that end sooner are not announced: their result tells it as fast.
const NOTICE_MS: u64 = 100;
/// Without a confirmation for this long the broker is about to give the task to another worker.
const LOST_MS: u64 = ACK_WAIT_MS * 2 / 3;

/// The clocks of one delivery, in milliseconds of a monotonic clock since it was pulled.
#[derive(Debug)]
pub struct Clocks {
    /// What was last confirmed is as old as the question that was answered.
    confirmed_ms: u64,
    asked_ms: u64,
    notice_ms: Option<u64>,
    close_ms: Option<u64>,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Start-to-close is over.
    Timeout,
    /// The broker has been silent for too long.
    Lost,
    /// Tell the broker that the task is being worked on, and ask for a reply.
    Progress,
    /// Tell people that the step is running.
    Notice,
    /// Nothing yet.
    Nothing,
}

impl Default for Clocks {
    /// A delivery that was pulled just now.
    fn default() -> Self {
        Self { confirmed_ms: 0, asked_ms: 0, notice_ms: None, close_ms: None }
    }
}

impl Clocks {
    /// A run starts and may take `timeout_ms`.
    pub fn start(&mut self, now_ms: u64, timeout_ms: u64) {
        self.notice_ms = Some(now_ms.saturating_add(NOTICE_MS));
        self.close_ms = Some(now_ms.saturating_add(timeout_ms));
    }

    /// The run is over.
    pub fn stop(&mut self) {
        self.notice_ms = None;
        self.close_ms = None;
    }

    /// The broker confirmed the progress that was told at `asked_ms`.
    pub fn confirm(&mut self, asked_ms: u64) {
        self.confirmed_ms = self.confirmed_ms.max(asked_ms);
    }

    /// When [`Clocks::due`] is to be asked next.
    pub fn next_ms(&self) -> u64 {
        let progress = (self.asked_ms + PROGRESS_MS).min(self.lost_ms());
        [self.notice_ms, self.close_ms].into_iter().flatten().fold(progress, u64::min)
    }

    /// What is due now, the most pressing first; an answer is given once.
    pub fn due(&mut self, now_ms: u64) -> Due {
        if self.close_ms.is_some_and(|close| now_ms >= close) {
            self.stop();
            return Due::Timeout;
        }
        if now_ms >= self.lost_ms() {
            // Whoever goes on regardless is told again after as long.
            self.confirmed_ms = now_ms;
            self.asked_ms = now_ms;
            return Due::Lost;
        }
        if now_ms >= self.asked_ms + PROGRESS_MS {
            self.asked_ms = now_ms;
            return Due::Progress;
        }
        if self.notice_ms.is_some_and(|notice| now_ms >= notice) {
            self.notice_ms = None;
            return Due::Notice;
        }
        Due::Nothing
    }

    const fn lost_ms(&self) -> u64 {
        self.confirmed_ms + LOST_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_every_three_seconds_as_long_as_it_is_confirmed() {
        let mut clocks = Clocks::default();
        for round in 1..=10 {
            let now = clocks.next_ms();
            assert_eq!((now, clocks.due(now)), (round * PROGRESS_MS, Due::Progress));
            clocks.confirm(now);
        }
    }

    #[test]
    fn two_thirds_of_ack_wait_without_a_confirmation_lose_the_task() {
        let mut clocks = Clocks::default();
        assert_eq!(clocks.due(3_000), Due::Progress);
        assert_eq!(clocks.due(6_000), Due::Progress);
        assert_eq!(clocks.next_ms(), 6_666);
        assert_eq!(clocks.due(6_665), Due::Nothing);
        assert_eq!(clocks.due(6_666), Due::Lost);
    }

    #[test]
    fn a_late_confirmation_counts_from_its_question() {
        let mut clocks = Clocks::default();
        assert_eq!(clocks.due(3_000), Due::Progress);
        clocks.confirm(3_000);
        assert_eq!(clocks.due(6_700), Due::Progress);
        assert_eq!(clocks.due(9_666), Due::Lost);
    }

    #[test]
    fn a_run_is_announced_once_and_only_when_it_is_not_fast() {
        let mut clocks = Clocks::default();
        clocks.start(50, 60_000);
        assert_eq!(clocks.next_ms(), 150);
        assert_eq!(clocks.due(149), Due::Nothing);
        assert_eq!(clocks.due(150), Due::Notice);
        assert_eq!(clocks.due(151), Due::Nothing);
        assert_eq!(clocks.next_ms(), 3_000);
    }

    #[test]
    fn start_to_close_counts_from_the_start_of_the_run_and_ends_with_it() {
        let mut clocks = Clocks::default();
        clocks.start(1_000, 500);
        assert_eq!(clocks.due(1_100), Due::Notice);
        assert_eq!(clocks.next_ms(), 1_500);
        assert_eq!(clocks.due(1_500), Due::Timeout);
        clocks.start(2_000, 500);
        clocks.stop();
        assert_eq!(clocks.due(2_900), Due::Nothing);
        assert_eq!(clocks.next_ms(), 3_000);
    }
}
