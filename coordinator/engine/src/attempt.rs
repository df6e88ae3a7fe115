//! The attempts of one activation of a step, or of one item of a fan-out.
//!
//! ```text
//!             ┌────────────── Reissued, HeldByOther ─┐
//!             ▼                                      │
//!   Due ──▶ Outstanding ────────────────────────────┘
//!    ▲        │  │  └── Succeeded ──▶ complete
//!    │        │  └───── Failed, Lost (last) ──▶ fail
//!    │        └──────── Failed, Lost (not last) ─┐
//!    └─ BackoffElapsed ── BackingOff ◀───────────┘
//!
//!   any ── TimeUp ──▶ fail
//! ```
//!
//! A success of any ordinal settles; a failure counts only if its ordinal is the current one or later. While an
//! attempt backs off, a redelivery may already have run as the next ordinal: its failure uses that up.

use millstream_model::time::Timestamp;

use crate::outcome::Ignored;

/// Where the attempts of an activation stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// A task of this number is owed to the queue, queued or running.
    Outstanding(Outstanding),
    /// Attempt `next` may start when its backoff has elapsed.
    BackingOff { next: u32 },
    /// Attempt `next` may start when there is a slot.
    Due { next: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outstanding {
    /// The highest ordinal that is known to have been started or published.
    pub number: u32,
    /// When it was published or found held.
    pub since: Timestamp,
    /// Another worker holds the claim: the journal, not the queue, carries the attempt.
    pub held: bool,
}

/// What can happen to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happening {
    Succeeded,
    Failed {
        ordinal: u32,
        retryable: bool,
    },
    Lost {
        ordinal: u32,
        retryable: bool,
    },
    HeldByOther {
        ordinal: u32,
    },
    BackoffElapsed {
        attempt: u32,
    },
    Reissued {
        attempt: u32,
    },
    /// A clock over the start or over all attempts has run out.
    TimeUp,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Complete,
    /// Ordinal `failed` failed; the next attempt follows after its backoff.
    BackOff {
        failed: u32,
    },
    Fail,
    /// Wait for a slot, then publish.
    Due {
        next: u32,
    },
    /// Publish at once: it has its slot.
    Publish {
        number: u32,
    },
    /// Wait for the holder of the claim of this ordinal.
    Hold {
        ordinal: u32,
    },
    Ignore(Ignored),
}

impl Attempt {
    /// The table of this module's picture.
    pub(crate) fn next(self, happening: Happening, max_attempts: u32) -> Next {
        use Happening as H;
        match (self, happening) {
            (Self::Outstanding(_) | Self::BackingOff { .. } | Self::Due { .. }, H::Succeeded) => Next::Complete,
            (Self::Outstanding(_) | Self::BackingOff { .. } | Self::Due { .. }, H::TimeUp) => Next::Fail,
            (Self::Outstanding(current), H::Failed { ordinal, retryable } | H::Lost { ordinal, retryable })
                if ordinal >= current.number =>
            {
                after_failure(ordinal, retryable, max_attempts)
            }
            (Self::BackingOff { next } | Self::Due { next }, H::Failed { ordinal, retryable }) if ordinal >= next => {
                after_failure(ordinal, retryable, max_attempts)
            }
            (Self::Outstanding(current), H::HeldByOther { ordinal })
                if ordinal > current.number || (ordinal == current.number && !current.held) =>
            {
                Next::Hold { ordinal }
            }
            (Self::Outstanding(current), H::Reissued { attempt })
                if !current.held && attempt == reissue_number(current.number, max_attempts) =>
            {
                Next::Publish { number: attempt }
            }
            (Self::BackingOff { next }, H::BackoffElapsed { attempt }) if attempt == next => Next::Due { next },
            (_, _) => Next::Ignore(Ignored::Stale),
        }
    }
}

fn after_failure(ordinal: u32, retryable: bool, max_attempts: u32) -> Next {
    if retryable && ordinal < max_attempts { Next::BackOff { failed: ordinal } } else { Next::Fail }
}

/// The attempt a reissue of `number` is published as.
pub(crate) fn reissue_number(number: u32, max_attempts: u32) -> u32 {
    number.saturating_add(1).min(max_attempts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outstanding(number: u32, held: bool) -> Attempt {
        Attempt::Outstanding(Outstanding { number, since: Timestamp::default(), held })
    }

    #[test]
    fn a_success_of_any_ordinal_settles() {
        for state in [outstanding(2, false), Attempt::BackingOff { next: 3 }, Attempt::Due { next: 3 }] {
            assert_eq!(state.next(Happening::Succeeded, 3), Next::Complete);
        }
    }

    #[test]
    fn a_failure_of_an_earlier_ordinal_is_stale() {
        let late = Happening::Failed { ordinal: 1, retryable: true };
        assert_eq!(outstanding(2, false).next(late, 3), Next::Ignore(Ignored::Stale));
        assert_eq!(Attempt::BackingOff { next: 2 }.next(late, 3), Next::Ignore(Ignored::Stale));
    }

    #[test]
    fn a_redelivery_that_fails_during_the_backoff_uses_up_the_attempt_it_was() {
        let failed = Happening::Failed { ordinal: 2, retryable: true };
        for state in [Attempt::BackingOff { next: 2 }, Attempt::Due { next: 2 }] {
            assert_eq!(state.next(failed, 3), Next::BackOff { failed: 2 });
            assert_eq!(state.next(failed, 2), Next::Fail);
        }
    }

    #[test]
    fn a_redelivery_that_failed_counts_as_the_attempts_it_used() {
        let failed = Happening::Failed { ordinal: 2, retryable: true };
        assert_eq!(outstanding(1, false).next(failed, 3), Next::BackOff { failed: 2 });
        let last = Happening::Failed { ordinal: 3, retryable: true };
        assert_eq!(outstanding(1, false).next(last, 3), Next::Fail);
    }

    #[test]
    fn a_held_attempt_is_not_reissued_and_is_lost_once() {
        assert_eq!(outstanding(2, false).next(Happening::HeldByOther { ordinal: 2 }, 3), Next::Hold { ordinal: 2 });
        assert_eq!(outstanding(2, true).next(Happening::HeldByOther { ordinal: 2 }, 3), Next::Ignore(Ignored::Stale));
        assert_eq!(outstanding(2, true).next(Happening::Reissued { attempt: 3 }, 3), Next::Ignore(Ignored::Stale));
        let lost = Happening::Lost { ordinal: 2, retryable: true };
        assert_eq!(outstanding(2, true).next(lost, 3), Next::BackOff { failed: 2 });
        assert_eq!(outstanding(3, false).next(lost, 3), Next::Ignore(Ignored::Stale));
    }

    #[test]
    fn when_the_time_is_up_no_attempt_is_left() {
        for state in
            [outstanding(1, false), outstanding(1, true), Attempt::BackingOff { next: 2 }, Attempt::Due { next: 2 }]
        {
            assert_eq!(state.next(Happening::TimeUp, 3), Next::Fail);
        }
    }

    #[test]
    fn a_reissue_takes_the_next_number_and_never_exceeds_the_policy() {
        assert_eq!(outstanding(1, false).next(Happening::Reissued { attempt: 2 }, 3), Next::Publish { number: 2 });
        assert_eq!(outstanding(3, false).next(Happening::Reissued { attempt: 3 }, 3), Next::Publish { number: 3 });
        assert_eq!(outstanding(2, false).next(Happening::Reissued { attempt: 2 }, 3), Next::Ignore(Ignored::Stale));
    }
}
