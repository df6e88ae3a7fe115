//! Documents: links resolve, the change log has room for the next change, and each document is reachable.

use std::collections::BTreeSet;

use crate::sources::{Finding, Source};

/// Documents that must exist.
const REQUIRED: [&str; 9] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "docs/glossary.md",
    "docs/api.md",
    "docs/workflow.md",
    "docs/configuration.md",
];

/// Findings over all files.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let paths: BTreeSet<&str> = sources.iter().map(|source| source.path.as_str()).collect();
    let mut findings = Vec::new();
    for path in REQUIRED.iter().filter(|path| !paths.contains(*path)) {
        findings.push(Finding { path: (*path).to_owned(), line: 0, message: "is missing".to_owned() });
    }
    for source in sources.iter().filter(|source| source.path.ends_with(".md")) {
        findings.extend(links(source, sources));
    }
    if let Some(log) = sources.iter().find(|source| source.path == "CHANGELOG.md")
        && !log.text.lines().any(|line| line.trim() == "## Unreleased")
    {
        findings.push(log.finding(0, "has no `## Unreleased`"));
    }
    findings.extend(unreachable(sources));
    findings
}

/// Relative links of a document that lead nowhere.
fn links(source: &Source, sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, target) in targets(&source.text) {
        let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let path = if file.is_empty() { source.path.clone() } else { resolve(&source.path, file) };
        let found = sources.iter().find(|other| other.path == path);
        let is_folder = sources.iter().any(|other| other.path.starts_with(&format!("{}/", path.trim_end_matches('/'))));
        match found {
            None if !is_folder => findings.push(source.finding(line, format!("`{target}` leads nowhere"))),
            Some(other) if !anchor.is_empty() && other.path.ends_with(".md") && !has_heading(&other.text, anchor) => {
                findings.push(source.finding(line, format!("`{target}`: there is no such heading")));
            }
            Some(other) if !anchor.is_empty() && other.is_rust() => {
                findings.push(source.finding(line, format!("`{target}`: lines of code move; link the file")));
            }
            Some(_) | None => {}
        }
    }
    findings
}

/// Documents of `docs/` that no other document links.
fn unreachable(sources: &[Source]) -> Vec<Finding> {
    let linked: BTreeSet<String> = sources
        .iter()
        .filter(|source| source.path.ends_with(".md"))
        .flat_map(|source| {
            let targets = targets(&source.text).into_iter();
            targets.map(|(_, target)| resolve(&source.path, target.split('#').next().unwrap_or(&target)))
        })
        .collect();
    let documents = sources.iter().filter(|source| source.path.starts_with("docs/") && source.path.ends_with(".md"));
    documents
        .filter(|source| !linked.contains(&source.path))
        .map(|source| source.finding(0, "no document links to it"))
        .collect()
}

/// Targets of the relative Markdown links of a text, code blocks left out.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (i, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            let target = &rest[..rest.find(')').unwrap_or(rest.len())];
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push((i + 1, target.to_owned()));
            }
        }
    }
    found
}

/// The path that `target` means in the document `from`.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn has_heading(text: &str, anchor: &str) -> bool {
    text.lines().filter(|line| line.starts_with('#')).any(|line| slug(line) == anchor)
}

/// The anchor that GitHub gives a heading.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linked(text: &str) -> Vec<String> {
        let document = Source::new("docs/api.md", text);
        let sources = [
            document.clone(),
            Source::new("README.md", "# Top\n\n## First run\n"),
            Source::new("tests/e2e/main.rs", ""),
        ];
        links(&document, &sources).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        assert_eq!(
            linked("[a](../README.md) [b](../README.md#first-run) [c](../tests/e2e) [d](https://example.com)"),
            [""; 0]
        );
        assert_eq!(linked("[a](../RAEDME.md)"), ["`../RAEDME.md` leads nowhere"]);
        assert_eq!(linked("[a](../README.md#last-run)"), ["`../README.md#last-run`: there is no such heading"]);
        assert_eq!(linked("[a](../tests/e2e/main.rs#L5)").len(), 1);
        assert_eq!(linked("```\n[a](nowhere)\n```"), [""; 0]);
    }

    #[test]
    fn a_document_that_nobody_links_is_found() {
        let sources = [
            Source::new("docs/lost.md", ""),
            Source::new("README.md", "[x](docs/found.md)"),
            Source::new("docs/found.md", ""),
        ];
        assert_eq!(unreachable(&sources), [sources[0].finding(0, "no document links to it")]);
    }

    #[test]
    fn a_closed_change_log_is_found() {
        let sources = [Source::new("CHANGELOG.md", "# Changes\n\n## 0.1.0\n")];
        assert!(check(&sources).contains(&sources[0].finding(0, "has no `## Unreleased`")));
    }
}
