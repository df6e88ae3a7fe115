//! What holds for every text and every definition.

use std::fmt::Write as _;

use millstream_model::definition::{Definition, OnFailure, Retry};
use millstream_model::error::ErrorCode;
use millstream_model::expression::{Condition, Path, Query, Template};
use millstream_model::plan::Plan;
use millstream_model::{schema, source, validate};
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

/// A retry policy in which no two fields contradict each other.
fn retry() -> impl Strategy<Value = Value> {
    let code =
        prop::sample::select(ErrorCode::ALL.into_iter().filter(|code| !code.never_retryable()).collect::<Vec<_>>());
    (
        prop::option::of(1..=100_u32),
        prop::option::of(0..=1_000_u64),
        prop::option::of(1_000..=60_000_u64),
        prop::option::of(1.0..8.0_f64),
        prop::option::of(any::<bool>()),
        prop::option::of(prop::sample::select(vec!["exponential", "linear", "fixed"])),
        prop::option::of(prop::collection::btree_set(code, 0..4)),
    )
        .prop_map(|(attempts, backoff, ceiling, multiplier, jitter, strategy, codes)| {
            let mut retry = json!({
                "max_attempts": attempts, "backoff_ms": backoff, "max_backoff_ms": ceiling,
                "backoff_multiplier": multiplier, "jitter": jitter, "strategy": strategy, "retry_on": codes,
            });
            retry.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
            retry
        })
}

/// What takes the place of a step; a value is never null.
fn fallback() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({"skip": true})),
        value()
            .prop_filter("null is no value", |value| !value.is_null())
            .prop_map(|value| json!({"static_value": value})),
        Just(json!({"agent_id": "other"})),
        (retry(), 1..90_000_u32).prop_map(|(retry, ms)| json!({"capability": "c", "retry": retry, "timeout_ms": ms})),
    ]
}

/// What a step says about failures.
#[derive(Debug, Clone)]
struct Failures {
    retry: Option<Value>,
    fallback: Option<Value>,
    /// How it is undone; `Some(None)`: it cannot be.
    undo: Option<Option<Value>>,
    clocks: Option<(u64, u64, u64)>,
}

fn failures() -> impl Strategy<Value = Failures> {
    let undo = prop::option::of(prop::option::of(retry()));
    let clocks = prop::option::of((1..1_000_u64, 1_000..9_000_u64, 1..60_000_u64));
    (prop::option::of(retry()), prop::option::of(fallback()), undo, clocks)
        .prop_map(|(retry, fallback, undo, clocks)| Failures { retry, fallback, undo, clocks })
}

impl Failures {
    fn add_to(self, step: &mut Value, finally: bool) {
        if let Some(retry) = self.retry {
            step["retry"] = retry;
        }
        if let Some(fallback) = self.fallback {
            step["fallback"] = fallback;
        }
        if let Some((start, close, silence)) = self.clocks {
            step["schedule_to_start_ms"] = json!(start);
            step["schedule_to_close_ms"] = json!(close);
            step["heartbeat_ms"] = json!(silence);
            step["timeout_ms"] = json!(60_000);
        }
        match self.undo.filter(|_| !finally) {
            None => {}
            Some(None) => step["irreversible"] = json!(true),
            Some(Some(retry)) => {
                let input = json!({"ref": "$.self.output.ref", "of": "$.input", "state": "$.self.status"});
                step["compensate"] = json!({"agent_id": "undo", "retry": retry, "input_map": input});
            }
        }
    }
}

/// A definition without mistakes: each step depends on some of the steps before it.
fn definition() -> impl Strategy<Value = Value> {
    let kind = (0..4_u8, any::<bool>());
    let step = (any::<u16>(), prop::option::of(value()), kind, failures()).boxed();
    let strategy = prop::sample::select(vec!["fail_fast", "continue", "compensate"]);
    let whole = (strategy, prop::option::of(retry()));
    (prop::collection::vec(step.clone(), 1..12), prop::collection::vec(step, 0..4), whole).prop_map(
        |(steps, finally, (strategy, default))| {
            let steps: Vec<Value> = steps.into_iter().enumerate().map(|(i, given)| a_step("s", i, given)).collect();
            let finally: Vec<Value> = finally.into_iter().enumerate().map(|(i, given)| a_step("f", i, given)).collect();
            let mut workflow = json!({
                "id": "w", "version": "1.0", "on_failure": strategy, "steps": steps, "finally": finally,
                "output_map": {"last": "$.steps[\"s-0\"].output"}
            });
            if let Some(default) = default {
                workflow["default_retry"] = default;
            }
            workflow
        },
    )
}

fn a_step(
    prefix: &str,
    i: usize,
    (mask, data, (kind, critical), failures): (u16, Option<Value>, (u8, bool), Failures),
) -> Value {
    let finally = prefix == "f";
    let before: Vec<usize> = (0..i).filter(|before| mask & (1 << before) != 0).collect();
    let names: Vec<String> = before.iter().map(|before| format!("{prefix}-{before}")).collect();
    let mut step = json!({"id": format!("{prefix}-{i}"), "depends_on": names});
    if !finally {
        step["critical"] = json!(critical);
    }
    if kind == 0 && !before.is_empty() {
        step["fan_in"] = json!({"from": names, "aggregate": "merge"});
        return step;
    }
    step["agent_id"] = json!("worker");
    failures.add_to(&mut step, finally);
    if kind == 1 {
        step["fan_out"] = json!({"items": "$.input.list", "min_success": 2});
    }
    let data = json!({"literal": data});
    step["input_map"] = match names.first() {
        Some(name) => json!({"from": format!("$.steps[\"{name}\"].output"), "data": data}),
        None if finally => json!([data, "$.outcome", "$.steps[\"s-0\"].error"]),
        None => json!([data, {"path": "$.input.x", "default": 1}]),
    };
    if kind == 2 {
        step["condition"] = json!("size($.input.list) > 1 && !$.input.dry_run");
    }
    step
}

fn shown(problems: &[validate::Problem]) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        writeln!(text, "{problem}").expect("a string takes everything");
        text
    })
}

/// Values that are refused: where in a step, what, and the path of the problem.
const BAD: [(&str, &str, &str); 17] = [
    ("retry/max_attempts", "0", "retry.max_attempts"),
    ("retry/backoff_ms", "-1", "retry.backoff_ms"),
    ("retry/jitter", "3", "retry.jitter"),
    ("retry/backoff_multiplier", "0.9", "retry.backoff_multiplier"),
    ("retry/strategy", "\"random\"", "retry.strategy"),
    ("retry/retry_on", "[\"LOST\", \"OOPS\"]", "retry.retry_on[1]"),
    ("retry/retry_on", "[\"PERMISSION_DENIED\"]", "retry.retry_on[0]"),
    ("fallback/retry/max_attempts", "101", "fallback.retry.max_attempts"),
    ("fallback/retry/retry_on", "[\"CANCELLED\"]", "fallback.retry.retry_on[0]"),
    ("fallback/agent_id", "\"worker\"", "fallback.agent_id"),
    ("fallback/static_value", "1", "fallback.static_value"),
    ("fallback/skip", "true", "fallback.skip"),
    ("compensate/retry/jitter", "0.25", "compensate.retry.jitter"),
    ("compensate/input_map", "[\"$.outcome\"]", "compensate.input_map[0]"),
    ("compensate/input_map", "\"$.self.input\"", "compensate.input_map"),
    ("heartbeat_ms", "0", "heartbeat_ms"),
    ("irreversible", "1", "irreversible"),
];

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
    fn a_definition_that_is_valid_fits_its_schema(value in definition()) {
        prop_assert!(validate::definition(&value.to_string()).is_ok());
        prop_assert_eq!(schema::check(&schema::definition_schema(), &value), Ok(()));
    }

    #[test]
    fn one_bad_value_is_one_problem_at_its_place(value in definition(), bad in 0..BAD.len(), at in any::<prop::sample::Index>()) {
        let (pointer, content, path) = BAD[bad];
        let mut value = value;
        let steps = value["steps"].as_array_mut().expect("a list");
        let step = at.index(steps.len());
        if steps[step].get("fan_in").is_some() {
            return Ok(());
        }
        let field = pointer.split('/').next().expect("a first word");
        steps[step].as_object_mut().expect("an object").remove("irreversible");
        for name in ["retry", "fallback", "compensate"] {
            if name == field {
                steps[step][name] = json!({"retry": {}, "agent_id": "someone"});
            }
        }
        if field == "retry" {
            steps[step]["retry"] = json!({});
        }
        let mut place = &mut steps[step];
        for name in pointer.split('/') {
            place = &mut place[name];
        }
        *place = serde_json::from_str(content).expect("JSON");
        let problems = validate::definition(&value.to_string()).expect_err("a problem");
        prop_assert_eq!(problems.len(), 1, "{}", shown(&problems));
        prop_assert_eq!(&problems[0].path, &format!("steps[{step}].{path}"));
        prop_assert!(problems[0].line == 1 && problems[0].column > 1, "{}", shown(&problems));
    }

    #[test]
    fn a_gap_is_an_effect_that_nothing_undoes_and_a_critical_step_that_is_not_upstream(value in definition()) {
        let plan = validate::definition(&value.to_string()).map_err(|problems| TestCaseError::fail(shown(&problems)))?;
        let gaps = validate::gaps(&plan);
        prop_assert!(gaps.is_empty() || plan.definition.on_failure == OnFailure::Compensate);
        for gap in gaps {
            let effect = plan.find(&gap.step).expect("a step");
            let step = plan.step(effect);
            prop_assert!(step.compensate.is_none() && step.fan_in.is_none() && !plan.is_finally(effect));
            prop_assert!(gap.cuts_total >= gap.cuts.len() && !gap.cuts.is_empty());
            for cut in gap.cuts {
                let cut = plan.find(&cut).expect("a step");
                prop_assert!(plan.step(cut).critical && !plan.is_finally(cut));
                prop_assert!(!plan.planned(effect).depends_on.contains(&cut));
                prop_assert!(cut != effect || step.fan_out.is_some());
            }
        }
    }

    #[test]
    fn a_retry_takes_field_by_field_what_it_leaves_open(own in retry(), default in retry()) {
        let read = |value: &Value| serde_json::from_value::<Retry>(value.clone()).expect("a retry");
        let mut expected = default.clone();
        expected.as_object_mut().expect("an object").extend(own.as_object().expect("an object").clone());
        prop_assert_eq!(read(&own).or(Some(&read(&default))), read(&expected));
        prop_assert_eq!(read(&own).or(None), read(&own));
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
