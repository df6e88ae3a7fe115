use super::check::check;

#[test]
fn a_false_condition_skips_the_step_and_its_dependants_still_run() {
    check(
        "
  - {id: a, agent_id: x, condition: $.input.wanted}
  - {id: b, agent_id: x, depends_on: [a]}
  - {id: strict, agent_id: x, depends_on: [a], require: completed}
  - {id: after-strict, agent_id: x, depends_on: [strict]}",
        r#"submit {"wanted": false}
           ok b #1 1
           ok after-strict #1 2"#,
        "1 publish b #1
         1 publish after-strict #1
         3 end COMPLETED
         --
         COMPLETED 2
         a SKIPPED: its condition is false
         b COMPLETED 1
         strict SKIPPED: it requires a to be completed, which was skipped
         after-strict COMPLETED 2",
    );
}

#[test]
fn a_condition_sees_outputs_and_statuses_of_earlier_steps() {
    check(
        r#"
  - {id: classify, agent_id: x}
  - {id: page, agent_id: x, depends_on: [classify], condition: '$.steps.classify.output.severity == "high" && $.steps.classify.status == "COMPLETED"'}
  - {id: fix, agent_id: x, depends_on: [classify], condition: '!($.steps.classify.output.severity == "high")'}"#,
        r#"submit
           ok classify #1 {"severity": "high"}
           ok page #1 "paged""#,
        r#"1 publish classify #1
           2 publish page #1
           3 end COMPLETED
           --
           COMPLETED "paged"
           classify COMPLETED {"severity": "high"}
           page COMPLETED "paged"
           fix SKIPPED: its condition is false"#,
    );
}

#[test]
fn a_condition_that_compares_what_cannot_be_compared_is_invalid_input() {
    check(
        "
  - {id: a, agent_id: x, condition: $.input.count > 3}",
        r#"submit {"count": "many"}"#,
        r#"1 end FAILED
           --
           FAILED INVALID_INPUT: condition `$.input.count > 3`, column 15: `>` compares two numbers or two strings, not $.input.count ("many") and 3
           a FAILED INVALID_INPUT: condition `$.input.count > 3`, column 15: `>` compares two numbers or two strings, not $.input.count ("many") and 3"#,
    );
}

#[test]
fn a_workflow_of_skipped_steps_completes_with_null() {
    check(
        "
  - {id: a, agent_id: x, condition: 'false'}",
        "submit",
        "1 end COMPLETED
         --
         COMPLETED null
         a SKIPPED: its condition is false",
    );
}
