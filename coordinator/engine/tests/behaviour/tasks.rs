use millstream_model::task::Purpose;

use super::check::{World, id};

const ALL: &str = "id: w
on_failure: compensate
timeout_ms: 60000
default_retry: {max_attempts: 5}
steps:
  - {id: a, agent_id: x, compensate: {agent_id: undo, timeout_ms: 900, retry: {max_attempts: 2}}}
  - {id: b, agent_id: x, depends_on: [a], retry: {max_attempts: 1}}
finally:
  - {id: tell, agent_id: x, schedule_to_start_ms: 400, heartbeat_ms: 50}";

#[test]
fn a_task_names_its_purpose_and_what_it_belongs_to() {
    let mut world = World::new(ALL);
    world.tell("submit");
    let run = world.message("a #1");
    assert_eq!((run.purpose, run.max_attempts), (Purpose::Run, 5));
    assert_eq!(run.idempotency_key, format!("{}/a/0", id()));
    assert_eq!((run.agent.as_str(), run.capability.as_str()), ("agent", "pool"));
    assert_eq!((run.workflow.as_str(), run.partition), ("w", id().partition()));
    assert!(run.deadline.is_some() && !run.announce_start);

    world.tell("ok a #1 1\nfail b #1 INTERNAL_ERROR no");
    let undo = world.message("a #1 compensation");
    assert_eq!((undo.purpose, undo.max_attempts, undo.timeout_ms), (Purpose::Compensation, 2, 900));
    assert_eq!(undo.idempotency_key, format!("{}/a/2", id()));
    assert_eq!((undo.agent.as_str(), undo.capability.as_str()), ("undoer", "undo"));
    assert_eq!((undo.not_after, undo.deadline, undo.announce_start, undo.heartbeat_ms), (None, None, false, None));

    world.tell("+5000 ok a #1 compensation");
    let tell = world.message("tell #1");
    assert_eq!((tell.purpose, tell.max_attempts), (Purpose::Finally, 5));
    assert_eq!((tell.announce_start, tell.heartbeat_ms), (true, Some(50)));
    assert_eq!(tell.deadline, Some(world.now.plus_millis(60_000)), "`finally` has the time of the workflow anew");
    assert_eq!(tell.not_after, Some(world.now.plus_millis(400)));
}

#[test]
fn attempts_share_their_idempotency_key_and_have_tokens_of_their_own() {
    let mut world = World::new(
        "id: w
steps:
  - {id: a, agent_id: x, retry: {max_attempts: 3, backoff_ms: 0}, fan_out: {items: $.input}}",
    );
    world.tell("submit [1, 2]");
    let (first, other) = (world.message("a[0] #1"), world.message("a[1] #1"));
    world.tell("fail a[0] #1 INTERNAL_ERROR no\ndue");
    let second = world.message("a[0] #2");
    assert_eq!(second.idempotency_key, first.idempotency_key);
    assert_ne!(other.idempotency_key, first.idempotency_key);
    assert_ne!(second.token, first.token);
    assert_ne!(other.token, first.token);
}

#[test]
fn a_resumed_step_is_another_activation() {
    let mut world = World::new(
        "id: w
steps:
  - {id: a, agent_id: x, retry: {max_attempts: 1}}",
    );
    world.tell("submit");
    let before = world.message("a #1");
    world.tell("fail a #1 INTERNAL_ERROR no\n+500 resume");
    let after = world.message("a #1 round=1");
    assert_eq!((before.key.activation, after.key.activation), (0, 4));
    assert_ne!(after.idempotency_key, before.idempotency_key);
    assert_ne!(after.token, before.token);
    assert_eq!(after.deadline, Some(world.now.plus_millis(3_600_000)));
}

#[test]
fn compensations_get_the_output_of_what_they_undo() {
    let mut world = World::new(
        "id: w
on_failure: compensate
steps:
  - {id: whole, agent_id: x, compensate: {agent_id: undo}}
  - id: each
    agent_id: x
    depends_on: [whole]
    fan_out: {items: $.input.list}
    compensate: {agent_id: undo, input_map: {ref: $.self.output.ref, item: $.item, n: $.index, of: $.steps.whole.output, status: $.self.status}}
  - {id: bare, agent_id: x, depends_on: [each], fan_out: {items: $.input.list}, compensate: {agent_id: undo}}
  - {id: end, agent_id: x, depends_on: [bare], retry: {max_attempts: 1}}",
    );
    world.tell(
        r#"submit {"list": ["p", "q"]}
           ok whole #1 {"id": 7}
           ok each[0] #1 {"ref": "r0"}
           ok each[1] #1 {"ref": "r1"}
           ok bare[1] #1 {"b": 1}
           ok bare[0] #1 {"b": 0}"#,
    );
    assert_eq!(world.tell("fail end #1 INTERNAL_ERROR no"), ["1 publish bare[0] #1 compensation"]);
    assert_eq!(world.input("bare[0] #1 compensation", Some("\"p\"")), r#"{"b": 0}"#);
    world.tell("ok bare[0] #1 compensation");
    assert_eq!(world.input("bare[1] #1 compensation", Some("\"q\"")), r#"{"b": 1}"#);
    assert_eq!(world.tell("ok bare[1] #1 compensation"), ["1 publish each[1] #1 compensation"]);
    assert_eq!(
        world.input("each[1] #1 compensation", Some("\"q\"")),
        r#"{"item":"q","n":1,"of":{"id": 7},"ref":"r1","status":"COMPENSATING"}"#
    );
    world.tell("ok each[1] #1 compensation\nok each[0] #1 compensation");
    assert_eq!(world.input("whole #1 compensation", None), r#"{"id": 7}"#);
}
