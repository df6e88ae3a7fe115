//! Bytes of the journal that every later build must read, and write, as they are here.
//!
//! `entries/<kind>.json` is a journal message with entries of one kind, with and without their
//! optional fields. Nobody edits these files; a new field gets new files beside them,
//! `<kind>.<what is in it>.json`.
//!
//! Whole journals, and what the fold makes of them, are in [`journals`].

mod journals;
#[path = "../restarts/scenario/scenario.rs"]
mod scenario;

use std::path::PathBuf;

use millstream_model::batch::{Batch, BatchBuilder, encode_entry};
use millstream_model::entry::Entry;
use millstream_tests::workspace;

/// Every golden message with the kind it is named after.
fn messages() -> Vec<(String, Vec<u8>)> {
    let folder = workspace::root().join("tests/golden/entries");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the golden files are there")
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a plain name");
        let kind = name.split('.').next().expect("a name has a first part").to_owned();
        (kind, std::fs::read(&path).expect("a readable file"))
    };
    paths.into_iter().map(read).collect()
}

fn entries(message: &[u8]) -> (Batch, Vec<Entry>) {
    let mut batch = Batch::decode(message).expect("this build reads the message");
    let entries =
        std::mem::take(&mut batch.entries).into_iter().map(|entry| entry.expect("this build knows the entry"));
    let entries = entries.collect();
    (batch, entries)
}

#[test]
fn every_golden_message_is_written_again_byte_for_byte() {
    let messages = messages();
    assert!(!messages.is_empty());
    for (kind, message) in messages {
        let (batch, entries) = entries(&message);
        let mut builder = BatchBuilder::new(&batch.ns, usize::MAX);
        for entry in &entries {
            assert!(builder.push(&encode_entry(entry)), "{kind}");
        }
        assert_eq!(
            String::from_utf8_lossy(&builder.finish()),
            String::from_utf8_lossy(&message),
            "{kind}: what this build writes differs from what is stored in journals"
        );
    }
}

#[test]
fn a_file_holds_the_kind_it_is_named_after() {
    for (kind, message) in messages() {
        let (_, entries) = entries(&message);
        for entry in entries {
            let json = serde_json::to_value(&entry).expect("an entry has a JSON form");
            let tag = json.as_object().and_then(|object| object.keys().next()).cloned();
            assert_eq!(tag.as_deref(), Some(kind.as_str()));
        }
    }
}

#[test]
fn a_field_that_a_later_build_adds_is_read_over() {
    for (kind, message) in messages() {
        let mut value: serde_json::Value = serde_json::from_slice(&message).expect("golden files are JSON");
        value["added"] = true.into();
        let entries = value["entries"].as_array_mut().expect("a batch has entries");
        for entry in
            entries.iter_mut().flat_map(|entry| entry.as_object_mut().expect("an entry is an object").values_mut())
        {
            entry["added_later"] = serde_json::json!({"x": 1});
        }
        let bytes = serde_json::to_vec(&value).expect("JSON");
        let batch = Batch::decode(&bytes).expect("this build reads the message");
        for entry in batch.entries {
            assert!(entry.is_ok(), "{kind}: {:?}", entry.err());
        }
    }
}
