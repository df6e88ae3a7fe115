//! Persisted means forever: a kind of entry comes with its word, its line of text and its golden bytes.

use crate::sources::{Finding, Source};

const ENTRIES: &str = "shared/model/src/entry.rs";
const GLOSSARY: &str = "docs/glossary.md";
/// Sources of `render`.
const RENDER: &str = "coordinator/engine/src/render";
/// Folder with one file of bytes per kind, which nobody edits.
const GOLDEN: &str = "tests/golden/entries/";

/// Findings over all files.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let Some(entries) = sources.iter().find(|source| source.path == ENTRIES) else {
        return vec![Finding { path: ENTRIES.to_owned(), line: 0, message: "is missing".to_owned() }];
    };
    let glossary = text_of(sources, |path| path == GLOSSARY);
    let render = text_of(sources, |path| path.starts_with(RENDER) && path.ends_with(".rs"));
    let mut findings = Vec::new();
    for kind in kinds(&entries.text) {
        let name = snake_case(&kind);
        if !glossary.contains(&format!("`{name}`")) {
            findings.push(entries.finding(0, format!("`{name}` is not in {GLOSSARY}")));
        }
        if !render.contains(&format!("Entry::{kind}")) {
            findings.push(entries.finding(0, format!("{RENDER} has no line for `{kind}`")));
        }
        let golden = format!("{GOLDEN}{name}.json");
        if !sources.iter().any(|source| source.path == golden) {
            findings.push(entries.finding(0, format!("there is no {golden}")));
        }
    }
    findings
}

fn text_of(sources: &[Source], wanted: impl Fn(&str) -> bool) -> String {
    let texts: Vec<&str> =
        sources.iter().filter(|source| wanted(&source.path)).map(|source| source.text.as_str()).collect();
    texts.join("\n")
}

/// Names of the variants of `enum Entry`.
fn kinds(text: &str) -> Vec<String> {
    let body = text.lines().skip_while(|line| !line.starts_with("pub enum Entry {")).skip(1);
    body.take_while(|line| !line.starts_with('}'))
        .map(str::trim)
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .filter_map(|line| line.split(['(', ' ', ',']).next())
        .map(ToOwned::to_owned)
        .collect()
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (i, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_nobody_explains_is_found() {
        let enumeration =
            "/// Doc.\npub enum Entry {\n    /// Why.\n    TimerFired(TimerFired),\n    Epoch(Epoch),\n}\n";
        assert_eq!(kinds(enumeration), ["TimerFired", "Epoch"]);
        let full = [
            Source::new(ENTRIES, enumeration),
            Source::new(GLOSSARY, "`timer_fired` and `epoch`"),
            Source::new("coordinator/engine/src/render.rs", "Entry::TimerFired(t) => x, Entry::Epoch(e) => y"),
            Source::new("tests/golden/entries/timer_fired.json", "{}"),
            Source::new("tests/golden/entries/epoch.json", "{}"),
        ];
        assert_eq!(check(&full), []);
        for missing in 1..full.len() {
            let mut sources = full.to_vec();
            sources.remove(missing);
            assert!(!check(&sources).is_empty(), "without {}", full[missing].path);
        }
    }
}
