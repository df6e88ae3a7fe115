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
    silence: Option<Silence>,
}

/// How long an agent may say nothing.
#[derive(Debug, Clone, Copy)]
struct Silence {
    heard_ms: u64,
    allowed_ms: u64,
}

impl Silence {
    const fn ends_ms(self) -> u64 {
        self.heard_ms.saturating_add(self.allowed_ms)
    }
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Start-to-close is over.
    Timeout,
    /// The agent gave no sign of life for as long as `heartbeat_ms` permits.
    Silent,
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
        Self { confirmed_ms: 0, asked_ms: 0, notice_ms: None, close_ms: None, silence: None }
    }
}

impl Clocks {
    /// A run starts and may take `timeout_ms`.
    pub fn start(&mut self, now_ms: u64, timeout_ms: u64) {
        self.notice_ms = Some(now_ms.saturating_add(NOTICE_MS));
        self.close_ms = Some(now_ms.saturating_add(timeout_ms));
    }

    /// The agent is called, and may be silent for `heartbeat_ms`. What came before, the wait for its turn for one,
    /// is not its silence.
    pub fn call(&mut self, now_ms: u64, heartbeat_ms: Option<u64>) {
        self.silence = heartbeat_ms.map(|allowed_ms| Silence { heard_ms: now_ms, allowed_ms });
    }

    /// The agent gave a sign of life.
    pub fn heard(&mut self, at_ms: u64) {
        if let Some(silence) = &mut self.silence {
            silence.heard_ms = silence.heard_ms.max(at_ms);
        }
    }

    /// The run is over.
    pub fn stop(&mut self) {
        self.notice_ms = None;
        self.close_ms = None;
        self.silence = None;
    }

    /// The broker confirmed the progress that was told at `asked_ms`.
    pub fn confirm(&mut self, asked_ms: u64) {
        self.confirmed_ms = self.confirmed_ms.max(asked_ms);
    }

    /// When [`Clocks::due`] is to be asked next.
    pub fn next_ms(&self) -> u64 {
        let progress = (self.asked_ms + PROGRESS_MS).min(self.lost_ms());
        let silence = self.silence.map(Silence::ends_ms);
        [self.notice_ms, self.close_ms, silence].into_iter().flatten().fold(progress, u64::min)
    }

    /// What is due now, the most pressing first; an answer is given once.
    pub fn due(&mut self, now_ms: u64) -> Due {
        if self.close_ms.is_some_and(|close| now_ms >= close) {
            self.stop();
            return Due::Timeout;
        }
        if self.silence.is_some_and(|silence| now_ms >= silence.ends_ms()) {
            self.stop();
            return Due::Silent;
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

    #[test]
    fn an_agent_that_is_silent_for_longer_than_it_may_is_stopped() {
        let mut clocks = Clocks::default();
        clocks.start(0, 60_000);
        assert_eq!(clocks.due(100), Due::Notice);
        clocks.call(1_000, Some(500));
        assert_eq!(clocks.next_ms(), 1_500);
        clocks.heard(1_400);
        assert_eq!(clocks.due(1_500), Due::Nothing);
        clocks.heard(1_200);
        assert_eq!((clocks.next_ms(), clocks.due(1_899)), (1_900, Due::Nothing));
        assert_eq!(clocks.due(1_900), Due::Silent);
        assert_eq!(clocks.due(2_500), Due::Nothing, "it is told once, and the run is over");
    }

    #[test]
    fn without_a_heartbeat_and_before_the_call_nobody_listens() {
        let mut clocks = Clocks::default();
        clocks.start(0, 60_000);
        clocks.heard(1);
        assert_eq!((clocks.due(2_900), clocks.due(2_950)), (Due::Notice, Due::Nothing));
        clocks.call(2_960, None);
        assert_eq!(clocks.next_ms(), 3_000);
    }

    #[test]
    fn the_end_of_the_time_is_told_before_the_silence() {
        let mut clocks = Clocks::default();
        clocks.start(0, 1_000);
        clocks.call(0, Some(1_000));
        assert_eq!((clocks.due(1_000), clocks.due(1_000)), (Due::Timeout, Due::Nothing));
    }
}
