use super::check::{World, check};

pub const ORDER: &str = "
  - {id: crm, agent_id: x, compensate: {agent_id: y}}
  - {id: billing, agent_id: x, depends_on: [crm], compensate: {agent_id: y, retry: {max_attempts: 1}}}
  - {id: mail, agent_id: x, depends_on: [billing], retry: {max_attempts: 1}}
";

pub fn saga(steps: &str) -> String {
    format!("id: w\non_failure: compensate\nsteps:{steps}")
}

#[test]
fn what_was_completed_is_undone_in_reverse_order_and_the_execution_fails() {
    check(
        &saga(ORDER),
        r#"submit {}
           ok crm #1 {"id": 7}
           ok billing #1 {"invoice": 9}
           fail mail #1 EXTERNAL_SERVICE_ERROR no
           ok billing #1 compensation {}
           ok crm #1 compensation {}"#,
        r#"1 publish crm #1
           2 publish billing #1
           3 publish mail #1
           4 publish billing #1 compensation
           5 publish crm #1 compensation
           6 end FAILED
           --
           FAILED partial EXTERNAL_SERVICE_ERROR: no
           crm COMPENSATED {"id": 7}
           billing COMPENSATED {"invoice": 9}
           mail FAILED EXTERNAL_SERVICE_ERROR: no
           effect crm compensated
           effect billing compensated"#,
    );
}

#[test]
fn a_failed_compensation_is_recorded_and_the_others_go_on() {
    check(
        &saga(ORDER),
        "submit {}
         ok crm #1 1
         ok billing #1 2
         fail mail #1 INTERNAL_ERROR no
         fail billing #1 compensation EXTERNAL_SERVICE_ERROR down
         fail crm #1 compensation TIMEOUT slow
         +2000 due
         ok crm #2 compensation {}",
        "1 publish crm #1
         2 publish billing #1
         3 publish mail #1
         4 publish billing #1 compensation
         5 publish crm #1 compensation
         6 arm backoff crm #2 in 1181 ms
         7 publish crm #2 compensation
         8 end FAILED
         --
         FAILED partial INTERNAL_ERROR: no
         crm COMPENSATED 1
         billing COMPLETED 2
         mail FAILED INTERNAL_ERROR: no
         effect crm compensated
         effect billing compensation_failed EXTERNAL_SERVICE_ERROR: down",
    );
}

const ITEMS: &str = "
  - {id: a, agent_id: x, fan_out: {items: $.input}, compensate: {agent_id: y}}
  - {id: b, agent_id: x, compensate: {agent_id: y}}
  - {id: end, agent_id: x, depends_on: [a, b], retry: {max_attempts: 1}}
";

#[test]
fn items_are_undone_in_reverse_order_of_completion_across_steps() {
    check(
        &saga(ITEMS),
        "submit [1, 2, 3]
         ok a[2] #1 30
         ok b #1 5
         ok a[0] #1 10
         ok a[1] #1 20
         fail end #1 INTERNAL_ERROR no
         ok a[1] #1 compensation
         ok a[0] #1 compensation
         ok b #1 compensation
         ok a[2] #1 compensation",
        "1 publish a[0] #1
         1 publish a[1] #1
         1 publish a[2] #1
         1 publish b #1
         5 publish end #1
         6 publish a[1] #1 compensation
         7 publish a[0] #1 compensation
         8 publish b #1 compensation
         9 publish a[2] #1 compensation
         10 end FAILED
         --
         FAILED partial INTERNAL_ERROR: no
         a COMPENSATED [10,20,30]
         b COMPENSATED 5
         end FAILED INTERNAL_ERROR: no
         effect a[2] compensated
         effect b compensated
         effect a[0] compensated
         effect a[1] compensated",
    );
}

#[test]
fn items_that_completed_before_their_step_failed_are_undone() {
    check(
        &saga(
            "
  - {id: a, agent_id: x, fan_out: {items: $.input}, retry: {max_attempts: 1}, compensate: {agent_id: y}}",
        ),
        "submit [1, 2, 3]
         ok a[1] #1 20
         fail a[0] #1 INTERNAL_ERROR no
         ok a[2] #1 30
         ok a[2] #1 compensation
         ok a[1] #1 compensation",
        "1 publish a[0] #1
         1 publish a[1] #1
         1 publish a[2] #1
         3 cancel activations below 4
         3 arm grace in 10000 ms
         4 publish a[2] #1 compensation
         5 publish a[1] #1 compensation
         6 end FAILED
         --
         FAILED partial INTERNAL_ERROR: no
         a COMPENSATED [null,20,30] INTERNAL_ERROR: no
         effect a[1] compensated
         effect a[2] compensated",
    );
}

#[test]
fn a_success_that_comes_while_the_execution_stops_is_undone_too() {
    check(
        &saga(
            "
  - {id: a, agent_id: x, retry: {max_attempts: 1}}
  - {id: b, agent_id: x, compensate: {agent_id: y}}",
        ),
        "submit
         fail a #1 INTERNAL_ERROR no
         ok b #1 5
         ok b #1 compensation",
        "1 publish a #1
         1 publish b #1
         2 cancel activations below 4
         2 arm grace in 10000 ms
         3 publish b #1 compensation
         4 end FAILED
         --
         FAILED partial INTERNAL_ERROR: no
         a FAILED INTERNAL_ERROR: no
         b COMPENSATED 5
         effect b compensated",
    );
}

#[test]
fn a_success_that_comes_after_the_grace_is_not_undone_and_unknown() {
    check(
        &saga(
            "
  - {id: c, agent_id: x, compensate: {agent_id: y}}
  - {id: a, agent_id: x, depends_on: [c], retry: {max_attempts: 1}}
  - {id: b, agent_id: x, depends_on: [c], compensate: {agent_id: y}}",
        ),
        "submit
         ok c #1 1
         fail a #1 INTERNAL_ERROR no
         +10000 due
         ok b #1 5
         ok c #1 compensation",
        "1 publish c #1
         2 publish a #1
         2 publish b #1
         3 cancel activations below 4
         3 arm grace in 10000 ms
         4 publish c #1 compensation
         5 ignored: stale
         6 end FAILED
         --
         FAILED partial INTERNAL_ERROR: no
         c COMPENSATED 1
         a FAILED INTERNAL_ERROR: no
         b CANCELLED
         effect c compensated
         effect b unknown",
    );
}

#[test]
fn without_anything_to_undo_it_ends_at_once() {
    check(
        &saga(
            "
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, depends_on: [a], irreversible: true}
  - {id: c, agent_id: x, depends_on: [b], retry: {max_attempts: 1}, compensate: {agent_id: y}}",
        ),
        "submit
         ok a #1 1
         ok b #1 2
         fail c #1 INTERNAL_ERROR no",
        "1 publish a #1
         2 publish b #1
         3 publish c #1
         4 end FAILED
         --
         FAILED partial INTERNAL_ERROR: no
         a COMPLETED 1
         b COMPLETED 2
         c FAILED INTERNAL_ERROR: no
         effect b irreversible",
    );
}

#[test]
fn a_success_is_not_undone() {
    check(
        &saga(ORDER),
        "submit
         ok crm #1 1
         ok billing #1 2
         ok mail #1 3",
        "1 publish crm #1
         2 publish billing #1
         3 publish mail #1
         4 end COMPLETED
         --
         COMPLETED 3
         crm COMPLETED 1
         billing COMPLETED 2
         mail COMPLETED 3",
    );
}

#[test]
fn a_non_critical_failure_undoes_nothing() {
    check(
        &saga(
            "
  - {id: a, agent_id: x, compensate: {agent_id: y}}
  - {id: b, agent_id: x, depends_on: [a], critical: false, retry: {max_attempts: 1}}",
        ),
        "submit
         ok a #1 1
         fail b #1 INTERNAL_ERROR no",
        "1 publish a #1
         2 publish b #1
         3 end COMPLETED
         --
         COMPLETED partial 1
         a COMPLETED 1
         b FAILED INTERNAL_ERROR: no",
    );
}

#[test]
fn fail_fast_and_continue_undo_nothing() {
    for strategy in ["fail_fast", "continue"] {
        let mut world = World::new(&saga(ORDER).replace("on_failure: compensate", &format!("on_failure: {strategy}")));
        world.tell("submit\nok crm #1 1\nok billing #1 2");
        assert_eq!(world.tell("fail mail #1 INTERNAL_ERROR no"), ["1 end FAILED"], "{strategy}");
        assert!(world.state().contains("effect crm standing\neffect billing standing"), "{}", world.state());
    }
}

#[test]
fn what_ran_out_of_time_is_undone_without_a_deadline() {
    check(
        "id: w
on_failure: compensate
timeout_ms: 5000
steps:
  - {id: a, agent_id: x, compensate: {agent_id: y}}
  - {id: b, agent_id: x, depends_on: [a]}",
        "submit
         ok a #1 1
         +5000 due
         fail b #1 CANCELLED the execution was cancelled
         +99999 due
         ok a #1 compensation",
        "1 publish a #1
         2 publish b #1
         3 cancel activations below 4
         3 arm grace in 10000 ms
         4 publish a #1 compensation
         6 end TIMEOUT
         --
         TIMEOUT partial TIMEOUT: the execution took longer than 5000 ms
         a COMPENSATED 1
         b CANCELLED
         effect a compensated",
    );
}

#[test]
fn an_output_that_cannot_be_built_undoes_everything() {
    let mut world = World::new(
        "id: w
on_failure: compensate
output_map: {n: {path: $.steps.a.output.n, required: true}}
steps:
  - {id: a, agent_id: x, compensate: {agent_id: y}}",
    );
    world.tell("submit");
    assert_eq!(world.tell("ok a #1 {}"), ["1 publish a #1 compensation"]);
    assert!(world.state().starts_with("RUNNING COMPENSATING"), "{}", world.state());
    assert_eq!(world.tell("ok a #1 compensation"), ["1 end FAILED"]);
    assert!(world.state().contains("output_map"), "{}", world.state());
}

#[test]
fn an_output_that_the_owner_cannot_evaluate_undoes_everything() {
    check(
        &saga(
            "
  - {id: a, agent_id: x, compensate: {agent_id: y}, fan_out: {items: $.input}}",
        ),
        "submit [1]
         ok a[0] #1 stored
         evaluated output failed RESULT_TOO_LARGE 65 MiB
         ok a[0] #1 compensation",
        "1 publish a[0] #1
         2 evaluate the output
         3 publish a[0] #1 compensation
         4 end FAILED
         --
         FAILED partial RESULT_TOO_LARGE: 65 MiB
         a COMPENSATED [(stored)]
         effect a[0] compensated",
    );
}

#[test]
fn the_fallback_agents_effect_is_undone_and_a_static_value_has_none() {
    check(
        &saga(
            "
  - {id: a, agent_id: x, retry: {max_attempts: 1}, fallback: {agent_id: z}, compensate: {agent_id: y}}
  - {id: b, agent_id: x, depends_on: [a], retry: {max_attempts: 1}, fallback: {static_value: 1}, compensate: {agent_id: y}}
  - {id: c, agent_id: x, depends_on: [b], retry: {max_attempts: 1}}",
        ),
        "submit
         fail a #1 INVALID_INPUT no
         ok a #1 fallback 1
         fail b #1 INVALID_INPUT no
         fail c #1 INTERNAL_ERROR no
         ok a #1 compensation",
        "1 publish a #1
         2 publish a #1 fallback
         3 publish b #1
         4 publish c #1
         5 publish a #1 compensation
         6 end FAILED
         --
         FAILED partial INTERNAL_ERROR: no
         a COMPENSATED 1, 1 fallbacks
         b COMPLETED 1, 1 fallbacks
         c FAILED INTERNAL_ERROR: no
         effect a compensated",
    );
}

#[test]
fn a_compensation_is_claimed_lost_and_reissued_like_any_task() {
    check(
        &saga(
            "
  - {id: a, agent_id: x, compensate: {agent_id: y, timeout_ms: 1000, retry: {max_attempts: 4, jitter: false, strategy: fixed}}}
  - {id: b, agent_id: x, depends_on: [a], retry: {max_attempts: 1}}",
        ),
        "submit
         ok a #1 1
         fail b #1 INTERNAL_ERROR no
         reissue a #2 compensation
         held a #2 compensation ordinal=3
         fail a #1 compensation INTERNAL_ERROR stale
         +6000 due
         +1000 due
         held a #4 compensation ordinal=4
         abandoned a #4 compensation ordinal=4",
        "1 publish a #1
         2 publish b #1
         3 publish a #1 compensation
         4 publish a #2 compensation
         5 arm claim a #3 in 6000 ms
         6 ignored: stale
         7 arm backoff a #4 in 1000 ms
         8 publish a #4 compensation
         9 arm claim a #4 in 6000 ms
         10 end FAILED
         --
         FAILED partial INTERNAL_ERROR: no
         a COMPLETED 1
         b FAILED INTERNAL_ERROR: no
         effect a compensation_failed LOST: the worker of attempt 4 vanished",
    );
}

#[test]
fn a_compensation_whose_input_cannot_be_built_has_failed() {
    check(
        &saga(ORDER),
        "submit
         ok crm #1 1
         ok billing #1 2
         fail mail #1 INTERNAL_ERROR no
         unrenderable billing #1 compensation no invoice
         unpublishable crm #1 compensation PERMISSION_DENIED no",
        "1 publish crm #1
         2 publish billing #1
         3 publish mail #1
         4 publish billing #1 compensation
         5 publish crm #1 compensation
         6 end FAILED
         --
         FAILED partial INTERNAL_ERROR: no
         crm COMPLETED 1
         billing COMPLETED 2
         mail FAILED INTERNAL_ERROR: no
         effect crm compensation_failed PERMISSION_DENIED: no
         effect billing compensation_failed INVALID_INPUT: input_map: no invoice",
    );
}

#[test]
fn results_of_the_run_do_not_settle_its_compensation() {
    check(
        &saga(ORDER),
        "submit
         ok crm #1 1
         ok billing #1 2
         fail mail #1 INTERNAL_ERROR no
         ok billing #1 3
         ok crm #1 compensation
         cancel
         timer deadline
         ok billing #1 compensation",
        "1 publish crm #1
         2 publish billing #1
         3 publish mail #1
         4 publish billing #1 compensation
         5 ignored: stale
         6 ignored: stale
         7 ignored: outcome is decided
         8 ignored: stale
         9 publish crm #1 compensation
         --
         RUNNING COMPENSATING partial
         crm COMPENSATING 1
         billing COMPENSATED 2
         mail FAILED INTERNAL_ERROR: no
         effect crm compensating
         effect billing compensated",
    );
}
