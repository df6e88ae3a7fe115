//! The chaos for people: `cargo run --release -p millstream-tests --bin chaos -- --executions 10000 --kills 300`.

use std::process::ExitCode;

use millstream_tests::chaos::arguments::{self, Kind, USAGE};
use millstream_tests::chaos::{self, network, power, record};

#[tokio::main]
async fn main() -> ExitCode {
    let (kind, settings) = match arguments::read(std::env::args().skip(1), record::now_ms() % 1_000_000) {
        Ok(read) => read,
        Err(problem) => {
            eprintln!("{problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let run = async {
        match kind {
            Kind::Storm => chaos::run(&settings).await.is_clean(),
            Kind::Network => network::run(&settings).await,
            Kind::Power => power::run(&settings).await,
        }
    };
    tokio::select! {
        clean = run => if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE },
        // Dropping the run ends its processes.
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}
