//! The compliance suite of RFC 9535 (jsonpath-standard/jsonpath-compliance-test-suite).

use std::path::PathBuf;

use millstream_model::expression::Query;
use millstream_tests::workspace;
use serde_json::Value;

/// The suite's file, from `MILLSTREAM_TESTDATA` or the place where test data lies by itself.
fn suite() -> Option<PathBuf> {
    match std::env::var_os("MILLSTREAM_TESTDATA") {
        Some(folder) => Some(PathBuf::from(folder).join("jsonpath/cts.json")),
        None => workspace::testdata("jsonpath/cts.json"),
    }
}

#[test]
fn every_case_of_the_compliance_suite_passes() {
    let Some(path) = suite() else { return };
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let suite: Value = serde_json::from_slice(&text).expect("the suite is JSON");
    let cases = suite["tests"].as_array().expect("the suite has tests");
    let failures: Vec<String> = cases.iter().filter_map(failure).collect();
    assert!(failures.is_empty(), "{} of {} cases fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert!(cases.len() >= 703, "the suite has only {} cases", cases.len());
}

/// What is wrong with a case, if anything is.
fn failure(case: &Value) -> Option<String> {
    let selector = case["selector"].as_str().expect("a case has a selector");
    let complain = |problem: String| Some(format!("{}: {selector}: {problem}", case["name"]));
    match (Query::parse(selector), case["invalid_selector"] == true) {
        (Err(error), true) if error.column >= 1 && !error.message.is_empty() => None,
        (Err(error), _) => complain(error.to_string()),
        (Ok(_), true) => complain("accepted".to_owned()),
        (Ok(query), false) => {
            let selected = match query.select(&case["document"]) {
                Ok(selected) => Value::Array(selected),
                Err(error) => return complain(error.to_string()),
            };
            let allowed = case["results"].as_array();
            let passes = match allowed {
                Some(results) => results.contains(&selected),
                None => case["result"] == selected,
            };
            if passes { None } else { complain(format!("selected {selected}")) }
        }
    }
}
