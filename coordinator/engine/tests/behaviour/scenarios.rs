//! The scenarios of the seed documents.

use super::check::{World, check, definition};

#[test]
fn a_billing_failure_deletes_the_crm_account_and_keeps_what_was_done() {
    check(
        "id: onboarding
on_failure: compensate
steps:
  - {id: crm, agent_id: x, compensate: {agent_id: undo, input_map: {account: $.self.output.account}}}
  - {id: billing, agent_id: x, depends_on: [crm], retry: {max_attempts: 1}, compensate: {agent_id: undo}}
  - {id: welcome, agent_id: x, depends_on: [billing]}
finally:
  - {id: tell-sales, agent_id: x, condition: '$.outcome.status != \"COMPLETED\"'}",
        r#"submit {}
           ok crm #1 {"account": "A-1"}
           fail billing #1 EXTERNAL_SERVICE_ERROR the card was refused
           ok crm #1 compensation {}
           ok tell-sales #1"#,
        r#"1 publish crm #1
           2 publish billing #1
           3 publish crm #1 compensation
           4 publish tell-sales #1
           5 end FAILED
           --
           FAILED partial EXTERNAL_SERVICE_ERROR: the card was refused
           crm COMPENSATED {"account": "A-1"}
           billing FAILED EXTERNAL_SERVICE_ERROR: the card was refused
           welcome SKIPPED: the execution ended before it could start
           tell-sales COMPLETED null
           effect crm compensated"#,
    );
}

#[test]
fn a_tool_that_fails_twice_and_then_succeeds_is_called_three_times() {
    let mut world = World::new(&definition(
        "
  - {id: flaky, agent_id: x}",
    ));
    let told = world.tell(
        r#"submit
           fail flaky #1 EXTERNAL_SERVICE_ERROR one
           +1250 due
           fail flaky #2 EXTERNAL_SERVICE_ERROR two
           +2500 due
           ok flaky #3 "success""#,
    );
    let calls = told.iter().filter(|line| line.contains("publish")).count();
    assert_eq!(calls, 3);
    assert_eq!(world.state(), "COMPLETED \"success\"\nflaky COMPLETED \"success\"");
    assert_eq!(world.execution().view().counts.retries, 2);
}

#[test]
fn a_source_that_fails_leaves_the_data_of_the_others() {
    check(
        "
  - {id: news, agent_id: x, critical: false, retry: {max_attempts: 1}}
  - {id: prices, agent_id: x, critical: false, retry: {max_attempts: 1}}
  - {id: all, depends_on: [news, prices], fan_in: {from: [news, prices], aggregate: merge}}",
        r#"submit
           fail news #1 EXTERNAL_SERVICE_ERROR down
           ok prices #1 {"gold": 1}"#,
        r#"1 publish news #1
           1 publish prices #1
           3 end COMPLETED
           --
           COMPLETED partial {"gold":1}
           news FAILED EXTERNAL_SERVICE_ERROR: down
           prices COMPLETED {"gold": 1}
           all COMPLETED {"gold":1}"#,
    );
}

#[test]
fn a_migration_goes_on_where_it_stopped() {
    check(
        "
  - {id: copy, agent_id: x, fan_out: {items: $.input, concurrency: 1}, retry: {max_attempts: 1}}
  - {id: switch, agent_id: x, depends_on: [copy], irreversible: true}",
        r#"submit ["users", "orders", "bills"]
           ok copy[0] #1 1
           fail copy[1] #1 EXTERNAL_SERVICE_ERROR the disk is full
           resume
           ok copy[1] #1 round=1 2
           ok copy[2] #1 round=1 3
           ok switch #1 round=1"#,
        "1 publish copy[0] #1
         2 publish copy[1] #1
         3 cancel activations below 4
         3 end FAILED
         4 publish copy[1] #1 round 1
         5 publish copy[2] #1 round 1
         6 publish switch #1 round 1
         7 end COMPLETED
         --
         COMPLETED null
         copy COMPLETED [1,2,3]
         switch COMPLETED null
         effect switch irreversible",
    );
}
