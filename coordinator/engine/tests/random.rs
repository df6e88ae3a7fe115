//! What holds in every history, tried on histories from seeds.
//!
//! A seed makes a definition and a history of it: results early, late, twice and out of order, claims held and
//! abandoned, tasks lost and reissued, cancels and resumes, time that jumps to the next alarm. After every entry and in
//! the end the promises of `random/world.rs`, `random/ledger.rs` and `random/promises.rs` are checked. `SEEDS=n` tries
//! more seeds, `SEED=n` this one.

#[expect(dead_code, reason = "histories from seeds have no text to read and none to compare with")]
#[path = "behaviour/check.rs"]
mod check;

mod random {
    pub mod absence;
    pub mod definition;
    pub mod dice;
    pub mod history;
    pub mod ledger;
    pub mod promises;
    pub mod world;
}

use std::collections::BTreeSet;
use std::panic;

use millstream_model::entry::Entry;
use millstream_model::view::ExecutionStatus;
use random::absence::Absences;
use random::dice::Dice;
use random::world::World;
use random::{absence, definition, history, promises};

/// How many seeds are tried when nobody asks for more.
const SEEDS: u64 = 2_000;

/// Kinds of events and of timers that there are.
const EVENTS: usize = 24;
const CLOCKS: usize = 6;

#[test]
fn every_history_keeps_the_promises() {
    let seeds = match number("SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        if panic::catch_unwind(|| tell(seed)).is_err() {
            panic!(
                "seed {seed} breaks a promise, see above; its definition:\n\n{}\n\
                 SEED={seed} cargo test -p millstream-engine --test random",
                definition::random(&mut Dice::of(seed))
            );
        }
    }
}

#[test]
fn what_leaves_memory_comes_back_as_it_was() {
    let seeds = match number("SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("SEEDS").unwrap_or(SEEDS) / 5,
    };
    let all = seeds.end() > seeds.start();
    let mut absences = Absences::default();
    for seed in seeds {
        let check = panic::AssertUnwindSafe(|| absence::check(&tell(seed), seed, &mut absences));
        if panic::catch_unwind(check).is_err() {
            panic!("seed {seed}: SEED={seed} cargo test -p millstream-engine --test random what_leaves");
        }
    }
    let Absences { parked, forgotten, recalled } = absences;
    assert!(!all || (parked > 100 && forgotten > 100 && recalled > 50), "{absences:?}");
}

#[test]
fn one_seed_told_twice_is_the_same_history() {
    for seed in 1..=20 {
        let journals = [tell(seed), tell(seed)].map(|world| format!("{:?}", world.journal));
        assert!(journals[0] == journals[1], "seed {seed} tells two histories");
    }
}

#[test]
fn the_seeds_reach_every_end() {
    let ends: BTreeSet<ExecutionStatus> = (1..=200).map(|seed| tell(seed).execution().status()).collect();
    let all =
        [ExecutionStatus::Completed, ExecutionStatus::Failed, ExecutionStatus::Cancelled, ExecutionStatus::Timeout];
    assert_eq!(ends, BTreeSet::from(all));
}

#[test]
fn the_seeds_reach_every_event_and_every_clock() {
    let mut events = BTreeSet::new();
    let mut clocks = BTreeSet::new();
    for seed in 1..=400 {
        let world = tell(seed);
        events.extend(world.execution().events(None).into_iter().map(|event| event.kind));
        clocks.extend(world.journal.iter().filter_map(|(_, _, entry)| match entry {
            Entry::TimerFired(fired) => Some(std::mem::discriminant(&fired.timer)).map(|kind| format!("{kind:?}")),
            _ => None,
        }));
    }
    assert_eq!(events.len(), EVENTS, "{events:?}");
    assert_eq!(clocks.len(), CLOCKS, "{clocks:?}");
}

/// The whole history of a seed, with the promises checked all along.
fn tell(seed: u64) -> World {
    let mut dice = Dice::of(seed);
    let definition = definition::random(&mut dice);
    let mut world = World::new(&definition, dice);
    history::tell(&mut world);
    promises::check(&world);
    world
}

#[expect(clippy::disallowed_methods, reason = "a test is configured where it is started")]
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not `{text}`")))
}
