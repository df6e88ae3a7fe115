//! Sagas: what a failed execution did is undone, in reverse order of completion, and accounted for.

use millstream_tests::api::{place, step, text};
use millstream_tests::cluster::Cluster;
use millstream_tests::witness::{Call, Witness};
use serde_json::{Value, json};

use crate::{PATIENCE, callers, witnessed};

fn body(call: &Call) -> Value {
    serde_json::from_str(&call.body).expect("calls carry JSON")
}

/// States of the effects, in the order of completion.
fn effects(execution: &Value) -> Vec<(String, Option<u64>, String)> {
    let effects = execution["effects"].as_array().map_or(&[][..], Vec::as_slice);
    effects.iter().map(|e| (text(e, "/step_id"), e["item"].as_u64(), text(e, "/state"))).collect()
}

#[tokio::test]
async fn a_failure_of_billing_takes_the_crm_record_back_and_keeps_the_partial_result() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let witness = Witness::start(|call| match call.path.as_str() {
        "/s0-crm" => (200, json!({"record": "crm-17"})),
        "/s0-billing" => (503, json!({"error": {"message": "billing is down"}})),
        _ => (200, json!("done")),
    })
    .await;
    for agent in ["s0-lookup", "s0-crm", "s0-uncrm", "s0-billing", "s0-mail"] {
        witnessed(api, &witness, agent).await;
    }
    api.define(
        "
id: s0
on_failure: compensate
steps:
  - {id: lookup, agent_id: s0-lookup}
  - id: crm
    agent_id: s0-crm
    depends_on: [lookup]
    compensate: {agent_id: s0-uncrm, input_map: {record: $.self.output.record, customer: $.input.customer}}
  - {id: bill, agent_id: s0-billing, depends_on: [crm], retry: {max_attempts: 2, backoff_ms: 50}}
  - {id: mail, agent_id: s0-mail, depends_on: [bill]}
",
    )
    .await;
    let execution = api.run("s0", json!({"customer": "ada"}), PATIENCE).await;
    assert_eq!((&execution["status"], &execution["phase"]), (&json!("FAILED"), &json!("ENDED")), "{execution}");
    assert_eq!(callers(&witness), ["s0-lookup", "s0-crm", "s0-billing", "s0-billing", "s0-uncrm"]);
    let undo = witness.calls().pop().expect("the compensation was called");
    assert_eq!(body(&undo), json!({"record": "crm-17", "customer": "ada"}));

    let error = &execution["error"];
    assert_eq!((&error["step"], &error["code"]), (&json!("bill"), &json!("EXTERNAL_SERVICE_ERROR")), "{error}");
    assert_eq!(error["failure_mode"], "system");
    let result = &execution["partial_result"];
    assert_eq!(result["completed_steps"], json!(["lookup", "crm"]), "{result}");
    assert_eq!(result["failed_step"], "bill");
    assert_eq!(result["failure_mode"], "system");
    let plan = &result["recovery_plan"];
    assert_eq!((&plan["resumable"], &plan["keeps"]), (&json!(true), &json!(["lookup"])), "{plan}");
    assert_eq!(plan["runs"], json!(["crm", "bill", "mail"]), "{plan}");
    assert!(!text(plan, "/advice").is_empty());
    assert_eq!(execution["partial"], true);

    assert_eq!(effects(&execution), [("crm".to_owned(), None, "compensated".to_owned())]);
    assert_eq!(execution["effects"][0]["compensation"]["agent_id"], "s0-uncrm");
    assert_eq!(step(&execution, "crm")["status"], "COMPENSATED");
    assert_eq!(step(&execution, "lookup")["status"], "COMPLETED");
    assert_eq!(execution["counts"]["compensations"], 1, "{}", execution["counts"]);
    assert_eq!(execution["counts"]["retries"], 1, "{}", execution["counts"]);

    let events = api.events(&text(&execution, "/id")).await;
    let at = |kind: &str| place(events.iter().find(|e| e["type"] == kind).unwrap_or_else(|| panic!("no {kind}")));
    assert!(at("step.failed") < at("workflow.compensating"));
    assert!(at("workflow.compensating") < at("step.compensated"));
    assert_eq!(events.last().expect("there are events")["type"], "workflow.failed");
}

#[tokio::test]
async fn items_and_steps_are_undone_in_reverse_order_of_their_completion() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let witness = Witness::start(|call| {
        let echo = serde_json::from_str(&call.body).expect("calls carry JSON");
        if call.path == "/rev-fail" { (400, json!("no")) } else { (200, echo) }
    })
    .await;
    for agent in ["rev-do", "rev-undo", "rev-fail"] {
        witnessed(api, &witness, agent).await;
    }
    api.define(
        "
id: reverse
on_failure: compensate
steps:
  - id: first
    agent_id: rev-do
    input_map: {n: {literal: first}}
    compensate: {agent_id: rev-undo}
  - id: each
    agent_id: rev-do
    depends_on: [first]
    fan_out: {items: $.input.items, concurrency: 1}
    input_map: {n: $.item}
    compensate: {agent_id: rev-undo, input_map: {n: $.self.output.n}}
  - id: last
    agent_id: rev-do
    depends_on: [each]
    input_map: {n: {literal: last}}
    compensate: {agent_id: rev-undo}
  - {id: fail, agent_id: rev-fail, depends_on: [last]}
",
    )
    .await;
    let execution = api.run("reverse", json!({"items": [0, 1, 2, 3]}), PATIENCE).await;
    assert_eq!(execution["status"], "FAILED", "{execution}");
    let of = |path: &str| -> Vec<Value> {
        witness.calls().iter().filter(|call| call.path == path).map(|call| body(call)["n"].clone()).collect()
    };
    let mut done = of("/rev-do");
    assert_eq!(done, [json!("first"), json!(0), json!(1), json!(2), json!(3), json!("last")]);
    done.reverse();
    assert_eq!(of("/rev-undo"), done);
    assert_eq!(effects(&execution).len(), 6);
    assert!(effects(&execution).iter().all(|(_, _, state)| state == "compensated"), "{execution}");
    let keys: std::collections::BTreeSet<String> =
        witness.calls().into_iter().map(|call| call.idempotency_key).collect();
    assert_eq!(keys.len(), 13, "each run and each compensation has a key of its own");
}

#[tokio::test]
async fn a_compensation_that_fails_is_recorded_and_the_others_go_on() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let witness = Witness::start(|call| match call.path.as_str() {
        "/cf-unb" => (500, json!({"error": {"message": "stuck"}})),
        "/cf-fail" => (400, json!("no")),
        _ => (200, json!("done")),
    })
    .await;
    for agent in ["cf-do", "cf-una", "cf-unb", "cf-unc", "cf-fail"] {
        witnessed(api, &witness, agent).await;
    }
    api.define(
        "
id: stuck
on_failure: compensate
steps:
  - {id: a, agent_id: cf-do, compensate: {agent_id: cf-una}}
  - {id: b, agent_id: cf-do, depends_on: [a], compensate: {agent_id: cf-unb, retry: {max_attempts: 2, backoff_ms: 50}}}
  - {id: c, agent_id: cf-do, depends_on: [b], compensate: {agent_id: cf-unc}}
  - {id: mail, agent_id: cf-do, depends_on: [c], irreversible: true}
  - {id: fail, agent_id: cf-fail, depends_on: [mail]}
",
    )
    .await;
    let execution = api.run("stuck", json!({}), PATIENCE).await;
    assert_eq!(execution["status"], "FAILED", "{execution}");
    let undone: Vec<String> = callers(&witness).into_iter().filter(|agent| agent.starts_with("cf-un")).collect();
    assert_eq!(undone, ["cf-unc", "cf-unb", "cf-unb", "cf-una"]);
    let states: Vec<String> = effects(&execution).into_iter().map(|(id, _, state)| format!("{id} {state}")).collect();
    assert_eq!(states, ["a compensated", "b compensation_failed", "c compensated", "mail irreversible"]);
    let failed = &execution["effects"][1]["compensation"];
    assert_eq!((&failed["attempts"], &failed["error"]["code"]), (&json!(2), &json!("EXTERNAL_SERVICE_ERROR")));
    assert_eq!(step(&execution, "b")["status"], "COMPLETED", "its effect stands: {execution}");
    let plan = &execution["partial_result"]["recovery_plan"];
    assert_eq!(plan["standing_effects"], json!(["b", "mail"]), "{plan}");
}

#[tokio::test]
async fn final_steps_run_after_everything_is_undone_and_see_the_outcome() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let witness = Witness::start(|call| match call.path.as_str() {
        "/fin-fail" if call.body.contains("true") => (400, json!({"error": {"message": "as asked"}})),
        _ => (200, json!("done")),
    })
    .await;
    for agent in ["fin-do", "fin-undo", "fin-fail", "fin-tell"] {
        witnessed(api, &witness, agent).await;
    }
    api.define(
        "
id: told
on_failure: compensate
steps:
  - {id: a, agent_id: fin-do, compensate: {agent_id: fin-undo}}
  - {id: b, agent_id: fin-fail, depends_on: [a], input_map: $.input.fail}
finally:
  - {id: tell, agent_id: fin-tell, input_map: $.outcome}
  - {id: broken, agent_id: builtin-fail, depends_on: [tell], retry: {max_attempts: 1}}
",
    )
    .await;
    let failed = api.run("told", json!({"fail": true}), PATIENCE).await;
    assert_eq!(failed["status"], "FAILED", "{failed}");
    assert_eq!(callers(&witness), ["fin-do", "fin-fail", "fin-undo", "fin-tell"]);
    let outcome = body(&witness.calls()[3]);
    assert_eq!((&outcome["status"], &outcome["error"]["step"]), (&json!("FAILED"), &json!("b")), "{outcome}");
    let tell = step(&failed, "tell");
    assert_eq!((&tell["finally"], &tell["status"]), (&json!(true), &json!("COMPLETED")), "{tell}");
    assert_eq!(step(&failed, "broken")["status"], "FAILED", "it failed and changed nothing");

    let completed = api.run("told", json!({"fail": false}), PATIENCE).await;
    assert_eq!(completed["status"], "COMPLETED", "a final step cannot change the outcome: {completed}");
    let outcome = body(&witness.calls()[6]);
    assert_eq!((&outcome["status"], &outcome["output"]), (&json!("COMPLETED"), &json!("done")), "{outcome}");
}

#[tokio::test]
async fn effects_that_nobody_undoes_are_told_when_the_workflow_is_stored() {
    let cluster = Cluster::shared().await;
    let definition = "
id: gaps
on_failure: compensate
steps:
  - {id: a, agent_id: builtin-echo}
  - {id: b, agent_id: builtin-echo, depends_on: [a], compensate: {agent_id: builtin-echo}}
";
    let answer = cluster.api().post_text("/workflows", definition).await.expect("an answer");
    assert_eq!(answer.status, 201, "{}", answer.body);
    let warnings = answer.body["warnings"].as_array().expect("a list");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!((&warnings[0]["step"], &warnings[0]["cuts"]), (&json!("a"), &json!(["b"])), "{warnings:?}");
    assert_eq!((&warnings[0]["path"], &warnings[0]["line"]), (&json!("steps[0]"), &json!(5)), "{warnings:?}");
}
