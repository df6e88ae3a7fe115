//! Whether the journal takes what a worker writes for one capability.
//!
//! ```text
//!              refused                        the time has come
//!   accepted ──────────▶ suspended ─────────────────────────────▶ on probation
//!      ▲                   ▲   │ refused: the time starts anew          │   │
//!      │                   │   └──┐                                     │   │
//!      │                   └──────┴───────────── refused ───────────────┘   │
//!      └───────────────────────────── accepted ─────────────────────────────┘
//! ```
//!
//! A refusal is a setting that somebody has to mend: permissions, mostly. Whoever goes on taking tasks meanwhile runs
//! what nobody will hear of. So a lane stops pulling with the first refusal. What has run already is kept for a while,
//! because the setting may be mended, and then goes back to the queue, because another worker may be heard. After a
//! rest one task is tried, and runs only when its announced start was accepted.

/// How long a result is kept while entries are refused.
const KEPT_MS: u64 = 60_000;
/// How long a lane rests after the last refusal.
const REST_MS: u64 = 30_000;

/// What is known about it. Times are milliseconds of a monotonic clock.
#[derive(Debug, Default)]
pub struct Acceptance {
    refusals: Option<Refusals>,
}

#[derive(Debug)]
struct Refusals {
    first_ms: u64,
    last_ms: u64,
}

/// How a lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// What it writes is taken, as far as anybody knows.
    Accepted,
    /// It takes no tasks.
    Suspended { until_ms: u64 },
    /// It may try one task.
    OnProbation,
}

/// What becomes of an entry that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Try again in a moment.
    TryAgain,
    /// Its task goes back to the queue.
    GiveUp,
}

impl Acceptance {
    /// An entry was stored; `true` when that ends a time of refusals.
    pub fn accepted(&mut self) -> bool {
        self.refusals.take().is_some()
    }

    /// An entry was refused for good.
    pub fn refused(&mut self, now_ms: u64) -> Refused {
        let refusals = self.refusals.get_or_insert(Refusals { first_ms: now_ms, last_ms: now_ms });
        refusals.last_ms = refusals.last_ms.max(now_ms);
        if now_ms.saturating_sub(refusals.first_ms) < KEPT_MS { Refused::TryAgain } else { Refused::GiveUp }
    }

    /// A task was taken on probation; the next one has to wait as long.
    pub fn tried(&mut self, now_ms: u64) {
        if let Some(refusals) = &mut self.refusals {
            refusals.last_ms = refusals.last_ms.max(now_ms);
        }
    }

    /// How it stands at that moment.
    pub fn standing(&self, now_ms: u64) -> Standing {
        match &self.refusals {
            None => Standing::Accepted,
            Some(refusals) if now_ms >= refusals.last_ms.saturating_add(REST_MS) => Standing::OnProbation,
            Some(refusals) => Standing::Suspended { until_ms: refusals.last_ms.saturating_add(REST_MS) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_stops_the_lane_and_its_results_are_kept_for_a_minute() {
        let mut acceptance = Acceptance::default();
        assert_eq!(acceptance.standing(5), Standing::Accepted);
        assert_eq!(acceptance.refused(1_000), Refused::TryAgain);
        assert_eq!(acceptance.standing(1_000), Standing::Suspended { until_ms: 31_000 });
        assert_eq!(acceptance.refused(60_999), Refused::TryAgain);
        assert_eq!(acceptance.refused(61_000), Refused::GiveUp);
        assert_eq!(acceptance.standing(90_999), Standing::Suspended { until_ms: 91_000 });
    }

    #[test]
    fn after_a_rest_one_task_is_tried_and_given_up_at_once_when_it_is_refused() {
        let mut acceptance = Acceptance::default();
        acceptance.refused(0);
        assert_eq!(acceptance.refused(60_000), Refused::GiveUp);
        assert_eq!(acceptance.standing(90_000), Standing::OnProbation);
        acceptance.tried(90_000);
        assert_eq!(acceptance.standing(90_001), Standing::Suspended { until_ms: 120_000 });
        assert_eq!(acceptance.refused(90_010), Refused::GiveUp);
        assert_eq!(acceptance.standing(90_010), Standing::Suspended { until_ms: 120_010 });
    }

    #[test]
    fn one_stored_entry_ends_it() {
        let mut acceptance = Acceptance::default();
        assert!(!acceptance.accepted());
        acceptance.refused(0);
        assert!(acceptance.accepted());
        assert_eq!(acceptance.standing(1), Standing::Accepted);
        assert_eq!(acceptance.refused(70_000), Refused::TryAgain);
    }
}
