//! The only place of the suites that lets time pass.

use std::time::{Duration, Instant};

/// How often [`eventually`] looks.
const LOOK: Duration = Duration::from_millis(25);

/// Asks `probe` until it gives a value.
///
/// # Panics
/// When it has given none within `timeout`; `what` says what was awaited.
pub async fn eventually<T, F, P>(timeout: Duration, what: &str, mut probe: P) -> T
where
    P: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(start.elapsed() < timeout, "not within {timeout:?}: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Lets `duration` pass: for an outage that has to last, never for something that has to happen.
pub async fn lasting(duration: Duration) {
    tokio::time::sleep(duration).await;
}
