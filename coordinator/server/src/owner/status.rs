//! What others see of an owner.

use super::machine::Counts;

/// What others see of an owner.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// It has folded the journal up to its own epoch.
    pub caught_up: bool,
    /// Why it stopped.
    pub stopped: Option<String>,
    /// It stopped because going on would be wrong: another build, or a person, has to look.
    pub halted: bool,
    pub counts: Counts,
    pub figures: Figures,
}

/// What an owner holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    pub epoch: u64,
    pub fold_rev: u16,
    /// Executions in memory, those that have ended and are not archived yet included.
    pub in_memory: usize,
    pub parked: usize,
    /// Bytes of the transcripts in memory.
    pub transcripts: usize,
    /// Entries and bytes of the journal that follow the newest snapshot.
    pub tail_entries: u64,
    pub tail_bytes: u64,
    /// The last message in the newest snapshot, 0 while there is none.
    pub snapshot: u64,
    /// Bytes of the journal, and its limit.
    pub journal_bytes: u64,
    pub journal_bytes_max: Option<u64>,
}
