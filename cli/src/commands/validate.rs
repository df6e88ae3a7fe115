//! `validate`: everything that is wrong with a workflow, and what is valid and unwise.

use millstream_model::plan::Plan;
use millstream_model::validate::{self, Problem};
use serde::Serialize;

use crate::arguments::Validate;
use crate::files::Source;
use crate::outcome::Exit;
use crate::progress::count;
use crate::{output, report};

/// One element of `--json`.
#[derive(Debug, Serialize)]
struct Finding<T> {
    severity: &'static str,
    #[serde(flatten)]
    finding: T,
}

pub(super) fn validate(arguments: &Validate) -> anyhow::Result<Exit> {
    let source = Source::read(&arguments.file)?;
    match source.plan() {
        Ok(plan) => {
            let gaps = validate::gaps_in(&source.text, &plan);
            if arguments.json {
                let findings = gaps.into_iter().map(|finding| Finding { severity: "warning", finding });
                output::json(&findings.collect::<Vec<_>>())?;
            } else {
                let warnings: Vec<Problem> = gaps.iter().map(Problem::from).collect();
                output::line(&verdict(&source.name, &plan, warnings.len()))?;
                if !warnings.is_empty() {
                    let colour = console::Term::stdout().features().colors_supported();
                    let shown = report::render_warnings(&source.name, &source.text, &warnings, colour);
                    output::line(&format!("\n{}", shown.trim_end()))?;
                }
            }
            Ok(Exit::Success)
        }
        Err(problems) => {
            if arguments.json {
                let findings = problems.into_iter().map(|finding| Finding { severity: "error", finding });
                output::json(&findings.collect::<Vec<_>>())?;
            } else {
                let colour = console::Term::stdout().features().colors_supported();
                output::line(report::render(&source.name, &source.text, &problems, colour).trim_end())?;
            }
            Ok(Exit::Invalid)
        }
    }
}

fn verdict(name: &str, plan: &Plan, warnings: usize) -> String {
    let definition = &plan.definition;
    let counted = |number: usize, one: &str, many: &str| {
        format!("{} {}", count(number as u64), if number == 1 { one } else { many })
    };
    let edges = plan.steps.iter().map(|step| step.depends_on.len()).sum();
    let mut parts =
        vec![counted(definition.steps.len(), "step", "steps"), counted(edges, "dependency", "dependencies")];
    if !definition.finally.is_empty() {
        parts.insert(1, format!("{} in finally", count(definition.finally.len() as u64)));
    }
    if warnings > 0 {
        parts.push(counted(warnings, "warning", "warnings"));
    }
    let good = console::style("is valid").green();
    format!("{name} {good}: workflow {}, {}", definition.id, parts.join(", "))
}
