//! Where the segments of a path begin and end in a text.

use jsonpath_rfc9535::{JsonPath, SingularSegment};

/// One segment: `.name`, `["name"]`, `[0]`, `[*]`, `..name`, `[?…]` and so on.
#[derive(Debug)]
pub(super) struct Segment {
    /// First byte after it.
    pub(super) end: usize,
    /// The member it names, if it names exactly one.
    pub(super) name: Option<String>,
}

/// The segment that starts at byte `at`, if one does.
pub(super) fn segment(text: &str, at: usize) -> Option<Segment> {
    let end = end_of_segment(text, at)?;
    let parsed = JsonPath::parse(&format!("${}", &text[at..end])).ok()?;
    let name = match parsed.singular_steps() {
        Some([SingularSegment::Name(name)]) => Some(name.clone()),
        _ => None,
    };
    Some(Segment { end, name })
}

/// Skips what RFC 9535 calls blank space.
pub(super) fn skip_blank(text: &str, at: usize) -> usize {
    at + text[at..].bytes().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count()
}

/// Bytes of `text` that are not inside string literals, with their places.
pub(super) fn outside_literals(text: &str) -> impl Iterator<Item = (usize, u8)> + '_ {
    let mut quote = None;
    let mut escaped = false;
    text.bytes().enumerate().filter(move |(_, byte)| match quote {
        Some(open) => {
            if escaped {
                escaped = false;
            } else if *byte == b'\\' {
                escaped = true;
            } else if *byte == open {
                quote = None;
            }
            false
        }
        None => {
            if matches!(byte, b'\'' | b'"') {
                quote = Some(*byte);
            }
            quote.is_none()
        }
    })
}

fn end_of_segment(text: &str, at: usize) -> Option<usize> {
    let rest = &text[at..];
    if let Some(after) = rest.strip_prefix("..") {
        return if after.starts_with('[') { end_of_brackets(text, at + 2) } else { end_of_name(text, at + 2) };
    }
    match rest.as_bytes().first()? {
        b'.' => end_of_name(text, at + 1),
        b'[' => end_of_brackets(text, at),
        _ => None,
    }
}

fn end_of_name(text: &str, at: usize) -> Option<usize> {
    let rest = &text[at..];
    if rest.starts_with('*') {
        return Some(at + 1);
    }
    let first = rest.chars().next()?;
    if !is_name(first) || first.is_ascii_digit() {
        return None;
    }
    let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
    Some(at + length)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()
}

fn end_of_brackets(text: &str, at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (place, byte) in outside_literals(&text[at..]) {
        match byte {
            b'[' | b'(' => depth += 1,
            b']' | b')' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + place + 1);
                }
            }
            _ => {}
        }
    }
    None
}
