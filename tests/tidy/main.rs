//! Rules of the house that the compiler does not know, checked over every file of the repository.
//!
//! Each rule is a function from text to findings and has a test with text that breaks it, so that
//! a rule that stopped biting is seen.

mod code;
mod docs;
mod documented;
mod entries;
mod floors;
mod layout;
mod locks;
mod manifests;
mod openapi;
mod sources;
mod words;

use sources::{Finding, Source, sources};

/// Fails with one line per finding.
fn none(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} finding(s):\n{}", lines.len(), lines.join("\n"));
}

/// Applies a rule to every file.
fn all(rule: impl Fn(&Source) -> Vec<Finding>) {
    let findings: Vec<Finding> = sources().iter().flat_map(rule).collect();
    none(&findings);
}

#[test]
fn rooms_know_only_what_lies_below_them() {
    none(&floors::check(sources()));
}

#[test]
fn every_dependency_is_used_and_has_its_version_in_the_one_table() {
    none(&manifests::check(sources()));
}

#[test]
fn files_are_short_and_named_after_what_they_know() {
    all(layout::check);
}

#[test]
fn code_does_without_the_patterns_we_refuse() {
    all(code::check);
}

#[test]
fn text_speaks_of_what_is_and_names_no_machine() {
    all(words::check);
}

#[test]
fn every_lock_has_a_reason() {
    none(&locks::check(sources()));
}

#[test]
fn every_kind_of_entry_is_explained_rendered_and_kept_in_a_golden_file() {
    none(&entries::check(sources()));
}

#[test]
fn links_resolve_and_the_change_log_is_open() {
    none(&docs::check(sources()));
}

#[test]
fn what_code_knows_by_name_is_explained() {
    none(&documented::check(sources()));
}

#[test]
fn the_api_description_and_the_routes_agree() {
    none(&openapi::check(sources()));
}
