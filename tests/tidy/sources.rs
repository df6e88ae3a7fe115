//! Every text file of the repository, read once.

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use millstream_tests::workspace;

/// Folders that are not part of the repository.
const OUTSIDE: [&str; 4] = [".git", ".millstream", "target", "__pycache__"];

/// A file.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) path: String,
    /// From 1; 0 when the file as a whole is meant.
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    pub(crate) fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, message: message.into() }
    }

    /// Whether it is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether all of it is test code.
    pub(crate) fn is_test_file(&self) -> bool {
        (self.path.starts_with("tests/") && !self.path.starts_with("tests/src/"))
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
            || self.path.contains("/benches/")
    }

    /// Lines before the test module, each with its number from 1.
    pub(crate) fn shipped_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(i, line)| (i + 1, line));
        lines.take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
    }

    /// Lines of the test module, or all lines of a test file.
    pub(crate) fn test_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let skip = if self.is_test_file() { 0 } else { self.shipped_lines().count() };
        self.text.lines().enumerate().map(|(i, line)| (i + 1, line)).skip(skip)
    }
}

/// The part of a line of Rust before its comment.
pub(crate) fn code_of(line: &str) -> &str {
    if line.trim_start().starts_with("//") {
        return "";
    }
    // A `//` inside of a string is nearly always that of a URL, which has a colon before it.
    match line.find(" // ") {
        Some(start) => &line[..start],
        None => line,
    }
}

/// The comment of a line of Rust.
pub(crate) fn comment_of(line: &str) -> &str {
    let trimmed = line.trim_start();
    if trimmed.starts_with("//") {
        return trimmed;
    }
    line.find(" // ").map_or("", |start| &line[start + 1..])
}

/// Every text file of the repository.
pub(crate) fn sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let mut found = Vec::new();
        collect(workspace::root(), "", &mut found);
        found.sort_by(|a: &Source, b| a.path.cmp(&b.path));
        found
    })
}

fn collect(directory: &Path, prefix: &str, found: &mut Vec<Source>) {
    let entries = std::fs::read_dir(directory).expect("the repository can be read");
    for entry in entries {
        let entry = entry.expect("the repository can be read");
        let name = entry.file_name().into_string().expect("our names are UTF-8");
        if OUTSIDE.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.file_type().expect("the repository can be read").is_dir() {
            collect(&entry.path(), &format!("{path}/"), found);
        } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
            found.push(Source { path, text });
        }
    }
}
