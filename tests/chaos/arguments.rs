//! What is asked for on the command line or in the environment.

use std::time::Duration;

use crate::chaos::settings::Settings;

pub const USAGE: &str = "\
chaos [storm | network | power] [--seed S] [--executions N] [--steps N] [--kills N] [--coordinators N] [--workers N]
      [--settle SECONDS] [--keep]

  storm            kills and pauses of processes (when nothing is said)
  network          cut cables between nats-servers in network namespaces; needs root
  power            cut disks below nats-servers; needs root
  --seed S         the seed of everything random; that of the clock when absent
  --executions N   executions that are submitted; 300 by default
  --steps N        steps of each, at least 8; 10 by default
  --kills N        strikes of the mixed part; 35 by default
  --settle SECONDS how long after the last strike everything must have ended
  --keep           keep logs and stores even when all is well
";

/// Which harness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Storm,
    Network,
    Power,
}

/// Reads words as of a command line.
///
/// # Errors
/// When a word is not known, or has no number where it wants one.
pub fn read(mut words: impl Iterator<Item = String>, seed: u64) -> Result<(Kind, Settings), String> {
    let (mut kind, mut settings) = (Kind::Storm, Settings::short(seed));
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        let number = |text: String| text.parse::<usize>().map_err(|_| format!("`{text}` is not a number"));
        match word.as_str() {
            "storm" => kind = Kind::Storm,
            "network" => kind = Kind::Network,
            "power" => kind = Kind::Power,
            "--seed" => settings.seed = number(value()?)? as u64,
            "--executions" => settings.executions = number(value()?)?.max(1),
            "--steps" => settings.steps = number(value()?)?.max(8),
            "--kills" => settings.strikes = number(value()?)?,
            "--coordinators" => settings.coordinators = number(value()?)?.max(1),
            "--workers" => settings.workers = number(value()?)?.max(1),
            "--settle" => settings.settle = Duration::from_secs(number(value()?)? as u64),
            "--keep" => settings.keep = true,
            other => return Err(format!("unknown argument `{other}`")),
        }
    }
    Ok((kind, settings))
}

/// The settings that the environment asks for: `CHAOS_SEED`, `CHAOS_EXECUTIONS`, `CHAOS_STEPS`, `CHAOS_KILLS`,
/// `CHAOS_COORDINATORS`, `CHAOS_WORKERS`, `CHAOS_SETTLE`, `CHAOS_KEEP=1`.
///
/// # Errors
/// When a value is not a number.
pub fn from_environment(seed: u64) -> Result<Settings, String> {
    let names = ["SEED", "EXECUTIONS", "STEPS", "KILLS", "COORDINATORS", "WORKERS", "SETTLE"];
    let mut words = Vec::new();
    for name in names {
        if let Ok(value) = std::env::var(format!("CHAOS_{name}")) {
            words.extend([format!("--{}", name.to_lowercase()), value]);
        }
    }
    if std::env::var("CHAOS_KEEP").as_deref() == Ok("1") {
        words.push("--keep".to_owned());
    }
    Ok(read(words.into_iter(), seed)?.1)
}
