//! A valid definition of one to six steps of every kind.

use super::dice::Dice;

/// The lists and the number that conditions and fan-outs of [`random`] read.
pub const INPUT: &str = r#"{"a":[1,2,3],"b":[],"c":[1,2,3,4,5,6,7,8],"x":1}"#;

/// A definition as text.
pub fn random(dice: &mut Dice) -> String {
    let mut text = format!(
        "id: w\non_failure: {}\nmax_parallel: {}\ntimeout_ms: {}\nsteps:\n",
        dice.pick(&["fail_fast", "continue"]),
        1 + dice.count(4),
        dice.pick(&[5_000, 100_000, 3_600_000]),
    );
    for index in 0..=dice.below(6) {
        let dependencies: Vec<String> = (0..index).filter(|_| dice.chance(45)).map(|step| format!("s{step}")).collect();
        text += &step(dice, index, &dependencies);
    }
    text
}

fn step(dice: &mut Dice, index: usize, dependencies: &[String]) -> String {
    let list = dependencies.join(", ");
    let mut text = format!("  - id: s{index}\n");
    if !dependencies.is_empty() {
        text += &format!("    depends_on: [{list}]\n");
    }
    let kind = dice.below(10);
    if kind < 3 && !dependencies.is_empty() {
        let aggregate = dice.pick(&["list", "merge", "first"]);
        text += &format!("    fan_in: {{from: [{list}], aggregate: {aggregate}}}\n");
    } else {
        text += "    agent_id: x\n";
        if kind < 7 {
            text += &fan_out(dice, dependencies);
        }
        let (attempts, backoff, jitter) = (1 + dice.count(4), dice.count(3) * 500, dice.chance(50));
        text += &format!("    retry: {{max_attempts: {attempts}, backoff_ms: {backoff}, jitter: {jitter}}}\n");
    }
    if dice.chance(30) {
        text += "    critical: false\n";
    }
    if dice.chance(30) {
        text += "    require: completed\n";
    }
    if dice.chance(40) {
        text += &format!("    condition: '{}'\n", condition(dice, dependencies));
    }
    text
}

fn fan_out(dice: &mut Dice, dependencies: &[String]) -> String {
    let items = if !dependencies.is_empty() && dice.chance(40) {
        format!("$.steps.{}.output", dependencies[dice.below(dependencies.len())])
    } else {
        dice.pick(&["$.input.a", "$.input.b", "$.input.c"]).to_owned()
    };
    let concurrency = 1 + dice.count(4);
    let on_item_failure = dice.pick(&["fail", "continue"]);
    let min_success = if on_item_failure == "continue" && dice.chance(50) {
        format!(", min_success: {}", dice.pick(&["1", "2", "0.5"]))
    } else {
        String::new()
    };
    format!(
        "    fan_out: {{items: {items}, concurrency: {concurrency}, on_item_failure: {on_item_failure}{min_success}}}\n"
    )
}

fn condition(dice: &mut Dice, dependencies: &[String]) -> String {
    if dependencies.is_empty() || dice.chance(50) {
        dice.pick(&["$.input.x == 1", "$.input.x == 2", "size($.input.a) > 1", "$.input.a < 2"]).to_owned()
    } else {
        let dependency = &dependencies[dice.below(dependencies.len())];
        format!("$.steps.{dependency}.output {} null", dice.pick(&["==", "!="]))
    }
}
