//! What code knows by name, documents explain: settings, problems, events, error codes.

use crate::sources::{Finding, Source};

/// Where names come from, how to find them there, and the documents that must have each.
struct Names {
    source: &'static str,
    find: fn(&str) -> Vec<String>,
    documents: &'static [&'static str],
}

const NAMES: [Names; 5] = [
    Names {
        source: "coordinator/server/src/config/settings.rs",
        find: |text| after_each(text, "key: \""),
        documents: &["docs/configuration.md"],
    },
    Names { source: "worker/src/settings.rs", find: worker_settings, documents: &["docs/configuration.md"] },
    Names { source: "coordinator/server/src/http/problem.rs", find: slugs, documents: &["docs/api.md"] },
    Names {
        source: "shared/model/src/event.rs",
        find: |text| after_each(text, "#[serde(rename = \"").into_iter().filter(|name| name.contains('.')).collect(),
        documents: &["docs/api.md", "docs/openapi.yaml"],
    },
    Names { source: "shared/model/src/error.rs", find: codes, documents: &["docs/workflow.md", "docs/openapi.yaml"] },
];

/// Findings over all files.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let find = |path: &str| sources.iter().find(|source| source.path == path);
    let mut findings = Vec::new();
    for Names { source, find: names_of, documents } in &NAMES {
        let names = find(source).map(|source| names_of(&source.text)).unwrap_or_default();
        if names.is_empty() {
            findings.push(Finding {
                path: (*source).to_owned(),
                line: 0,
                message: "has no names to explain".to_owned(),
            });
        }
        for document in *documents {
            let text = find(document).map_or("", |source| source.text.as_str());
            let missing = names.iter().filter(|name| !has(text, name));
            findings.extend(missing.map(|name| Finding {
                path: (*document).to_owned(),
                line: 0,
                message: format!("`{name}` of {source} is not explained"),
            }));
        }
    }
    findings
}

fn has(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + name.len()..].starts_with(is_part))
}

/// Every quoted text that follows `start`.
fn after_each(text: &str, start: &str) -> Vec<String> {
    let found = text.match_indices(start).map(|(at, _)| &text[at + start.len()..]);
    found.filter_map(|rest| rest.split('"').next()).map(ToOwned::to_owned).collect()
}

/// The first words of the lines of the table that `--help` shows.
fn worker_settings(text: &str) -> Vec<String> {
    let table = text.lines().skip_while(|line| !line.starts_with("Settings (")).skip(1);
    table
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(ToOwned::to_owned)
        .collect()
}

/// What `slug` answers.
fn slugs(text: &str) -> Vec<String> {
    let body = text.lines().skip_while(|line| !line.contains("fn slug(")).take_while(|line| *line != "    }");
    after_each(&body.collect::<Vec<_>>().join("\n"), "=> \"")
}

/// What `as_str` answers.
fn codes(text: &str) -> Vec<String> {
    let body = text.lines().skip_while(|line| !line.contains("fn as_str(")).take_while(|line| *line != "    }");
    after_each(&body.collect::<Vec<_>>().join("\n"), "=> \"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::sources;

    #[test]
    fn a_name_that_a_document_does_not_have_is_found() {
        for names in &NAMES {
            for document in names.documents {
                let found: Vec<String> = sources()
                    .iter()
                    .filter(|source| source.path == names.source)
                    .flat_map(|source| (names.find)(&source.text))
                    .collect();
                assert!(found.len() > 5, "{}: {found:?}", names.source);
                let kept = sources().iter().filter(|source| source.path == names.source).cloned();
                let emptied = sources().iter().filter(|source| source.path == *document);
                let emptied = emptied.map(|source| Source::new(&source.path, &source.text.replace(&found[0], "")));
                let changed: Vec<Source> = kept.chain(emptied).collect();
                let message = format!("`{}` of {} is not explained", found[0], names.source);
                assert!(check(&changed).iter().any(|finding| finding.message == message), "{message}");
            }
        }
    }

    #[test]
    fn part_of_a_longer_word_is_not_the_word() {
        assert!(has("the `node`", "node") && !has("nodes", "node") && !has("a_node", "node"));
    }
}
