use super::*;
use crate::expression::Root;
use crate::payload::Payload;

mod failures;
mod finally;
mod searchable;

/// What is wrong with `text`, one problem per line.
fn check(text: &str, expected: &str) {
    let found = match definition(text) {
        Ok(_) => String::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    };
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(found, expected.join("\n"), "in\n{text}");
}

/// What is wrong with the fields of a step that is otherwise fine.
fn check_step(fields: &str, expected: &str) {
    let indented = fields.replace('\n', "\n    ");
    check(&format!("id: w\nsteps:\n  - id: first\n    agent_id: a\n  - id: s\n    {indented}\n"), expected);
}

const WHOLE: &str = r#"
id: invoices
name: Invoices
version: 1.0.0
description: Books all invoices of a day.
on_failure: compensate
default_retry: {max_attempts: 5, jitter: false, strategy: linear}
max_parallel: 10
timeout_ms: 3600000
default_step_timeout_ms: 60000
labels: {team: billing}
retention_ms: 604800000
searchable: {day: $.input.day, rows: "$.output['rows']"}
input_schema: {type: object, required: [day]}
context_schema: true
steps:
  - id: get-list
    agent_id: erp
    input_map: {day: $.input.day, who: $.context.user}
  - id: book
    name: Book
    description: Books one invoice.
    agent_id: billing
    capability: billing-eu
    depends_on: [get-list]
    condition: size($.steps["get-list"].output.items) > 0 && !$.input.dry_run
    fan_out: {items: '$.steps["get-list"].output.items', concurrency: 50, on_item_failure: continue, min_success: 0.9}
    input_map: {invoice: $.item, n: $.index, note: {literal: $5}}
    timeout_ms: 20000
    retry: {max_attempts: 4, backoff_ms: 500, backoff_multiplier: 2, max_backoff_ms: 30000, jitter: true, strategy: exponential, retry_on: [TIMEOUT, LOST]}
    schedule_to_start_ms: 60000
    schedule_to_close_ms: 120000
    heartbeat_ms: 5000
    fallback: {agent_id: billing-b, capability: billing-eu, retry: {max_attempts: 2}, timeout_ms: 10000}
    compensate:
      agent_id: unbook
      capability: billing-eu
      input_map: {ref: $.self.output.ref, of: $.item, n: $.index, list: '$.steps["get-list"].output', day: $.input.day}
      timeout_ms: 30000
      retry: {max_attempts: 10}
  - id: pay
    agent_id: bank
    depends_on: [book]
    irreversible: true
    fallback: {static_value: {paid: false, note: $.not.a.path}}
  - id: total
    depends_on: [book]
    fan_in: {from: [book, get-list], aggregate: list}
  - id: notify
    capability: mail
    critical: false
    depends_on: [total]
    require: completed
    input_map: {rows: {path: $.steps.total.output, required: true}, cc: {path: $.input.cc, default: []}}
finally:
  - id: tell-ops
    agent_id: chat
    condition: $.outcome.status != "COMPLETED" || size($.steps["get-list"].output.items) == 0
    input_map: {outcome: $.outcome, rows: $.steps.total.output}
  - id: close
    agent_id: chat
    depends_on: [tell-ops]
    require: completed
    fan_out: {items: '$.steps["get-list"].output.items'}
    input_map: [$.item, '$.steps["tell-ops"].output']
    retry: {max_attempts: 1}
    fallback: {skip: true}
output_map: {rows: $.steps.total.output, state: $.steps.notify.status}
"#;

#[test]
fn a_definition_with_every_field_is_compiled() {
    let plan = definition(WHOLE).unwrap_or_else(|problems| panic!("{problems:?}"));
    let book = plan.find(&"book".parse().expect("a name")).expect("a step");
    let total = plan.find(&"total".parse().expect("a name")).expect("a step");
    let find = |name: &str| plan.find(&name.parse().expect("a name")).expect("a step");
    assert_eq!(plan.planned(book).dependents, [find("pay"), total]);
    assert_eq!(plan.planned(total).depends_on, [book]);
    assert!(plan.planned(book).condition.is_some() && plan.planned(book).input.is_some() && plan.output.is_some());
    assert!(matches!(&plan.planned(total).work, crate::plan::Work::FanIn { from, .. } if from.len() == 2));
    assert!(matches!(plan.planned(book).work, crate::plan::Work::FanOut { .. }));
    let compensation = plan.planned(book).compensation.as_ref().expect("an input of its own");
    let reads: Vec<String> = compensation.reads().iter().map(ToString::to_string).collect();
    assert_eq!(reads, ["$.input", "$.item", "$.index", "$.steps[\"get-list\"].output", "$.self.output"]);
    let value = plan.planned(find("pay")).fallback_value.as_ref().expect("a value");
    assert_eq!(value, &Payload::from_value(&serde_json::json!({"paid": false, "note": "$.not.a.path"})));
    let finally: Vec<&str> = plan.finally().map(|step| plan.step(step).id.as_str()).collect();
    assert_eq!(finally, ["tell-ops", "close"]);
    let (tell, close) = (find("tell-ops"), find("close"));
    assert_eq!((&plan.planned(close).depends_on, &plan.planned(tell).dependents), (&vec![tell], &vec![close]));
    assert!(plan.planned(tell).condition.as_ref().is_some_and(|condition| condition.reads().contains(&Root::Outcome)));
    assert!(plan.is_finally(tell) && !plan.is_finally(book) && plan.planned(close).input.is_some());
}

#[test]
fn what_is_stored_compiles_to_the_same_plan() {
    let plan = definition(WHOLE).expect("a plan");
    let text = crate::hash::canonical_json(&serde_json::to_value(&*plan.definition).expect("JSON"));
    let stored: Definition = serde_json::from_str(&text).expect("a definition");
    assert_eq!(stored, *plan.definition);
    assert_eq!(Plan::compile(stored).expect("a plan").hash, plan.hash);
    assert_eq!(definition(&text).expect("a plan").hash, plan.hash);
}

#[test]
fn a_stored_definition_is_checked_without_places() {
    let stored: Definition =
        serde_json::from_str(r#"{"id":"w","steps":[{"id":"a","agent_id":"x","depends_on":["b"]}]}"#).expect("one");
    let problems = Plan::compile(stored).expect_err("a problem");
    assert_eq!(problems[0].to_string(), "steps[0].depends_on[0]: there is no step `b`; the steps are a");
}

#[test]
fn all_problems_are_reported_in_the_order_of_the_text() {
    check(
        "id: 7up
name: 5
stepz: []
steps:
  - id: a
    agent_id: x
    depends_on: [b, a]
    timeout_ms: 1m
  - agent_id: x
    condition: $.input.x = 1
  - id: a
output_map: $.steps.c.output
",
        "1:5 id: `7up` cannot be a name: a name starts with a letter or '_', this one starts with '7'; names have letters, digits, `_` and `-`, start with a letter or `_`, and have at most 64 characters
         2:7 name: `name` is a string, not 5; put it in quotes
         3:1 stepz: a workflow has no field `stepz`; did you mean `steps`?
         7:18 steps[0].depends_on[0]: there is no step `b`; the steps are a
         7:21 steps[0].depends_on[1]: step `a` depends on itself; remove it
         8:17 steps[0].timeout_ms: `timeout_ms` is a whole number of milliseconds from 1 to 31622400000, not \"1m\"
         9:5 steps[1]: a step has no `id`; add `id`
         10:16 steps[1].condition: the condition cannot be read at its column 11: `=` is not an operator; `==` compares
         11:5 steps[2]: the step does nothing; add `agent_id` (who does it), `capability` (any agent that can) or `fan_in` (join outputs)
         11:9 steps[2].id: there is another step `a`: steps[0]; give each step an id of its own
         12:13 output_map: $.steps.c.output: there is no step `c`; the steps are a",
    );
}

#[test]
fn a_text_that_is_no_workflow_is_named() {
    check("[1, 2]", "1:1 a workflow is an object with fields, not a list; it has at least `id`, `steps`");
    check("hello", "1:1 a workflow is an object with fields, not \"hello\"; it has at least `id`, `steps`");
    check("name: x", "1:1 a workflow has no `id`; add `id`\n1:1 a workflow has no `steps`; add `steps`");
    check("id: w\nsteps: {a: 1}", "2:8 steps: `steps` is a list, not an object; each step starts with `- id: …`");
    check("id: w\nsteps: []", "2:8 steps: a workflow has 1 to 10000 steps, this one has 0; add one");
    check("id: w\nsteps: [1]", "2:9 steps[0]: a step is an object with fields, not 1; it has at least `id`");
}

#[test]
fn unknown_fields_get_the_name_that_was_probably_meant() {
    check_step(
        "agent_id: a\ndepend_on: [first]",
        "7:5 steps[1].depend_on: a step has no field `depend_on`; did you mean `depends_on`?",
    );
    check_step("agent: a", "6:5 steps[1].agent: a step has no field `agent`; did you mean `agent_id`?");
    check_step(
        "agent_id: a\nretry: {attempts: 3}",
        "7:13 steps[1].retry.attempts: `retry` has no field `attempts`; the fields are max_attempts, backoff_ms, \
         backoff_multiplier, max_backoff_ms, jitter, strategy, retry_on",
    );
    check_step(
        "<<: {agent_id: a}\nagent_id: a",
        "6:5 steps[1].<<: a step has no field `<<`; merge keys are not part of YAML 1.2; write the fields out",
    );
}

#[test]
fn what_this_version_does_not_run_is_said_plainly() {
    for field in ["approval", "wait", "workflow", "plan", "transform", "verify", "sensitive", "cost"] {
        let problem = "is part of the language but this version does not run it yet; remove it";
        check_step(&format!("{field}: {{}}"), &format!("6:5 steps[1].{field}: `{field}` {problem}"));
    }
    check(
        "id: w\nbudget: 1\nsteps: [{id: a, agent_id: x}]",
        "2:1 budget: `budget` is part of the language but this version does not run it yet; remove it",
    );
}

#[test]
fn fields_take_what_they_take() {
    check_step(
        "agent_id: [a]\ncritical: yes\ncondition: true\nname:\ndepends_on: first\nrequire: complete",
        "6:15 steps[1].agent_id: `agent_id` is a name, not a list; names have letters, digits, `_` and `-`, start with a letter or `_`, and have at most 64 characters
         7:15 steps[1].critical: `critical` is true or false, not \"yes\"
         8:16 steps[1].condition: `condition` is a string, not true; put it in quotes
         9:5 steps[1].name: `name` is empty; give it a value or remove it
         10:17 steps[1].depends_on: `depends_on` is a list of step ids, not \"first\"; put it in brackets
         11:14 steps[1].require: `require` is one of settled, completed, not \"complete\"; did you mean `completed`?",
    );
    check(
        "id: w\nversion: 1.0\nmax_parallel: 0\nlabels: {a: 1}\noutput_map:\nsteps: [{id: a, agent_id: x}]",
        "2:10 version: `version` is a string, not 1.0; put it in quotes
         3:15 max_parallel: `max_parallel` is a whole number from 1 to 1000000, not 0
         4:13 labels.a: the label `a` is a string, not 1; put it in quotes
         5:1 output_map: `output_map` is empty; give it a value or remove it",
    );
}

#[test]
fn retries_have_limits_and_reasons() {
    check_step(
        "agent_id: a\nretry: {max_attempts: 0, backoff_multiplier: 0.5, backoff_ms: -1, jitter: 3, strategy: linea}",
        "7:27 steps[1].retry.max_attempts: `max_attempts` is a whole number from 1 to 100, not 0; the first attempt counts: with 1 nothing is repeated
         7:50 steps[1].retry.backoff_multiplier: `backoff_multiplier` is a number of at least 1, not 0.5; 1 keeps the delay as it is
         7:67 steps[1].retry.backoff_ms: `backoff_ms` is a whole number of milliseconds from 0 to 31622400000, not -1; 0 repeats at once
         7:79 steps[1].retry.jitter: `jitter` is true or false, not 3; true adds up to a quarter to each delay
         7:92 steps[1].retry.strategy: `strategy` is one of exponential, linear, fixed, not \"linea\"; did you mean `linear`?",
    );
    check_step(
        "agent_id: a\nretry: {retry_on: [TIMEOUT, INVALID_INPUT, timeout, 7]}",
        "7:33 steps[1].retry.retry_on[1]: INVALID_INPUT is never retried: the same attempt would end the same way; remove it
         7:48 steps[1].retry.retry_on[2]: codes that can be retried are TIMEOUT, EXTERNAL_SERVICE_ERROR, CIRCUIT_OPEN, RATE_LIMITED, LOST, INTERNAL_ERROR, not \"timeout\"; did you mean TIMEOUT?
         7:57 steps[1].retry.retry_on[3]: codes that can be retried are TIMEOUT, EXTERNAL_SERVICE_ERROR, CIRCUIT_OPEN, RATE_LIMITED, LOST, INTERNAL_ERROR, not 7",
    );
}

#[test]
fn cycles_are_named_edge_by_edge() {
    check(
        "id: w
steps:
  - {id: ok, agent_id: x}
  - {id: c, agent_id: x, depends_on: [ok, a]}
  - {id: a, agent_id: x, depends_on: [b]}
  - {id: b, agent_id: x, depends_on: [c]}
  - {id: behind, agent_id: x, depends_on: [b], condition: $.steps.p.output}
  - {id: p, agent_id: x, depends_on: [behind, q]}
  - {id: q, agent_id: x, depends_on: [p]}
",
        "4:43 steps[1].depends_on: steps wait for each other: c -> a -> b -> c (each depends on the next); remove one of these dependencies
         8:47 steps[5].depends_on: steps wait for each other: p -> q -> p (each depends on the next); remove one of these dependencies",
    );
}

#[test]
fn an_expression_reads_only_what_is_upstream() {
    check(
        "id: w
steps:
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, depends_on: [a]}
  - id: c
    agent_id: x
    depends_on: [b]
    condition: $.steps.a.output.ok && $.steps.d.status == 'COMPLETED'
    input_map:
      fine: $.steps.a.output
      late: [1, $.steps.d.output.x]
      own: {path: $.steps.c.output, default: 1}
      none: $.steps.bb.output
      deep: $.steps.b.output[?@.k == $.steps.d.output]
  - {id: d, agent_id: x}
output_map: {d: $.steps.d.output, e: $.steps.e.output}
",
        "8:16 steps[2].condition: $.steps.d.status: step `d` may not have ended when this is read; add `d` to `depends_on`
         11:17 steps[2].input_map.late[1]: $.steps.d.output: step `d` may not have ended when this is read; add `d` to `depends_on`
         12:19 steps[2].input_map.own.path: $.steps.c.output: the step reads itself; read another step
         13:13 steps[2].input_map.none: $.steps.bb.output: there is no step `bb`; the steps are a, b, c, d
         14:13 steps[2].input_map.deep: $.steps.d.output: step `d` may not have ended when this is read; add `d` to `depends_on`
         16:38 output_map.e: $.steps.e.output: there is no step `e`; the steps are a, b, c, d",
    );
}

#[test]
fn items_exist_only_in_the_input_of_a_fan_out() {
    check_step(
        "agent_id: a\ncondition: $.item.x == 1\ninput_map: {i: $.index}",
        "7:16 steps[1].condition: there is no $.item here: a condition is evaluated once per step, before there are items; items are known in `input_map` of a step with `fan_out`
         8:20 steps[1].input_map.i: there is no $.index here: the step has no `fan_out`; items are known in `input_map` of a step with `fan_out`",
    );
    check_step(
        "agent_id: a\nfan_out: {items: $.item.list, concurrency: 0, min_success: 1.5}\ninput_map: [$.item, $.index]",
        "7:22 steps[1].fan_out.items: there is no $.item here: this is the list that the items come from; items are known in `input_map` of a step with `fan_out`
         7:48 steps[1].fan_out.concurrency: `concurrency` is a whole number from 1 to 1000000, not 0
         7:64 steps[1].fan_out.min_success: `min_success` is a count of items (1, 2, …) or a share of them (more than 0, less than 1), not 1.5",
    );
    check(
        "id: w\nsteps: [{id: a, agent_id: x}]\noutput_map: $.item",
        "3:13 output_map: there is no $.item here: the output belongs to the whole workflow; items are known in `input_map` of a step with `fan_out`",
    );
}

#[test]
fn bad_paths_say_how_a_path_is_written() {
    check_step(
        "agent_id: a\nfan_out: {items: items}\ninput_map: {a: $.steps.get-data.output, b: {c: '$5'}, d: $.self.input}",
        "7:22 steps[1].fan_out.items: the path cannot be read at its column 1: a path starts with `$`
         8:20 steps[1].input_map.a: `$.steps.get-data.output`, column 12: a name with `-` takes brackets: [\"get-data\"] instead of .get-data
         8:52 steps[1].input_map.b.c: `$5`, column 2: `5` cannot be read; a path is `$` and then segments like .name, [\"name\"], [0], [*] or [?@.x == 1]; text that starts with `$` is written {literal: …}
         8:62 steps[1].input_map.d: `$.self.input`, column 7: a step has no `input`; it has .output, .status, .error or .metrics",
    );
}

#[test]
fn a_join_has_no_agent_and_joins_what_has_ended() {
    check(
        "id: w
steps:
  - {id: a, agent_id: x}
  - {id: b, agent_id: x}
  - id: j
    agent_id: x
    timeout_ms: 5
    depends_on: [a]
    fan_in: {from: [a, b, j, k, a], aggregate: sum}
  - {id: none, fan_in: {from: []}}
  - {id: empty, fan_in: {}}
",
        "6:5 steps[2].agent_id: a step with `fan_in` has no agent, so `agent_id` means nothing; remove it, or do the agent's work in another step
         7:5 steps[2].timeout_ms: a step with `fan_in` has no agent, so `timeout_ms` means nothing; remove it, or do the agent's work in another step
         9:24 steps[2].fan_in.from[1]: step `b` may not have ended when its output is joined; add `b` to `depends_on`
         9:27 steps[2].fan_in.from[2]: step `j` joins its own output; remove it
         9:30 steps[2].fan_in.from[3]: there is no step `k`; the steps are a, b, j, none, empty
         9:33 steps[2].fan_in.from[4]: `a` is there twice; remove one
         9:48 steps[2].fan_in.aggregate: `aggregate` is one of list, merge, first, not \"sum\"
         10:31 steps[3].fan_in.from: nothing is joined; name the steps to join
         11:25 steps[4].fan_in: `fan_in` has no `from`; add `from`",
    );
}

#[test]
fn schemas_are_checked_and_fetch_nothing() {
    check(
        "id: w\ninput_schema: {type: strin}\ncontext_schema: [1]\nsteps: [{id: a, agent_id: x}]",
        "2:22 input_schema: this is not a JSON Schema: \"strin\" is not valid under any of the schemas listed in the 'anyOf' keyword; write it as JSON Schema 2020-12, without references to other documents
         3:17 context_schema: `context_schema` is a JSON Schema, an object, not a list",
    );
    let problems = definition("id: w\ninput_schema: {$ref: 'http://127.0.0.1/x'}\nsteps: [{id: a, agent_id: x}]");
    assert!(problems.expect_err("a problem")[0].message.starts_with("this is not a JSON Schema"));
}

#[test]
fn a_problem_is_told_from_what_follows_of_it() {
    check("id: w\nid: v\nsteps: []", "2:1 `id` is there twice; the first is in line 1, column 1; remove one of them");
}

#[test]
fn ten_thousand_steps_are_checked_quickly_and_their_order_is_kept() {
    let mut text = "id: w\nsteps:\n- {id: s0, agent_id: x}\n".to_owned();
    for i in 1..10_000 {
        text.push_str(&format!("- {{id: s{i}, agent_id: x, depends_on: [s{}]}}\n", i - 1));
    }
    let plan = definition(&text).unwrap_or_else(|problems| panic!("{}", problems[0]));
    assert_eq!(plan.steps.len(), 10_000);
    assert_eq!(plan.step(crate::plan::StepIndex(9_999)).id.as_str(), "s9999");
    text.push_str("- {id: s10000, agent_id: x}\n");
    let problems = definition(&text).expect_err("too many");
    assert_eq!(problems[0].message, "a workflow has 1 to 10000 steps, this one has 10001");
}
