use serde_json::json;

use super::*;

fn raw(text: &str) -> Arc<RawValue> {
    Arc::from(RawValue::from_string(text.to_owned()).expect("JSON"))
}

fn scope() -> Scope {
    let mut scope = Scope::default();
    scope.insert(
        Root::Input,
        raw(r#"{"a":{"b":[10,20,30]},"big":12345678901234567890123,"a b":1.50,"k":"x","\u0061é":2}"#),
    );
    scope.insert(Root::Item, raw("[ 1.0 ,null]"));
    scope.insert(Root::Index, raw("7"));
    let step = |name: &str| name.parse().expect("a name");
    scope.insert(
        Root::Step(step("get-data"), Field::Output),
        raw(r#"[{"k":"x","n":1},{"k":"y","n":2},{"k":"x","n":3}]"#),
    );
    scope.insert(Root::Step(step("get-data"), Field::Status), raw(r#""COMPLETED""#));
    scope
}

fn evaluate(text: &str) -> Value {
    Path::parse(text).unwrap_or_else(|error| panic!("{error}")).evaluate(&scope()).expect("a value")
}

fn text_of(text: &str) -> String {
    Path::parse(text)
        .unwrap_or_else(|error| panic!("{error}"))
        .evaluate_raw(&scope())
        .expect("a value")
        .get()
        .to_owned()
}

fn refusal(text: &str) -> String {
    let error = Path::parse(text).expect_err(text);
    format!("{}: {}", error.column, error.message)
}

#[test]
fn a_singular_path_gives_the_value_or_null() {
    assert_eq!(evaluate("$.input.a.b[1]"), json!(20));
    assert_eq!(evaluate("$.input['a']['b'][-1]"), json!(30));
    assert_eq!(evaluate("$.input.a.b[-4]"), json!(null));
    assert_eq!(evaluate("$.input.a.b.c"), json!(null));
    assert_eq!(evaluate("$.input.a[0]"), json!(null));
    assert_eq!(evaluate("$.input.k.length"), json!(null));
    assert_eq!(evaluate("$.input.aé"), json!(2));
    assert_eq!(evaluate("$.context.user"), json!(null));
    assert_eq!(evaluate("$.index"), json!(7));
    assert_eq!(evaluate("$.steps[\"get-data\"].status"), json!("COMPLETED"));
    assert_eq!(evaluate("$ .steps [ 'get-data' ] .output [0] .n"), json!(1));
    assert_eq!(evaluate("$['steps']['get-data']['output'][2]['n']"), json!(3));
}

#[test]
fn any_other_path_gives_a_list() {
    assert_eq!(evaluate("$.input.a.b[*]"), json!([10, 20, 30]));
    assert_eq!(evaluate("$.input.a.b[1:]"), json!([20, 30]));
    assert_eq!(evaluate("$.input.nothing[*]"), json!([]));
    assert_eq!(evaluate("$.context.*"), json!([]));
    assert_eq!(evaluate("$.steps[\"get-data\"].output[?@.n > 1].n"), json!([2, 3]));
    assert_eq!(evaluate("$.input..b[0]"), json!([10]));
}

#[test]
fn filters_may_read_other_roots() {
    let path = Path::parse("$.steps[\"get-data\"].output[?@.k == $.input.k && @.n != $.index].n").expect("a path");
    let reads: Vec<String> = path.reads().iter().map(ToString::to_string).collect();
    assert_eq!(reads, ["$.input", "$.index", "$.steps[\"get-data\"].output"]);
    assert_eq!(path.evaluate(&scope()).expect("a value"), json!([1, 3]));
    assert_eq!(evaluate("$.steps[\"get-data\"].output[?@.k == '$.nothing'].n"), json!([]));
}

#[test]
fn a_compensation_reads_its_own_step_and_finally_the_outcome() {
    let mut scope = scope();
    scope.insert(Root::Own(Field::Output), raw(r#"{"ref":"r-7","n":3}"#));
    scope.insert(Root::Outcome, raw(r#"{"status":"FAILED","failed":["a","b"]}"#));
    let evaluate = |text: &str| Path::parse(text).unwrap_or_else(|error| panic!("{error}")).evaluate(&scope);
    assert_eq!(evaluate("$.self.output.ref"), Ok(json!("r-7")));
    assert_eq!(evaluate("$['self']['output']['n']"), Ok(json!(3)));
    assert_eq!(evaluate("$.self.error"), Ok(json!(null)));
    assert_eq!(evaluate("$.outcome.failed[1]"), Ok(json!("b")));
    assert_eq!(evaluate("$.outcome.failed[*]"), Ok(json!(["a", "b"])));
    assert_eq!(evaluate("$.steps[\"get-data\"].output[?@.n == $.self.output.n].k"), Ok(json!(["x"])));
    assert_eq!(evaluate("$.steps[\"get-data\"].output[?$.outcome.status == 'FAILED'].n"), Ok(json!([1, 2, 3])));
}

#[test]
fn text_is_passed_on_as_it_is() {
    assert_eq!(text_of("$.item"), "[ 1.0 ,null]");
    assert_eq!(text_of("$.item[0]"), "1.0");
    assert_eq!(text_of("$.input.big"), "12345678901234567890123");
    assert_eq!(text_of("$.input['a b']"), "1.50");
    assert_eq!(text_of("$.context"), "null");
    assert_eq!(text_of("$.input.none.at.all"), "null");
    assert_eq!(text_of("$.input.a.b[0,2]"), "[10,30]");
}

#[test]
fn of_members_with_one_name_the_last_counts() {
    let mut scope = Scope::default();
    scope.insert(Root::Input, raw(r#"{"a":1,"a":2}"#));
    let path = Path::parse("$.input.a").expect("a path");
    assert_eq!(path.evaluate(&scope), Ok(json!(2)));
    assert_eq!(Path::parse("$.input[?@ > 0]").expect("a path").evaluate(&scope), Ok(json!([2])));
}

#[test]
fn values_that_cannot_be_read_are_errors() {
    let mut scope = Scope::default();
    scope.insert(Root::Input, raw(r#"{"n":1e999,"s":"\ud800","fine":1}"#));
    let evaluate = |text: &str| Path::parse(text).expect("a path").evaluate(&scope).map_err(|error| error.to_string());
    assert_eq!(evaluate("$.input.fine"), Ok(json!(1)));
    assert_eq!(evaluate("$.input.n"), Err("$.input cannot be read: number out of range at line 1 column 5".to_owned()));
    assert!(evaluate("$.input.s").is_err() && evaluate("$.input").is_err() && evaluate("$.input.*").is_err());
}

#[test]
fn deep_values_are_walked_without_recursion() {
    let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let mut scope = Scope::default();
    scope.insert(Root::Input, raw(&deep));
    assert_eq!(Path::parse("$.input.b").expect("a path").evaluate(&scope), Ok(Value::Null));
    assert!(Path::parse("$.input").expect("a path").evaluate(&scope).is_err());
    assert_eq!(Path::parse("$.input").expect("a path").evaluate_raw(&scope).expect("a text").get().len(), deep.len());
}

#[test]
fn a_path_starts_at_a_root() {
    let starts = "a path starts with $.input, $.context, $.item, $.index or $.steps.<step>.output (or .status, .error, .metrics), in a compensation also with $.self.output, in `finally` with $.outcome";
    assert_eq!(refusal("$"), format!("1: {starts}"));
    assert_eq!(refusal("$.*"), format!("1: {starts}"));
    assert_eq!(refusal("$..input"), format!("1: {starts}"));
    assert_eq!(refusal("$['input','context']"), format!("1: {starts}"));
    assert_eq!(refusal("$.inputs"), format!("1: there is no $.inputs; {starts}"));
    assert_eq!(refusal("$.self"), "7: after $.self comes .output, .status, .error or .metrics");
    assert_eq!(refusal("$.self.input"), "7: a step has no `input`; it has .output, .status, .error or .metrics");
    assert_eq!(refusal("$.steps"), "1: $.steps needs the name of one step and .output, .status, .error or .metrics");
    assert_eq!(refusal("$.steps.*"), "1: $.steps needs the name of one step and .output, .status, .error or .metrics");
    assert_eq!(refusal("$.steps.a"), "10: after the step's name comes .output, .status, .error or .metrics");
    assert_eq!(refusal("$.steps.a[0]"), "10: after the step's name comes .output, .status, .error or .metrics");
    assert_eq!(refusal("$.steps.a.out"), "10: a step has no `out`; it has .output, .status, .error or .metrics");
    assert!(refusal("$.steps['a b'].output").starts_with("8: `a b` cannot be the name of a step"));
    assert_eq!(refusal("$.input[?@.x == $.foo]"), format!("17: there is no $.foo; {starts}"));
}

#[test]
fn mistakes_are_shown_where_they_are() {
    assert_eq!(refusal("input.a"), "1: a path starts with `$`");
    assert!(refusal("$.input.a[").starts_with("10: `[` cannot be read; a path is `$` and then segments like"));
    assert_eq!(
        refusal("$.steps.get-data.output"),
        "12: a name with `-` takes brackets: [\"get-data\"] instead of .get-data"
    );
    assert!(refusal("$.input[?foo(@)]").contains("there is no function `foo`"));
    assert!(refusal("$.input[?length(@, 1) > 1]").contains("`length` takes 1 arguments, 2 are given"));
    assert!(refusal("$.input[9007199254740992]").contains("is too large for an index"));
}

#[test]
fn costly_paths_are_refused() {
    assert_eq!(refusal("$.input..a..b..c"), "15: a path has at most 2 descendant segments (`..`)");
    assert_eq!(refusal(&format!("$.input{}", "[?@.a]".repeat(5))), "33: a path has at most 4 filters (`?`)");
    assert!(refusal(&format!("$.input{}", "[*,*]".repeat(6))).contains("at most 16 wildcards"));
    assert!(refusal(&format!("$.input.{}", "a".repeat(2_000))).contains("at most 1024 bytes"));
    assert!(Path::parse("$.input['..?..?*,*,*,*,*,*,*,*,*,*,*,*,*,*,*,*,*,*']").is_ok());
}
