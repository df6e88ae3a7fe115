//! A valid definition of one to six steps of every kind, with up to three in `finally`.

use super::dice::Dice;

/// The lists and the number that conditions and fan-outs of [`random`] read.
pub const INPUT: &str = r#"{"a":[1,2,3],"b":[],"c":[1,2,3,4,5,6,7,8],"x":1}"#;

/// A definition as text.
pub fn random(dice: &mut Dice) -> String {
    let mut text = format!(
        "id: w\non_failure: {}\nmax_parallel: {}\ntimeout_ms: {}\n",
        dice.pick(&["fail_fast", "continue", "compensate", "compensate"]),
        1 + dice.count(4),
        dice.pick(&[5_000, 100_000, 3_600_000]),
    );
    if dice.chance(30) {
        text += &format!("default_retry: {}\n", retry(dice));
    }
    if dice.chance(20) {
        text += &format!(
            "output_map: {}\n",
            dice.pick(&["{n: $.input.x}", "{n: {path: $.input.nothing, required: true}}"])
        );
    }
    text += "steps:\n";
    for index in 0..=dice.below(6) {
        let dependencies: Vec<String> = (0..index).filter(|_| dice.chance(45)).map(|step| format!("s{step}")).collect();
        text += &step(dice, &format!("s{index}"), &dependencies, false);
    }
    let finally = if dice.chance(40) { 1 + dice.below(3) } else { 0 };
    for index in 0..finally {
        if index == 0 {
            text += "finally:\n";
        }
        let dependencies: Vec<String> = (0..index).filter(|_| dice.chance(45)).map(|step| format!("f{step}")).collect();
        text += &step(dice, &format!("f{index}"), &dependencies, true);
    }
    text
}

fn step(dice: &mut Dice, id: &str, dependencies: &[String], finally: bool) -> String {
    let list = dependencies.join(", ");
    let mut text = format!("  - id: {id}\n");
    if !dependencies.is_empty() {
        text += &format!("    depends_on: [{list}]\n");
    }
    let kind = dice.below(10);
    if kind < 2 && !dependencies.is_empty() {
        let aggregate = dice.pick(&["list", "merge", "first"]);
        text += &format!("    fan_in: {{from: [{list}], aggregate: {aggregate}}}\n");
    } else {
        text += "    agent_id: x\n";
        let fans_out = kind < 6;
        if fans_out {
            text += &fan_out(dice, dependencies);
        }
        if dice.chance(70) {
            text += &format!("    retry: {}\n", retry(dice));
        }
        text += &clocks(dice);
        text += &fallback(dice);
        text += &effect(dice, fans_out, finally);
    }
    if !finally && dice.chance(30) {
        text += "    critical: false\n";
    }
    if dice.chance(30) {
        text += "    require: completed\n";
    }
    if dice.chance(40) {
        text += &format!("    condition: '{}'\n", condition(dice, dependencies, finally));
    }
    text
}

fn retry(dice: &mut Dice) -> String {
    let (attempts, backoff, jitter) = (1 + dice.count(4), dice.count(3) * 500, dice.chance(50));
    let strategy = dice.pick(&["exponential", "linear", "fixed"]);
    format!("{{max_attempts: {attempts}, backoff_ms: {backoff}, jitter: {jitter}, strategy: {strategy}}}")
}

fn clocks(dice: &mut Dice) -> String {
    let mut text = String::new();
    if dice.chance(20) {
        text += "    timeout_ms: 3000\n    heartbeat_ms: 1000\n";
    }
    if dice.chance(15) {
        text += &format!("    schedule_to_start_ms: {}\n", dice.pick(&[1, 1_000]));
    }
    if dice.chance(15) {
        text += &format!("    schedule_to_close_ms: {}\n", dice.pick(&[1_000, 4_000]));
    }
    text
}

fn fallback(dice: &mut Dice) -> String {
    let way = match dice.below(12) {
        0 => "{agent_id: y}".to_owned(),
        1 => format!("{{agent_id: y, timeout_ms: 2000, retry: {}}}", retry(dice)),
        2 => "{static_value: {k: 0}}".to_owned(),
        3 => "{skip: true}".to_owned(),
        _ => return String::new(),
    };
    format!("    fallback: {way}\n")
}

/// What the step leaves behind in the world, and how that is undone.
fn effect(dice: &mut Dice, fans_out: bool, finally: bool) -> String {
    match dice.below(10) {
        _ if finally => String::new(),
        0 => "    irreversible: true\n".to_owned(),
        1..=3 => "    compensate: {agent_id: undo}\n".to_owned(),
        4 => format!("    compensate: {{agent_id: undo, retry: {}}}\n", retry(dice)),
        5 => {
            let item = if fans_out { ", item: $.item" } else { "" };
            format!("    compensate: {{agent_id: undo, input_map: {{was: $.self.output{item}}}}}\n")
        }
        _ => String::new(),
    }
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

fn condition(dice: &mut Dice, dependencies: &[String], finally: bool) -> String {
    if finally && dice.chance(60) {
        return dice
            .pick(&[
                "$.outcome.status == \"COMPLETED\"",
                "$.outcome.status != \"COMPLETED\"",
                "$.outcome.partial || $.steps.s0.status == \"COMPENSATED\"",
            ])
            .to_owned();
    }
    if dependencies.is_empty() || dice.chance(50) {
        dice.pick(&["$.input.x == 1", "$.input.x == 2", "size($.input.a) > 1", "$.input.a < 2"]).to_owned()
    } else {
        let dependency = &dependencies[dice.below(dependencies.len())];
        format!("$.steps.{dependency}.output {} null", dice.pick(&["==", "!="]))
    }
}
