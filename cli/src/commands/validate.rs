//! `validate`: everything that is wrong with a workflow.

use crate::arguments::Validate;
use crate::files::Source;
use crate::outcome::Exit;
use crate::progress::count;
use crate::{output, report};

pub(super) fn validate(arguments: &Validate) -> anyhow::Result<Exit> {
    let source = Source::read(&arguments.file)?;
    let (problems, plan) = match source.plan() {
        Ok(plan) => (Vec::new(), Some(plan)),
        Err(problems) => (problems, None),
    };
    if arguments.json {
        output::json(&problems)?;
    } else if let Some(plan) = &plan {
        let definition = &plan.definition;
        let edges: usize = definition.steps.iter().map(|step| step.depends_on.len()).sum();
        let counted = |number: usize, one: &str, many: &str| {
            format!("{} {}", count(number as u64), if number == 1 { one } else { many })
        };
        let steps = counted(definition.steps.len(), "step", "steps");
        let edges = counted(edges, "dependency", "dependencies");
        let good = console::style("is valid").green();
        output::line(&format!("{} {good}: workflow {}, {steps}, {edges}", source.name, definition.id))?;
    } else {
        let colour = console::Term::stdout().features().colors_supported();
        output::line(report::render(&source.name, &source.text, &problems, colour).trim_end())?;
    }
    Ok(if plan.is_some() { Exit::Success } else { Exit::Invalid })
}
