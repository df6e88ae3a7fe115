//! `graph`: a picture of a workflow.

use anyhow::Context as _;

use crate::arguments::Graph;
use crate::files::Source;
use crate::graph::Drawing;
use crate::outcome::Exit;
use crate::{output, report};

pub(super) fn graph(arguments: &Graph) -> anyhow::Result<Exit> {
    let source = Source::read(&arguments.file)?;
    let plan = match source.plan() {
        Ok(plan) => plan,
        Err(problems) => {
            output::note(&report::render(&source.name, &source.text, &problems, report::colour_on_stderr()));
            return Ok(Exit::Invalid);
        }
    };
    let drawing = Drawing::of(&plan.definition);
    let text = match (arguments.svg, arguments.dot) {
        (true, _) => drawing.to_svg(),
        (_, true) => drawing.to_dot(),
        _ => drawing.to_text(),
    };
    match &arguments.output {
        Some(path) => {
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
            output::note(&format!("wrote {}", path.display()));
        }
        None => output::line(text.trim_end())?,
    }
    Ok(Exit::Success)
}
