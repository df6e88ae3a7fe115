//! `millstream doctor` says what is wrong with a real NATS, and what to change.

use std::process::Output;

use millstream_tests::cluster::{Coordinator, Extra};
use millstream_tests::nats;
use millstream_tests::process::free_port;
use millstream_tests::temp_dir::TempDir;
use serde_json::{Value, json};

use crate::commands::{millstream, told};
use crate::raw_nats::RawNats;

async fn doctor(nats: &nats::Server, more: &[&str]) -> Output {
    let url = nats.url();
    millstream(&[&["doctor", "--nats-url", &url], more].concat(), "http://127.0.0.1:1").await
}

/// The level of the first finding of a check whose message has a text.
fn level(report: &Value, check: &str, text: &str) -> Option<String> {
    let findings = report["findings"].as_array().expect("a list");
    let is_meant = |finding: &&Value| {
        finding["check"] == check && finding["message"].as_str().is_some_and(|message| message.contains(text))
    };
    findings.iter().find(is_meant).map(|finding| finding["level"].as_str().expect("a level").to_owned())
}

#[tokio::test]
async fn a_single_server_is_good_enough_with_warnings_and_a_missing_stream_is_not() {
    let port = free_port();
    let nats = nats::start_with(&format!("http: \"127.0.0.1:{port}\"")).await;
    let empty = doctor(&nats, &[]).await;
    assert_eq!(empty.status.code(), Some(0), "{}", told(&empty));
    assert!(told(&empty).contains("there is no Millstream cluster"), "{}", told(&empty));

    let directory = TempDir::new("doctor");
    let mut coordinator = Coordinator::launch(&nats.url(), &directory, Extra::default());
    coordinator.ready().await;
    let monitor = format!("http://127.0.0.1:{port}");
    let output = doctor(&nats, &["--json", "--monitor", &monitor]).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["ok"], true, "{report}");
    for (check, text, expected) in [
        ("server", "nats-server 2.", "OK"),
        ("jetstream", "on", "OK"),
        ("max_payload", "1.0 MiB", "OK"),
        ("sync_interval", "every 120 s", "WARN"),
        ("replicas", "one copy", "WARN"),
        ("clock", "agree", "OK"),
        ("permissions", "all allowed", "OK"),
        ("streams", "8 partitions are as they should be", "OK"),
        ("coordinators", "1 running", "OK"),
        ("disk", "of its", "OK"),
    ] {
        assert_eq!(level(&report, check, text).as_deref(), Some(expected), "{check}: {report}");
    }
    let unasked = told(&doctor(&nats, &[]).await);
    assert!(unasked.contains("WARN  sync_interval") && unasked.contains("--monitor"), "{unasked}");

    coordinator.kill9();
    let mut raw = RawNats::connect(&nats.url()).await;
    raw.api("STREAM.DELETE.KV_MS_CLAIMS", &json!({})).await;
    let output = doctor(&nats, &[]).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("KV_MS_CLAIMS is missing"), "{}", told(&output));
}

#[tokio::test]
async fn a_nats_that_is_not_there_is_told_so() {
    let nobody = format!("nats://127.0.0.1:{}", free_port());
    let output = millstream(&["doctor", "--nats-url", &nobody], "http://127.0.0.1:1").await;
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));
    assert!(told(&output).contains("no NATS answers at"), "{}", told(&output));
}
