//! Patterns of code that we refuse.

use crate::sources::{Finding, Source, code_of};

/// The only file of the suites that lets time pass.
const WAITS: &str = "tests/src/wait.rs";

/// What shipped code does without: what it looks like, and why.
const REFUSED: [(&str, &str); 7] = [
    (".unwrap()", "`expect(\"why it cannot be\")` for a proven fact, an error for the rest"),
    ("Other(String)", "an error has fields; a string is none"),
    ("Unknown(String)", "an error has fields; a string is none"),
    ("|e| e.to_string()", "keep the error as the source of yours"),
    ("|err| err.to_string()", "keep the error as the source of yours"),
    ("todo!(", "what is not done is not here"),
    ("unimplemented!(", "what is not done is not here"),
];

/// Findings of one file.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    if !source.is_rust() {
        return Vec::new();
    }
    let mut findings = test_modules(source);
    if !source.is_test_file() {
        for (line, text) in source.shipped_lines() {
            let code = code_of(text);
            let refused = REFUSED.iter().filter(|(pattern, _)| code.contains(pattern) && !quoted(code, pattern));
            findings.extend(refused.map(|(pattern, why)| source.finding(line, format!("`{pattern}`: {why}"))));
        }
    }
    let suites = source.path.starts_with("tests/");
    let tests = source.test_lines().filter(|_| source.path != WAITS);
    let harness = source.shipped_lines().filter(|_| suites && !source.is_test_file() && source.path != WAITS);
    for (line, text) in harness.chain(tests) {
        let code = code_of(text);
        if sleeps(code) {
            findings.push(source.finding(line, "a test waits for something, not for a while: `eventually`"));
        }
    }
    findings
}

/// How code can ask whether it is tested.
const TEST_QUESTIONS: [&str; 6] = ["cfg(test", "cfg!(test", "cfg_attr(test", "(not(test", "any(test", "all(test"];

/// `cfg(test)` marks the test module, which is the last thing in its file, and nothing else.
fn test_modules(source: &Source) -> Vec<Finding> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut findings = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let code = code_of(line);
        if !TEST_QUESTIONS.iter().any(|question| code.contains(question) && !quoted(code, question)) {
            continue;
        }
        let rest = lines[i + 1..].iter().map(|line| line.trim()).skip_while(|line| line.starts_with("#["));
        let rest: Vec<&str> = rest.collect();
        let is_module = match rest.first() {
            Some(&"mod tests;") => rest[1..].iter().all(|line| line.is_empty()),
            Some(next) => next.trim_start_matches("pub(crate) ").starts_with("mod tests {"),
            None => false,
        };
        if code.trim_end() != "#[cfg(test)]" || !is_module {
            findings.push(source.finding(i + 1, "`cfg(test)` stands before the last `mod tests` and nowhere else"));
        }
    }
    findings
}

fn sleeps(code: &str) -> bool {
    code.match_indices("sleep(").any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let call = before.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == '"'));
        call && !quoted(code, "sleep(")
    })
}

/// Whether the first occurrence of `pattern` lies inside of a string of this line.
fn quoted(code: &str, pattern: &str) -> bool {
    code.find(pattern).is_some_and(|at| code[..at].replace("\\\"", "").matches('"').count() % 2 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: [usize; 0] = [];

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Source::new(path, text)).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn each_refused_pattern_is_found_in_shipped_code_only() {
        for (pattern, _) in REFUSED {
            let text = format!("fn f() {{\n    x{pattern}\n}}\n");
            assert_eq!(lines("worker/src/pull.rs", &text), [2], "{pattern}");
            let tests = format!("#[cfg(test)]\nmod tests {{\n    x{pattern}\n}}\n");
            assert_eq!(lines("worker/src/pull.rs", &tests), NOTHING, "{pattern}");
            assert_eq!(lines("worker/src/pull.rs", &format!("// x{pattern}\n")), NOTHING, "{pattern}");
        }
    }

    #[test]
    fn a_sleep_in_a_test_is_found() {
        let text = "fn f() {\n    std::thread::sleep(d);\n}\n";
        assert_eq!(lines("tests/e2e/retry.rs", text), [2]);
        assert_eq!(lines("tests/src/api.rs", text), [2]);
        assert_eq!(lines("tests/src/wait.rs", text), NOTHING);
        assert_eq!(lines("worker/src/pull.rs", text), NOTHING);
        assert_eq!(lines("worker/src/pull.rs", "#[cfg(test)]\nmod tests {\n    sleep(d).await;\n}\n"), [3]);
    }

    #[test]
    fn a_hook_for_tests_in_shipped_code_is_found() {
        assert_eq!(lines("worker/src/pull.rs", "struct S {\n    #[cfg(test)]\n    fail_next: bool,\n}\n"), [2]);
        assert_eq!(lines("worker/src/pull.rs", "#[cfg(any(test))]\nfn f() {}\n"), [1]);
        assert_eq!(lines("worker/src/pull.rs", "if cfg!(test) {\n"), [1]);
        assert_eq!(lines("worker/src/pull.rs", "#[cfg(test)]\n#[allow(x)]\nmod tests;\n"), NOTHING);
        assert_eq!(lines("worker/src/pull.rs", "#[cfg(test)]\nmod tests;\n\nfn f() {}\n"), [1]);
    }
}
