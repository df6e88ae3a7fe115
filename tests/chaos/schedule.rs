//! The strikes of a seed, decided before the first one falls.
//!
//! First the mixed part: every 1–3 s anything that is up is killed or paused, of the nats-servers never more than one
//! at a time, with time between them for the cluster to heal; in its middle all nats-servers are killed at once. Then
//! the finale, made for measuring: each coordinator is killed alone and left alone, and all nats-servers once more.

use std::fmt;
use std::fmt::Write as _;

use crate::chaos::settings::Settings;
use crate::simulation::dice::Dice;

/// What is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Nats(usize),
    AllNats,
    Coordinator(usize),
    Worker(usize),
}

/// How it is struck. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// `kill -9`, and a start after this time.
    Kill { down_ms: u64 },
    /// SIGSTOP, and SIGCONT after this time.
    Pause { ms: u64 },
}

/// One strike, at a time after the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    pub at_ms: u64,
    pub target: Target,
    pub blow: Blow,
}

/// Quiet before the first strike.
const PRELUDE_MS: u64 = 4_000;
/// How long a nats-server that is back is left to catch up before another one is struck.
const HEAL_MS: u64 = 8_000;
/// The same after all of them were killed.
const HEAL_ALL_MS: u64 = 15_000;
/// How long the finale leaves the world alone after the death of a coordinator.
const ALONE_MS: u64 = 12_000;

impl Strike {
    /// When what was struck is back.
    pub fn end_ms(&self) -> u64 {
        self.at_ms + self.blow.lasts_ms()
    }
}

impl Blow {
    pub fn lasts_ms(self) -> u64 {
        match self {
            Self::Kill { down_ms: ms } | Self::Pause { ms } => ms,
        }
    }
}

impl Target {
    pub fn is_nats(self) -> bool {
        matches!(self, Self::Nats(_) | Self::AllNats)
    }
}

/// When the last strike is over and a moment has passed.
pub fn end_ms(strikes: &[Strike]) -> u64 {
    strikes.iter().map(Strike::end_ms).max().unwrap_or_default() + HEAL_MS
}

/// All strikes, in order of time.
pub fn schedule(settings: &Settings) -> Vec<Strike> {
    let mut draft = Draft {
        dice: Dice::of(settings.seed, "strikes"),
        at_ms: PRELUDE_MS,
        nats_free_ms: 0,
        busy: Vec::new(),
        strikes: Vec::new(),
    };
    for target in targets(settings) {
        draft.busy.push((target, 0));
    }
    for i in 0..settings.strikes {
        if i == settings.strikes / 2 {
            draft.all_nats();
        }
        draft.mixed();
    }
    draft.finale(settings);
    draft.strikes
}

fn targets(settings: &Settings) -> Vec<Target> {
    let nats = (0..settings.replicas).map(Target::Nats).filter(|_| settings.replicas > 1);
    let coordinators = (0..settings.coordinators).map(Target::Coordinator);
    nats.chain(coordinators).chain((0..settings.workers).map(Target::Worker)).collect()
}

struct Draft {
    dice: Dice,
    at_ms: u64,
    /// From when a nats-server may be struck.
    nats_free_ms: u64,
    /// Every process with the time from when it is up.
    busy: Vec<(Target, u64)>,
    strikes: Vec<Strike>,
}

impl Draft {
    fn mixed(&mut self) {
        let free: Vec<usize> = (0..self.busy.len()).filter(|i| self.is_free(*i)).collect();
        if !free.is_empty() {
            let chosen = self.dice.pick(&free);
            let target = self.busy[chosen].0;
            let blow = if self.dice.chance(600) {
                Blow::Kill { down_ms: self.dice.between(300, 4_000) }
            } else {
                Blow::Pause { ms: self.dice.between(1_000, 15_000) }
            };
            self.strike(target, blow);
            self.busy[chosen].1 = self.at_ms + blow.lasts_ms() + 500;
            if target.is_nats() {
                self.nats_free_ms = self.at_ms + blow.lasts_ms() + HEAL_MS;
            }
        }
        self.at_ms += self.dice.between(1_000, 3_000);
    }

    fn is_free(&self, index: usize) -> bool {
        let (target, from_ms) = self.busy[index];
        from_ms <= self.at_ms && !(target.is_nats() && self.nats_free_ms > self.at_ms)
    }

    /// Kills all nats-servers when all of them are up and had time to heal.
    fn all_nats(&mut self) {
        self.at_ms = self.at_ms.max(self.nats_free_ms);
        let down_ms = self.dice.between(200, 2_000);
        self.strike(Target::AllNats, Blow::Kill { down_ms });
        self.nats_free_ms = self.at_ms + down_ms + HEAL_ALL_MS;
        self.at_ms += 1_000;
    }

    fn finale(&mut self, settings: &Settings) {
        let back_ms = self.busy.iter().map(|(_, from_ms)| *from_ms).max().unwrap_or_default();
        self.at_ms = self.at_ms.max(back_ms).max(self.nats_free_ms);
        for coordinator in 0..settings.coordinators {
            let down_ms = self.dice.between(1_000, 3_000);
            self.strike(Target::Coordinator(coordinator), Blow::Kill { down_ms });
            self.at_ms += ALONE_MS;
        }
        self.all_nats();
    }

    fn strike(&mut self, target: Target, blow: Blow) {
        self.strikes.push(Strike { at_ms: self.at_ms, target, blow });
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nats(i) => write!(f, "nats-{}", i + 1),
            Self::AllNats => f.write_str("all nats"),
            Self::Coordinator(i) => write!(f, "coordinator-{}", i + 1),
            Self::Worker(i) => write!(f, "worker-{}", i + 1),
        }
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { down_ms } => write!(f, "kill -9, back after {down_ms} ms"),
            Self::Pause { ms } => write!(f, "paused for {ms} ms"),
        }
    }
}

/// The schedule for people, with the command that repeats it.
pub fn render(settings: &Settings, strikes: &[Strike]) -> String {
    let mut text = format!("seed {}: {} strikes\n  {}\n", settings.seed, strikes.len(), settings.command());
    for strike in strikes {
        let seconds = std::time::Duration::from_millis(strike.at_ms).as_secs_f64();
        writeln!(text, "  {seconds:8.3} s  {:<14} {}", strike.target.to_string(), strike.blow).expect("a string grows");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_strikes_and_another_one_others() {
        let render_of = |seed| render(&Settings::short(seed), &schedule(&Settings::short(seed)));
        assert_eq!(render_of(7), render_of(7));
        assert_ne!(schedule(&Settings::short(7)), schedule(&Settings::short(8)));
    }

    #[test]
    fn a_majority_of_nats_is_up_except_when_all_are_struck_and_everything_is_struck_sometime() {
        for seed in 0..200 {
            let settings = Settings { strikes: 300, ..Settings::short(seed) };
            let strikes = schedule(&settings);
            let nats: Vec<&Strike> = strikes.iter().filter(|strike| strike.target.is_nats()).collect();
            for pair in nats.windows(2) {
                assert!(pair[1].at_ms >= pair[0].end_ms() + HEAL_MS, "{pair:?}");
            }
            assert_eq!(nats.iter().filter(|strike| strike.target == Target::AllNats).count(), 2);
            for target in targets(&settings) {
                let of_it: Vec<&Strike> = strikes.iter().filter(|strike| strike.target == target).collect();
                assert!(!of_it.is_empty(), "{target}");
                assert!(of_it.windows(2).all(|pair| pair[0].end_ms() < pair[1].at_ms), "{target} is struck when down");
            }
            assert!(strikes.windows(2).all(|pair| pair[0].at_ms < pair[1].at_ms));
        }
    }

    #[test]
    fn the_short_run_fits_its_three_minutes() {
        for seed in 0..200 {
            let settings = Settings::short(seed);
            let length_ms = end_ms(&schedule(&settings));
            assert!(length_ms < 160_000, "seed {seed}: {length_ms} ms");
        }
    }
}
