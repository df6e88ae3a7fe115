use serde_json::json;

use super::*;

fn value(text: &str) -> Value {
    parse(text).unwrap_or_else(|problems| panic!("{problems:?}")).to_json()
}

fn problems(text: &str) -> Vec<String> {
    parse(text).expect_err(text).iter().map(ToString::to_string).collect()
}

#[test]
fn json_and_yaml_are_the_same_tree() {
    let yaml = "id: a # a comment\nlist:\n  - 1\n  - {x: [true, ~]}\ntext: |\n  two\n  lines\n";
    let json = "\t{\"id\": \"a\",\r\n\t\"list\": [1, {\"x\": [true, null]}], \"text\": \"two\\nlines\\n\"}";
    assert_eq!(value(yaml), value(json));
    assert_eq!(value(json), json!({"id": "a", "list": [1, {"x": [true, null]}], "text": "two\nlines\n"}));
}

#[test]
fn everything_knows_its_place() {
    for text in ["a: é\nb:\n  - c: [1, 2]\n", "{\"a\": \"é\",\n\"b\":\n [   {\"c\": [1, 2]}]}"] {
        let tree = parse(text).expect("a tree");
        let member = tree.member("b").expect("b");
        assert_eq!(member.place.line, 2, "{text}");
        assert_eq!(member.value.elements()[0].get("c").expect("c").elements()[1].place.line, 3);
    }
    let tree = parse("é: [1, 2]").expect("a tree");
    assert_eq!(tree.get("é").expect("a member").elements()[1].place, Place { line: 1, column: 8 });
    let tree = parse("{\"é\": [1, 2]}").expect("a tree");
    assert_eq!(tree.get("é").expect("a member").elements()[1].place, Place { line: 1, column: 11 });
}

#[test]
fn strings_may_hold_any_character() {
    assert_eq!(value(r#"{"a": "\ud83d\ude00 \u00e9 \/"}"#), json!({"a": "😀 é /"}));
    assert_eq!(value("a: \"\\ud83d\\ude00\"\nb: '😀'"), json!({"a": "😀", "b": "😀"}));
    assert_eq!(value("\u{feff}a: 1"), json!({"a": 1}));
    assert_eq!(value("\u{feff}{\"a\": 1}"), json!({"a": 1}));
}

#[test]
fn half_a_character_is_an_error() {
    let json = problems(r#"{"a": "\ud83d"}"#);
    assert!(json[0].starts_with("1:7 the string cannot be read"), "{json:?}");
    let yaml = problems("a: \"\\ud83d\"");
    assert!(yaml[0].starts_with("1:"), "{yaml:?}");
}

#[test]
fn numbers_that_do_not_fit_are_errors() {
    assert_eq!(problems("{\"a\": 1e999}"), ["1:7 the number 1e999 is too large"]);
    assert_eq!(problems("a:\n  1e999"), ["2:3 the number 1e999 is too large; quotes make it a string"]);
    assert_eq!(value("[1e5, -0.5, 12345678901234567890]"), json!([1e5, -0.5, 12_345_678_901_234_567_890_u64]));
}

#[test]
fn duplicate_names_are_all_reported() {
    let yaml = problems("a: 1\nb: 2\na: 3\nc: {x: 1, x: 2}\n");
    assert_eq!(
        yaml,
        [
            "3:1 `a` is there twice; the first is in line 1, column 1; remove one of them",
            "4:11 `x` is there twice; the first is in line 4, column 5; remove one of them",
        ]
    );
    let json = problems("{\"a\": 1,\n \"a\": 2}");
    assert_eq!(json, ["2:2 `a` is there twice; the first is in line 1, column 2; remove one of them"]);
}

#[test]
fn broken_texts_say_where() {
    assert!(problems("a: [1, 2")[0].starts_with("1:"), "{:?}", problems("a: [1, 2"));
    assert!(problems("a:\n\t- b")[0].ends_with("; indent with spaces"), "{:?}", problems("a:\n\t- b"));
    assert_eq!(problems("{\"a\": 1,\n \"b\" 2}"), ["2:6 this is not JSON: expected `:`"]);
    assert_eq!(problems(" \n"), ["1:1 the text is empty; a definition has at least `id` and `steps`"]);
    assert_eq!(problems("a: 1\n---\nb: 1"), ["2:1 a second document starts here; put each definition in its own text"]);
    assert_eq!(problems("? [a]\n: 1"), ["1:3 a name is expected here; names of members are plain text"]);
    assert_eq!(problems("a: !include x.yaml"), ["1:13 the tag !include has no meaning here; remove it"]);
    let unknown = problems("a: *nobody");
    assert!(unknown[0].contains("anchor"), "{unknown:?}");
}

#[test]
fn aliases_stand_for_values_within_a_budget() {
    assert_eq!(value("a: &x {n: 1}\nb: *x\n"), json!({"a": {"n": 1}, "b": {"n": 1}}));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
    }
    assert!(problems(&bomb)[0].contains("more than 1000000 values"), "{:?}", problems(&bomb));
    let long = format!("a: &x \"{}\"\nb: [{}]", "y".repeat(500_000), vec!["*x"; 100].join(", "));
    assert!(problems(&long)[0].contains("more than 33554432 bytes"), "{:?}", problems(&long));
    let itself = problems("a: &x [*x]");
    assert!(!itself.is_empty(), "{itself:?}");
}

#[test]
fn depth_and_size_are_bounded() {
    let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    assert!(parse(&nested(63)).is_ok());
    for text in [nested(64), nested(100_000), "- ".repeat(400) + "1", format!("a: {}", nested(70))] {
        assert!(!problems(&text).is_empty());
    }
    let block: String = (0..200).map(|i| " ".repeat(i) + "a:\n").collect();
    assert!(!problems(&block).is_empty());
    let large = format!("a: {}", "x".repeat(DEFINITION_SIZE_MAX));
    assert!(problems(&large)[0].starts_with("1:1 the text has 16777219 bytes"));
}
