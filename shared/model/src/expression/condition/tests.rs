use std::sync::Arc;

use serde_json::json;
use serde_json::value::to_raw_value;

use super::*;

/// Input and the output of the steps `classify` and `get-data` that the conditions below read.
fn scope() -> Scope {
    let mut scope = Scope::default();
    let mut insert = |root, value: Value| scope.insert(root, Arc::from(to_raw_value(&value).expect("JSON")));
    insert(
        Root::Input,
        json!({
            "cpu": 87.5, "errors": 50, "big": 9_007_199_254_740_993_i64, "huge": u64::MAX, "name": "Ada $.input",
            "tags": ["a", "b"], "none": null, "yes": true, "nested": {"list": [{"n": 1}, {"n": 2}, {}]},
            "index": 1, "text": "7", "é": "é"
        }),
    );
    insert(Root::Step("classify".parse().expect("a name"), super::super::Field::Output), json!({"severity": "high"}));
    insert(Root::Step("get-data".parse().expect("a name"), super::super::Field::Output), json!([1, 2, 3]));
    scope
}

fn evaluate(text: &str) -> Result<bool, String> {
    Condition::parse(text).unwrap_or_else(|error| panic!("{error}")).evaluate(&scope()).map_err(|e| e.to_string())
}

fn holds(text: &str) {
    assert_eq!(evaluate(text), Ok(true), "{text}");
}

fn fails(text: &str) {
    assert_eq!(evaluate(text), Ok(false), "{text}");
}

fn complains(text: &str, expected: &str) {
    assert_eq!(evaluate(text), Err(format!("condition `{text}`, {expected}")));
}

fn refuses(text: &str, expected: &str) {
    let error = Condition::parse(text).expect_err(text);
    assert_eq!(format!("{}: {}", error.column, error.message), expected, "{text}");
}

#[test]
fn paths_are_operands() {
    holds(r#"$.steps.classify.output.severity == "high" && !($.input.dry_run)"#);
    holds(r#"$.steps["get-data"].output[0] + $.steps['get-data'].output[-1] == 4"#);
    holds("size($.input.nested.list[?@.n > 1]) == 1");
    holds("$.input.nested.list[*].n == [1, 2]");
    holds("$.input['é'] == \"é\"");
    holds("$.input.é == 'é'");
    holds("$.input.tags[$.input.index] == 'b'");
    holds("$.input.tags[2 - 1] == 'b'");
    holds("$.input.errors-1==49");
    holds("$.input.yes?true:false");
}

#[test]
fn what_stands_in_quotes_or_comments_is_no_path() {
    holds("$.input.name == 'Ada $.input'");
    holds(r#"$.input.name == "Ada $.input""#);
    holds(r#"r'\' + "$.x" == '\\$.x'"#);
    holds(r#"'''it's $.x''' == "it's $.x""#);
    holds("true // $.nothing");
}

#[test]
fn a_call_on_a_path_is_not_a_member_of_it() {
    holds("$.input.name.startsWith('Ada')");
    holds("$.input.name.endsWith ('input')");
    holds("$.input.name.contains('$')");
    holds("$.input.tags.exists(t, t == 'b')");
    holds("$.input.tags.size() == 2");
    fails("$.input.name.startsWith('x')");
}

#[test]
fn integers_and_floats_are_numbers() {
    fails("$.input.cpu > 95");
    holds("$.input.cpu > 85 && $.input.cpu < 87.6");
    holds("87.5 == $.input.cpu && 95 > 87.5 && 1 == 1.0 && 1 != 1.5");
    holds("$.input.errors + 0.5 == 50.5 && $.input.errors * 2 == 100 && 7 / 2 == 3 && 7 / 2.0 == 3.5 && 7 % 4 == 3");
    holds("$.input.big > 9007199254740992.0");
    holds("$.input.huge > 9223372036854775807");
    holds("-$.input.errors == -50 && 5u == 5");
    holds("50 in [1.0, 50.0]");
}

#[test]
fn what_is_missing_is_null() {
    holds("$.input.gone == null && $.context.x == null && $.steps.other.output == null");
    holds("$.input.gone.further[3] == null && $.input.gone != 0");
    holds("!$.input.gone && !$.input.none && ($.input.gone ? false : true)");
    fails("$.input.gone");
    fails("$.input.gone && true");
    holds("$.input.gone || true");
    holds("has($.input.cpu) && !has($.input.none) && !has($.input.gone)");
    holds("$.input.nested.list.exists_one(e, e.n == null)");
    fails("$.input.nested.list.exists(e, e.gone)");
}

#[test]
fn different_types_are_different_but_have_no_order() {
    fails("$.input.cpu == '87.5'");
    holds("$.input.cpu != '87.5' && $.input.tags != $.input && [1, 'a'] == [1.0, 'a']");
    complains(
        "$.input.gone > 95",
        "column 14: `>` compares two numbers or two strings, not $.input.gone (null) and 95",
    );
    complains(
        "1 <= $.input.text",
        "column 3: `<=` compares two numbers or two strings, not 1 and $.input.text (\"7\")",
    );
    complains(
        "$.input.tags < [1, 2, 3]",
        "column 14: `<` compares two numbers or two strings, not $.input.tags (a list of 2) and a list of 3",
    );
}

#[test]
fn lists_have_macros() {
    holds("$.input.tags.all(t, t in ['a', 'b', 'c'])");
    holds("$.input.nested.list.filter(e, has(e.n)).map(e, e.n * 2) == [2, 4]");
    holds("$.input.nested.list.map(e, e.n != null, e.n) == [1, 2]");
    holds("[1, 2].exists(x, [2, 3].exists(y, x == y))");
    holds("[].all(x, x > 1) && ![].exists(x, x > 1)");
    holds("$.input.nested.list.exists(e, e.n > 1)");
    complains(
        "$.input.nested.list.exists(e, e.n > 2)",
        "column 35: `>` compares two numbers or two strings, not null and 2",
    );
    complains("$.input.nested.all(x, true)", "column 19: `all` goes through a list, not $.input.nested (an object)");
}

#[test]
fn conversions_are_explicit() {
    holds("int($.input.text) == 7 && double('1.5') == 1.5 && int(2.9) == 2 && string(7) == '7' && bool('true')");
    holds("size('é') == 1 && size($.input.nested) == 1");
    complains("int('x') == 1", "column 4: `int` cannot convert \"x\"");
    complains(
        "size($.input.gone) > 0",
        "column 5: `size` counts a list, an object or a string, not $.input.gone (null)",
    );
}

#[test]
fn errors_of_one_side_do_not_matter_when_the_other_decides() {
    fails("$.input.gone > 1 && false");
    holds("$.input.gone > 1 || true");
    complains(
        "$.input.gone > 1 && true",
        "column 14: `>` compares two numbers or two strings, not $.input.gone (null) and 1",
    );
    complains("1 / 0 == 1 || false", "column 3: division by zero");
}

#[test]
fn a_condition_gives_true_or_false() {
    complains("$.input.errors", "column 1: the condition gives 50, not true or false");
    complains("$.input.tags && true", "column 1: `&&` takes true or false, not $.input.tags (a list of 2)");
    fails("null");
}

#[test]
fn what_cannot_be_calculated_says_so() {
    complains("9223372036854775807 + 1 > 0", "column 21: the result is too large for a number");
    complains("1 + 'a' == 'a'", "column 3: `+` takes two numbers, two strings or two lists, not 1 and \"a\"");
    complains("-$.input.name == 1", "column 1: `-` takes a number, not $.input.name (\"Ada $.input\")");
    complains("'a' in 'abc'", "column 5: `in` looks into a list or an object, not \"abc\"");
    complains("1.5 % 1 == 0", "column 5: `%` takes two integers");
}

#[test]
fn mistakes_are_found_when_the_condition_is_read() {
    refuses("", "1: the condition is empty");
    refuses("$.input.a ==", "13: the condition ends too early");
    refuses("$.input.a = 1", "11: `=` is not an operator; `==` compares");
    refuses("$.input.a and $.input.b", "11: `and` is not an operator; `&&` is");
    refuses("$.input.a 5", "11: `5` is not expected here");
    refuses("$.input.a $.input.b", "11: `$.input.b` is not expected here");
    refuses("$.input.a == 'x", "14: the string has no end");
    refuses("$.input.a == #", "14: `#` is not part of the condition language");
    refuses("input.a > 1", "1: there is no `input`; paths start with `$`, as in $.input");
    refuses(
        "severity == 1",
        "1: there is no `severity`; values are paths, as in $.input.severity, and text has quotes",
    );
    refuses("sise($.input.a) > 1", "5: there is no function `sise`; did you mean `size`?");
    refuses("now() > 1", "4: `now`: conditions have no clock");
    refuses("{'a': 1} == 1", "1: a condition cannot make objects");
    refuses("size(1, 2) == 1", "5: `size` is used as size(…)");
    refuses("contains('a') == 1", "9: `contains` is used as text.contains(\"…\")");
    refuses("[1].exists(1, true)", "11: `exists` is used as list.exists(x, …)");
    refuses("99999999999999999999 > 1", "1: invalid int literal");
    let lists = "[1].all(a, [1].all(b, [1].all(c, true)))";
    refuses(lists, "30: list macros are nested at most 2 deep");
}

#[test]
fn mistakes_in_paths_keep_their_column() {
    refuses(
        "true && $.inputs.a == 1",
        "9: there is no $.inputs; a path starts with $.input, $.context, $.item, $.index \
             or $.steps.<step>.output (or .status, .error, .metrics), in a compensation also with $.self.output, in `finally` with $.outcome",
    );
    refuses(
        "'é' == 'é' && $.steps.get-data.output == 1",
        "26: a name with `-` takes brackets: [\"get-data\"] instead of .get-data",
    );
    refuses("$.steps.a.outptu == 1", "10: a step has no `outptu`; it has .output, .status, .error or .metrics");
}

#[test]
fn hostile_conditions_are_refused_or_stopped() {
    let deep = format!("{}true{}", "(".repeat(500), ")".repeat(500));
    refuses(&deep, "97: the condition is nested too deeply");
    let chain = vec!["1"; 500].join("+") + " > 1";
    assert!(Condition::parse(&chain).expect_err("a chain").message.contains("nested more than 64 deep"));
    let long = format!("true{}", " ".repeat(CONDITION_LENGTH_MAX));
    refuses(&long, "1: a condition has at most 4096 bytes, this one has 4100");
    let mut scope = Scope::default();
    let list = to_raw_value(&vec![1; 10_000]).expect("JSON");
    scope.insert(Root::Input, Arc::from(list));
    let slow = Condition::parse("$.input.all(a, $.input.all(b, a == b))").expect("a condition");
    let error = slow.evaluate(&scope).expect_err("too slow").to_string();
    assert!(error.ends_with("the condition takes more than 1000000 steps"), "{error}");
    let large = Condition::parse("size($.input.map(a, $.input)) > 1").expect("a condition");
    assert!(large.evaluate(&scope).expect_err("too large").to_string().ends_with("steps"));
    scope.insert(Root::Input, Arc::from(to_raw_value(&vec![1; 10_001]).expect("JSON")));
    let error = slow.evaluate(&scope).expect_err("too long").to_string();
    assert!(
        error.ends_with("column 12: a condition goes through at most 10000 elements; the list has 10001"),
        "{error}"
    );
    assert_eq!(Condition::parse("size($.input) == 10001").expect("a condition").evaluate(&scope), Ok(true));
}

#[test]
fn a_condition_says_what_it_reads() {
    let condition = Condition::parse("$.input.a == 1 && size($.steps.b.output[?@.x == $.context.y]) > 0").expect("one");
    let reads: Vec<String> = condition.reads().iter().map(ToString::to_string).collect();
    assert_eq!(reads, ["$.input", "$.context", "$.steps.b.output"]);
}
