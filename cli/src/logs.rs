//! Logs of processes that run inside of `dev` and `demo`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Lets only warnings through unless the environment asks for more, so that logs do not spoil what people watch.
///
/// Comes before `millstream_telemetry::init`, which leaves a subscriber that is there alone.
pub(crate) fn quiet() {
    let asked = ["MILLSTREAM_LOG", "RUST_LOG"].into_iter().find_map(|name| std::env::var(name).ok());
    let filter = asked.and_then(|text| EnvFilter::try_new(text).ok()).unwrap_or_else(|| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init()
        .ok();
}
