//! Waiting for the end of an execution, for a time as people write it in a URL: `500ms`, `30s`, `2m`.

use std::str::FromStr;
use std::time::Duration;

use millstream_model::ids::ExecutionId;
use serde::{Deserialize, Deserializer};
use tokio::time::{Instant, sleep, timeout_at};

use super::Api;
use super::limits::WAIT_MAX;
use crate::cluster::Cluster;

/// Pause before events are asked for again when their feed broke off.
const FEED_RETRY_DELAY: Duration = Duration::from_millis(100);

/// How long the caller is willing to wait for the end of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait(pub Duration);

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a duration: write a whole number and ms, s or m, such as 500ms, 30s or 2m")]
pub(super) struct InvalidWait {
    text: String,
}

impl FromStr for Wait {
    type Err = InvalidWait;

    fn from_str(text: &str) -> Result<Self, InvalidWait> {
        let invalid = || InvalidWait { text: text.to_owned() };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let millis = match unit {
            "ms" => Some(number),
            "s" => number.checked_mul(1_000),
            "m" => number.checked_mul(60_000),
            _ => None,
        };
        millis.map(|millis| Self(Duration::from_millis(millis))).ok_or_else(invalid)
    }
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Wait {
    /// Whether the execution has ended in time.
    pub(super) async fn for_the_end(self, api: &Api, cluster: &Cluster, execution: ExecutionId) -> bool {
        let deadline = Instant::now() + self.0.min(WAIT_MAX);
        let end = api.stop().run_until_cancelled(sees_the_end(cluster, execution));
        matches!(timeout_at(deadline, end).await, Ok(Some(())))
    }
}

/// Returns once the newest event is a terminal one: one that others follow ended an execution that was resumed.
async fn sees_the_end(cluster: &Cluster, execution: ExecutionId) {
    let mut seen = None;
    loop {
        if let Ok(Some(mut feed)) = cluster.events(execution, seen).await {
            if feed.backlog.last().is_some_and(|event| event.kind.is_terminal()) {
                return;
            }
            seen = feed.backlog.last().and_then(|event| event.id).or(seen);
            while let Some(event) = feed.live.recv().await {
                if event.kind.is_terminal() {
                    return;
                }
                seen = event.id.or(seen);
            }
        }
        sleep(FEED_RETRY_DELAY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_its_unit() {
        for (text, millis) in [("500ms", 500), ("30s", 30_000), ("2m", 120_000), ("0s", 0)] {
            assert_eq!(text.parse(), Ok(Wait(Duration::from_millis(millis))), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_and_told_how_to_write_it() {
        for text in ["", "30", "s", "-1s", "1.5s", "30 s", "1h", "99999999999999999999s", "18446744073709551615m", "٣s"]
        {
            let error = text.parse::<Wait>().expect_err(text);
            assert!(error.to_string().contains("500ms, 30s or 2m"), "{error}");
        }
    }
}
