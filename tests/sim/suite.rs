//! The simulation suite: seeds without bugs hold every promise, planted bugs are found, the generator reaches what it
//! should, and a seed is the same world each time.

use std::collections::BTreeSet;
use std::time::Instant;

use millstream_tests::simulation::coverage::Coverage;
use millstream_tests::simulation::faults::Fault;
use millstream_tests::simulation::plants::Plant;
use millstream_tests::simulation::run::{self, Run};
use millstream_tests::simulation::world::Settings;

/// Seeds that the suite runs: enough that every cell of the table is reached with room to spare.
const SEEDS: u64 = 3_500;
/// Within so many seeds every planted bug is found.
const PLANT_SEEDS_MAX: u64 = 10_000;
/// The machines that the suite must be fast on have two cores.
const THREADS: u64 = 2;

#[test]
fn every_seed_holds_every_promise_and_every_fault_strikes_in_every_phase() {
    let started = Instant::now();
    let (mut failures, mut coverage) = (Vec::new(), Coverage::default());
    run::seeds(1..SEEDS + 1, THREADS, Settings::of, |run| {
        coverage.add(&run.coverage);
        failures.extend(failure(&run));
        true
    });
    println!("{SEEDS} seeds in {:.1} s\n{}", started.elapsed().as_secs_f64(), coverage.table());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert_eq!(coverage.holes(), [], "faults that never struck in a phase, see the table above");
}

#[test]
fn seeds_that_failed_once_hold_every_promise() {
    let text = include_str!("regressions.txt");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        let settings = regression(line);
        let run = run::run(&settings);
        if let Some(failure) = failure(&run) {
            panic!("{line}\n{failure}");
        }
    }
}

#[test]
fn every_planted_bug_is_found() {
    for plant in Plant::ALL {
        let mut found = None;
        let first = rare(plant);
        run::seeds(
            first..first + PLANT_SEEDS_MAX,
            THREADS,
            |seed| Settings { plant: Some(plant), ..Settings::of(seed) },
            |run| {
                found = run.result.as_ref().err().map(|violation| (run.settings.seed, violation.invariant));
                found.is_none()
            },
        );
        let (seed, invariant) = found.unwrap_or_else(|| panic!("{plant} is not found in {PLANT_SEEDS_MAX} seeds"));
        println!("{plant:28} seed {seed:>5}: {invariant}");
    }
}

#[test]
fn a_seed_is_the_same_world_each_time() {
    for seed in 1..=60 {
        let traces = [(); 2].map(|()| run::run(&Settings { traced: true, ..Settings::of(seed) }).trace);
        assert!(!traces[0].is_empty() && traces[0] == traces[1], "seed {seed} is two worlds");
    }
}

#[test]
fn a_quarter_of_the_seeds_is_calm() {
    let calm = (1..=1_000).filter(|seed| Settings::of(*seed).faults.is_calm()).count();
    assert!((200..=300).contains(&calm), "{calm} of 1000");
}

/// Where to begin to look for a bug: what needs much to come together shows in few seeds, and the first are known to have
/// none of them.
fn rare(plant: Plant) -> u64 {
    match plant {
        Plant::OneScan => 2_650,
        Plant::ParkedAlarmsForgotten => 1_900,
        Plant::EpochOfLowerNumber | Plant::EpochNotRetried | Plant::StateBeforePointer => 600,
        Plant::AnyToken | Plant::SnapshotWithoutEpoch => 300,
        Plant::ArchiveBeforeRecord => 250,
        _ => 1,
    }
}

/// What is to be told of a run that failed.
fn failure(run: &Run) -> Option<String> {
    let violation = run.result.as_ref().err()?;
    let least = run::minimised(&run.settings, violation);
    Some(format!("seed {}: {violation}\n  {}", run.settings.seed, run::command(&least)))
}

/// A line of the regressions file: a seed, perhaps its faults, a note.
fn regression(line: &str) -> Settings {
    let mut words = line.split_whitespace();
    let seed = words.next().and_then(|word| word.parse().ok());
    let mut settings = Settings::of(seed.unwrap_or_else(|| panic!("`{line}` does not start with a seed")));
    if let Some(names) = words.next().and_then(|word| word.strip_prefix("faults=")) {
        let faults: BTreeSet<Fault> =
            names.split(',').map(|name| name.parse().unwrap_or_else(|error| panic!("{line}: {error}"))).collect();
        settings.faults = settings.faults.only(&faults);
    }
    settings
}
