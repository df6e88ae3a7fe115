//! One version table, and nothing in a manifest that the code does not use.

use std::collections::BTreeSet;

use toml::Table;

use crate::floors::dependencies;
use crate::sources::{Finding, Source};

/// Dependencies that are named only to switch on features of a crate that another one uses.
const FOR_FEATURES: [(&str, &str); 1] = [("shared/model/Cargo.toml", "chrono")];

/// Findings over all manifests.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let manifests = sources.iter().filter(|source| source.path.ends_with("/Cargo.toml"));
    let mut findings = Vec::new();
    let mut used = BTreeSet::new();
    for manifest in manifests {
        findings.extend(own_versions(manifest));
        let folder = manifest.path.strip_suffix("Cargo.toml").expect("filtered above");
        for name in dependencies(&manifest.text) {
            if !is_named(sources, folder, &name) && !FOR_FEATURES.contains(&(manifest.path.as_str(), name.as_str())) {
                findings.push(manifest.finding(0, format!("no source of this package names `{name}`")));
            }
            used.insert(name);
        }
    }
    let root = sources.iter().find(|source| source.path == "Cargo.toml").expect("the workspace has a manifest");
    let table: Table = root.text.parse().expect("manifests are TOML");
    let versions = table["workspace"]["dependencies"].as_table().expect("the version table is a table");
    let unused = versions.keys().filter(|name| !used.contains(*name));
    findings.extend(unused.map(|name| root.finding(0, format!("nobody uses `{name}`"))));
    findings
}

/// Dependencies that say more than `workspace = true` and features.
fn own_versions(manifest: &Source) -> Vec<Finding> {
    let table: Table = manifest.text.parse().expect("manifests are TOML");
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let all = kinds.iter().filter_map(|kind| table.get(*kind)?.as_table()).flatten();
    all.filter(|(_, value)| value.get("workspace").and_then(toml::Value::as_bool) != Some(true))
        .map(|(name, _)| manifest.finding(0, format!("`{name}` has a version of its own; the table is in the root")))
        .collect()
}

fn is_named(sources: &[Source], folder: &str, name: &str) -> bool {
    let name = name.replace('-', "_");
    let mut files = sources.iter().filter(|source| source.is_rust() && source.path.starts_with(folder));
    files.any(|source| contains_word(&source.text, &name))
}

fn contains_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "[workspace.dependencies]\nbytes = \"1\"\n";

    fn messages(member: &str, code: &str) -> Vec<String> {
        let sources = [
            Source::new("Cargo.toml", ROOT),
            Source::new("worker/Cargo.toml", member),
            Source::new("worker/src/lib.rs", code),
        ];
        check(&sources).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn what_nobody_uses_is_found() {
        let member = "[dependencies]\nbytes.workspace = true\n";
        assert_eq!(messages(member, "use bytes::Bytes;"), [""; 0]);
        assert_eq!(messages(member, "use kilobytes::Bytes;"), ["no source of this package names `bytes`"]);
        assert_eq!(messages("[dependencies]\n", ""), ["nobody uses `bytes`"]);
    }

    #[test]
    fn a_version_outside_of_the_table_is_found() {
        let member = "[dependencies]\nbytes = \"1.2\"\n";
        assert_eq!(messages(member, "use bytes::Bytes;").len(), 1);
    }
}
