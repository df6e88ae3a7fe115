//! Holders of claims whose presence is gone: their attempts need not wait for the end of their time.

use std::collections::{BTreeMap, BTreeSet};

use millstream_engine::TaskRef;
use millstream_model::ids::WorkerId;

use super::clock::Mono;

/// How often presences are looked at while an attempt waits for a claim's holder.
const PERIOD_MS: u64 = 5_000;
/// How long a presence must have been gone.
const GONE_MS: u64 = 20_000;

/// Since when the holders of claims have been missing.
#[derive(Debug, Default)]
pub struct Claimants {
    missing: BTreeMap<TaskRef, Mono>,
    next: Mono,
}

impl Claimants {
    /// Attempts whose holder is missing.
    pub fn len(&self) -> usize {
        self.missing.len()
    }

    /// Whether no holder is missing.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }

    /// When presences are to be looked at.
    pub fn wakes_at(&self) -> Mono {
        self.next
    }

    /// Whether presences are to be looked at.
    pub fn tick(&mut self, now: Mono) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now.plus_millis(PERIOD_MS);
        }
        due
    }

    /// The workers that are there. Returns the attempts whose holder has been missing for long enough.
    pub fn seen<'a>(
        &mut self,
        now: Mono,
        held: impl Iterator<Item = (TaskRef, &'a WorkerId)>,
        present: &BTreeSet<WorkerId>,
    ) -> Vec<TaskRef> {
        let missing: BTreeSet<TaskRef> =
            held.filter(|(_, claimant)| !present.contains(*claimant)).map(|(task, _)| task).collect();
        self.missing.retain(|task, _| missing.contains(task));
        for &task in &missing {
            self.missing.entry(task).or_insert(now);
        }
        self.missing.iter().filter(|(_, since)| now >= since.plus_millis(GONE_MS)).map(|(&task, _)| task).collect()
    }

    /// Nobody is known to be missing: the broker was away, so nobody could renew a presence, or no attempt waits any
    /// more, so nobody is looked for.
    pub fn forget(&mut self) {
        self.missing.clear();
    }
}

#[cfg(test)]
mod tests {
    use millstream_model::plan::StepIndex;

    use super::*;

    #[test]
    fn a_holder_is_given_up_only_after_it_was_missing_all_the_time() {
        let execution = "0193a5a0-0000-7000-8000-000000000003".parse().expect("an id");
        let task = TaskRef { execution, step: StepIndex(1), item: None, activation: 0, attempt: 2 };
        let worker: WorkerId = "w".parse().expect("a name");
        let (nobody, all) = (BTreeSet::new(), BTreeSet::from([worker.clone()]));
        let mut claimants = Claimants::default();
        let mut seen = |at: u64, present: &BTreeSet<WorkerId>| {
            claimants.seen(Mono(0).plus_millis(at), std::iter::once((task, &worker)), present)
        };
        assert_eq!(seen(0, &nobody), []);
        assert_eq!(seen(19_000, &nobody), []);
        assert_eq!(seen(19_500, &all), []);
        assert_eq!(seen(25_000, &nobody), []);
        assert_eq!(seen(45_000, &nobody), [task]);
    }

    #[test]
    fn an_attempt_that_is_not_held_any_more_is_forgotten() {
        let mut claimants = Claimants::default();
        assert_eq!(claimants.seen(Mono(0), std::iter::empty(), &BTreeSet::new()), []);
        assert!(claimants.missing.is_empty());
    }
}
