use std::sync::Arc;

use millstream_engine::TaskRef;
use millstream_engine::scope::Values;
use millstream_model::plan::StepIndex;
use serde_json::value::RawValue;

use super::check::{World, check, definition, id};

fn input(world: &World, step: u16, item: Option<(u32, &str)>) -> Result<String, String> {
    let task =
        TaskRef { execution: id(), step: StepIndex(step), item: item.map(|(i, _)| i), activation: 0, attempt: 1 };
    let text = item.map(|(_, text)| Arc::from(RawValue::from_string(text.to_owned()).expect("JSON")));
    let rendered = world.execution().render_input(&task, text, &Values::Inline).expect("all values are inline");
    rendered.map(|payload| payload.text().expect("inline").to_owned()).map_err(|unfit| unfit.to_string())
}

#[test]
fn without_input_map_a_step_gets_the_workflows_input_and_an_item_itself() {
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, fan_out: {items: $.input.list}}",
    ));
    world.tell(r#"submit {"list": [1.50]}"#);
    assert_eq!(input(&world, 0, None).as_deref(), Ok(r#"{"list": [1.50]}"#));
    assert_eq!(input(&world, 1, Some((0, "1.50"))).as_deref(), Ok("1.50"));
}

#[test]
fn an_input_map_reads_input_context_outputs_item_and_index() {
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x}
  - id: b
    agent_id: x
    depends_on: [a]
    fan_out: {items: $.input.list}
    input_map:
      who: $.context.user
      from: $.steps.a.output.rows[0].name
      status: $.steps.a.status
      item: $.item
      n: $.index
      literal: {literal: $.not-a-path}
      missing: $.input.nothing
      fallback: {path: $.input.nothing, default: 7}
      all: $.input.list[*]",
    ));
    world.tell(r#"submit {"list": [1, 2]}"#);
    world.tell(r#"ok a #1 {"rows": [{"name": "n"}]}"#);
    let text = input(&world, 1, Some((1, "2"))).expect("a value");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let expected = serde_json::json!({
        "who": "ada", "from": "n", "status": "COMPLETED", "item": 2, "n": 1, "literal": "$.not-a-path",
        "missing": null, "fallback": 7, "all": [1, 2],
    });
    assert_eq!(value, expected);
}

#[test]
fn a_required_value_that_is_missing_fails_the_step() {
    let steps = "
  - {id: a, agent_id: x, input_map: {day: {path: $.input.day, required: true}}}";
    let mut world = World::new(&definition(steps));
    world.tell("submit {}");
    let reason = input(&world, 0, None).expect_err("required");
    assert!(reason.contains("$.input.day"), "{reason}");
    check(
        steps,
        "submit {}
         unrenderable a #1 $.input.day is missing",
        "1 publish a #1
         2 end FAILED
         --
         FAILED INVALID_INPUT: input_map: $.input.day is missing
         a FAILED INVALID_INPUT: input_map: $.input.day is missing",
    );
}

#[test]
fn the_output_map_builds_the_output() {
    check(
        "id: w
output_map: {rows: $.steps.a.output, by: $.context.user}
steps:
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, depends_on: [a]}",
        "submit
         ok a #1 [1]
         ok b #1 2",
        r#"1 publish a #1
           2 publish b #1
           3 end COMPLETED
           --
           COMPLETED {"by":"ada","rows":[1]}
           a COMPLETED [1]
           b COMPLETED 2"#,
    );
}

#[test]
fn an_output_map_that_lacks_a_required_value_fails_the_execution() {
    let mut world = World::new(
        "id: w
output_map: {rows: {path: $.steps.a.output.rows, required: true}}
steps:
  - {id: a, agent_id: x}",
    );
    world.tell("submit");
    assert_eq!(world.tell("ok a #1 {}"), ["1 end FAILED"]);
    assert!(world.state().starts_with("FAILED partial INVALID_INPUT: output_map: "), "{}", world.state());
}

#[test]
fn tasks_carry_what_a_worker_needs() {
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x, timeout_ms: 700, retry: {max_attempts: 4}}",
    ));
    world.tell("submit");
    let execution = world.execution();
    let (task, _) = execution.outstanding().pop().expect("one is outstanding");
    let (message, trace) = execution.task(&task, super::check::payload("1")).expect("it has an agent");
    assert_eq!((message.max_attempts, message.timeout_ms), (4, 700));
    assert_eq!(message.deadline, Some(execution.deadline()));
    assert_eq!(message.idempotency_key, format!("{}/a/0", id()));
    assert_eq!(trace.trace, execution.trace());
    assert_eq!(execution.find_task(&message.key), Some(task));
}
