//! Records in files, one for each trace, each with a chain of its own.
//!
//! One thread writes. Processes that share the directory take turns by the lock of the file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_model::audit::{self, AuditRecord, Decision, Head};
use millstream_model::trace::TraceId;
use tokio::sync::mpsc;

use super::{Filter, FindError, Order, Orders, QUEUE};

/// Where decisions go that belong to no trace.
const UNTRACED: &str = "untraced";
/// Between two tries of what the disk does not take.
const RETRY: Duration = Duration::from_secs(1);
/// A record is shorter than this, as a rule; a longer last one is found in more steps.
const TAIL: u64 = 16 * 1024;

/// Starts the thread of the files in `directory`.
pub(super) fn start(directory: &Path) -> Orders {
    let (orders, mut queue) = mpsc::channel(QUEUE);
    let directory = directory.to_owned();
    std::thread::spawn(move || {
        while let Some(order) = queue.blocking_recv() {
            match order {
                Order::Append(decisions) => append_all(&directory, &decisions),
                Order::Insert(_) => {}
                // Who asked and went away needs no answer.
                Order::Find(filter, reply) => drop(reply.send(find(&directory, &filter))),
                Order::Flush(reply) => drop(reply.send(Head::default())),
            }
        }
    });
    orders
}

fn append_all(directory: &Path, decisions: &[Decision]) {
    let mut by_file: BTreeMap<PathBuf, Vec<&Decision>> = BTreeMap::new();
    for decision in decisions {
        by_file.entry(path_of(directory, trace_of(decision))).or_default().push(decision);
    }
    for (path, decisions) in by_file {
        let mut failures = 0_u32;
        while let Err(error) = append(&path, &decisions) {
            failures = failures.saturating_add(1);
            if failures.is_power_of_two() {
                let path = path.display();
                tracing::error!(%error, %path, "records of the audit trail cannot be written yet");
            }
            std::thread::sleep(RETRY);
        }
    }
}

/// The trace of a decision; that of an execution whose trace is not told is the one it has by itself.
fn trace_of(decision: &Decision) -> Option<TraceId> {
    decision.trace_id.or_else(|| decision.execution.map(TraceId::of))
}

fn path_of(directory: &Path, trace: Option<TraceId>) -> PathBuf {
    directory.join(format!("{}.jsonl", trace.map_or_else(|| UNTRACED.to_owned(), |trace| trace.to_string())))
}

fn append(path: &Path, decisions: &[&Decision]) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    // Closing the file gives the lock back.
    file.lock()?;
    let (mut head, ends_with_line) = tail(&mut file)?;
    let lines: Vec<String> = decisions.iter().map(|decision| head.append(decision)).collect();
    let mut text = audit::join(&lines);
    if !ends_with_line {
        // A line that a crash tore stays as it is, for `audit verify` to name.
        text.insert(0, b'\n');
    }
    file.write_all(&text)
}

/// The newest record of a file, and whether the file ends with a whole line.
fn tail(file: &mut File) -> io::Result<(Head, bool)> {
    let size = file.metadata()?.len();
    let mut text = Vec::new();
    let mut from = size;
    loop {
        if let Some(head) = audit::lines(&text).rev().find_map(|line| AuditRecord::of_line(line).ok()) {
            return Ok((head.head(), text.ends_with(b"\n")));
        }
        if from == 0 {
            return Ok((Head::default(), text.is_empty() || text.ends_with(b"\n")));
        }
        from = from.saturating_sub(TAIL.max(size - from));
        file.seek(SeekFrom::Start(from))?;
        text.clear();
        io::Read::take(&mut *file, size - from).read_to_end(&mut text)?;
    }
}

fn find(directory: &Path, filter: &Filter) -> Result<Vec<String>, FindError> {
    let trace = filter.trace.or_else(|| filter.execution.map(TraceId::of)).ok_or(FindError::TraceNeeded)?;
    let text = match std::fs::read(path_of(directory, Some(trace))) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(FindError::File { source }),
    };
    let found = audit::lines(&text).rev().filter_map(|line| {
        let record: AuditRecord = serde_json::from_slice(line).ok()?;
        matches(&record, filter).then(|| String::from_utf8(line.to_owned()).ok()).flatten()
    });
    Ok(found.take(filter.limit).collect())
}

fn matches(record: &AuditRecord, filter: &Filter) -> bool {
    filter.execution.is_none_or(|execution| record.execution == Some(execution))
        && filter.kind.is_none_or(|kind| record.kind == kind)
        && filter.actor.as_ref().is_none_or(|actor| record.actor.as_ref() == Some(actor))
        && filter.after.is_none_or(|after| record.at > after)
        && filter.before.is_none_or(|before| record.at < before)
        && filter.cursor.is_none_or(|cursor| record.seq < cursor)
}

#[cfg(test)]
mod tests {
    use millstream_model::audit::{AuditKind, FirstBad, Summary, verify_chain};
    use millstream_model::time::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_trace_has_a_file_and_each_file_a_chain() {
        let directory = Directory::new("traces");
        let trace: TraceId = "0af7651916cd43dd8448eb211c80319c".parse().expect("a trace");
        append_all(&directory.0, &[decision(Some(trace), ""), decision(None, "")]);
        append_all(&directory.0, &[decision(Some(trace), "")]);
        assert_eq!(verify(&path_of(&directory.0, Some(trace))).expect("whole").records, 2);
        assert_eq!(verify(&directory.0.join("untraced.jsonl")).expect("whole").records, 1);
        let filter = Filter { trace: Some(trace), limit: 1, ..Filter::default() };
        assert_eq!(find(&directory.0, &filter).expect("found").len(), 1);
        let unknown = Filter { limit: 1, ..Filter::default() };
        assert!(matches!(find(&directory.0, &unknown), Err(FindError::TraceNeeded)));
    }

    #[test]
    fn a_record_longer_than_the_first_look_back_is_followed() {
        let directory = Directory::new("long");
        let path = directory.0.join("untraced.jsonl");
        for size in [0, 100_000, 40_000, 7] {
            append_all(&directory.0, &[decision(None, &"x".repeat(size))]);
        }
        assert_eq!(verify(&path).expect("whole").records, 4);
    }

    #[test]
    fn a_torn_line_is_named_and_the_file_goes_on() {
        let directory = Directory::new("torn");
        let path = directory.0.join("untraced.jsonl");
        append_all(&directory.0, &[decision(None, ""), decision(None, "")]);
        let text = std::fs::read(&path).expect("a file");
        std::fs::write(&path, &text[..text.len() - 20]).expect("a writable file");
        append_all(&directory.0, &[decision(None, "")]);
        let bad = verify(&path).expect_err("broken");
        assert_eq!((bad.seq, bad.line), (2, 2));
        let lines = std::fs::read(&path).expect("a file");
        let last = audit::lines(&lines).next_back().expect("a line");
        assert_eq!(AuditRecord::of_line(last).expect("a record").seq, 2, "it follows the last sound record");
    }

    fn verify(path: &Path) -> Result<Summary, FirstBad> {
        verify_chain(audit::lines(&std::fs::read(path).expect("a file")), None)
    }

    fn decision(trace_id: Option<TraceId>, filling: &str) -> Decision {
        Decision {
            at: Timestamp::from_millis(1_763_648_712_000),
            trace_id,
            execution: None,
            kind: AuditKind::Admin,
            actor: None,
            target: "workflow w".to_owned(),
            reasoning: "because".to_owned(),
            alternatives: Vec::new(),
            context: json!({ "filling": filling }),
        }
    }

    /// A directory that goes with the test.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("millstream-audit-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a writable directory");
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }
}
