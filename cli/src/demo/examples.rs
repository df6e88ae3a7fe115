//! The examples as they are in the repository, carried in the executable.

use millstream_model::agent::Agent;
use serde_json::Value;

use crate::files;

/// A workflow and an input for it.
pub(super) struct Example {
    pub file: &'static str,
    pub definition: &'static str,
    pub input_file: &'static str,
    input: &'static str,
}

macro_rules! example {
    ($name:literal) => {
        Example {
            file: concat!("examples/", $name, ".yaml"),
            definition: include_str!(concat!("../../../examples/", $name, ".yaml")),
            input_file: concat!("examples/", $name, ".input.json"),
            input: include_str!(concat!("../../../examples/", $name, ".input.json")),
        }
    };
}

pub(super) const INCIDENT: Example = example!("incident-response");
pub(super) const FAN_OUT: Example = example!("fan-out");

const MANIFESTS: [&str; 6] = [
    include_str!("../../../examples/agents/monitoring.yaml"),
    include_str!("../../../examples/agents/logging.yaml"),
    include_str!("../../../examples/agents/tickets.yaml"),
    include_str!("../../../examples/agents/ticket-comments.yaml"),
    include_str!("../../../examples/agents/remediation.yaml"),
    include_str!("../../../examples/agents/pager.yaml"),
];

/// Where the manifests say that the services are.
const ORIGIN: &str = "http://127.0.0.1:8900";

impl Example {
    pub(super) fn input(&self) -> Value {
        serde_json::from_str(self.input).expect("the examples are tested")
    }
}

/// The agents of the incident example, with their services at `origin`.
pub(super) fn agents(origin: &str) -> Vec<Agent> {
    let at = |manifest: &str| files::parse_agent(&manifest.replace(ORIGIN, origin)).expect("the examples are tested");
    MANIFESTS.into_iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use millstream_model::expression::{Field, Root, Scope};
    use millstream_model::validate;
    use serde_json::json;
    use serde_json::value::{RawValue, to_raw_value};

    use super::*;
    use crate::demo::services;
    use crate::report;

    #[test]
    fn every_example_is_valid() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"));
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).expect("the folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let source = files::Source::read(&path).expect("text");
                if let Err(problems) = source.plan() {
                    panic!("{}", report::render(&source.name, &source.text, &problems, false));
                }
                seen += 1;
            }
        }
        assert!(seen >= 4);
        files::agents(&[folder.join("agents")]).expect("every manifest is one");
    }

    #[test]
    fn every_agent_of_the_incident_example_is_there_and_calls_the_services() {
        assert_eq!(ORIGIN, format!("http://127.0.0.1:{}", services::PORT));
        let agents = agents("http://127.0.0.1:1");
        let plan = validate::definition(INCIDENT.definition).expect("valid");
        for step in &plan.definition.steps {
            let Some(agent) = step.agent_id.as_ref().filter(|agent| !agent.as_str().starts_with("builtin-")) else {
                continue;
            };
            let agent = agents.iter().find(|known| known.id == *agent).unwrap_or_else(|| panic!("no agent {agent}"));
            assert!(agent.config["url"].as_str().expect("a URL").starts_with("http://127.0.0.1:1/"));
        }
        assert_eq!(FAN_OUT.input()["orders"].as_array().expect("a list").len(), 1_000);
        assert_eq!(INCIDENT.input()["incident_id"], "INC-12345");
    }

    /// The severity that the conditions of the example give, and what they do about it.
    fn triage(cpu: f64, errors: usize, related: usize) -> String {
        let plan = validate::definition(INCIDENT.definition).expect("valid");
        let raw = |value: Value| -> Arc<RawValue> { Arc::from(to_raw_value(&value).expect("JSON")) };
        let root = |step: &str, field| Root::Step(step.parse().expect("a name"), field);
        let mut scope = Scope::default();
        let findings = json!({
            "cpu": cpu, "errors": vec!["OutOfMemoryError: heap space exceeded"; errors], "related": vec!["INC-1"; related],
        });
        scope.insert(root("findings", Field::Output), raw(findings));
        let holds = |step: &str, scope: &Scope| {
            let index = plan.find(&step.parse().expect("a name")).expect("a step");
            plan.planned(index).condition.as_ref().expect("a condition").evaluate(scope).expect("a value")
        };
        let mut told = Vec::new();
        for step in ["critical", "high", "medium", "low", "restart-service", "clear-cache", "escalate"] {
            let runs = holds(step, &scope);
            scope.insert(root(step, Field::Status), raw(json!(if runs { "COMPLETED" } else { "SKIPPED" })));
            if runs && told.is_empty() {
                let severity = json!({"severity": step.to_uppercase()});
                scope.insert(root("classify", Field::Output), raw(severity));
            }
            if runs {
                told.push(step);
            }
        }
        told.join(" ")
    }

    #[test]
    fn the_thresholds_of_the_incident_example_are_exact() {
        let cases = [
            (95.1, 0, 0, "critical escalate"),
            (0.0, 51, 0, "critical escalate"),
            (0.0, 0, 6, "critical escalate"),
            (95.0, 50, 5, "high escalate"),
            (87.5, 15, 2, "high escalate"),
            (0.0, 21, 0, "high escalate"),
            (85.0, 0, 0, "medium restart-service"),
            (80.0, 6, 5, "medium clear-cache"),
            (85.0, 20, 0, "medium restart-service clear-cache"),
            (80.0, 0, 0, "medium escalate"),
            (75.0, 5, 5, "low clear-cache"),
            (75.0, 0, 0, "low escalate"),
        ];
        for (cpu, errors, related, expected) in cases {
            assert_eq!(triage(cpu, errors, related), expected, "cpu {cpu}, {errors} errors, {related} related");
        }
    }
}
