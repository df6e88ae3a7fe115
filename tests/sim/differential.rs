//! The modelled JetStream of the simulator against a real nats-server: the same random operations, equal answers.
//!
//! `SEED=<number>` repeats one sequence, `SEQUENCES=<number>` runs more or fewer than usual.

#[path = "differential/generator.rs"]
mod generator;
#[path = "differential/modelled.rs"]
mod modelled;
#[path = "differential/operation.rs"]
mod operation;
#[path = "differential/random.rs"]
mod random;
#[path = "differential/real.rs"]
mod real;
#[path = "differential/restarts.rs"]
mod restarts;
#[path = "differential/sequence.rs"]
mod sequence;
#[path = "differential/setting.rs"]
mod setting;
#[path = "differential/wire.rs"]
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::join_all;
use millstream_tests::nats;

use sequence::Ended;
use wire::Wire;

/// Sequences of one run.
const SEQUENCES: u64 = 2_000;
/// Sequences that run at the same time.
const LANES: u64 = 80;
/// Groups of sequences with a crash, each on a server of its own.
const GROUPS: u64 = 2;
/// Runs of a sequence that the machine was too busy for.
const RUNS_MAX: u32 = 8;
/// Runs of a sequence that differed and took too long: silence where an answer was expected takes long.
const LATE_DIFFERENCES_MAX: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_answers_random_operations_as_a_real_server_does() {
    let server = nats::start().await;
    let from = number("FROM").unwrap_or(1);
    let (first, last) = match number("SEED") {
        Some(seed) => (seed, seed),
        None => (from, from + number("SEQUENCES").unwrap_or(SEQUENCES) - 1),
    };
    let next = Arc::new(AtomicU64::new(first));
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..LANES.min(last + 1 - first) {
        lanes.spawn(run_lane(server.url(), lane, Arc::clone(&next), last));
    }
    let mut total = Totals::default();
    while let Some(lane) = lanes.join_next().await {
        let lane = lane.expect("a lane reports");
        total.sequences += lane.sequences;
        total.operations += lane.operations;
        total.late += lane.late;
        total.differences.extend(lane.differences);
    }
    println!("{} sequences, {} operations, {} runs too late", total.sequences, total.operations, total.late);
    total.differences.truncate(3);
    assert!(total.differences.is_empty(), "{}", total.differences.join("\n\n"));
    assert_eq!(total.sequences, last + 1 - first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_remembers_what_a_real_server_does_after_a_kill() {
    let written = join_all(groups().map(restarts::run_written));
    let restored = join_all(groups().map(restarts::run_restored));
    let (written, restored, aged) = tokio::join!(written, restored, restarts::run_aged());
    let mut differences = [written.concat(), restored.concat(), aged].concat();
    differences.truncate(3);
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_explains_what_a_real_server_forgets_when_it_is_killed_at_once() {
    let mut differences = Vec::new();
    let mut forgetful = 0;
    for group in join_all(groups().map(restarts::run_at_once)).await {
        forgetful += group.0;
        differences.extend(group.1);
    }
    println!("{forgetful} consumers forgot something");
    differences.truncate(3);
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

/// Groups of sequences with a crash.
fn groups() -> impl Iterator<Item = u64> {
    match number("GROUP") {
        Some(group) => group..group + 1,
        None => 0..GROUPS,
    }
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// What was run.
#[derive(Default)]
struct Totals {
    sequences: u64,
    operations: usize,
    late: u64,
    differences: Vec<String>,
}

/// Runs one sequence after the other until all were taken.
async fn run_lane(url: String, lane: u64, next: Arc<AtomicU64>, last: u64) -> Totals {
    let mut wire = Wire::connect(&url, &format!("lane{lane}")).await;
    let mut totals = Totals::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed > last || !totals.differences.is_empty() {
            return totals;
        }
        let mut differences = 0;
        for run in 0.. {
            let ended;
            (ended, wire) = sequence::run(seed, run, wire).await;
            match ended {
                Ended::Late { difference } => {
                    totals.late += 1;
                    differences += u32::from(difference.is_some());
                    assert!(run < RUNS_MAX, "the machine is too busy for seed {seed}");
                    if let Some(report) = difference.filter(|_| differences == LATE_DIFFERENCES_MAX) {
                        totals.differences.push(report);
                        break;
                    }
                }
                Ended::Equal { operations } => {
                    totals.sequences += 1;
                    totals.operations += operations;
                    break;
                }
                Ended::Different(report) => {
                    totals.differences.push(report);
                    break;
                }
            }
        }
    }
}
