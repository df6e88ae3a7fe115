//! How large the world is and how hard it is struck.

use std::time::Duration;

/// The measures of one run; together with the binaries they decide everything that is decided beforehand.
#[derive(Debug, Clone)]
pub struct Settings {
    pub seed: u64,
    pub executions: usize,
    /// Steps of each execution, at least 8; one of them fans out.
    pub steps: usize,
    /// Strikes of the mixed part; those of the finale come on top.
    pub strikes: usize,
    pub coordinators: usize,
    pub workers: usize,
    pub partitions: u16,
    pub replicas: usize,
    /// `sync_interval: always`, or the server's default of two minutes.
    pub sync_always: bool,
    /// How many executions out of 1,000 are cancelled.
    pub cancels_per_mille: u32,
    /// How long after the last strike everything must have ended.
    pub settle: Duration,
    /// Keeps the world's directory even when all is well.
    pub keep: bool,
}

impl Settings {
    /// The short run: 300 executions, under three minutes.
    pub fn short(seed: u64) -> Self {
        Self {
            seed,
            executions: 300,
            steps: 10,
            strikes: 35,
            coordinators: 3,
            workers: 4,
            partitions: 8,
            replicas: 3,
            sync_always: true,
            cancels_per_mille: 80,
            settle: Duration::from_secs(60),
            keep: false,
        }
    }

    /// The command that repeats a run of these settings.
    pub fn command(&self) -> String {
        format!(
            "cargo run --release -p millstream-tests --bin chaos -- --seed {} --executions {} --steps {} --kills {} \
             --coordinators {} --workers {}",
            self.seed, self.executions, self.steps, self.strikes, self.coordinators, self.workers
        )
    }
}
