//! Every lock with its reason: state has one owner, and what is shared is an exception.

use crate::sources::{Finding, Source, code_of};

/// Files that lock, and why.
const REASONS: [(&str, &str); 12] = [
    ("coordinator/server/src/catalog.rs", "held over look and write: of two creations of one thing, one is told so"),
    ("coordinator/server/src/catalog/plans.rs", "requests of every thread look up compiled plans"),
    ("coordinator/server/src/history/index/readers.rs", "a connection runs one query, on a thread that may wait"),
    ("shared/broker/src/replies.rs", "every sender registers its wait before it sends, and the router ends it"),
    ("worker/src/cancelled.rs", "one task writes, every run reads"),
    ("worker/src/worker/crew.rs", "whoever follows the agents changes the lanes, who announces presence reads them"),
    ("worker/src/gate.rs", "one task writes, every run reads"),
    ("worker/src/manifests.rs", "every run looks up its adapter; loading happens outside of the lock"),
    ("tests/src/cluster.rs", "tests of one binary start the cluster they share at the same time"),
    ("tests/src/collector.rs", "spans come in on the server's task and are read by the test"),
    ("tests/src/process.rs", "a closure that is asked again and again borrows the child"),
    ("tests/src/witness.rs", "calls come in on the server's task and are read by the test"),
];

/// Findings over all files.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    compare(sources, &REASONS)
}

fn compare(sources: &[Source], reasons: &[(&str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust() && !source.is_test_file()) {
        let first = source.shipped_lines().find(|(_, line)| locks(code_of(line)));
        let listed = reasons.iter().any(|(path, _)| *path == source.path);
        match first {
            Some((line, _)) if !listed => {
                findings.push(source.finding(line, "a lock without a reason in tests/tidy/locks.rs"));
            }
            None if listed => findings.push(source.finding(0, "has a reason in tests/tidy/locks.rs and no lock")),
            Some(_) | None => {}
        }
    }
    let gone = reasons.iter().filter(|(path, _)| !sources.iter().any(|source| source.path == *path));
    findings.extend(gone.map(|(path, _)| Finding {
        path: (*path).to_owned(),
        line: 0,
        message: "has a reason in tests/tidy/locks.rs and does not exist".to_owned(),
    }));
    findings
}

fn locks(code: &str) -> bool {
    ["Mutex<", "Mutex::", "RwLock<", "RwLock::"].iter().any(|pattern| code.contains(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_without_a_reason_and_a_reason_without_a_lock_are_found() {
        let locking = Source::new("worker/src/a.rs", "struct S {\n    x: std::sync::Mutex<u8>,\n}\n");
        let owning = Source::new("worker/src/b.rs", "struct S {\n    x: u8,\n}\n");
        let sources = [locking, owning];
        let lines = |reasons: &[(&str, &str)]| -> Vec<(String, usize)> {
            compare(&sources, reasons).into_iter().map(|finding| (finding.path, finding.line)).collect()
        };
        assert_eq!(lines(&[]), [("worker/src/a.rs".to_owned(), 2)]);
        assert_eq!(lines(&[("worker/src/a.rs", "why")]), []);
        let both = [("worker/src/a.rs", "why"), ("worker/src/b.rs", "why")];
        assert_eq!(lines(&both), [("worker/src/b.rs".to_owned(), 0)]);
        let gone = [("worker/src/a.rs", "why"), ("worker/src/c.rs", "why")];
        assert_eq!(lines(&gone), [("worker/src/c.rs".to_owned(), 0)]);
    }
}
