//! Wall clocks: the broker's and each node's, none of them right.

use std::collections::BTreeMap;

use millstream_model::time::Timestamp;

use super::agenda::Time;
use super::network::Node;

/// What a perfect wall clock shows when the world begins, in microseconds: 2026-01-01.
const BEGINNING: i64 = 1_767_225_600_000_000;

/// How far each clock is off, in microseconds.
#[derive(Debug, Default)]
pub struct Clocks {
    broker: i64,
    /// By how much it was set back in all, and how often it jumped.
    set_back: u64,
    jumps: u32,
    nodes: BTreeMap<Node, i64>,
}

impl Clocks {
    pub fn broker(&self, now: Time) -> Timestamp {
        shown(now, self.broker)
    }

    pub fn wall(&self, node: Node, now: Time) -> Timestamp {
        shown(now, self.nodes.get(&node).copied().unwrap_or_default())
    }

    pub fn jump_broker(&mut self, micros: i64) {
        self.broker += micros;
        self.jumps += 1;
        if micros < 0 {
            self.set_back += micros.unsigned_abs();
        }
    }

    pub fn jump(&mut self, node: Node, micros: i64) {
        *self.nodes.entry(node).or_default() += micros;
    }

    /// By how many milliseconds the broker's clock was set back in all: what waits for a time of the journal waits so
    /// much longer.
    pub const fn set_back_ms(&self) -> u64 {
        self.set_back / 1_000
    }

    /// Whether the broker's clock has always run evenly.
    pub const fn is_even(&self) -> bool {
        self.jumps == 0
    }

    /// When the broker's clock shows `at`, if nothing changes it.
    pub fn when_broker(&self, at: Timestamp) -> Time {
        let micros = i64::try_from(at.as_micros()).unwrap_or(i64::MAX) - BEGINNING - self.broker;
        Time(u64::try_from(micros).unwrap_or(0))
    }
}

fn shown(now: Time, off: i64) -> Timestamp {
    let micros = BEGINNING + off + i64::try_from(now.0).expect("worlds are short");
    Timestamp::from_micros(u64::try_from(micros).expect("clocks are off by hours, not by decades"))
}
