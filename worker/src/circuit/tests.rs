//! The whole table, as text: calls by name, moments in milliseconds.

use std::fmt::Write as _;
use std::time::Duration;

use super::*;

#[test]
fn so_many_failures_in_a_row_open_the_circuit_and_a_success_starts_the_count_anew() {
    check(
        "0 call a      | pass
         1 a fails     | closed
         2 call b      | pass
         3 b fails     | closed
         4 call c      | pass
         5 c succeeds  | closed
         6 call d      | pass
         7 d fails     | closed
         8 call e      | pass
         9 e fails     | closed
         10 call f     | pass
         11 f fails    | open
         12 call g     | refused open 3 failures, may close after 99",
    );
}

#[test]
fn after_its_time_one_call_at_a_time_is_the_probe() {
    check(
        "0 opens       | open
         99 call a     | refused open 3 failures, may close after 1
         100 call a    | pass
         100 now       | half_open
         101 call b    | refused half_open 3 failures, may close after 0
         150 a succeeds| closed
         151 call b    | pass
         151 call c    | pass",
    );
}

#[test]
fn a_probe_that_fails_opens_the_circuit_for_as_long_again() {
    check(
        "0 opens       | open
         100 call a    | pass
         130 a fails   | open
         229 call b    | refused open 4 failures, may close after 1
         230 call b    | pass
         231 b succeeds| closed
         232 call c    | pass
         233 c fails   | closed",
    );
}

#[test]
fn a_probe_that_says_nothing_frees_its_place_for_the_next() {
    for end in ["is stopped", "is limited", "is cancelled"] {
        check(&format!(
            "0 opens       | open
             100 call a    | pass
             101 call b    | refused half_open 3 failures, may close after 0
             110 a {end}   | half_open
             111 call b    | pass
             112 b succeeds| closed",
        ));
    }
}

#[test]
fn an_agent_that_answers_with_a_refusal_is_well() {
    for end in ["refuses", "is denied"] {
        check(&format!(
            "0 call a   | pass
             1 a fails  | closed
             2 call b   | pass
             3 b fails  | closed
             4 call c   | pass
             5 c {end}  | closed
             6 call d   | pass
             7 d fails  | closed",
        ));
        check(&format!(
            "0 opens      | open
             100 call a   | pass
             101 a {end}  | closed",
        ));
    }
}

#[test]
fn what_says_nothing_neither_counts_nor_starts_the_count_anew() {
    check(
        "0 call a       | pass
         1 a fails      | closed
         2 call b       | pass
         3 b fails      | closed
         4 call c       | pass
         5 c is limited | closed
         6 call d       | pass
         7 d fails      | open",
    );
}

#[test]
fn calls_from_before_a_change_do_not_speak_of_what_came_after() {
    check(
        "0 call old     | pass
         0 call older   | pass
         0 call oldest  | pass
         1 opens        | open
         50 old fails   | open
         60 call a      | refused open 3 failures, may close after 41
         101 call a     | pass
         102 older succeeds | half_open
         103 call b     | refused half_open 3 failures, may close after 0
         104 a succeeds | closed
         105 oldest fails | closed
         106 call b     | pass
         107 b fails    | closed
         108 call c     | pass
         109 c fails    | closed",
    );
}

#[test]
fn another_policy_begins_closed_and_none_lets_everything_pass() {
    check(
        "0 opens        | open
         1 policy 1     | closed
         2 call a       | pass
         3 a fails      | open
         4 policy 1     | open
         5 policy none  | closed
         6 call b       | pass
         7 b fails      | closed",
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_never_keeps_the_probe() {
    let circuits = Circuits::default();
    let agent = agent(Some(CircuitBreaker { failures: 1, open_ms: 100 }));
    circuits.follow(&agent);
    circuits.admit(&agent.id).expect("closed").ended(Some(ErrorCode::Timeout));
    let error = circuits.admit(&agent.id).expect_err("open");
    assert_eq!(error.code, ErrorCode::CircuitOpen);
    let details = error.details.expect("details");
    assert_eq!(
        (&details["agent"], &details["state"], &details["failures"], &details["may_close_after_ms"]),
        (&json!("erp"), &json!("open"), &json!(1), &json!(100))
    );
    assert!(details["may_close_at"].is_string(), "{details}");
    tokio::time::advance(Duration::from_millis(100)).await;
    assert_eq!(circuits.not_closed(), BTreeMap::from([(agent.id.clone(), Circuit::HalfOpen)]));
    let probe = circuits.admit(&agent.id).expect("a probe");
    assert!(circuits.admit(&agent.id).is_err());
    drop(probe);
    circuits.admit(&agent.id).expect("the next probe").ended(None);
    assert_eq!(circuits.not_closed(), BTreeMap::new());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_its_turn_learns_that_the_circuit_opened() {
    let circuits = Circuits::default();
    let agent = agent(Some(CircuitBreaker { failures: 1, open_ms: 100 }));
    circuits.follow(&agent);
    let mut changes = circuits.changes();
    let call = circuits.admit(&agent.id).expect("closed");
    let fails = async {
        tokio::task::yield_now().await;
        call.ended(Some(ErrorCode::InternalError));
    };
    let (error, ()) = tokio::join!(circuits.refused(&agent.id), fails);
    assert_eq!(error.code, ErrorCode::CircuitOpen);
    tokio::time::timeout(Duration::from_secs(1), changes.changed()).await.expect("it is told");
}

#[test]
fn an_agent_without_a_breaker_has_no_circuit() {
    let circuits = Circuits::default();
    let agent = agent(None);
    circuits.follow(&agent);
    for _ in 0..100 {
        circuits.admit(&agent.id).expect("no breaker").ended(Some(ErrorCode::Timeout));
    }
    assert!(circuits.not_closed().is_empty());
}

fn agent(circuit_breaker: Option<CircuitBreaker>) -> Agent {
    let agent = json!({
        "id": "erp", "framework": "http", "capabilities": ["http"], "limits": {"circuit_breaker": circuit_breaker}
    });
    serde_json::from_value(agent).expect("an agent")
}

/// Plays a table into a breaker that opens after 3 failures for 100 ms.
#[track_caller]
fn check(table: &str) {
    let mut breaker = Breaker::default();
    breaker.follow(Some(CircuitBreaker { failures: 3, open_ms: 100 }));
    let mut calls = BTreeMap::new();
    for line in table.lines() {
        let (happened, wanted) = line.split_once('|').expect("a line has an outcome");
        let words: Vec<&str> = happened.split_whitespace().collect();
        let now_ms: u64 = words[0].parse().expect("a moment");
        let said = happen(&mut breaker, &mut calls, now_ms, &words[1..]);
        assert_eq!(said, wanted.trim(), "after `{}`", line.trim());
    }
}

fn happen<'a>(
    breaker: &mut Breaker,
    calls: &mut BTreeMap<&'a str, Admitted>,
    now_ms: u64,
    words: &[&'a str],
) -> String {
    let end = |call: Admitted, error, breaker: &mut Breaker| breaker.ended(call, error, now_ms);
    match words {
        ["call", name] => match breaker.admit(now_ms) {
            Ok(call) => {
                calls.insert(name, call);
                return "pass".to_owned();
            }
            Err(refused) => {
                let mut text = format!("refused {} {} failures", name_of(refused.state), refused.failures);
                write!(text, ", may close after {}", refused.closes_after_ms).expect("a text takes everything");
                return text;
            }
        },
        ["opens"] => {
            for _ in 0..3 {
                let call = breaker.admit(now_ms).expect("closed");
                end(call, Health::Ill, breaker);
            }
        }
        ["policy", failures] => {
            breaker.follow(failures.parse().ok().map(|failures| CircuitBreaker { failures, open_ms: 100 }));
        }
        ["now"] => {}
        [name, how @ ..] => {
            let call = calls.remove(name).expect("a call of that name");
            let health = match how.join(" ").as_str() {
                "succeeds" => Health::of(None),
                "fails" => Health::of(Some(ErrorCode::ExternalServiceError)),
                "refuses" => Health::of(Some(ErrorCode::InvalidInput)),
                "is denied" => Health::of(Some(ErrorCode::PermissionDenied)),
                "is limited" => Health::of(Some(ErrorCode::RateLimited)),
                "is cancelled" => Health::of(Some(ErrorCode::Cancelled)),
                "is stopped" => Health::Unknown,
                other => panic!("no such end: {other}"),
            };
            end(call, health, breaker);
        }
        [] => panic!("nothing happens"),
    }
    name_of(breaker.circuit(now_ms)).to_owned()
}

fn name_of(circuit: Circuit) -> &'static str {
    match circuit {
        Circuit::Closed => "closed",
        Circuit::Open => "open",
        Circuit::HalfOpen => "half_open",
    }
}
