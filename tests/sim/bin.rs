//! The simulator for people: `cargo run --release -p millstream-tests --bin sim -- --seeds 100`.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;

use millstream_tests::simulation::coverage::Coverage;
use millstream_tests::simulation::faults::Fault;
use millstream_tests::simulation::plants::Plant;
use millstream_tests::simulation::run::{self, Run};
use millstream_tests::simulation::world::Settings;

const USAGE: &str = "\
sim [--seeds N] [--from S] [--trace] [--plant NAME] [--faults NAME,NAME] [--coverage] [--threads N]

  --seeds N      how many seeds to run; 100 by default
  --from S       the first of them; 1 by default
  --trace        print what happens
  --plant NAME   plant a bug and stop at the first seed that finds it
  --faults …     these faults instead of those of the seed; `none` for none
  --coverage     print how often each fault struck in each phase
  --threads N    2 by default
";

/// What is asked for.
struct Arguments {
    seeds: u64,
    from: u64,
    trace: bool,
    plant: Option<Plant>,
    faults: Option<BTreeSet<Fault>>,
    coverage: bool,
    threads: u64,
}

fn main() -> ExitCode {
    let arguments = match read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let started = std::time::Instant::now();
    let (mut coverage, mut failed, mut happenings, mut side_effects) = (Coverage::default(), 0_u64, 0, 0);
    let settings = |seed| {
        let mut settings = Settings::of(seed);
        settings.plant = arguments.plant;
        settings.traced = arguments.trace;
        if let Some(faults) = &arguments.faults {
            settings.faults = settings.faults.only(faults);
        }
        settings
    };
    run::seeds(arguments.from..arguments.from + arguments.seeds, arguments.threads, settings, |run| {
        coverage.add(&run.coverage);
        happenings += run.happenings;
        side_effects += run.side_effects;
        print(&run, &arguments);
        failed += u64::from(run.result.is_err());
        !(run.result.is_err() && arguments.plant.is_some())
    });
    if arguments.coverage {
        print!("{}", coverage.table());
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{} seeds, {failed} failed, {happenings} happenings, {side_effects} side effects, {seconds:.1} s",
        arguments.seeds
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(run: &Run, arguments: &Arguments) {
    if arguments.trace {
        // Whoever reads may have enough of it.
        drop(std::io::stdout().write_all(run.trace.as_bytes()));
    }
    let Err(violation) = &run.result else { return };
    println!("seed {} fails: {violation}", run.settings.seed);
    let least = if arguments.trace { run.settings.clone() } else { run::minimised(&run.settings, violation) };
    println!("  {}", run::command(&least));
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments =
        Arguments { seeds: 100, from: 1, trace: false, plant: None, faults: None, coverage: false, threads: 2 };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("`{text}` is not a number"));
        match word.as_str() {
            "--seeds" => arguments.seeds = number(value()?)?,
            "--from" => arguments.from = number(value()?)?,
            "--threads" => arguments.threads = number(value()?)?.max(1),
            "--trace" => arguments.trace = true,
            "--coverage" => arguments.coverage = true,
            "--plant" => arguments.plant = Some(value()?.parse::<Plant>().map_err(|e| format!("{e}"))?),
            "--faults" => {
                let names = value()?;
                let names = names.split(',').filter(|name| *name != "none" && !name.is_empty());
                let faults = names.map(str::parse::<Fault>).collect::<Result<_, _>>();
                arguments.faults = Some(faults.map_err(|e| format!("{e}"))?);
            }
            other => return Err(format!("unknown argument `{other}`")),
        }
    }
    Ok(arguments)
}
