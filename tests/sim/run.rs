//! Runs seeds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use super::agenda::Time;
use super::coverage::Coverage;
use super::faults::{Fault, Faults};
use super::invariants::{Violation, violated};
use super::world::{Settings, World};

/// The longest silence of a world in which something is still to come: a claim of the longest step, a sweep after
/// it, a backoff.
const SILENCE_MS_MAX: u64 = 150_000;
/// How long everything is done before the end: a sweep comes round meanwhile.
const QUIET_MS: u64 = 45_000;
/// No world needs longer.
const LENGTH_MS_MAX: u64 = 3_000_000;
/// Happenings of one world, at most.
const HAPPENINGS_MAX: u64 = 3_000_000;
/// Owners are compared with the journal every so many happenings.
const COMPARE_EVERY: u64 = 300;

/// A partition begins again from its snapshot, for trial, every so many happenings.
const REHEARSE_EVERY: u64 = 3_000;
/// How long everybody has to notice that the journal went backwards.
const REGRESSED_MS: u64 = 30_000;

/// What became of a seed.
#[derive(Debug)]
pub struct Run {
    pub settings: Settings,
    pub result: Result<(), Violation>,
    pub coverage: Coverage,
    pub trace: String,
    pub happenings: u64,
    pub side_effects: usize,
    /// Virtual time.
    pub ended_at: Time,
}

/// Runs one world to its end.
pub fn run(settings: &Settings) -> Run {
    let mut world = World::new(settings);
    let mut happenings = 0;
    let result = drive(&mut world, &mut happenings);
    if let Err(violation) = &result {
        let text = violation.to_string();
        world.physics.tell(|| text);
    }
    Run {
        settings: settings.clone(),
        result,
        happenings,
        side_effects: world.outside.witness.count(),
        ended_at: world.physics.now,
        coverage: world.physics.coverage,
        trace: world.physics.trace.into_text(),
    }
}

fn drive(world: &mut World, happenings: &mut u64) -> Result<(), Violation> {
    let mut quiet_since = None;
    loop {
        if !world.step()? {
            return violated("something always happens", "the agenda is empty");
        }
        *happenings += 1;
        if let Some(regressed) = world.regressed {
            if world.physics.now > world.healed_at.max(regressed.at).plus_millis(REGRESSED_MS) {
                return world.finish_regressed();
            }
            continue;
        }
        if happenings.is_multiple_of(COMPARE_EVERY) {
            for owner in world.coordinators() {
                world.checker.compare(owner, &world.broker)?;
            }
            if happenings.is_multiple_of(REHEARSE_EVERY) {
                world.checker.rehearse(&world.broker, world.physics.plant)?;
            }
        }
        let now = world.physics.now;
        if !world.is_quiet() {
            quiet_since = None;
        } else if now.millis_since(*quiet_since.get_or_insert(now)) > QUIET_MS {
            return world.finish();
        }
        let waiting_since = world.healed_at.max(world.checker.progress_at);
        if now.millis_since(waiting_since) > QUIET_MS + SILENCE_MS_MAX + world.physics.clocks.set_back_ms()
            || now.millis_since(Time(0)) > LENGTH_MS_MAX
            || *happenings > HAPPENINGS_MAX
        {
            return world.stuck();
        }
    }
}

/// The same failure with fewer faults: each is dropped that is not needed for it.
pub fn minimised(settings: &Settings, violation: &Violation) -> Settings {
    let mut least = settings.clone();
    for fault in settings.faults.active().clone() {
        let fewer: BTreeSet<Fault> = least.faults.active().iter().copied().filter(|other| *other != fault).collect();
        let candidate = Settings { faults: least.faults.clone().only(&fewer), ..least.clone() };
        if run(&candidate).result.is_err_and(|other| other.invariant == violation.invariant) {
            least = candidate;
        }
    }
    least
}

/// The command that repeats a run.
pub fn command(settings: &Settings) -> String {
    let mut command =
        format!("cargo run --release -p millstream-tests --bin sim -- --seeds 1 --from {} --trace", settings.seed);
    if let Some(plant) = settings.plant {
        command.push_str(&format!(" --plant {plant}"));
    }
    if settings.faults.active() != Faults::of(settings.seed).active() {
        let names: Vec<&str> = settings.faults.active().iter().map(|fault| fault.as_str()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(",") };
        command.push_str(&format!(" --faults {names}"));
    }
    command
}

/// Runs seeds on some threads and hands over what became of each, in the order of the seeds, until that says `false`.
pub fn seeds(
    seeds: std::ops::Range<u64>,
    threads: u64,
    settings: impl Fn(u64) -> Settings + Sync,
    mut done: impl FnMut(Run) -> bool,
) {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let (sender, receiver) = mpsc::sync_channel::<(u64, Run)>(64);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, stop, settings, end) = (sender.clone(), &next, &stop, &settings, seeds.end);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || sender.send((seed, run(&settings(seed)))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let (mut early, mut expected) = (BTreeMap::new(), seeds.start);
        for (seed, run) in receiver {
            early.insert(seed, run);
            while let Some(run) = early.remove(&expected) {
                expected += 1;
                if !done(run) {
                    stop.store(true, Ordering::Relaxed);
                    return;
                }
            }
        }
    });
}
