use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::expression::Field;

fn scope() -> Scope {
    let raw = |text: &str| Arc::from(RawValue::from_string(text.to_owned()).expect("JSON"));
    let mut scope = Scope::default();
    scope.insert(Root::Input, raw(r#"{"day": "2026-11-20", "n": 1.50, "none": null, "list": [1, 2]}"#));
    scope.insert(Root::Step("list".parse().expect("a name"), Field::Output), raw("{ \"rows\" : [ 1.0 ] }"));
    scope
}

#[allow(clippy::needless_pass_by_value, reason = "tests pass literals")]
fn render(template: Value) -> String {
    let template = Template::parse(&template).unwrap_or_else(|errors| panic!("{errors:?}"));
    template.render(&scope()).expect("a value").get().to_owned()
}

#[allow(clippy::needless_pass_by_value, reason = "tests pass literals")]
fn errors(template: Value) -> Vec<String> {
    Template::parse(&template).expect_err("errors").iter().map(ToString::to_string).collect()
}

#[test]
fn strings_that_start_with_a_dollar_are_paths() {
    assert_eq!(render(json!("$.input.day")), r#""2026-11-20""#);
    assert_eq!(
        render(json!({"a": ["$.input.n", "x$.input"], "b": {"c": "$.input.gone"}})),
        r#"{"a":[1.50,"x$.input"],"b":{"c":null}}"#
    );
    assert_eq!(render(json!(["$.input.list[*]", "$.input.gone[*]"])), "[[1,2],[]]");
}

#[test]
fn what_paths_give_is_spliced_unparsed() {
    assert_eq!(render(json!("$.steps.list.output")), "{ \"rows\" : [ 1.0 ] }");
    assert_eq!(render(json!({"all": "$.steps.list.output", "\"q": 1})), "{\"\\\"q\":1,\"all\":{ \"rows\" : [ 1.0 ] }}");
}

#[test]
fn literals_have_no_paths() {
    assert_eq!(render(json!({"price": {"literal": "$5"}})), r#"{"price":"$5"}"#);
    assert_eq!(render(json!({"literal": {"literal": "$.input"}})), r#"{"literal":"$.input"}"#);
    assert_eq!(render(json!({"literal": 1, "other": 2})), r#"{"literal":1,"other":2}"#);
    assert_eq!(
        render(json!({"to": "/tmp", "deep": [[], {}, null, true, 1.5]})),
        r#"{"deep":[[],{},null,true,1.5],"to":"/tmp"}"#
    );
}

#[test]
fn paths_can_be_required_or_have_a_default() {
    assert_eq!(render(json!({"path": "$.input.n", "required": true})), "1.50");
    assert_eq!(render(json!({"path": "$.input.gone", "required": false})), "null");
    assert_eq!(render(json!({"path": "$.input.gone", "default": {"a": "$.input"}})), r#"{"a":"$.input"}"#);
    assert_eq!(
        render(json!([{"path": "$.input.none", "default": []}, {"path": "$.input.day", "default": 1}])),
        r#"[[],"2026-11-20"]"#
    );
    let template =
        Template::parse(&json!({"x": {"path": "$.steps.total.output", "required": true}})).expect("a template");
    let error = template.render(&scope()).expect_err("nothing is there");
    assert_eq!(error.to_string(), "$.steps.total.output is required, and there is nothing or null");
}

#[test]
fn an_object_with_a_path_of_its_own_is_an_object() {
    assert_eq!(render(json!({"path": "/tmp/x", "required": true})), r#"{"path":"/tmp/x","required":true}"#);
    assert_eq!(render(json!({"path": "$.input.n"})), r#"{"path":1.50}"#);
    assert_eq!(
        render(json!({"path": "$.input.n", "required": true, "kind": 1})),
        r#"{"kind":1,"path":1.50,"required":true}"#
    );
}

#[test]
fn everything_that_is_wrong_is_reported() {
    let found = errors(json!({
        "a": "$.x", "b/c": ["$.input.", {"path": "$.input.a", "required": 1}],
        "d": {"path": "$.input.a", "required": true, "default": 1}, "e": "$"
    }));
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(found[0].starts_with("/a: `$.x`, column 1: there is no $.x; a path starts with"), "{}", found[0]);
    assert!(found[1].starts_with("/b~1c/0: `$.input.`"), "{}", found[1]);
    assert_eq!(found[2], "/b~1c/1: `required` is true or false, not 1; write {literal: …} for plain data");
    assert!(found[3].starts_with("/d: `required` and `default` exclude each other"), "{}", found[3]);
    assert!(found[4].ends_with("text that starts with `$` is written {literal: …}"), "{}", found[4]);
}

#[test]
fn a_template_says_what_it_reads() {
    let template = Template::parse(
        &json!({"a": "$.input.x", "b": [{"path": "$.index", "default": 0}], "c": {"literal": "$.context"}}),
    );
    let reads: Vec<String> = template.expect("a template").reads().iter().map(ToString::to_string).collect();
    assert_eq!(reads, ["$.input", "$.index"]);
}

/// Any JSON value, with strings that look like paths among the others.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        "[$.a-z\"\\\\é\n]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z~/\"]{0,6}|literal|path|default", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_literal_is_itself(value in value()) {
        let text = render(json!({"literal": value}));
        prop_assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
    }

    #[test]
    fn a_template_renders_to_json_or_says_where_it_cannot_be_read(value in value()) {
        match Template::parse(&value) {
            Ok(template) => {
                let text = template.render(&scope()).expect("a value");
                prop_assert!(serde_json::from_str::<Value>(text.get()).is_ok());
            }
            Err(errors) => {
                for error in errors {
                    prop_assert!(value.pointer(&error.pointer).is_some(), "{} is nowhere", error.pointer);
                }
            }
        }
    }
}
