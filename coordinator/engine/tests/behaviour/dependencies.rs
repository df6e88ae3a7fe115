use super::check::{World, check};

const CHAIN: &str = "
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, depends_on: [a]}
  - {id: c, agent_id: x, depends_on: [b]}";

#[test]
fn a_chain_runs_step_by_step_and_its_output_is_the_last_steps() {
    check(
        CHAIN,
        r#"submit {"n": 1}
           ok a #1 1
           ok b #1 2
           ok c #1 {"done": true}"#,
        r#"1 publish a #1
           2 publish b #1
           3 publish c #1
           4 end COMPLETED
           --
           COMPLETED {"done": true}
           a COMPLETED 1
           b COMPLETED 2
           c COMPLETED {"done": true}"#,
    );
}

#[test]
fn independent_steps_run_at_once_and_a_join_waits_for_all() {
    check(
        "
  - {id: a, agent_id: x}
  - {id: b, agent_id: x}
  - {id: join, agent_id: x, depends_on: [a, b]}",
        "submit
         ok b #1 2
         ok a #1 1
         ok join #1 3",
        "1 publish a #1
         1 publish b #1
         3 publish join #1
         4 end COMPLETED
         --
         COMPLETED 3
         a COMPLETED 1
         b COMPLETED 2
         join COMPLETED 3",
    );
}

#[test]
fn no_more_than_max_parallel_steps_run() {
    check(
        "id: w
max_parallel: 2
steps:
  - {id: a, agent_id: x}
  - {id: b, agent_id: x}
  - {id: c, agent_id: x}
  - {id: d, agent_id: x}",
        "submit
         ok b #1
         ok a #1",
        "1 publish a #1
         1 publish b #1
         2 publish c #1
         3 publish d #1
         --
         RUNNING
         a COMPLETED null
         b COMPLETED null
         c QUEUED
         d QUEUED",
    );
}

#[test]
fn a_critical_failure_ends_the_execution_fast() {
    check(
        "
  - {id: a, agent_id: x, retry: {max_attempts: 1}}
  - {id: b, agent_id: x}
  - {id: c, agent_id: x, depends_on: [a]}",
        "submit
         fail a #1 EXTERNAL_SERVICE_ERROR down
         fail b #1 CANCELLED the execution was cancelled",
        "1 publish a #1
         1 publish b #1
         2 cancel activations below 4
         2 arm grace in 10000 ms
         3 end FAILED
         --
         FAILED EXTERNAL_SERVICE_ERROR: down
         a FAILED EXTERNAL_SERVICE_ERROR: down
         b CANCELLED
         c SKIPPED: the execution ended before it could start",
    );
}

#[test]
fn what_completes_while_the_execution_stops_is_kept() {
    check(
        "
  - {id: a, agent_id: x, retry: {max_attempts: 1}}
  - {id: b, agent_id: x}",
        "submit
         fail a #1 INTERNAL_ERROR no
         ok b #1 2",
        "1 publish a #1
         1 publish b #1
         2 cancel activations below 4
         2 arm grace in 10000 ms
         3 end FAILED
         --
         FAILED partial INTERNAL_ERROR: no
         a FAILED INTERNAL_ERROR: no
         b COMPLETED 2",
    );
}

#[test]
fn what_does_not_acknowledge_within_the_grace_counts_as_cancelled() {
    check(
        "
  - {id: a, agent_id: x, retry: {max_attempts: 1}}
  - {id: b, agent_id: x}",
        "submit
         fail a #1 INTERNAL_ERROR no
         +9999 due
         +1 due
         ok b #1 2",
        "1 publish a #1
         1 publish b #1
         2 cancel activations below 4
         2 arm grace in 10000 ms
         4 end FAILED
         5 ignored: execution has ended
         --
         FAILED INTERNAL_ERROR: no
         a FAILED INTERNAL_ERROR: no
         b CANCELLED",
    );
}

#[test]
fn continue_runs_what_does_not_depend_on_the_failure() {
    check(
        "id: w
on_failure: continue
steps:
  - {id: a, agent_id: x, retry: {max_attempts: 1}}
  - {id: after-a, agent_id: x, depends_on: [a]}
  - {id: later, agent_id: x, depends_on: [after-a]}
  - {id: b, agent_id: x}
  - {id: after-b, agent_id: x, depends_on: [b]}",
        "submit
         fail a #1 INTERNAL_ERROR no
         ok b #1
         ok after-b #1",
        "1 publish a #1
         1 publish b #1
         3 publish after-b #1
         4 end FAILED
         --
         FAILED partial INTERNAL_ERROR: no
         a FAILED INTERNAL_ERROR: no
         after-a SKIPPED: a ended FAILED
         later SKIPPED: after-a was skipped: a ended FAILED
         b COMPLETED null
         after-b COMPLETED null",
    );
}

#[test]
fn a_non_critical_failure_leaves_its_dependants_running_and_the_result_partial() {
    check(
        "
  - {id: a, agent_id: x, critical: false, retry: {max_attempts: 1}}
  - {id: b, agent_id: x, depends_on: [a], input_map: {was: $.steps.a.output, why: $.steps.a.error.code}}
  - {id: strict, agent_id: x, depends_on: [a], require: completed}
  - {id: after-strict, agent_id: x, depends_on: [strict]}",
        "submit
         fail a #1 INTERNAL_ERROR no
         ok b #1 2",
        "1 publish a #1
         2 publish b #1
         3 end COMPLETED
         --
         COMPLETED partial 2
         a FAILED INTERNAL_ERROR: no
         b COMPLETED 2
         strict SKIPPED: a ended FAILED
         after-strict SKIPPED: strict was skipped: a ended FAILED",
    );
}

#[test]
fn the_reason_names_the_first_cause_however_long_the_chain_is() {
    let mut steps =
        "id: w\non_failure: continue\nsteps:\n  - {id: s0, agent_id: x, retry: {max_attempts: 1}}\n".to_owned();
    for step in 1..9_000 {
        steps += &format!("  - {{id: s{step}, agent_id: x, depends_on: [s{}]}}\n", step - 1);
    }
    let mut world = World::new(&steps);
    world.tell("submit\nfail s0 #1 INTERNAL_ERROR no");
    let view = world.execution().view();
    assert_eq!(view.steps[1].reason.as_deref(), Some("s0 ended FAILED"));
    assert_eq!(view.steps[8_999].reason.as_deref(), Some("s8998 was skipped: s0 ended FAILED"));
}
