//! The chaos suite: a short run with a seed of its own each time, or as the environment says.

use millstream_tests::chaos;
use millstream_tests::chaos::{arguments, record};

/// `CHAOS_SEED` and its kin, see [`arguments::from_environment`], make it another run or a longer one.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_done_twice_when_anything_is_killed_or_paused() {
    let settings = arguments::from_environment(record::now_ms() % 1_000_000).expect("CHAOS_* are numbers");
    let verdict = chaos::run(&settings).await;
    assert!(verdict.is_clean(), "{verdict}\nonce more: {}", settings.command());
}
