//! Whether a chain is whole, and if not, where it is broken first.

use std::fmt;

use super::{AuditRecord, Head, InvalidLine};
use crate::time::Timestamp;

/// A chain that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub records: u64,
    pub head: Head,
    /// When the first and the last record were made; `None` when there is none.
    pub span: Option<(Timestamp, Timestamp)>,
}

/// The first thing that is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstBad {
    /// Number of the record that is wrong or not there.
    pub seq: u64,
    /// The line that shows it; the first is 1. One more than there are when lines are missing at the end.
    pub line: u64,
    pub why: Why,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// No record at all.
    Unreadable { reason: String },
    /// Its content is not what its hash was taken over.
    Changed { reason: String },
    /// It is not there, nor are those up to `until`.
    Removed { until: u64 },
    /// It comes later, at this line.
    Moved { line: u64 },
    /// A record of this number was there before.
    Repeated,
    /// It names another predecessor than the record before it: one of the two is not of this chain.
    Foreign { before: Head },
    /// The chain ends with `last`, and was longer.
    Truncated { last: u64 },
    /// The record is another one than the expected head.
    Replaced { found: Head },
}

impl fmt::Display for FirstBad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} (line {}): ", self.seq, self.line)?;
        match &self.why {
            Why::Unreadable { reason } => write!(f, "there is no record here: {reason}"),
            Why::Changed { reason } => write!(f, "it was changed: {reason}"),
            Why::Removed { until } if *until == self.seq => f.write_str("it was removed"),
            Why::Removed { until } => write!(f, "it was removed, and all up to {until}"),
            Why::Moved { line } => write!(f, "it was moved to line {line}"),
            Why::Repeated => f.write_str("it is there twice"),
            Why::Foreign { before } => write!(
                f,
                "it does not follow record {}, whose hash is {}: one of the two was replaced",
                before.seq, before.hash
            ),
            Why::Truncated { last } => write!(f, "the trail ends with record {last}, and was longer"),
            Why::Replaced { found } => write!(f, "its hash is {}, which is not the expected one", found.hash),
        }
    }
}

impl std::error::Error for FirstBad {}

/// Checks the lines of a chain one after the other, from its first record on.
#[derive(Debug, Default)]
pub struct Verifier {
    head: Head,
    lines: u64,
    span: Option<(Timestamp, Timestamp)>,
    expected: Option<Head>,
    bad: Option<FirstBad>,
}

impl Verifier {
    /// `expected` is a record that must be there, such as the head that somebody noted.
    pub fn new(expected: Option<Head>) -> Self {
        Self { expected, ..Self::default() }
    }

    /// Looks at the next line.
    pub fn push(&mut self, line: &[u8]) {
        self.lines += 1;
        if self.bad.is_some() {
            self.look_for_the_missing(line);
        } else if let Err(bad) = self.follow(line) {
            self.bad = Some(bad);
        }
    }

    /// What was found, when nothing more comes.
    pub fn finish(self) -> Result<Summary, FirstBad> {
        if let Some(bad) = self.bad {
            return Err(bad);
        }
        match self.expected {
            Some(expected) if expected.seq > self.head.seq => {
                let why = Why::Truncated { last: self.head.seq };
                Err(FirstBad { seq: self.head.seq + 1, line: self.lines + 1, why })
            }
            Some(_) | None => Ok(Summary { records: self.head.seq, head: self.head, span: self.span }),
        }
    }

    /// The newest record that follows all before it.
    pub fn head(&self) -> Head {
        self.head
    }

    /// What is wrong so far.
    pub fn bad(&self) -> Option<&FirstBad> {
        self.bad.as_ref()
    }

    fn follow(&mut self, line: &[u8]) -> Result<(), FirstBad> {
        let next = self.head.seq + 1;
        let bad = |seq, why| FirstBad { seq, line: self.lines, why };
        let record = AuditRecord::of_line(line).map_err(|error| {
            let reason = error.to_string();
            bad(
                next,
                match error {
                    InvalidLine::Form { .. } => Why::Unreadable { reason },
                    InvalidLine::Hash | InvalidLine::Writing => Why::Changed { reason },
                },
            )
        })?;
        if record.seq > next {
            return Err(bad(next, Why::Removed { until: record.seq - 1 }));
        }
        if record.seq < next {
            return Err(bad(record.seq, Why::Repeated));
        }
        if record.previous != self.head.hash {
            return Err(bad(next, Why::Foreign { before: self.head }));
        }
        let found = record.head();
        if self.expected.is_some_and(|expected| expected.seq == next && expected != found) {
            return Err(bad(next, Why::Replaced { found }));
        }
        self.head = found;
        self.span = Some((self.span.map_or(record.at, |(first, _)| first), record.at));
        Ok(())
    }

    /// A record that seems removed may have been moved.
    fn look_for_the_missing(&mut self, line: &[u8]) {
        if let Some(FirstBad { seq, why: why @ Why::Removed { .. }, .. }) = &mut self.bad
            && AuditRecord::of_line(line).is_ok_and(|record| record.seq == *seq)
        {
            *why = Why::Moved { line: self.lines };
        }
    }
}

/// Checks a whole chain; `expected` as in [`Verifier::new`].
pub fn verify_chain<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    expected: Option<Head>,
) -> Result<Summary, FirstBad> {
    let mut verifier = Verifier::new(expected);
    for line in lines {
        verifier.push(line);
    }
    verifier.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{AuditKind, Decision};
    use super::*;

    #[test]
    fn a_chain_that_nobody_touched_is_whole() {
        let (lines, heads) = chain(5);
        let summary = verify(&lines, None).expect("whole");
        assert_eq!((summary.records, summary.head), (5, heads[4]));
        assert_eq!(verify(&lines, Some(heads[4])).expect("whole").records, 5);
        assert_eq!(verify(&lines, Some(heads[2])).expect("it has grown since").records, 5);
        assert_eq!(verify(&[], None).expect("an empty chain").head, Head::default());
    }

    #[test]
    fn a_flipped_byte_names_its_record() {
        let (lines, _) = chain(5);
        for place in [10, lines[2].len() / 2, lines[2].len() - 2] {
            let mut bytes: Vec<Vec<u8>> = lines.iter().map(|line| line.clone().into_bytes()).collect();
            bytes[2][place] ^= 1;
            let bad = verify_chain(bytes.iter().map(Vec::as_slice), None).expect_err("broken");
            assert_eq!((bad.seq, bad.line), (3, 3));
            assert!(matches!(bad.why, Why::Changed { .. } | Why::Unreadable { .. }), "{bad}");
        }
    }

    #[test]
    fn a_removed_record_is_named() {
        let (mut lines, _) = chain(5);
        lines.remove(2);
        check(&lines, None, 3, 3, &Why::Removed { until: 3 }, "it was removed");
        lines.remove(2);
        check(&lines, None, 3, 3, &Why::Removed { until: 4 }, "it was removed, and all up to 4");
    }

    #[test]
    fn a_removed_beginning_is_named() {
        let (lines, _) = chain(5);
        check(&lines[2..], None, 1, 1, &Why::Removed { until: 2 }, "it was removed, and all up to 2");
    }

    #[test]
    fn records_in_another_order_are_named() {
        let (mut lines, _) = chain(5);
        lines.swap(1, 3);
        check(&lines, None, 2, 2, &Why::Moved { line: 4 }, "it was moved to line 4");
    }

    #[test]
    fn a_repeated_record_is_named() {
        let (mut lines, _) = chain(3);
        lines.insert(2, lines[1].clone());
        check(&lines, None, 2, 3, &Why::Repeated, "it is there twice");
    }

    #[test]
    fn a_record_of_another_chain_is_named_even_if_it_is_sound_in_itself() {
        let (mut lines, heads) = chain(4);
        let mut other = Head { seq: 2, ..Head::default() };
        lines[2] = other.append(&decision(99));
        check(&lines, None, 3, 3, &Why::Foreign { before: heads[1] }, "it does not follow record 2");
    }

    #[test]
    fn a_record_that_was_replaced_with_a_sound_one_shows_at_the_next() {
        let (mut lines, heads) = chain(4);
        let mut forged = heads[1];
        lines[2] = forged.append(&decision(99));
        check(&lines, None, 4, 4, &Why::Foreign { before: forged }, "one of the two was replaced");
    }

    #[test]
    fn what_is_cut_off_is_seen_by_who_knows_the_head() {
        let (lines, heads) = chain(5);
        assert!(verify(&lines[..3], None).is_ok(), "nobody can see it from the rest alone");
        check(&lines[..3], Some(heads[4]), 4, 4, &Why::Truncated { last: 3 }, "ends with record 3");
    }

    #[test]
    fn a_chain_that_was_written_anew_is_seen_by_who_knows_the_head() {
        let (lines, _) = chain(3);
        let mut other = Head::default();
        for n in 7..10 {
            other.append(&decision(n));
        }
        let found = AuditRecord::of_line(lines[2].as_bytes()).expect("a record").head();
        check(&lines, Some(other), 3, 3, &Why::Replaced { found }, "not the expected one");
    }

    #[test]
    fn a_torn_line_is_named() {
        let (mut lines, _) = chain(3);
        lines[2].truncate(20);
        let bad = verify(&lines, None).expect_err("broken");
        assert_eq!((bad.seq, bad.line), (3, 3));
        assert!(matches!(bad.why, Why::Unreadable { .. }));
    }

    #[track_caller]
    fn check(lines: &[String], expected: Option<Head>, seq: u64, line: u64, why: &Why, said: &str) {
        let bad = verify(lines, expected).expect_err("broken");
        assert_eq!((bad.seq, bad.line, &bad.why), (seq, line, why));
        assert!(bad.to_string().contains(said), "{bad}");
    }

    fn verify(lines: &[String], expected: Option<Head>) -> Result<Summary, FirstBad> {
        verify_chain(lines.iter().map(String::as_bytes), expected)
    }

    /// A chain and the head after each of its records.
    fn chain(length: u64) -> (Vec<String>, Vec<Head>) {
        let mut head = Head::default();
        let mut heads = Vec::new();
        let lines = (0..length).map(|n| {
            let line = head.append(&decision(n));
            heads.push(head);
            line
        });
        (lines.collect(), heads)
    }

    fn decision(n: u64) -> Decision {
        Decision {
            at: Timestamp::from_millis(1_763_648_712_000 + n),
            trace_id: None,
            execution: None,
            kind: AuditKind::Admin,
            actor: Some("ada".to_owned()),
            target: format!("workflow w{n}"),
            reasoning: "because".to_owned(),
            alternatives: Vec::new(),
            context: json!({"number": n}),
        }
    }
}
