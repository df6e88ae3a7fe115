use std::fmt::Write as _;

use super::*;
use crate::validate::definition;

/// The gaps of a definition that is valid, one per line.
fn check(text: &str, expected: &str) {
    let plan = definition(text).unwrap_or_else(|problems| panic!("{}", problems[0]));
    let found: Vec<String> = gaps_in(text, &plan).iter().map(|gap| Problem::from(gap).to_string()).collect();
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(found.join("\n"), expected.join("\n"), "in\n{text}");
}

const MEND: &str =
    "add `compensate`, or `irreversible: true` if nothing undoes it; a step that changes nothing may stay as it is";

#[test]
fn an_effect_without_compensation_stays_when_something_after_or_beside_it_fails() {
    check(
        "id: w
on_failure: compensate
steps:
  - {id: before, agent_id: x, compensate: {agent_id: y}}
  - {id: crm, agent_id: x, depends_on: [before]}
  - {id: beside, agent_id: x, compensate: {agent_id: y}}
  - {id: billing, agent_id: x, depends_on: [crm], compensate: {agent_id: y}}
  - {id: mail, agent_id: x, depends_on: [billing], critical: false, compensate: {agent_id: y}}
",
        &format!(
            "5:10 steps[1]: `crm` has no `compensate`: what it did stays when `beside` or `billing` fails; {MEND}"
        ),
    );
}

#[test]
fn irreversible_steps_belong_last() {
    check(
        "id: w
on_failure: compensate
steps:
  - {id: charge, agent_id: x, irreversible: true}
  - {id: book, agent_id: x, compensate: {agent_id: y}}
  - {id: pack, agent_id: x, depends_on: [charge], compensate: {agent_id: y}}
  - {id: ship, agent_id: x, depends_on: [pack], compensate: {agent_id: y}}
",
        "4:31 steps[0].irreversible: `charge` cannot be undone: what it did stays when `book`, `pack` or `ship` fails; put irreversible \
         steps last: add `book` to its `depends_on`; `pack` and `ship` depend on it and should come before it",
    );
    check(
        "id: w
on_failure: compensate
steps:
  - {id: book, agent_id: x, compensate: {agent_id: y}}
  - {id: ship, agent_id: x, depends_on: [book], compensate: {agent_id: y}}
  - {id: charge, agent_id: x, depends_on: [ship], irreversible: true}
  - {id: thank, agent_id: x, depends_on: [charge], critical: false, irreversible: true}
",
        "",
    );
}

#[test]
fn items_that_are_done_stay_when_another_one_fails() {
    let workflow = |fan_out: &str| {
        format!(
            "id: w\non_failure: compensate\nsteps:\n  - {{id: send, agent_id: x, irreversible: true, fan_out: {fan_out}}}\n"
        )
    };
    let left = "4:29 steps[0].irreversible: `send` cannot be undone: what it did stays when an item of it fails; nothing takes back the \
                items that are done; check them all in a step before";
    check(&workflow("{items: $.input}"), left);
    check(&workflow("{items: $.input, on_item_failure: continue, min_success: 0.5}"), left);
    check(&workflow("{items: $.input, on_item_failure: continue}"), "");
}

#[test]
fn what_cannot_fail_leaves_nothing() {
    let workflow = |second: &str| {
        format!(
            "id: w\non_failure: compensate\nsteps:\n  - {{id: a, agent_id: x}}\n  - {{id: b, depends_on: [a], {second}}}\n"
        )
    };
    let left = format!("4:10 steps[0]: `a` has no `compensate`: what it did stays when `b` fails; {MEND}");
    check(&workflow("agent_id: x"), &left);
    check(&workflow("agent_id: x, fallback: {agent_id: z}"), &left);
    check(&workflow("agent_id: x, fallback: {skip: true}, condition: $.input.x > 1"), &left);
    check(&workflow("fan_in: {from: [a], aggregate: merge}"), &left);
    check(&workflow("agent_id: x, fallback: {skip: true}"), "");
    check(&workflow("agent_id: x, fallback: {static_value: 1}"), "");
    check(&workflow("agent_id: x, critical: false"), "");
    check(&workflow("fan_in: {from: [a]}"), "");
}

#[test]
fn other_strategies_and_steps_of_finally_have_no_gaps() {
    let steps = "steps: [{id: a, agent_id: x}, {id: b, agent_id: x, depends_on: [a]}]\nfinally: [{id: f, agent_id: x}]";
    check(&format!("id: w\n{steps}"), "");
    check(&format!("id: w\non_failure: continue\n{steps}"), "");
    check(
        &format!("id: w\non_failure: compensate\n{steps}"),
        &format!("3:14 steps[0]: `a` has no `compensate`: what it did stays when `b` fails; {MEND}"),
    );
}

#[test]
fn of_many_cuts_some_are_named_and_all_are_counted() {
    let mut text = "id: w\non_failure: compensate\nsteps:\n".to_owned();
    for i in 0..10_000 {
        writeln!(
            text,
            "- {{id: s{i}, agent_id: x, depends_on: [{}]}}",
            if i == 0 { String::new() } else { format!("s{}", i - 1) }
        )
        .expect("a string takes any text");
    }
    let plan = definition(&text).unwrap_or_else(|problems| panic!("{}", problems[0]));
    let found = gaps(&plan);
    assert_eq!(found.len(), GAPS_MAX);
    assert_eq!((found[7].cuts.len(), found[7].cuts_total, found[7].line), (GAP_CUTS_MAX, 9_992, 0));
    assert_eq!(
        found[7].message,
        "`s7` has no `compensate`: what it did stays when `s8`, `s9`, `s10` or 9989 more fails"
    );
    let json = serde_json::to_value(&found[7]).expect("JSON");
    assert_eq!(
        (&json["step"], &json["reason"], &json["cuts"][19]),
        (&"s7".into(), &"no_compensate".into(), &"s27".into())
    );
}

/// What must hold, computed step by step from the definition instead of by sets.
#[test]
fn gaps_are_what_a_walk_over_the_dependencies_finds() {
    for seed in 0..300_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut dice = move |sides: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % sides
        };
        let count = 1 + dice(12);
        let mut text = "id: w\non_failure: compensate\nsteps:\n".to_owned();
        for i in 0..count {
            let before: Vec<String> = (0..i).filter(|_| dice(4) == 0).map(|before| format!("s{before}")).collect();
            let effect = ["", ", irreversible: true", ", compensate: {agent_id: y}"][dice(3) as usize];
            let critical = dice(3) > 0;
            writeln!(
                text,
                "- {{id: s{i}, agent_id: x, depends_on: [{}], critical: {critical}{effect}}}",
                before.join(", ")
            )
            .expect("a string takes any text");
        }
        let plan = definition(&text).unwrap_or_else(|problems| panic!("{}", problems[0]));
        let mut expected = Vec::new();
        for effect in plan.indices().filter(|step| plan.step(*step).compensate.is_none()) {
            let done_before = walk(&plan, effect);
            let cuts: Vec<StepId> = plan
                .indices()
                .filter(|cut| *cut != effect && plan.step(*cut).critical && !done_before.contains(cut))
                .map(|cut| plan.step(cut).id.clone())
                .collect();
            if !cuts.is_empty() {
                expected.push((plan.step(effect).id.clone(), cuts));
            }
        }
        let found: Vec<(StepId, Vec<StepId>)> = gaps(&plan).into_iter().map(|gap| (gap.step, gap.cuts)).collect();
        assert_eq!(found, expected, "in\n{text}");
    }
}

fn walk(plan: &Plan, from: StepIndex) -> Vec<StepIndex> {
    let mut found = plan.planned(from).depends_on.clone();
    let mut at = 0;
    while at < found.len() {
        found.extend(plan.planned(found[at]).depends_on.iter().copied());
        at += 1;
    }
    found
}
