//! Retries, clocks, fallbacks, compensations and fan-outs that are refused.

use super::*;

#[test]
fn policies_are_checked_wherever_they_stand() {
    check(
        "id: w
default_retry: {max_attempts: 0}
steps:
  - id: a
    agent_id: x
    fallback: {agent_id: y, retry: {backoff_ms: -5, retry_on: [LOST, CANCELLED]}}
    compensate: {agent_id: z, retry: {jitter: 3, retry_on: [TIMEOUTS]}, timeout_ms: 0}
",
        "2:31 default_retry.max_attempts: `max_attempts` is a whole number from 1 to 100, not 0; the first attempt counts: with 1 nothing is repeated
         6:49 steps[0].fallback.retry.backoff_ms: `backoff_ms` is a whole number of milliseconds from 0 to 31622400000, not -5; 0 repeats at once
         6:70 steps[0].fallback.retry.retry_on[1]: CANCELLED is never retried: the same attempt would end the same way; remove it
         7:47 steps[0].compensate.retry.jitter: `jitter` is true or false, not 3; true adds up to a quarter to each delay
         7:61 steps[0].compensate.retry.retry_on[0]: codes that can be retried are TIMEOUT, EXTERNAL_SERVICE_ERROR, CIRCUIT_OPEN, RATE_LIMITED, LOST, INTERNAL_ERROR, not \"TIMEOUTS\"; did you mean TIMEOUT?
         7:85 steps[0].compensate.timeout_ms: `timeout_ms` is a whole number of milliseconds from 1 to 31622400000, not 0",
    );
}

#[test]
fn no_code_that_is_never_retried_can_be_named() {
    for code in crate::error::ErrorCode::ALL.into_iter().filter(|code| code.never_retryable()) {
        check_step(
            &format!("agent_id: a\nretry: {{retry_on: [{code}]}}"),
            &format!(
                "7:24 steps[1].retry.retry_on[0]: {code} is never retried: the same attempt would end the same way; remove it"
            ),
        );
    }
}

#[test]
fn a_ceiling_below_the_first_delay_is_refused() {
    check_step(
        "agent_id: a\nretry: {backoff_ms: 5000, max_backoff_ms: 1000}",
        "7:47 steps[1].retry.max_backoff_ms: `max_backoff_ms` 1000 is below `backoff_ms` 5000, the first delay; raise it, or lower `backoff_ms`",
    );
    check_step("agent_id: a\nretry: {backoff_ms: 5000, max_backoff_ms: 5000}", "");
    check(
        "id: w
default_retry: {backoff_ms: 100, max_backoff_ms: 1000}
steps:
  - {id: low, agent_id: x, retry: {max_backoff_ms: 50}}
  - {id: high, agent_id: x, retry: {backoff_ms: 2000}}
  - {id: fine, agent_id: x, retry: {backoff_ms: 2000, max_backoff_ms: 3000}, compensate: {agent_id: y, retry: {max_backoff_ms: 99}}}
  - {id: other, agent_id: x, retry: {backoff_ms: 500}, fallback: {agent_id: y, retry: {max_backoff_ms: 40}}}
  - {id: both, agent_id: x, retry: {max_attempts: 2}}
",
        "4:52 steps[0].retry.max_backoff_ms: `max_backoff_ms` 50 is below `backoff_ms` 100 of `default_retry`; raise it, or write `backoff_ms` here too
         5:49 steps[1].retry.backoff_ms: `backoff_ms` 2000 is above `max_backoff_ms` 1000 of `default_retry`; lower it, or write `max_backoff_ms` here too
         6:128 steps[2].compensate.retry.max_backoff_ms: `max_backoff_ms` 99 is below `backoff_ms` 100 of `default_retry`; raise it, or write `backoff_ms` here too
         7:104 steps[3].fallback.retry.max_backoff_ms: `max_backoff_ms` 40 is below `backoff_ms` 100 of `default_retry`; raise it, or write `backoff_ms` here too",
    );
}

#[test]
fn clocks_that_cannot_run_out_are_refused() {
    check_step(
        "agent_id: a\ntimeout_ms: 1000\nheartbeat_ms: 2000\nschedule_to_start_ms: 500\nschedule_to_close_ms: 400",
        "8:19 steps[1].heartbeat_ms: `heartbeat_ms` 2000 is above `timeout_ms` 1000: no attempt is silent for so long; lower it, or give the step a longer timeout
         9:27 steps[1].schedule_to_start_ms: `schedule_to_start_ms` 500 is above `schedule_to_close_ms` 400; lower it: a step has to start before it can end",
    );
    check(
        "id: w\ndefault_step_timeout_ms: 1000\nsteps: [{id: a, agent_id: x, heartbeat_ms: 1001}]",
        "3:44 steps[0].heartbeat_ms: `heartbeat_ms` 1001 is above `default_step_timeout_ms` 1000: no attempt is silent for so long; lower it, or give the step a longer timeout",
    );
    check_step(
        "agent_id: a\nheartbeat_ms: 0\nschedule_to_start_ms: -1\nschedule_to_close_ms: 1h",
        "7:19 steps[1].heartbeat_ms: `heartbeat_ms` is a whole number of milliseconds from 1 to 31622400000, not 0
         8:27 steps[1].schedule_to_start_ms: `schedule_to_start_ms` is a whole number of milliseconds from 1 to 31622400000, not -1
         9:27 steps[1].schedule_to_close_ms: `schedule_to_close_ms` is a whole number of milliseconds from 1 to 31622400000, not \"1h\"",
    );
}

#[test]
fn a_fallback_does_one_thing() {
    check_step(
        "agent_id: a\nfallback: {}",
        "7:15 steps[1].fallback: `fallback` does not say what to do; add `agent_id` or `capability` (who does it then), `static_value` (the output then) or `skip: true`",
    );
    check_step(
        "agent_id: a\nfallback: {skip: false, retry: {max_attempts: 2}}",
        "7:15 steps[1].fallback: `fallback` does not say what to do; add `agent_id` or `capability` (who does it then), `static_value` (the output then) or `skip: true`
         7:29 steps[1].fallback.retry: `retry` is for a fallback with an agent; this one has none; remove it",
    );
    check_step(
        "agent_id: a\nfallback: {agent_id: b, static_value: 1, skip: true}",
        "7:29 steps[1].fallback.static_value: `fallback` has `agent_id` already, so `static_value` means nothing; keep one of them
         7:46 steps[1].fallback.skip: `fallback` has `agent_id` already, so `skip` means nothing; keep one of them",
    );
    check_step(
        "agent_id: a\nfallback: {skip: true, timeout_ms: 5, retry: {max_attempts: 2}}",
        "7:28 steps[1].fallback.timeout_ms: `timeout_ms` is for a fallback with an agent; this one has none; remove it
         7:43 steps[1].fallback.retry: `retry` is for a fallback with an agent; this one has none; remove it",
    );
    check_step(
        "agent_id: a\nfallback: b",
        "7:15 steps[1].fallback: `fallback` is an object with fields, not \"b\"; as in {agent_id: b}",
    );
    check_step(
        "agent_id: a\nfallback: {static_value: null}",
        "7:16 steps[1].fallback.static_value: `static_value` is empty; give it a value, or write `skip: true`: what reads the step then reads null",
    );
    check_step("agent_id: a\nfallback: {static_value: false}", "");
    check_step("agent_id: a\nfallback: {static_value: [$.no.path, $5, {literal: 1}]}", "");
}

#[test]
fn a_fallback_is_somebody_else() {
    let help = "name another one; more attempts of the same are `retry.max_attempts` of the step";
    check_step(
        "agent_id: a\nfallback: {agent_id: a}",
        &format!("7:26 steps[1].fallback.agent_id: the agent `a` is the step's own; {help}"),
    );
    check_step(
        "capability: c\nfallback: {capability: c}",
        &format!("7:28 steps[1].fallback.capability: the capability `c` is the step's own; {help}"),
    );
    check_step(
        "agent_id: a\ncapability: c\nfallback: {agent_id: a, capability: c}",
        &format!("8:26 steps[1].fallback.agent_id: the agent `a` is the step's own; {help}"),
    );
    check_step("agent_id: a\ncapability: eu\nfallback: {agent_id: a, capability: us}", "");
    check_step("agent_id: a\nfallback: {capability: c}", "");
    check_step("capability: c\nfallback: {agent_id: a}", "");
}

#[test]
fn a_compensation_has_an_agent_and_undoes_what_can_be_undone() {
    check_step(
        "agent_id: a\ncompensate: {timeout_ms: 5}",
        "7:17 steps[1].compensate: `compensate` has no agent; add `agent_id` or `capability`: who undoes it",
    );
    check_step(
        "agent_id: a\nirreversible: true\ncompensate: {agent_id: b}",
        "7:5 steps[1].irreversible: `irreversible` and `compensate` exclude each other; remove `irreversible`, or `compensate` if nothing undoes what the step does",
    );
    check_step("agent_id: a\nirreversible: false\ncompensate: {agent_id: b}", "");
    check_step(
        "agent_id: a\nirreversible: maybe\ncompensate: undo",
        "7:19 steps[1].irreversible: `irreversible` is true or false, not \"maybe\"
         8:17 steps[1].compensate: `compensate` is an object with fields, not \"undo\"; as in {agent_id: undo}",
    );
    check_step(
        "agent_id: a\nundo: {agent_id: b}",
        "7:5 steps[1].undo: a step has no field `undo`; did you mean `compensate`?",
    );
}

#[test]
fn a_step_with_a_compensation_cannot_be_its_own_dependency() {
    check_step(
        "agent_id: a\ndepends_on: [first, s]\ncompensate: {agent_id: b}",
        "7:25 steps[1].depends_on[1]: step `s` depends on itself; remove it",
    );
}

#[test]
fn a_compensation_reads_its_step_and_what_is_upstream() {
    check(
        "id: w
steps:
  - {id: a, agent_id: x}
  - id: b
    agent_id: x
    depends_on: [a]
    input_map: {own: $.self.output, end: $.outcome}
    condition: $.self.status == 'COMPLETED'
    compensate:
      agent_id: y
      input_map:
        fine: [$.self.output.ref, $.self.metrics, $.steps.a.output, $.input, $.context]
        item: $.item
        late: $.steps.c.output
        own: $.steps.b.output
        end: $.outcome.status
        none: $.self
  - {id: c, agent_id: x}
output_map: {a: $.self.output, b: $.outcome}
",
        "7:22 steps[1].input_map.own: there is no $.self.output here: nothing is undone by this; `$.self` is the step that a compensation undoes, in `compensate.input_map`
         7:42 steps[1].input_map.end: there is no $.outcome here: it is decided when all of `steps` have ended; `$.outcome` is known to the steps of `finally`
         8:16 steps[1].condition: there is no $.self.status here: nothing is undone by this; `$.self` is the step that a compensation undoes, in `compensate.input_map`
         17:15 steps[1].compensate.input_map.none: `$.self`, column 7: after $.self comes .output, .status, .error or .metrics
         19:17 output_map.a: there is no $.self.output here: nothing is undone by this; `$.self` is the step that a compensation undoes, in `compensate.input_map`
         19:35 output_map.b: there is no $.outcome here: it is decided when all of `steps` have ended; `$.outcome` is known to the steps of `finally`",
    );
    check(
        "id: w
steps:
  - id: b
    agent_id: x
    compensate: {agent_id: y, input_map: [$.item, $.steps.c.output, $.steps.b.output, $.outcome.status]}
  - {id: c, agent_id: x}
",
        "5:43 steps[0].compensate.input_map[0]: there is no $.item here: the step has no `fan_out`; items are known in `input_map` of a step with `fan_out`
         5:51 steps[0].compensate.input_map[1]: $.steps.c.output: step `c` may not have ended when this is read; add `c` to `depends_on`
         5:69 steps[0].compensate.input_map[2]: $.steps.b.output: the compensation reads its own step; read `$.self`: for an item it is the item's
         5:87 steps[0].compensate.input_map[3]: there is no $.outcome here: it is decided when all of `steps` have ended; `$.outcome` is known to the steps of `finally`",
    );
}

#[test]
fn a_join_has_nothing_to_undo_and_nobody_to_replace() {
    let nothing = |name: &str, line: u8| {
        format!(
            "{line}:5 steps[1].{name}: a step with `fan_in` has no agent, so `{name}` means nothing; remove it, or do the agent's work in another step\n"
        )
    };
    let fields = [
        "fallback: {skip: true}",
        "compensate: {}",
        "irreversible: true",
        "heartbeat_ms: 5",
        "schedule_to_start_ms: 9",
        "schedule_to_close_ms: 5",
    ];
    let names =
        ["fallback", "compensate", "irreversible", "heartbeat_ms", "schedule_to_start_ms", "schedule_to_close_ms"];
    let expected: String = names.iter().zip(8..).map(|(name, line)| nothing(name, line)).collect();
    check_step(&format!("depends_on: [first]\nfan_in: {{from: [first]}}\n{}", fields.join("\n")), &expected);
    check_step("depends_on: [first]\nfan_in: {from: [first], aggregate: merge}\ncritical: false", "");
}

#[test]
fn a_share_of_items_needs_items_that_may_fail() {
    let nothing = |share: &str| {
        format!(
            "7:44 steps[1].fan_out.min_success: `min_success` {share} means nothing here: the first item that fails fails the step; add `on_item_failure: continue`, or remove it"
        )
    };
    check_step("agent_id: a\nfan_out: {items: $.input, min_success: 0.9}", &nothing("0.9"));
    check_step("agent_id: a\nfan_out: {items: $.input, min_success: 0.9, on_item_failure: fail}", &nothing("0.9"));
    check_step("agent_id: a\nfan_out: {items: $.input, min_success: 0.9, on_item_failure: continue}", "");
    check_step("agent_id: a\nfan_out: {items: $.input, min_success: 0.9}\nfallback: {skip: true}", "");
    check_step("agent_id: a\nfan_out: {items: $.input, min_success: 3}", "");
}

#[test]
fn fan_outs_do_not_nest() {
    let help = "flatten the lists, as in `items: $.input.orders[*].lines[*]`, or give this step's output to another step with `fan_out`";
    check_step(
        "agent_id: a\nfan_out: {items: $.input, fan_out: {items: $.item}}",
        &format!(
            "7:31 steps[1].fan_out.fan_out: fan-outs do not nest: for each item the step's agent runs once; {help}"
        ),
    );
    check_step(
        "agent_id: a\nfan_out: {items: $.input, steps: [{id: b, agent_id: x}]}",
        &format!("7:31 steps[1].fan_out.steps: fan-outs do not nest: for each item the step's agent runs once; {help}"),
    );
    check_step("agent_id: a\nfan_out: {items: '$.input.orders[*].lines[*]'}", "");
}

#[test]
fn words_of_other_systems_are_translated() {
    check_step(
        "agent_id: a\nretryable: false",
        "7:5 steps[1].retryable: a step has no field `retryable`; steps are retried; with `retry: {max_attempts: 1}` one runs at most once",
    );
    check_step(
        "agent_id: a\nretry: 3\nheartbeat: 5\nrollback: {}\ncatch: {}",
        "7:12 steps[1].retry: `retry` is an object with fields, not 3; as in {max_attempts: 3}
         8:5 steps[1].heartbeat: a step has no field `heartbeat`; did you mean `heartbeat_ms`?
         9:5 steps[1].rollback: a step has no field `rollback`; did you mean `compensate`?
         10:5 steps[1].catch: a step has no field `catch`; did you mean `fallback`?",
    );
    check(
        "id: w\nretry: {max_attempts: 2}\non_error: compensate\non_exit: []\non_failure: rollback\nsteps: [{id: a, agent_id: x}]",
        "2:1 retry: a workflow has no field `retry`; did you mean `default_retry`?
         3:1 on_error: a workflow has no field `on_error`; did you mean `on_failure`?
         4:1 on_exit: a workflow has no field `on_exit`; did you mean `finally`?
         5:13 on_failure: `on_failure` is one of fail_fast, continue, compensate, not \"rollback\"",
    );
}

#[test]
fn what_is_stored_and_only_unwise_still_compiles() {
    let stored = |text: &str| Plan::compile(serde_json::from_str(text).expect("a definition"));
    let unwise = r#"{"id":"w","steps":[{"id":"a","agent_id":"x","fan_out":{"items":"$.input","min_success":0.5},"retry":{"backoff_ms":9,"max_backoff_ms":3}}]}"#;
    assert!(stored(unwise).is_ok());
    assert_eq!(definition(unwise).expect_err("two problems").len(), 2);
    let wrong = r#"{"id":"w","steps":[{"id":"a","agent_id":"x","fallback":{}}]}"#;
    assert!(stored(wrong).is_err());
}
