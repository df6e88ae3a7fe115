//! Log lines on stderr.

use std::env;
use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Our broker says itself what there is to say about its connection.
const DEFAULT: &str = "info,async_nats=warn";

/// Starts the process's subscriber, with `spans` beside the log lines. When there is one already, that stays: an
/// embedding application logs as it likes.
pub(crate) fn init(spans: Option<impl Layer<Registry> + Send + Sync>) {
    let (filter, refused) = filter();
    let registry = tracing_subscriber::registry().with(spans);
    let started: Result<(), TryInitError> = registry.with(lines().with_filter(filter)).try_init();
    if let (Ok(()), Some((variable, problem))) = (started, refused) {
        tracing::warn!(variable, %problem, "the log filter is not understood; logging at info");
    }
}

/// Logs what `work` has to say before the process's subscriber is there.
pub(crate) fn meanwhile<T>(work: impl FnOnce() -> T) -> T {
    let subscriber = tracing_subscriber::registry().with(lines().with_filter(filter().0));
    tracing::subscriber::with_default(subscriber, work)
}

/// Log lines on stderr.
fn lines<S>() -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    if env::var("MILLSTREAM_LOG_FORMAT").is_ok_and(|format| format == "json") {
        return tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed();
    }
    let ansi = std::io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt::layer().with_target(false).with_ansi(ansi).with_writer(std::io::stderr).boxed()
}

type Refused = (&'static str, tracing_subscriber::filter::ParseError);

fn filter() -> (EnvFilter, Option<Refused>) {
    for variable in ["MILLSTREAM_LOG", "RUST_LOG"] {
        let Ok(text) = env::var(variable) else { continue };
        if text.is_empty() {
            continue;
        }
        return match EnvFilter::try_new(&text) {
            Ok(filter) => (filter, None),
            Err(problem) => (EnvFilter::new(DEFAULT), Some((variable, problem))),
        };
    }
    (EnvFilter::new(DEFAULT), None)
}
