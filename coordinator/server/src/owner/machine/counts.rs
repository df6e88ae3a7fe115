//! What an owner counts, for health and metrics.

use std::collections::BTreeMap;

use millstream_engine::Ignored;

/// What was ignored, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub ignored: BTreeMap<Ignored, u64>,
    /// Results that are not entries.
    pub malformed: u64,
    /// Tasks that were missing from the queue.
    pub reissued: u64,
    /// Looks for missing tasks that came to their end.
    pub sweeps: u64,
    /// Executions that ended and that the history has.
    pub archived: u64,
    /// Executions that left memory to wait, and that came back.
    pub parked: u64,
    pub woken: u64,
    /// Snapshots that were stored, and journals that were trimmed after one.
    pub snapshots: u64,
    pub trims: u64,
}

impl Counts {
    /// Adds the counts of another partition.
    pub fn add(&mut self, other: &Self) {
        for (&reason, count) in &other.ignored {
            *self.ignored.entry(reason).or_default() += count;
        }
        self.malformed += other.malformed;
        self.reissued += other.reissued;
        self.sweeps += other.sweeps;
        self.archived += other.archived;
        self.parked += other.parked;
        self.woken += other.woken;
        self.snapshots += other.snapshots;
        self.trims += other.trims;
    }
}
