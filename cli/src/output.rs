//! What is written: results to stdout, everything else to stderr.

use std::io::Write as _;

use serde::Serialize;

/// Nobody reads stdout any more, as in `| head`.
#[derive(Debug, thiserror::Error)]
#[error("stdout is closed")]
pub(crate) struct Closed;

/// Writes a line of a result.
pub(crate) fn line(text: &str) -> Result<(), Closed> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|_| Closed)
}

/// Writes a value as JSON that people can read.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Closed> {
    line(&serde_json::to_string_pretty(value).expect("it has a JSON form"))
}

/// Writes a value as one line of JSON.
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Closed> {
    line(&serde_json::to_string(value).expect("it has a JSON form"))
}

/// Tells something that is not the result.
pub(crate) fn note(text: &str) {
    // Without a stderr there is nobody to tell.
    writeln!(std::io::stderr(), "{text}").ok();
}

/// Writes rows below their headings, in columns as wide as what is in them.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> Result<(), Closed> {
    line(&aligned(headings, rows))
}

/// Rows below their headings as text.
pub(crate) fn aligned(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(|heading| heading.to_uppercase()).collect();
    let all = || std::iter::once(&headings).chain(rows);
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let lines = all().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let text = aligned(&["id", "status"], &[row("über", "ACTIVE"), row("b", "")]);
        assert_eq!(text, "ID    STATUS\nüber  ACTIVE\nb");
    }
}
