//! Bytes that other processes, older builds and stored data depend on. Journal entries have theirs
//! in the suite `golden`; these are the other formats.

use millstream_model::agent::Agent;
use millstream_model::batch::{BatchBuilder, encode, encode_entry};
use millstream_model::definition::Definition;
use millstream_model::entry::{Entry, Epoch, Scanned};
use millstream_model::event::Event;
use millstream_model::hash::{ContentHash, canonical_json};
use millstream_model::ids::Namespace;
use millstream_model::task::{Claim, Task, claim_key};
use millstream_model::token::Secret;
use millstream_model::trace::{SpanId, TraceId};
use serde::Serialize;
use serde::de::DeserializeOwned;

const EXECUTION: &str = "0193a5a0-0000-7000-8000-000000000003";

/// Whether `text` reads as a `T` and is written as it was.
fn round_trip<T: Serialize + DeserializeOwned>(text: &str) -> T {
    let value: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    assert_eq!(String::from_utf8_lossy(&encode(&value)), text);
    value
}

#[test]
fn a_task_has_these_bytes() {
    let hash = ContentHash::of(b"manifest");
    let task: Task = round_trip(&format!(
        r#"{{"v":1,"ns":"default","partition":3,"key":{{"execution":"{EXECUTION}","step":"book","item":7,"activation":0,"attempt":2}},"workflow":"invoices","capability":"billing","agent":"biller","manifest":"{hash}","purpose":"run","max_attempts":3,"timeout_ms":60000,"heartbeat_ms":5000,"not_after":1763648712000345,"deadline":1763648772000345,"idempotency_key":"k","token":"d6b4fb34584aa8cbf00e3b0218f16ed6","input":{{"json":{{"b":1.50,"a":[]}}}}}}"#
    ));
    assert_eq!(claim_key(&task.capability, &task.key, 2), "billing.7afb4c9c284b5946d9e0d97f2bff9a68");
    round_trip::<Task>(&format!(
        r#"{{"v":1,"ns":"default","partition":3,"key":{{"execution":"{EXECUTION}","step":"book","activation":1,"attempt":1}},"workflow":"invoices","capability":"billing","agent":"biller","manifest":"{hash}","purpose":"compensation","max_attempts":1,"timeout_ms":1,"idempotency_key":"k","token":"d6b4fb34584aa8cbf00e3b0218f16ed6","input":{{"ref":{{"hash":"{hash}","size":200000}}}}}}"#
    ));
}

#[test]
fn a_claim_has_these_bytes() {
    round_trip::<Claim>(r#"{"worker":"w-1","claimed_at":1763648712000345}"#);
    round_trip::<Claim>(r#"{"worker":"w-1","claimed_at":1763648712000345,"message":17}"#);
}

#[test]
fn a_batch_has_these_bytes() {
    let mut batch = BatchBuilder::new(&Namespace::default(), 4096);
    let node = || "node-1".parse().expect("a name");
    assert!(batch.push(&encode_entry(&Entry::Epoch(Epoch { node: node(), epoch: 7, fold_rev: 1 }))));
    assert!(batch.push(&encode_entry(&Entry::Scanned(Scanned { node: node(), epoch: 7 }))));
    let expected = r#"{"v":1,"ns":"default","entries":[{"epoch":{"node":"node-1","epoch":7,"fold_rev":1}},{"scanned":{"node":"node-1","epoch":7}}]}"#;
    assert_eq!(String::from_utf8_lossy(&batch.finish()), expected);
}

#[test]
fn what_is_derived_from_an_execution_never_changes() {
    let execution = EXECUTION.parse().expect("an id");
    let step = "fetch".parse().expect("a name");
    assert_eq!(Secret::new([7; 16]).token(&step, Some(3), 1, 2).to_string(), "d6b4fb34584aa8cbf00e3b0218f16ed6");
    assert_eq!(TraceId::of(execution).to_string(), "0193a5a0000070008000000000000003");
    assert_eq!(SpanId::of_execution(execution).to_string(), "dcd34ea0648eb650");
    assert_eq!(SpanId::of_attempt(execution, &step, None, 0, 1).to_string(), "9fb916f7f05a3f43");
}

#[test]
fn an_agent_has_these_bytes_and_this_hash() {
    let agent: Agent = round_trip(
        r#"{"id":"biller","name":"","version":"","framework":"http","capabilities":["billing"],"status":"ACTIVE","config":{"url":"http://x"},"limits":{"concurrency":4}}"#,
    );
    assert_eq!(agent.hash().to_string(), "802b81ce2e1ad5a01b08fefa8278b8548e0f91a12208e3a11d1890a1b73bb9bf");
}

#[test]
fn a_definition_has_these_bytes_and_this_hash() {
    let stored = r#"{"id":"w","on_failure":"continue","steps":[{"agent_id":"a","critical":false,"depends_on":[],"fan_out":{"items":"$.input","min_success":0.5,"on_item_failure":"continue"},"id":"s","require":"completed","retry":{"max_attempts":3,"retry_on":["LOST"]}}]}"#;
    let definition: Definition = serde_json::from_str(stored).expect("a definition");
    let canonical = canonical_json(&serde_json::to_value(&definition).expect("JSON"));
    assert_eq!(
        canonical,
        r#"{"id":"w","on_failure":"continue","steps":[{"agent_id":"a","critical":false,"fan_out":{"items":"$.input","min_success":0.5,"on_item_failure":"continue"},"id":"s","require":"completed","retry":{"max_attempts":3,"retry_on":["LOST"]}}]}"#
    );
    assert_eq!(definition.hash(), ContentHash::of(canonical.as_bytes()));
    assert_eq!(definition.hash().to_string(), "e2a067aa0d29210fa3426b52de9b47a8fab034c1b94b6068bd9f49f00fc83990");
}

#[test]
fn a_definition_with_all_that_is_for_failures_has_these_bytes_and_this_hash() {
    let stored = r#"{"default_retry":{"jitter":false,"max_attempts":2},"finally":[{"agent_id":"f","fallback":{"skip":true},"id":"e"}],"id":"w","on_failure":"compensate","steps":[{"agent_id":"a","compensate":{"agent_id":"u","input_map":{"ref":"$.self.output"},"retry":{"max_attempts":9},"timeout_ms":7},"fallback":{"agent_id":"b","retry":{"backoff_ms":0},"timeout_ms":5},"heartbeat_ms":4,"id":"s","schedule_to_close_ms":3,"schedule_to_start_ms":2},{"capability":"c","fallback":{"static_value":{"x":"$.y"}},"id":"t","irreversible":true}]}"#;
    let definition: Definition = serde_json::from_str(stored).expect("a definition");
    assert_eq!(canonical_json(&serde_json::to_value(&definition).expect("JSON")), stored);
    assert_eq!(definition.hash(), ContentHash::of(stored.as_bytes()));
    assert_eq!(definition.hash().to_string(), "d6e6eecde253ed0bf879ac808335e943fb5decdee95a4f8551e8bbe4f7e686fb");
}

#[test]
fn an_event_has_these_bytes() {
    let rest = format!(
        r#""time":"2025-11-20T14:25:12.000345Z","execution_id":"{EXECUTION}","workflow_id":"w","step_id":"s","item":7,"attempt":2,"worker_id":"w-1","trace_id":"0193a5a0000070008000000000000003","span_id":"00000000000000ab","data":{{"a":1}}}}"#
    );
    round_trip::<Event>(&format!(r#"{{"id":"10.2.0","type":"step.completed","stage":"EXECUTE",{rest}"#));
    round_trip::<Event>(&format!(r#"{{"type":"step.started","stage":"EXECUTE",{rest}"#));
}
