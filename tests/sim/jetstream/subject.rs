//! Subjects and filters.

/// Whether a subject matches a filter with `*` and `>`.
pub(crate) fn matches(filter: &str, subject: &str) -> bool {
    let mut subject = subject.split('.');
    for token in filter.split('.') {
        match (token, subject.next()) {
            (">", Some(_)) => return true,
            (_, None) => return false,
            ("*", Some(_)) => {}
            (token, Some(found)) if token == found => {}
            (_, Some(_)) => return false,
        }
    }
    subject.next().is_none()
}

/// Whether two filters can match the same subject.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

/// Whether a filter is a subject.
pub(crate) fn is_literal(filter: &str) -> bool {
    !filter.split('.').any(|token| token == "*" || token == ">")
}

/// What every subject that matches a filter starts with.
pub(crate) fn literal_prefix(filter: &str) -> &str {
    let wildcard = filter.find(['*', '>']);
    wildcard.map_or(filter, |at| &filter[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_one_token_or_for_the_rest() {
        assert!(matches("ms.task.http.*", "ms.task.http.0"));
        assert!(!matches("ms.task.http.*", "ms.task.http"));
        assert!(!matches("ms.task.http.*", "ms.task.http.0.1"));
        assert!(matches("ms.journal.0.>", "ms.journal.0.result.http"));
        assert!(!matches("ms.journal.0.>", "ms.journal.0"));
        assert!(matches("a.b", "a.b") && !matches("a.b", "a.c"));
    }

    #[test]
    fn filters_overlap_when_a_subject_matches_both() {
        assert!(overlap("ms.task.*.0", "ms.task.http.*"));
        assert!(!overlap("ms.task.http.*", "ms.task.mail.*"));
        assert!(overlap("ms.>", "ms.task.http.*"));
        assert!(!overlap("ms.task.http", "ms.task.http.*"));
    }
}
