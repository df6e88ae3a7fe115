//! File names and lengths.

use crate::sources::{Finding, Source};

/// Lines of a Rust file before its test module.
const LINES_MAX: usize = 500;

/// Names of drawers.
const DRAWERS: [&str; 11] = [
    "common",
    "handler2",
    "helper",
    "helpers",
    "manager",
    "managers",
    "misc",
    "shared_utils",
    "stuff",
    "util",
    "utils",
];

/// Beginnings and ends that tell of a first draft.
const DRAFT_PREFIXES: [&str; 3] = ["legacy", "new_", "old_"];
const DRAFT_SUFFIXES: [&str; 4] = ["_legacy", "_new", "_old", "_v2"];

/// Findings of one file.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for part in source.path.split('/') {
        let stem = part.split('.').next().unwrap_or(part).replace('-', "_");
        if DRAWERS.contains(&stem.as_str()) || stem.ends_with("_utils") || stem.ends_with("_helpers") {
            findings.push(source.finding(0, format!("`{part}` says nothing about what it knows")));
        }
        if DRAFT_PREFIXES.iter().any(|prefix| stem.starts_with(prefix))
            || DRAFT_SUFFIXES.iter().any(|suffix| stem.ends_with(suffix))
        {
            findings.push(source.finding(0, format!("`{part}` tells of its past; git does that")));
        }
    }
    if source.is_rust() {
        if source.path.ends_with("/mod.rs") {
            findings.push(source.finding(0, "a module lives in foo.rs beside foo/"));
        }
        let lines = source.shipped_lines().count();
        if lines > LINES_MAX {
            findings.push(source.finding(0, format!("{lines} lines before the tests; split it by noun ({LINES_MAX})")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawers_and_drafts_are_found() {
        for path in [
            "cli/src/utils.rs",
            "worker/src/common/time.rs",
            "shared/model/src/task_manager/manager.rs",
            "docs/misc.md",
            "worker/src/new_pull.rs",
            "worker/src/pull_v2.rs",
            "worker/src/legacy.rs",
            "worker/src/pull/mod.rs",
        ] {
            assert_eq!(check(&Source::new(path, "")).len(), 1, "{path}");
        }
        assert_eq!(check(&Source::new("worker/src/pull.rs", "")), []);
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let code = "fn f() {}\n".repeat(LINES_MAX);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{code}}}\n");
        assert_eq!(check(&Source::new("cli/src/long.rs", &format!("{code}{tests}"))), []);
        assert_eq!(check(&Source::new("cli/src/long.rs", &format!("{code}fn g() {{}}\n{tests}"))).len(), 1);
    }
}
