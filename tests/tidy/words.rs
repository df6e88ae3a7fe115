//! Words that have no place here.

use crate::sources::{Finding, Source, comment_of};

/// Marks of what is not done; the last letter is apart so that this file has none.
const PROMISES: [(&str, &str); 4] = [("TOD", "O"), ("FIXM", "E"), ("XX", "X"), ("HAC", "K")];

/// Words of comments that tell of a change instead of what is.
const CHANGE_WORDS: [&str; 12] = [
    "no longer",
    "previously",
    "instead of the old",
    "used to be",
    "legacy",
    "for now",
    "refactored",
    "old implementation",
    "new implementation",
    "moved from",
    "renamed from",
    "was changed",
];

/// Beginnings of paths that exist on one machine only.
const MACHINE_PATHS: [&str; 4] = ["/home/", "/root/", "/Users/", concat!("/", "work/")];

/// Hosts that a file may name.
const HOSTS: [&str; 18] = [
    "127.0.0.1",
    "localhost",
    "example.com",
    "example.org",
    "github.com",
    "crates.io",
    "docs.rs",
    "rustup.rs",
    "wfcommons.org",
    "www.apache.org",
    "www.w3.org",
    "www.rfc-editor.org",
    "html.spec.whatwg.org",
    "json-schema.org",
    "docs.nats.io",
    "opentelemetry.io",
    "keepachangelog.com",
    "semver.org",
];

/// Domains that nobody owns (RFC 2606).
const RESERVED: [&str; 3] = [".example", ".invalid", ".test"];

/// Findings of one file.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    // The rules themselves have to name what they look for.
    if source.path.starts_with("tests/tidy/") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (i, line) in source.text.lines().enumerate() {
        findings.extend(promises(source, i + 1, line));
        findings.extend(machine(source, i + 1, line));
        if source.is_rust() {
            let comment = comment_of(line).to_lowercase();
            let told = CHANGE_WORDS.iter().filter(|word| comment.contains(*word));
            findings
                .extend(told.map(|word| source.finding(i + 1, format!("`{word}` tells of a change; git does that"))));
        }
    }
    findings
}

fn promises(source: &Source, number: usize, line: &str) -> Vec<Finding> {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric());
    words
        .filter(|word| PROMISES.iter().any(|(head, tail)| word.strip_prefix(head) == Some(tail)))
        .map(|word| source.finding(number, format!("`{word}`: do it or write an issue")))
        .collect()
}

fn machine(source: &Source, number: usize, line: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in MACHINE_PATHS {
        let starts = line.match_indices(path).any(|(at, _)| {
            !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}'))
        });
        if starts {
            findings.push(source.finding(number, format!("`{path}…` exists on one machine only")));
        }
    }
    for scheme in ["http://", "https://"] {
        for (at, _) in line.match_indices(scheme) {
            let rest = &line[at + scheme.len()..];
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '-')).unwrap_or(rest.len());
            let host = &rest[..end];
            // A host without a dot is a name in somebody's cluster or a placeholder, not a registry.
            let is_reserved = RESERVED.iter().any(|domain| host.ends_with(domain));
            if host.contains('.') && !is_reserved && !HOSTS.contains(&host.trim_end_matches('.')) {
                findings.push(source.finding(number, format!("host `{host}` is not among those we name")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&Source::new(path, text)).len()
    }

    #[test]
    fn promises_are_found_anywhere() {
        for (head, tail) in PROMISES {
            assert_eq!(count("docs/api.md", &format!("Here is a {head}{tail}: more.")), 1);
            assert_eq!(count("worker/src/pull.rs", &format!("// {head}{tail} later")), 1);
            assert_eq!(count("worker/src/pull.rs", &format!("let {head}{tail}S = 1;")), 0);
        }
    }

    #[test]
    fn comments_that_tell_of_a_change_are_found() {
        for word in CHANGE_WORDS {
            assert_eq!(count("worker/src/pull.rs", &format!("    // This is {word} so.")), 1, "{word}");
            assert_eq!(count("worker/src/pull.rs", &format!("    f(); // {word}")), 1, "{word}");
            assert_eq!(count("worker/src/pull.rs", &format!("let text = \"{word}\";")), 0, "{word}");
        }
    }

    #[test]
    fn paths_and_hosts_of_one_machine_are_found() {
        assert_eq!(count("docs/api.md", "see /home/someone/file"), 1);
        assert_eq!(count("docs/api.md", concat!("see `/", "work/x`")), 1);
        assert_eq!(count("docs/api.md", concat!("tests/", "work/x")), 0);
        assert_eq!(count("Cargo.lock", "source = \"registry+https://mirror.internal/index\""), 1);
        assert_eq!(count("docs/api.md", "curl http://127.0.0.1:8686/workflows"), 0);
        assert_eq!(count("docs/api.md", "http://erp:8080/book"), 0);
    }
}
