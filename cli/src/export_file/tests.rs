//! Exports are read back, folded, blanked.

mod fixture;

use millstream_model::entry::Entry;
use millstream_model::token::Secret;
use serde_json::json;

use super::*;
use fixture::{DEFINITION, SECRET, plan_of, stored, transcribed};

/// As `DEFINITION`, and a condition reads a string.
const READING: &str = "
id: greet
steps:
  - {id: first, agent_id: a}
  - {id: second, agent_id: a, depends_on: [first], condition: '$.steps.first.output.name == \"Ada\"'}
";

fn exported(definition: &str) -> ExportFile {
    let transcript = transcribed(definition);
    let execution = Execution::refold(&transcript, plan_of(definition)).expect("it folds");
    let payloads = references(&transcript).into_iter().map(|reference| (reference, "[\"a\\nsecret\",\n1]".into()));
    ExportFile::new(transcript, stored(definition), payloads.collect(), &execution, Timestamp::from_millis(5))
}

fn text(file: &ExportFile) -> String {
    let mut out = Vec::new();
    file.write(&mut out).expect("memory takes it");
    String::from_utf8(out).expect("text")
}

#[test]
fn a_file_reads_back_and_folds_to_the_same_state() {
    let written = exported(DEFINITION);
    let text = text(&written);
    let read = ExportFile::read(&text).expect("an export");
    assert_eq!((&read.head, &read.definition, &read.payloads), (&written.head, &written.definition, &written.payloads));
    let execution = read.execution(read.plan().expect("a plan")).expect("it folds");
    assert_eq!(execution.state_hash(), written.head.state);
    let view = view(&execution, &read.payloads);
    assert_eq!((view.status, &view.input), (ExecutionStatus::Completed, &json!(["a\nsecret", 1])));
    let without = super::view(&execution, &BTreeMap::new());
    assert!(without.input["ref"]["hash"].is_string(), "{}", without.input);
}

#[test]
fn what_was_changed_or_cut_is_refused_with_the_reason() {
    let whole = text(&exported(DEFINITION));
    let refused = |text: &str| ExportFile::read(text).expect_err("no export").to_string();
    assert_eq!(refused("hello\n"), "it does not begin as an exported execution does");
    assert_eq!(refused(&whole.replace("export 1", "export 9")), "it is an export of version 9; this build reads 1");
    assert_eq!(
        refused(&whole.replace("\"id\":\"greet\"", "\"id\":\"other\"")),
        "its definition is not the one it names"
    );
    assert!(refused(&whole.replace("nsecret", "npublic")).starts_with("its value "));
    let cut: String = whole.lines().take(3).map(|line| format!("{line}\n")).collect();
    assert_eq!(refused(&cut), "it ends before its values");
    let other = whole.replacen("0193a5a0-0000-7000-8000-000000000003", "0193a5a0-0000-7000-8000-000000000004", 1);
    assert_eq!(refused(&other), "its transcript is of another execution or definition than it says");
}

#[test]
fn another_key_of_the_tokens_changes_nothing_that_is_folded() {
    let mut transcript = transcribed(DEFINITION);
    let before = Execution::refold(&transcript, plan_of(DEFINITION)).expect("it folds").state_hash();
    renew_secret(&mut transcript, Secret::new([9; 16]));
    let after = Execution::refold(&transcript, plan_of(DEFINITION)).expect("it folds");
    assert_eq!(after.state_hash(), before);
    assert_eq!(after.status(), ExecutionStatus::Completed);
    let text: String = transcript.lines.iter().map(|line| line.text.to_string()).collect();
    assert!(!text.contains(&"07".repeat(16)) && text.contains(&"09".repeat(16)));
    let token = SECRET.token(&"first".parse().expect("a name"), None, 0, 1).to_string();
    assert!(!text.contains(&token));
}

#[test]
fn a_wrong_token_stays_wrong() {
    let mut transcript = transcribed(DEFINITION);
    let wrong = SECRET.token(&"first".parse().expect("a name"), None, 0, 2);
    if let Entry::TaskSucceeded(first) = &mut transcript.lines[1].entry {
        first.run.token = wrong;
    }
    transcript.lines.truncate(2);
    renew_secret(&mut transcript, Secret::new([9; 16]));
    let execution = Execution::refold(&transcript, plan_of(DEFINITION)).expect("it folds");
    assert_eq!(execution.view().steps[0].status.as_str(), "QUEUED");
}

#[test]
fn a_redacted_file_has_no_values_and_folds_the_same_way() {
    let mut file = exported(DEFINITION);
    renew_secret(&mut file.transcript, Secret::new([9; 16]));
    redact(&mut file).expect("no condition reads a string");
    let text = text(&file);
    assert!(!text.contains("Ada") && !text.contains("nsecret"), "{text}");
    let read = ExportFile::read(&text).expect("an export");
    assert!(read.head.redacted);
    let execution = read.execution(read.plan().expect("a plan")).expect("it folds");
    assert_eq!((execution.status(), execution.state_hash()), (ExecutionStatus::Completed, read.head.state));
    assert_eq!(view(&execution, &read.payloads).input, json!(["xxxxxxxx", 1]));
}

#[test]
fn what_a_condition_reads_cannot_be_blanked() {
    let mut file = exported(READING);
    let refused = redact(&mut file).expect_err("the condition reads a name").to_string();
    assert!(refused.contains("takes another course"), "{refused}");
    assert!(refused.contains("step second is"), "{refused}");
}
