use super::check::{World, definition};
use super::sagas::{ORDER, saga};

const PAY: &str = "
  - {id: pay, agent_id: x, compensate: {agent_id: y}, retry: {max_attempts: 2, jitter: false}, fallback: {agent_id: z}}
  - {id: end, agent_id: x, depends_on: [pay], retry: {max_attempts: 1}}";

/// The lines of the ledger.
fn ledger(world: &World) -> Vec<String> {
    world.state().lines().filter(|line| line.starts_with("effect")).map(str::to_owned).collect()
}

fn told(steps: &str, history: &str) -> Vec<String> {
    let mut world = World::new(&definition(steps));
    world.tell(history);
    ledger(&world)
}

#[test]
fn an_attempt_that_timed_out_or_was_lost_may_have_had_its_effect() {
    let single = "
  - {id: pay, agent_id: x, compensate: {agent_id: y}, retry: {max_attempts: 1}}";
    assert_eq!(told(single, "submit\nfail pay #1 TIMEOUT slow"), ["effect pay unknown"]);
    assert_eq!(told(single, "submit\nheld pay #1\nabandoned pay #1"), ["effect pay unknown"]);
    assert_eq!(told(single, "submit\ncancel\n+10000 due"), ["effect pay unknown"]);
    assert_eq!(told(single, "submit\ncancel\nfail pay #1 CANCELLED stopped"), ["effect pay unknown"]);
    assert!(told(single, "submit\nfail pay #1 EXTERNAL_SERVICE_ERROR down").is_empty());
    let harmless = "
  - {id: read, agent_id: x, retry: {max_attempts: 1}}";
    assert!(told(harmless, "submit\nfail read #1 TIMEOUT slow").is_empty());
}

#[test]
fn a_doubt_outlives_what_failed_after_it() {
    let history = "submit
        fail pay #1 TIMEOUT slow
        +1000 due
        fail pay #2 INVALID_INPUT no
        fail pay #1 fallback INVALID_INPUT no";
    assert_eq!(told(PAY, history), ["effect pay unknown"]);
}

#[test]
fn a_later_success_of_the_same_agent_ends_the_doubt() {
    let history = "submit
        fail pay #1 TIMEOUT slow
        +1000 due
        ok pay #2 1
        fail end #1 INTERNAL_ERROR no";
    assert_eq!(told(PAY, history), ["effect pay standing"]);
}

#[test]
fn a_success_of_the_fallback_says_nothing_about_the_agent_before() {
    let history = "submit
        fail pay #1 TIMEOUT slow
        +1000 due
        fail pay #2 TIMEOUT slow
        ok pay #1 fallback 1
        fail end #1 INTERNAL_ERROR no";
    assert_eq!(told(PAY, history), ["effect pay standing", "effect pay unknown"]);
}

#[test]
fn each_item_has_its_own_doubt() {
    let steps = "
  - {id: pay, agent_id: x, irreversible: true, retry: {max_attempts: 1}, fan_out: {items: $.input, on_item_failure: continue}}
  - {id: end, agent_id: x, depends_on: [pay], retry: {max_attempts: 1}}";
    let history = "submit [1, 2, 3]
        ok pay[2] #1 30
        fail pay[0] #1 TIMEOUT slow
        fail pay[1] #1 INTERNAL_ERROR no
        fail end #1 INTERNAL_ERROR no";
    assert_eq!(told(steps, history), ["effect pay[2] irreversible", "effect pay[0] unknown"]);
    let forced = "submit [1, 2, 3]
        ok pay[1] #1 20
        cancel
        +10000 due";
    assert_eq!(told(steps, forced), ["effect pay[1] irreversible", "effect pay[0] unknown", "effect pay[2] unknown"]);
}

#[test]
fn an_execution_that_runs_or_has_completed_stands_by_its_effects() {
    let mut world = World::new(&definition(PAY));
    world.tell("submit\nok pay #1 1");
    assert!(ledger(&world).is_empty());
    world.tell("ok end #1");
    assert!(ledger(&world).is_empty());
}

#[test]
fn while_it_compensates_the_ledger_tells_what_is_to_come() {
    let mut world = World::new(
        "id: w
on_failure: compensate
steps:
  - {id: a, agent_id: x, compensate: {agent_id: y}}
  - {id: mail, agent_id: x, irreversible: true, depends_on: [a]}
  - {id: b, agent_id: x, depends_on: [mail], compensate: {agent_id: y}}
  - {id: c, agent_id: x, depends_on: [b], compensate: {agent_id: y}}
  - {id: end, agent_id: x, depends_on: [c], retry: {max_attempts: 1}}",
    );
    world.tell("submit\nok a #1\nok mail #1\nok b #1\nok c #1\nfail end #1 INTERNAL_ERROR no\nok c #1 compensation");
    assert_eq!(
        ledger(&world),
        ["effect a pending", "effect mail irreversible", "effect b compensating", "effect c compensated"]
    );
    let view = world.execution().view();
    let status: Vec<&str> = view.steps.iter().map(|step| step.status.as_str()).collect();
    assert_eq!(status, ["COMPLETED", "COMPLETED", "COMPENSATING", "COMPENSATED", "FAILED"]);
    world.tell("ok b #1 compensation\nok a #1 compensation");
    assert_eq!(
        ledger(&world),
        ["effect a compensated", "effect mail irreversible", "effect b compensated", "effect c compensated"]
    );
}

#[test]
fn after_a_resume_the_ledger_tells_all_rounds() {
    let mut world = World::new(
        "id: w
on_failure: compensate
steps:
  - {id: a, agent_id: x, compensate: {agent_id: y}}
  - {id: end, agent_id: x, depends_on: [a], retry: {max_attempts: 1}}",
    );
    world.tell("submit\nok a #1 1\nfail end #1 INTERNAL_ERROR no\nok a #1 compensation\nresume\nok a #1 round=1 2");
    assert_eq!(ledger(&world), ["effect a compensated", "effect a standing"]);
    world.tell("ok end #1 round=1 3");
    assert_eq!(ledger(&world), ["effect a compensated", "effect a standing"]);
    assert!(world.state().contains("a COMPLETED 2"), "{}", world.state());
}

#[test]
fn events_tell_what_was_undone() {
    let mut world = World::new(&saga(ORDER));
    world.tell(
        "submit
         ok crm #1 1
         ok billing #1 2
         fail mail #1 INTERNAL_ERROR no
         fail billing #1 compensation TIMEOUT slow
         fail crm #1 compensation TIMEOUT slow
         +9999 due
         ok crm #2 compensation",
    );
    let events = world.execution().events(None);
    let told: Vec<String> = events
        .iter()
        .skip_while(|event| event.kind.as_str() != "workflow.compensating")
        .map(|event| {
            let step = event.step_id.as_ref().map_or(String::new(), |step| format!(" {step}"));
            format!("{}{step}", event.kind)
        })
        .collect();
    assert_eq!(
        told,
        [
            "workflow.compensating",
            "step.compensating billing",
            "step.started billing",
            "step.compensation_failed billing",
            "step.compensating crm",
            "step.started crm",
            "step.retrying crm",
            "step.compensating crm",
            "step.started crm",
            "step.compensated crm",
            "workflow.failed",
        ]
    );
    let data = |kind: &str| &events.iter().find(|event| event.kind.as_str() == kind).expect("it happened").data;
    assert_eq!(data("workflow.compensating")["effects"], 2);
    assert_eq!(data("workflow.failed")["effects"], serde_json::json!({"compensated": 1, "standing": 1}));
    assert_eq!(data("step.compensation_failed")["error"]["code"], "TIMEOUT");
    let view = world.execution().view();
    let undone = view.steps[0].compensation.as_ref().expect("it was undone");
    assert_eq!((undone.attempts, undone.error.is_none(), undone.ended_at.is_some()), (2, true, true));
    assert_eq!(undone.agent_id.as_ref().map(|agent| agent.as_str()), Some("undoer"));
    let failed = view.steps[1].compensation.as_ref().expect("it was tried");
    assert_eq!((failed.attempts, failed.error.is_some()), (1, true));
    assert_eq!((view.counts.compensations, view.counts.retries), (2, 1));
}
