//! Snapshots: taken when what follows the last one outweighs it, and then the journal is cut below.
//!
//! ```text
//!   tail heavy ─▶ Snapshot ─▶ stored ─▶ (the duplicate window) ─▶ Trim
//! ```

use bytes::Bytes;
use millstream_model::hash::ContentHash;
use millstream_model::snapshot::Snapshot;
use millstream_model::time::Timestamp;

use crate::owner::clock::Mono;

use super::Keeping;

/// Before a snapshot that could not be stored is taken anew.
const RETRY_MS: u64 = 10_000;
/// What a key or a parked execution weighs in a snapshot, in bytes of text.
pub(super) const LINE_WEIGHT: u64 = 128;

/// A snapshot that is to be stored, and what its pointer says.
#[derive(Debug, Clone)]
pub struct Taken {
    pub snapshot: Snapshot,
    /// The last message that is in it.
    pub sequence: u64,
    pub time: Timestamp,
    pub message: Bytes,
    pub state: ContentHash,
    pub fold_rev: u16,
}

/// See the module.
#[derive(Debug)]
pub struct Snapshots {
    /// Bytes of text in the last snapshot.
    weight: u64,
    /// What follows it.
    entries: u64,
    bytes: u64,
    /// The message that was folded last.
    newest: Option<(u64, Timestamp, Bytes)>,
    /// The last message of the newest stored snapshot.
    base: Option<u64>,
    storing: bool,
    not_before: Mono,
    /// Cut below this message once its time is that long ago.
    cut: Option<(u64, Timestamp)>,
    /// Replaced records that the newest stored snapshot may name; those up to `left_out` are not in the one that is being
    /// stored.
    named: Vec<u64>,
    left_out: usize,
}

impl Snapshots {
    pub(super) fn new(base: Option<u64>) -> Self {
        Self {
            weight: 0,
            entries: 0,
            bytes: 0,
            newest: None,
            base,
            storing: false,
            not_before: Mono::default(),
            cut: None,
            named: Vec::new(),
            left_out: 0,
        }
    }

    /// What the last snapshot weighs, in bytes of text.
    pub(super) fn weigh(&mut self, weight: u64) {
        self.weight = weight;
    }

    pub fn in_mind(&self) -> usize {
        usize::from(self.storing)
    }

    /// Entries and bytes of the journal that follow the last snapshot.
    pub fn tail(&self) -> (u64, u64) {
        (self.entries, self.bytes)
    }

    /// The last message of the newest stored snapshot.
    pub fn base(&self) -> Option<u64> {
        self.base
    }

    pub(super) fn folded(&mut self, sequence: u64, at: Timestamp, entries: usize, payload: Bytes) {
        self.entries += entries as u64;
        self.bytes += payload.len() as u64;
        self.newest = Some((sequence, at, payload));
    }

    /// Whether it is time for one.
    pub fn is_due(&self, keeping: &Keeping, now: Mono) -> bool {
        let heavy = self.entries >= keeping.tail_entries_min || self.bytes >= keeping.tail_bytes_min;
        let outweighs = self.bytes >= 2 * self.weight;
        let wanted = (heavy && outweighs) || self.entries >= keeping.tail_entries_max;
        wanted && !self.storing && now >= self.not_before
    }

    /// A snapshot with `weight` bytes of text is being stored. Returns the message that is the last in it.
    pub fn begins(&mut self, weight: u64) -> Option<(u64, Timestamp, Bytes)> {
        let newest = self.newest.clone()?;
        self.storing = true;
        self.left_out = self.named.len();
        self.weight = weight;
        self.entries = 0;
        self.bytes = 0;
        Some(newest)
    }

    /// Whether a replaced record stays because a snapshot may name it. Without any, nobody begins with one.
    pub fn keeps(&mut self, record: u64) -> bool {
        let keeps = self.storing || self.base.is_some();
        if keeps {
            self.named.push(record);
        }
        keeps
    }

    /// The snapshot up to `sequence` is stored and pointed at. Returns the replaced records that nothing names any more.
    pub fn stored(&mut self, sequence: u64, time: Timestamp) -> Vec<u64> {
        let rest = self.named.split_off(std::mem::take(&mut self.left_out).min(self.named.len()));
        let unnamed = std::mem::replace(&mut self.named, rest);
        self.storing = false;
        self.base = Some(sequence);
        self.cut = Some((sequence, time));
        unnamed
    }

    /// It could not be stored; the next one is taken in a while.
    pub fn failed(&mut self, keeping: &Keeping, now: Mono) {
        self.storing = false;
        self.left_out = 0;
        self.entries = keeping.tail_entries_max;
        self.not_before = now.plus_millis(RETRY_MS);
    }

    /// The message below which the journal is to be cut, if it is time at journal time `at`.
    pub fn take_cut(&mut self, at: Timestamp, keeping: &Keeping) -> Option<u64> {
        let (below, _) = self.cut.take_if(|(_, time)| at.millis_since(*time) >= keeping.trim_after_ms)?;
        Some(below)
    }

    /// Journal time at which it is to be cut.
    pub fn cut_at(&self, keeping: &Keeping) -> Option<Timestamp> {
        self.cut.map(|(_, time)| time.plus_millis(keeping.trim_after_ms))
    }

    /// It could not be cut; it is tried again after the next snapshot, or soon.
    pub fn not_cut(&mut self, below: u64, at: Timestamp) {
        self.cut.get_or_insert((below, at));
    }
}
