//! Virtual time and what happens when.

use std::collections::BTreeMap;
use std::fmt;

/// Microseconds since the world began. Nobody in the world can see it: processes see their own clocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    #[must_use]
    pub const fn plus_micros(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        self.plus_micros(millis.saturating_mul(1_000))
    }

    /// Milliseconds from `earlier` to this moment, 0 when that lies ahead.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// What is going to happen, in order; what is due at the same time happens in the order in which it was added.
#[derive(Debug)]
pub struct Agenda<T> {
    items: BTreeMap<(Time, u64), T>,
    added: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { items: BTreeMap::new(), added: 0 }
    }
}

impl<T> Agenda<T> {
    pub fn add(&mut self, at: Time, item: T) {
        self.added += 1;
        self.items.insert((at, self.added), item);
    }

    /// Takes out what happens next.
    pub fn pop(&mut self) -> Option<(Time, T)> {
        self.items.pop_first().map(|((at, _), item)| (at, item))
    }

    /// What is still going to happen.
    pub fn iter(&self) -> impl Iterator<Item = (Time, &T)> {
        self.items.iter().map(|((at, _), item)| (*at, item))
    }
}
