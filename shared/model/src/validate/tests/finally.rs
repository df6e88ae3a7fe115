//! Steps that run once the outcome is decided.

use super::*;

#[test]
fn ids_are_unique_over_steps_and_finally() {
    check(
        "id: w
steps: [{id: a, agent_id: x}]
finally:
  - {id: a, agent_id: x}
  - {id: b, agent_id: x}
  - {id: b, agent_id: x}
",
        "4:10 finally[0].id: there is another step `a`: steps[0]; give each step an id of its own
         6:10 finally[2].id: there is another step `b`: finally[1]; give each step an id of its own",
    );
}

#[test]
fn no_dependency_leads_into_finally_or_out_of_it() {
    check(
        "id: w
steps:
  - {id: a, agent_id: x, depends_on: [tidy]}
  - {id: j, depends_on: [a], fan_in: {from: [a, tell]}}
finally:
  - {id: tidy, agent_id: x, depends_on: [a]}
  - {id: tell, agent_id: x, depends_on: [tidy, tiddy]}
  - {id: p, agent_id: x, depends_on: [q]}
  - {id: q, agent_id: x, depends_on: [p, q]}
",
        "3:39 steps[0].depends_on[0]: `tidy` is in `finally`: it starts when all of `steps` have ended; remove it, or move `tidy` to `steps`
         4:49 steps[1].fan_in.from[1]: step `tell` is in `finally`: it starts when all of `steps` have ended; remove it
         6:42 finally[0].depends_on[0]: `a` is not in `finally`: it has ended before any of these steps starts; remove it; what it gave can be read all the same
         7:48 finally[1].depends_on[1]: there is no step `tiddy`; did you mean `tidy`?
         8:39 finally[2].depends_on: steps wait for each other: p -> q -> p (each depends on the next); remove one of these dependencies
         9:42 finally[3].depends_on[1]: step `q` depends on itself; remove it",
    );
}

#[test]
fn finally_reads_everything_and_is_read_by_nothing_else() {
    check(
        "id: w
steps:
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, input_map: $.steps.tell.output, condition: $.steps.tidy.status == 'COMPLETED'}
finally:
  - id: tidy
    agent_id: x
    condition: $.outcome.status != 'COMPLETED' && $.steps.a.status == 'COMPLETED'
    fan_out: {items: '$.steps[\"b\"].output[?@.k == $.outcome.status]'}
    input_map: [$.item, $.outcome, $.input, $.context, $.steps.a.error, $.steps.tell.output]
  - {id: tell, agent_id: x, depends_on: [tidy], input_map: [$.steps.tidy.output, $.steps.tell.output, $.self.output]}
  - {id: join, fan_in: {from: [a, b]}}
output_map: $.steps.tidy.output
",
        "4:37 steps[1].input_map: $.steps.tell.output: step `tell` is in `finally`, which starts when all of `steps` have ended; read another step, or move `tell` to `steps`
         4:69 steps[1].condition: $.steps.tidy.status: step `tidy` is in `finally`, which starts when all of `steps` have ended; read another step, or move `tidy` to `steps`
         10:73 finally[0].input_map[5]: $.steps.tell.output: step `tell` may not have ended when this is read; add `tell` to `depends_on`
         11:82 finally[1].input_map[1]: $.steps.tell.output: the step reads itself; read another step
         11:103 finally[1].input_map[2]: there is no $.self.output here: nothing is undone by this; `$.self` is the step that a compensation undoes, in `compensate.input_map`
         13:13 output_map: $.steps.tidy.output: step `tidy` is in `finally`, which starts when all of `steps` have ended; read another step, or move `tidy` to `steps`",
    );
}

#[test]
fn a_step_of_finally_changes_no_outcome_and_is_not_undone() {
    check(
        "id: w
steps: [{id: a, agent_id: x}]
finally:
  - id: f
    agent_id: x
    critical: false
    compensate: {agent_id: y}
    irreversible: true
  - {id: j, fan_in: {from: [f]}, depends_on: [f], irreversible: false}
  - {id: idle}
",
        "6:5 finally[0].critical: `critical` means nothing in `finally`: its steps run after the outcome is decided and cannot change it; remove it
         7:5 finally[0].compensate: `compensate` means nothing in `finally`: nothing is undone once its steps run; remove it
         8:5 finally[0].irreversible: `irreversible` means nothing in `finally`: nothing is undone once its steps run; remove it
         8:5 finally[0].irreversible: `irreversible` and `compensate` exclude each other; remove `irreversible`, or `compensate` if nothing undoes what the step does
         9:51 finally[1].irreversible: `irreversible` means nothing in `finally`: nothing is undone once its steps run; remove it
         10:5 finally[2]: the step does nothing; add `agent_id` (who does it), `capability` (any agent that can) or `fan_in` (join outputs)",
    );
}

#[test]
fn finally_is_a_list_of_steps_within_the_limit() {
    check("id: w\nsteps: [{id: a, agent_id: x}]\nfinally: []", "");
    check(
        "id: w\nsteps: [{id: a, agent_id: x}]\nfinally: {id: f}",
        "3:10 finally: `finally` is a list, not an object; each step starts with `- id: …`",
    );
    check(
        "id: w\nsteps: [{id: a, agent_id: x}]\nfinally: [{agent: x}]",
        "3:11 finally[0]: a step has no `id`; add `id`\n3:12 finally[0].agent: a step has no field `agent`; did you mean `agent_id`?",
    );
    let steps = |prefix: &str, count: usize| {
        (0..count).map(|i| format!("{{id: {prefix}{i}, agent_id: x}}")).collect::<Vec<_>>().join(", ")
    };
    let text = |finally| format!("id: w\nsteps: [{}]\nfinally: [{}]", steps("s", 9_000), steps("f", finally));
    assert_eq!(definition(&text(1_000)).expect("a plan").steps.len(), 10_000);
    check(
        &text(1_001),
        "3:1 finally: a workflow has 1 to 10000 steps, this one has 10001 with those of `finally`; split it",
    );
}
