//! Who asks for something and why: kept in the journal, so bounded here.

use super::limits::{BY_LENGTH_MAX, REASON_LENGTH_MAX};
use super::problem::{Problem, ProblemKind};

/// Refuses texts that are too long, as a problem of `kind`.
pub(super) fn check(kind: ProblemKind, by: Option<&str>, reason: Option<&str>) -> Result<(), Problem> {
    for (name, text, max) in [("by", by, BY_LENGTH_MAX), ("reason", reason, REASON_LENGTH_MAX)] {
        if let Some(text) = text
            && text.len() > max
        {
            return Err(Problem::new(kind, format!("'{name}' may have at most {max} bytes, this has {}", text.len())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_too_long_is_refused_by_name() {
        let long = "x".repeat(BY_LENGTH_MAX + 1);
        assert!(check(ProblemKind::InvalidBody, Some("ada"), Some(&long)).is_ok());
        let problem = check(ProblemKind::InvalidBody, Some(&long), None).expect_err("too long");
        assert!(problem.detail().starts_with("'by' may have at most"), "{}", problem.detail());
    }
}
