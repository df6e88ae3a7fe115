//! The description of the API names exactly the routes that the coordinator serves.

use std::collections::BTreeSet;

use crate::sources::{Finding, Source};

const DESCRIPTION: &str = "docs/openapi.yaml";
const ROUTES: &str = "coordinator/server/src/http/routes.rs";

/// Findings over both files.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let find = |path: &str| sources.iter().find(|source| source.path == path);
    let (Some(description), Some(routes)) = (find(DESCRIPTION), find(ROUTES)) else {
        return [DESCRIPTION, ROUTES]
            .iter()
            .filter(|path| find(path).is_none())
            .map(|path| Finding { path: (*path).to_owned(), line: 0, message: "is missing".to_owned() })
            .collect();
    };
    let described = described(&description.text);
    let served = served(&routes.text);
    let mut findings = Vec::new();
    for operation in described.difference(&served) {
        findings.push(description.finding(0, format!("nobody serves {operation}")));
    }
    for operation in served.difference(&described) {
        findings.push(routes.finding(0, format!("{DESCRIPTION} does not describe {operation}")));
    }
    findings
}

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// Operations of an OpenAPI description in block style, as `GET /workflows: Lists definitions`.
fn described(text: &str) -> BTreeSet<String> {
    let mut operations = BTreeSet::new();
    let mut path = "";
    let mut method = String::new();
    for line in text.lines().skip_while(|line| *line != "paths:").skip(1) {
        if !line.starts_with(' ') && !line.is_empty() {
            break;
        }
        let (key, value) = line.trim().split_once(':').unwrap_or((line.trim(), ""));
        let depth = line.len() - line.trim_start().len();
        match depth {
            2 if key.starts_with('/') => path = key,
            4 if METHODS.contains(&key) => method = key.to_uppercase(),
            6 if key == "summary" => drop(operations.insert(format!("{method} {path}: {}", value.trim()))),
            _ => {}
        }
    }
    operations
}

/// Operations of the route table: `get("/workflows", "Lists definitions", …)`.
fn served(text: &str) -> BTreeSet<String> {
    let calls = text.lines().filter_map(|line| line.trim().split_once("(\""));
    calls
        .filter(|(method, _)| METHODS.contains(method))
        .filter_map(|(method, rest)| {
            let mut quotes = rest.split('"');
            let (path, summary) = (quotes.next()?, quotes.nth(1)?);
            Some(format!("{} {path}: {summary}", method.to_uppercase()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_only_one_side_knows_is_found() {
        let description = "openapi: 3.1.0\npaths:\n  /workflows:\n    get:\n      summary: Lists\n    post:\n      summary: Stores\ncomponents:\n  get:\n";
        let routes = "vec![\n    get(\"/workflows\", \"Lists\", get(list)),\n    post(\"/workflows\", \"Stores\", post(create)),\n]";
        let with = |description: &str, routes: &str| -> Vec<String> {
            let sources = [Source::new(DESCRIPTION, description), Source::new(ROUTES, routes)];
            check(&sources).into_iter().map(|finding| finding.message).collect()
        };
        assert_eq!(with(description, routes), [""; 0]);
        let more = format!("{routes}\nput(\"/agents\", \"Replaces\", put(agents::put)),");
        assert_eq!(with(description, &more), ["docs/openapi.yaml does not describe PUT /agents: Replaces"]);
        let less = "get(\"/workflows\", \"Lists\", get(list)),";
        assert_eq!(with(description, less), ["nobody serves POST /workflows: Stores"]);
    }
}
