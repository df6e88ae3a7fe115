use std::collections::BTreeMap;

use millstream_engine::scope::Values;
use millstream_engine::{Evaluate, TaskRef};
use millstream_model::entry::Evaluation;
use millstream_model::payload::PayloadRef;
use millstream_model::plan::StepIndex;
use serde_json::value::RawValue;

use super::check::{World, check, definition, id};

#[test]
fn conditions_items_and_outputs_over_stored_values_are_left_to_the_owner() {
    check(
        "
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, depends_on: [a], condition: $.steps.a.output.go}
  - {id: c, agent_id: x, depends_on: [b], fan_out: {items: $.steps.a.output.list}}",
        "submit
         ok a #1 stored
         evaluated c items 1
         evaluated b condition true
         ok b #1 1
         evaluated c items 2
         ok c[0] #1 stored
         ok c[1] #1 2
         evaluated output value stored",
        "1 publish a #1
         2 evaluate the condition of b
         3 ignored: stale
         4 publish b #1
         5 evaluate the items of c
         6 publish c[0] #1
         6 publish c[1] #1
         8 evaluate the output
         9 end COMPLETED
         --
         COMPLETED (stored)
         a COMPLETED (stored)
         b COMPLETED 1
         c COMPLETED [(stored),2]",
    );
}

#[test]
fn a_merge_of_stored_values_is_left_to_the_owner_and_the_rest_is_not() {
    check(
        "
  - {id: a, agent_id: x}
  - {id: list, depends_on: [a], fan_in: {from: [a], aggregate: list}}
  - {id: first, depends_on: [a], fan_in: {from: [a], aggregate: first}}
  - {id: merge, depends_on: [a], fan_in: {from: [a], aggregate: merge}}",
        r#"submit
           ok a #1 stored
           evaluated merge value {"x": 1}"#,
        r#"1 publish a #1
           2 evaluate the aggregate of merge
           3 end COMPLETED
           --
           COMPLETED {"x": 1}
           a COMPLETED (stored)
           list COMPLETED [(stored)]
           first COMPLETED (stored)
           merge COMPLETED {"x": 1}"#,
    );
}

#[test]
fn a_failed_evaluation_keeps_its_code() {
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, depends_on: [a], condition: $.steps.a.output.go}",
    ));
    world.tell("submit\nok a #1 stored");
    assert_eq!(world.tell("evaluated b failed RESULT_TOO_LARGE it cannot be had"), ["1 end FAILED"]);
    assert!(world.state().starts_with("FAILED partial RESULT_TOO_LARGE: it cannot be had"), "{}", world.state());
}

#[test]
fn the_owner_evaluates_with_the_engines_own_functions() {
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, depends_on: [a], condition: $.steps.a.output.go, input_map: {n: $.steps.a.output.n}}",
    ));
    world.tell("submit\nok a #1 stored");
    let what = Evaluate::Condition(id(), StepIndex(1));
    assert_eq!(world.execution().evaluations(), [what]);
    let reference = PayloadRef::to("elsewhere");
    let missing = world.execution().evaluate(what, &Values::Inline).expect_err("the value is not here");
    assert_eq!(missing.0, [reference]);

    let text = RawValue::from_string(r#"{"go": true, "n": 5}"#.to_owned()).expect("JSON");
    let fetched = BTreeMap::from([(reference, text.into())]);
    let values = Values::With(&fetched);
    let evaluated = world.execution().evaluate(what, &values).expect("all values are here");
    assert_eq!(evaluated.outcome, Evaluation::Condition(true));
    world.apply(millstream_model::entry::Entry::Evaluated(evaluated));
    let task = TaskRef { execution: id(), step: StepIndex(1), item: None, activation: 0, attempt: 1 };
    let input = world.execution().render_input(&task, None, &values).expect("here").expect("valid");
    assert_eq!(input.text(), Some(r#"{"n":5}"#));
}
