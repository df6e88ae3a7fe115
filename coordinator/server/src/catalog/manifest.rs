//! What an agent's manifest must say before it is registered.

use std::collections::BTreeSet;

use millstream_model::agent::Agent;
use millstream_model::limits::DURATION_MS_MAX;
use millstream_model::validate::Problem;
use serde_json::Value;

/// Adapters that workers have.
const FRAMEWORKS: [&str; 4] = ["native", "http", "process", "builtin"];

/// Everything that is wrong with `agent`.
pub(super) fn check(agent: &Agent) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut report = |path: &str, message: String, help: &str| {
        problems.push(Problem { path: path.to_owned(), line: 0, column: 0, message, help: help.to_owned() });
    };

    if agent.capabilities.is_empty() {
        report(
            "capabilities",
            "an agent has at least one capability".to_owned(),
            "name the pool of workers that runs it",
        );
    }
    let mut seen = BTreeSet::new();
    for (index, capability) in agent.capabilities.iter().enumerate() {
        if !seen.insert(capability) {
            report(&format!("capabilities[{index}]"), format!("{capability} is there twice"), "name it once");
        }
    }
    if agent.limits.concurrency == Some(0) {
        report("limits.concurrency", "0 would let it never run".to_owned(), "say 1 or more, or leave it out");
    }
    if agent.limits.rate_per_second == Some(0) {
        report("limits.rate_per_second", "0 would let it never run".to_owned(), "say 1 or more, or leave it out");
    }
    if let Some(breaker) = agent.limits.circuit_breaker {
        if breaker.failures == 0 {
            let help = "say how many failures in a row open it, 1 or more";
            report("limits.circuit_breaker.failures", "0 would open the circuit without a failure".to_owned(), help);
        }
        if !(1..=DURATION_MS_MAX).contains(&breaker.open_ms) {
            let help = "say for example 30000, or leave it out";
            report(
                "limits.circuit_breaker.open_ms",
                format!("an open circuit stays open for 1 to {DURATION_MS_MAX} ms"),
                help,
            );
        }
    }
    match agent.framework.as_str() {
        "http" => check_http(&agent.config, &mut report),
        "process" => check_process(&agent.config, &mut report),
        other if !FRAMEWORKS.contains(&other) => report(
            "framework",
            format!("there is no adapter named '{other}'"),
            &format!("use one of {}", FRAMEWORKS.join(", ")),
        ),
        _ => {}
    }
    problems
}

fn check_http(config: &Value, report: &mut impl FnMut(&str, String, &str)) {
    let url = config["url"].as_str().unwrap_or_default();
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        report(
            "config.url",
            "an http agent needs the URL it calls".to_owned(),
            "say for example http://127.0.0.1:9000/run",
        );
    }
    if !config["method"].is_null() && config["method"].as_str().is_none_or(str::is_empty) {
        report("config.method", "the method is not a text".to_owned(), "say POST or leave it out");
    }
    let headers = &config["headers"];
    let texts = headers.as_object().is_some_and(|headers| headers.values().all(Value::is_string));
    if !headers.is_null() && !texts {
        report(
            "config.headers",
            "the headers are not an object of texts".to_owned(),
            "say for example {\"accept\": \"*/*\"}",
        );
    }
}

fn check_process(config: &Value, report: &mut impl FnMut(&str, String, &str)) {
    let argv = config["argv"].as_array().map_or(&[][..], Vec::as_slice);
    let named = argv.first().and_then(Value::as_str).is_some_and(|program| !program.is_empty());
    if !named || !argv.iter().all(Value::is_string) {
        let help = "say for example [\"python3\", \"agent.py\"]; there is no shell";
        report("config.argv", "a process agent needs its program and arguments as a list of texts".to_owned(), help);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_manifest_that_a_worker_can_run_has_no_problems() {
        for manifest in [
            json!({"id": "a", "framework": "native", "capabilities": ["cpu"]}),
            json!({"id": "a", "framework": "builtin", "capabilities": ["builtin"]}),
            json!({"id": "a", "framework": "http", "capabilities": ["http"],
                   "config": {"url": "https://example.org", "method": "PUT", "headers": {"x": "y"}}}),
            json!({"id": "a", "framework": "process", "capabilities": ["shell"], "config": {"argv": ["true"]}}),
        ] {
            check_paths(manifest, &[]);
        }
    }

    #[test]
    fn all_that_is_wrong_is_reported_at_once() {
        check_paths(
            json!({"id": "a", "framework": "http", "capabilities": ["x", "x"],
                   "config": {"url": "example.org", "method": 1, "headers": {"x": 1}},
                   "limits": {"concurrency": 0, "rate_per_second": 0, "circuit_breaker": {"failures": 0, "open_ms": 0}}}),
            &[
                "capabilities[1]",
                "limits.concurrency",
                "limits.rate_per_second",
                "limits.circuit_breaker.failures",
                "limits.circuit_breaker.open_ms",
                "config.url",
                "config.method",
                "config.headers",
            ],
        );
        check_paths(json!({"id": "a", "framework": "cobol", "capabilities": []}), &["capabilities", "framework"]);
    }

    #[test]
    fn a_process_without_a_program_is_refused() {
        for argv in [json!(null), json!([]), json!(""), json!([""]), json!(["a", 1]), json!("true")] {
            let manifest = json!({"id": "a", "framework": "process", "capabilities": ["x"], "config": {"argv": argv}});
            check_paths(manifest, &["config.argv"]);
        }
    }

    fn check_paths(manifest: Value, expected: &[&str]) {
        let agent: Agent = serde_json::from_value(manifest).expect("an agent");
        let problems = check(&agent);
        let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, expected);
    }
}
