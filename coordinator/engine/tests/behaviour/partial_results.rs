use millstream_model::error::FailureMode;
use millstream_model::view::PartialResult;

use super::check::{World, definition};

fn result(definition: &str, history: &str) -> PartialResult {
    let mut world = World::new(definition);
    world.tell(history);
    world.execution().view().partial_result.expect("it did not complete")
}

fn names(steps: &[millstream_model::ids::StepId]) -> Vec<&str> {
    steps.iter().map(|step| step.as_str()).collect()
}

const THREE: &str = "
  - {id: step1, agent_id: x}
  - {id: step2, agent_id: x, depends_on: [step1], irreversible: true}
  - {id: step3, agent_id: x, depends_on: [step2], retry: {max_attempts: 1}}
  - {id: step4, agent_id: x, depends_on: [step3]}";

#[test]
fn two_completed_and_step3_failed() {
    let partial =
        result(&definition(THREE), "submit\nok step1 #1 1\nok step2 #1 2\nfail step3 #1 EXTERNAL_SERVICE_ERROR down");
    assert_eq!(names(&partial.completed_steps), ["step1", "step2"]);
    assert_eq!(partial.failed_step.as_ref().map(|step| step.as_str()), Some("step3"));
    assert_eq!(partial.error.expect("it failed").message, "down");
    assert_eq!(partial.failure_mode, Some(FailureMode::System));
    let plan = partial.recovery_plan;
    assert!(plan.resumable);
    assert_eq!((names(&plan.keeps), names(&plan.runs)), (vec!["step1", "step2"], vec!["step3", "step4"]));
    assert_eq!(names(&plan.standing_effects), ["step2"]);
    assert!(plan.advice.contains("step3"), "{}", plan.advice);
}

#[test]
fn there_is_none_while_it_runs_and_none_of_a_success() {
    let mut world = World::new(&definition(THREE));
    world.tell("submit\nok step1 #1 1");
    assert_eq!(world.execution().view().partial_result, None);
    world.tell("ok step2 #1\nok step3 #1\nok step4 #1");
    assert_eq!(world.execution().view().partial_result, None);
}

#[test]
fn a_timeout_has_one_without_a_failed_step() {
    let partial = result(&definition(THREE), "submit\nok step1 #1 1\n+3600000 due\n+10000 due");
    assert_eq!(names(&partial.completed_steps), ["step1"]);
    assert_eq!((partial.failed_step, partial.failure_mode), (None, Some(FailureMode::Resource)));
    assert!(partial.recovery_plan.advice.starts_with("Resume it"), "{}", partial.recovery_plan.advice);
}

#[test]
fn a_cancelled_execution_cannot_be_resumed() {
    let plan = result(&definition(THREE), "submit\nok step1 #1 1\ncancel\n+10000 due").recovery_plan;
    assert!(!plan.resumable);
    assert!(plan.advice.contains("fork"), "{}", plan.advice);
}

#[test]
fn what_was_undone_would_run_again() {
    let saga = "id: w
on_failure: compensate
steps:
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, depends_on: [a], compensate: {agent_id: y}}
  - {id: c, agent_id: x, depends_on: [b], compensate: {agent_id: y, retry: {max_attempts: 1}}}
  - {id: d, agent_id: x, depends_on: [c], retry: {max_attempts: 1}}";
    let history = "submit
        ok a #1
        ok b #1
        ok c #1
        fail d #1 INTERNAL_ERROR no
        fail c #1 compensation INTERNAL_ERROR no
        ok b #1 compensation";
    let partial = result(saga, history);
    assert_eq!(names(&partial.completed_steps), ["a", "b", "c"]);
    let plan = partial.recovery_plan;
    assert_eq!((names(&plan.keeps), names(&plan.runs)), (vec!["a"], vec!["b", "c", "d"]));
    assert_eq!(names(&plan.standing_effects), ["c"]);
    assert!(plan.advice.starts_with("Effects undone: 1, standing: 1. "), "{}", plan.advice);
}

#[test]
fn it_travels_with_the_last_event() {
    let mut world = World::new(&definition(THREE));
    world.tell("submit\nok step1 #1 1\nok step2 #1 2\nfail step3 #1 EXTERNAL_SERVICE_ERROR down");
    let last = world.execution().events(None).pop().expect("it ended");
    assert_eq!(last.kind.as_str(), "workflow.failed");
    assert_eq!(last.data["partial_result"]["failed_step"], "step3");
    assert_eq!(last.data["partial_result"]["completed_steps"], serde_json::json!(["step1", "step2"]));
    let told: PartialResult = serde_json::from_value(last.data["partial_result"].clone()).expect("it reads back");
    assert_eq!(Some(told), world.execution().view().partial_result);
}

#[test]
fn nothing_is_left_to_run_when_only_the_output_failed() {
    let mapped = "id: w
output_map: {n: {path: $.steps.a.output.n, required: true}}
steps:
  - {id: a, agent_id: x}";
    let plan = result(mapped, "submit\nok a #1 {}").recovery_plan;
    assert_eq!((names(&plan.keeps), names(&plan.runs)), (vec!["a"], vec![]));
    assert!(plan.advice.starts_with("No step is left to run"), "{}", plan.advice);
}
