//! What holds for every text and every definition.

use std::fmt::Write as _;

use millstream_model::definition::Definition;
use millstream_model::expression::{Condition, Path, Query, Template};
use millstream_model::plan::Plan;
use millstream_model::{source, validate};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Any JSON value; strings are such that YAML could take them for something else.
fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[ -~]{0,8}",
        "(null|~|true|no|on|0x1f|1e3|-1\\.5|\\.inf|2026-11-20|- a|a: b|#|&a|\\*a|!t|%|@|`|\\||>|\\$\\.input)",
        "[\u{0}-\u{24f}😀\n\t\"\\\\]{0,6}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e12..1e12_f64).prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(text.clone(), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A definition without mistakes: each step depends on some of the steps before it.
fn definition() -> impl Strategy<Value = Value> {
    let step = (any::<u16>(), prop::option::of(1..100_u32), prop::option::of(value()), 0..4_u8, any::<bool>());
    prop::collection::vec(step, 1..12).prop_map(|steps| {
        let steps: Vec<Value> = steps
            .into_iter()
            .enumerate()
            .map(|(i, (mask, attempts, data, kind, critical))| {
                let before: Vec<usize> = (0..i).filter(|before| mask & (1 << before) != 0).collect();
                let names: Vec<String> = before.iter().map(|before| format!("s-{before}")).collect();
                let mut step = json!({"id": format!("s-{i}"), "depends_on": names, "critical": critical});
                if kind == 0 && !before.is_empty() {
                    step["fan_in"] = json!({"from": names, "aggregate": "merge"});
                    return step;
                }
                step["agent_id"] = json!("worker");
                if let Some(attempts) = attempts {
                    step["retry"] = json!({"max_attempts": attempts, "backoff_multiplier": 1.5, "strategy": "linear"});
                }
                if kind == 1 {
                    step["fan_out"] = json!({"items": "$.input.list", "min_success": 0.5});
                }
                let data = json!({"literal": data});
                step["input_map"] = match names.first() {
                    Some(name) => json!({"from": format!("$.steps[\"{name}\"].output"), "data": data}),
                    None => json!([data, {"path": "$.input.x", "default": 1}]),
                };
                if kind == 2 {
                    step["condition"] = json!("size($.input.list) > 1 && !$.input.dry_run");
                }
                step
            })
            .collect();
        json!({"id": "w", "version": "1.0", "steps": steps, "output_map": {"last": "$.steps[\"s-0\"].output"}})
    })
}

fn shown(problems: &[validate::Problem]) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        writeln!(text, "{problem}").expect("a string takes everything");
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_texts_read_as_what_they_say(value in value(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let tree = source::parse(&text.expect("JSON"));
        prop_assert_eq!(tree.map(|tree| tree.to_json()), Ok(value));
    }

    #[test]
    fn yaml_texts_of_another_writer_read_as_what_they_say(value in value()) {
        let text = serde_saphyr::to_string(&value).expect("YAML");
        match source::parse(&text) {
            Ok(tree) => prop_assert_eq!(tree.to_json(), value, "{}", text),
            Err(problems) => prop_assert!(false, "{}\n{}", shown(&problems), text),
        }
    }

    #[test]
    fn definitions_read_back_from_yaml_and_json(value in definition()) {
        let json = validate::definition(&value.to_string());
        let plan = json.map_err(|problems| TestCaseError::fail(shown(&problems)))?;
        let yaml = serde_saphyr::to_string(&*plan.definition).expect("YAML");
        let again = validate::definition(&yaml).map_err(|problems| TestCaseError::fail(shown(&problems)))?;
        prop_assert_eq!(&again.definition, &plan.definition);
        prop_assert_eq!(again.hash, plan.hash);
        let stored = serde_json::to_string(&*plan.definition).expect("JSON");
        let stored: Definition = serde_json::from_str(&stored).expect("a definition");
        prop_assert_eq!(Plan::compile(stored).map(|plan| plan.hash), Ok(plan.hash));
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in "(\\PC|[\\[\\]{}(),:?*&!|>'\"$@.#%\n\t -]){0,60}") {
        let ends = [source::parse(&text).is_ok(), validate::definition(&text).is_ok()];
        let reads = [Condition::parse(&text).is_ok(), Path::parse(&text).is_ok(), Query::parse(&text).is_ok()];
        let templates = [Template::parse(&json!({"a": text})).is_ok()];
        prop_assert!(ends.len() + reads.len() + templates.len() == 6);
    }

    #[test]
    fn what_looks_like_a_condition_is_read_or_refused_in_the_text(
        text in "(\\$\\.input|\\$\\.steps\\.a\\.output|\\.b|\\[0\\]|\\[\\?@\\.x\\]|==|<|&&|\\|\\||!|\\(|\\)|1|'é'| |\\?|:|\\.all\\(x, x\\)|size){1,12}",
    ) {
        if let Err(error) = Condition::parse(&text) {
            let length = u32::try_from(text.chars().count()).expect("a short text");
            prop_assert!((1..=length + 1).contains(&error.column), "{}", error);
        }
    }
}
