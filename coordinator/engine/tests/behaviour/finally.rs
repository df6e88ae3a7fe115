use super::check::{World, check};

const TELL: &str = "id: w
on_failure: compensate
timeout_ms: 5000
steps:
  - {id: a, agent_id: x, compensate: {agent_id: y}}
  - {id: b, agent_id: x, depends_on: [a], retry: {max_attempts: 1}}
finally:
  - {id: tell, agent_id: x, input_map: {what: $.outcome.status, a: $.steps.a.status, why: $.outcome.error.code}}";

#[test]
fn it_runs_after_success() {
    check(
        TELL,
        "submit\n ok a #1 1\n ok b #1 2\n ok tell #1 3",
        "1 publish a #1
     2 publish b #1
     3 publish tell #1
     4 end COMPLETED
     --
     COMPLETED 2
     a COMPLETED 1
     b COMPLETED 2
     tell COMPLETED 3",
    );
}

#[test]
fn it_runs_after_failure_and_compensation() {
    check(
        TELL,
        "submit\n ok a #1 1\n fail b #1 INTERNAL_ERROR no\n ok a #1 compensation\n ok tell #1 3",
        "1 publish a #1
     2 publish b #1
     3 publish a #1 compensation
     4 publish tell #1
     5 end FAILED
     --
     FAILED partial INTERNAL_ERROR: no
     a COMPENSATED 1
     b FAILED INTERNAL_ERROR: no
     tell COMPLETED 3
     effect a compensated",
    );
}

#[test]
fn it_runs_after_a_timeout() {
    check(
        TELL,
        "submit\n +5000 due\n +10000 due\n ok tell #1",
        "1 publish a #1
     2 cancel activations below 4
     2 arm grace in 10000 ms
     3 publish tell #1
     4 end TIMEOUT
     --
     TIMEOUT TIMEOUT: the execution took longer than 5000 ms
     a CANCELLED
     b SKIPPED: the execution ended before it could start
     tell COMPLETED null
     effect a unknown",
    );
}

#[test]
fn it_runs_after_a_cancel() {
    check(
        TELL,
        "submit\n cancel\n fail a #1 CANCELLED stopped\n ok tell #1",
        "1 publish a #1
     2 cancel activations below 4
     2 arm grace in 10000 ms
     3 publish tell #1
     4 end CANCELLED
     --
     CANCELLED CANCELLED: the execution was cancelled
     a CANCELLED
     b SKIPPED: the execution ended before it could start
     tell COMPLETED null
     effect a unknown",
    );
}

#[test]
fn it_sees_how_it_ends() {
    let mut world = World::new(TELL);
    world.tell("submit\nok a #1 1\nfail b #1 INTERNAL_ERROR no\nok a #1 compensation");
    assert_eq!(world.input("tell #1", None), r#"{"a":"COMPENSATED","what":"FAILED","why":"INTERNAL_ERROR"}"#);
    let mut world = World::new(TELL);
    world.tell("submit\nok a #1 1\nok b #1 2");
    assert_eq!(world.input("tell #1", None), r#"{"a":"COMPLETED","what":"COMPLETED","why":null}"#);
}

#[test]
fn the_whole_outcome_is_a_value() {
    let with_all =
        TELL.replace("{what: $.outcome.status, a: $.steps.a.status, why: $.outcome.error.code}", "$.outcome");
    let mut world = World::new(&with_all);
    world.tell("submit\nok a #1 1\nok b #1 {\"n\": 1.50}");
    assert_eq!(world.input("tell #1", None), r#"{"status":"COMPLETED","partial":false,"output":{"n": 1.50}}"#);
    let mut world = World::new(&with_all);
    world.tell("submit\nok a #1 1\nfail b #1 INTERNAL_ERROR no\nfail a #1 compensation INVALID_INPUT no");
    let outcome: serde_json::Value = serde_json::from_str(&world.input("tell #1", None)).expect("JSON");
    assert_eq!(outcome["error"]["step"], "b");
    assert_eq!(outcome["error"]["failure_mode"], "agent");
    assert_eq!((&outcome["compensated"], &outcome["standing_effects"]), (&0.into(), &1.into()));
}

#[test]
fn conditions_choose_by_the_outcome_and_by_statuses() {
    let definition = "id: w
steps:
  - {id: a, agent_id: x, retry: {max_attempts: 1}}
finally:
  - {id: good, agent_id: x, condition: '$.outcome.status == \"COMPLETED\"'}
  - {id: bad, agent_id: x, condition: '$.outcome.status == \"FAILED\" && $.steps.a.status == \"TIMEOUT\"'}
  - {id: why, agent_id: x, condition: '$.outcome.error.code == \"TIMEOUT\"', depends_on: [bad]}";
    check(
        definition,
        "submit\n ok a #1 1\n ok good #1",
        "1 publish a #1
     2 publish good #1
     3 end COMPLETED
     --
     COMPLETED 1
     a COMPLETED 1
     good COMPLETED null
     bad SKIPPED: its condition is false
     why SKIPPED: its condition is false",
    );
    check(
        definition,
        "submit\n fail a #1 TIMEOUT slow\n ok bad #1\n ok why #1",
        "1 publish a #1
     2 cancel activations below 4
     2 publish bad #1
     3 publish why #1
     4 end FAILED
     --
     FAILED TIMEOUT: slow
     a TIMEOUT TIMEOUT: slow
     good SKIPPED: its condition is false
     bad COMPLETED null
     why COMPLETED null",
    );
}

#[test]
fn its_steps_are_a_graph_of_their_own() {
    check(
        "id: w
max_parallel: 1
steps:
  - {id: a, agent_id: x}
finally:
  - {id: f, agent_id: x}
  - {id: g, agent_id: x}
  - {id: h, agent_id: x, depends_on: [f, g]}
  - {id: all, depends_on: [f, g], fan_in: {from: [f, g], aggregate: list}}",
        "submit
         ok a #1 1
         ok f #1 2
         ok g #1 3
         ok h #1 4",
        "1 publish a #1
         2 publish f #1
         3 publish g #1
         4 publish h #1
         5 end COMPLETED
         --
         COMPLETED 1
         a COMPLETED 1
         f COMPLETED 2
         g COMPLETED 3
         h COMPLETED 4
         all COMPLETED [2,3]",
    );
}

#[test]
fn its_failures_change_nothing() {
    check(
        "id: w
steps:
  - {id: a, agent_id: x}
finally:
  - {id: f, agent_id: x, retry: {max_attempts: 2, jitter: false}}
  - {id: after, agent_id: x, depends_on: [f]}
  - {id: odd, agent_id: x, condition: $.input.n < 2}
  - {id: spare, agent_id: x, retry: {max_attempts: 1}, fallback: {agent_id: y}}",
        "submit
         ok a #1 1
         fail f #1 INTERNAL_ERROR no
         fail spare #1 INTERNAL_ERROR no
         ok spare #1 fallback
         +1000 due
         fail f #2 INTERNAL_ERROR again",
        "1 publish a #1
         2 publish f #1
         2 publish spare #1
         3 arm backoff f #2 in 1000 ms
         4 publish spare #1 fallback
         6 publish f #2
         7 end COMPLETED
         --
         COMPLETED 1
         a COMPLETED 1
         f FAILED INTERNAL_ERROR: again
         after SKIPPED: f ended FAILED
         odd FAILED INVALID_INPUT: condition `$.input.n < 2`, column 11: `<` compares two numbers or two strings, not $.input.n (null) and 2
         spare COMPLETED null, 1 fallbacks",
    );
}

#[test]
fn it_has_a_deadline_of_its_own() {
    check(
        "id: w
timeout_ms: 5000
steps:
  - {id: a, agent_id: x}
finally:
  - {id: f, agent_id: x}
  - {id: g, agent_id: x, fan_out: {items: $.input, concurrency: 2}}
  - {id: h, agent_id: x, depends_on: [f]}",
        "submit [1, 2, 3]
         +4000 ok a #1 1
         +4999 due
         ok g[0] #1 10
         +1 due
         ok f #1",
        "1 publish a #1
         2 publish f #1
         2 publish g[0] #1
         2 publish g[1] #1
         4 publish g[2] #1
         5 end COMPLETED
         6 ignored: execution has ended
         --
         COMPLETED 1
         a COMPLETED 1
         f CANCELLED
         g CANCELLED [10,null,null]
         h SKIPPED: the execution ended before it could start",
    );
}

#[test]
fn a_fan_out_that_its_deadline_cuts_off_has_not_completed() {
    check(
        "id: w
timeout_ms: 5000
steps:
  - {id: a, agent_id: x}
finally:
  - {id: g, agent_id: x, fan_out: {items: $.input}}",
        "submit [1, 2]
         ok a #1 1
         ok g[0] #1 10
         +5000 due",
        "1 publish a #1
         2 publish g[0] #1
         2 publish g[1] #1
         4 end COMPLETED
         --
         COMPLETED 1
         a COMPLETED 1
         g CANCELLED [10,null]",
    );
}

#[test]
fn it_may_fan_out_over_what_there_is() {
    check(
        "id: w
on_failure: continue
steps:
  - {id: a, agent_id: x, retry: {max_attempts: 1}, fan_out: {items: $.input, on_item_failure: continue}}
  - {id: b, agent_id: x, retry: {max_attempts: 1}}
finally:
  - {id: f, agent_id: x, fan_out: {items: $.steps.a.output, on_item_failure: continue}, retry: {max_attempts: 1}}",
        "submit [1, 2]
         ok a[0] #1 10
         fail b #1 INTERNAL_ERROR no
         ok a[1] #1 20
         fail f[0] #1 INTERNAL_ERROR no
         ok f[1] #1 40",
        "1 publish a[0] #1
         1 publish a[1] #1
         1 publish b #1
         4 publish f[0] #1
         4 publish f[1] #1
         6 end FAILED
         --
         FAILED partial INTERNAL_ERROR: no
         a COMPLETED [10,20]
         b FAILED INTERNAL_ERROR: no
         f COMPLETED [null,40]",
    );
}

#[test]
fn values_that_are_not_here_are_left_to_the_owner() {
    check(
        "id: w
steps:
  - {id: a, agent_id: x}
finally:
  - {id: f, agent_id: x, condition: $.outcome.output.go}
  - {id: g, agent_id: x, depends_on: [f], fan_out: {items: $.steps.a.output.list}}",
        "submit
         ok a #1 stored
         evaluated f condition true
         ok f #1
         evaluated g items 1
         ok g[0] #1",
        "1 publish a #1
         2 evaluate the condition of f
         3 publish f #1
         4 evaluate the items of g
         5 publish g[0] #1
         6 end COMPLETED
         --
         COMPLETED (stored)
         a COMPLETED (stored)
         f COMPLETED null
         g COMPLETED [null]",
    );
}

#[test]
fn nothing_of_it_runs_for_a_submission_that_cannot_run() {
    let mut world = World::new(TELL);
    let mut submitted = world.submitted("1");
    submitted.routes.clear();
    let entry = millstream_model::entry::Entry::Submitted(Box::new(submitted));
    assert_eq!(world.apply(entry), ["end FAILED"]);
    assert!(world.state().ends_with("tell SKIPPED: the execution ended before it could start"), "{}", world.state());
}

#[test]
fn results_of_the_steps_come_too_late() {
    check(
        TELL,
        "submit\n cancel\n +10000 due\n ok a #1 1\n cancel\n ok tell #1",
        "1 publish a #1
     2 cancel activations below 4
     2 arm grace in 10000 ms
     3 publish tell #1
     4 ignored: stale
     5 ignored: already requested
     6 end CANCELLED
     --
     CANCELLED CANCELLED: the execution was cancelled
     a CANCELLED
     b SKIPPED: the execution ended before it could start
     tell COMPLETED null
     effect a unknown",
    );
}
