//! Cursors: where a page of a list ended, so that the next one begins there whatever was added meanwhile.
//!
//! As text a cursor is hexadecimal: the query's fingerprint, the last execution's id, its sort key, and, where that
//! counts, its workflow. Every coordinator understands the cursors of the others.

use std::fmt;
use std::str::FromStr;

use millstream_model::ids::ExecutionId;

use super::index::id_of;

/// A place in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub(super) query: [u8; 8],
    pub(super) id: ExecutionId,
    /// The time or duration that the last execution was sorted by.
    pub(super) key: i64,
    /// Empty unless the list is sorted by it.
    pub(super) workflow: String,
}

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor that a list has given")]
pub struct InvalidCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: [&[u8]; 4] = [&self.query, self.id.as_bytes(), &self.key.to_be_bytes(), self.workflow.as_bytes()];
        parts.into_iter().flatten().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let digits: Option<Vec<u8>> =
            text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
        let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or(InvalidCursor)?;
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        let (query, rest) = bytes.split_first_chunk().ok_or(InvalidCursor)?;
        let (id, rest) = rest.split_first_chunk().ok_or(InvalidCursor)?;
        let (key, workflow) = rest.split_first_chunk().ok_or(InvalidCursor)?;
        Ok(Self {
            query: *query,
            id: id_of(*id),
            key: i64::from_be_bytes(*key),
            workflow: String::from_utf8(workflow.to_vec()).map_err(|_| InvalidCursor)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back() {
        for (key, workflow) in [(0, ""), (i64::MAX, "orders"), (-5, "a-b_c")] {
            let id = "01934567-89ab-7cde-8f01-234567890a03".parse().expect("an id");
            let cursor = Cursor { query: [1, 2, 3, 4, 5, 6, 7, 255], id, key, workflow: workflow.to_owned() };
            let text = cursor.to_string();
            assert!(text.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
            assert_eq!(text.parse(), Ok(cursor));
        }
    }

    #[test]
    fn what_no_list_has_given_is_refused() {
        for text in ["", "0", "zz", "0102", &"ff".repeat(31), &"ff".repeat(40), "ü"] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text}");
        }
    }
}
