//! `import`: recorded workflows of others.

use std::path::Path;

use anyhow::Context as _;

use crate::arguments::ImportWfformat;
use crate::files;
use crate::outcome::{Exit, Invalid};
use crate::output;
use crate::progress::{count, duration};
use crate::wfformat::{self, ImportOptions};

pub(super) fn wfformat(arguments: &ImportWfformat) -> anyhow::Result<Exit> {
    let text = files::text(&arguments.file)?;
    let stem = arguments.file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let options = ImportOptions {
        id: arguments.id.clone().unwrap_or(stem),
        time_scale: arguments.time_scale,
        max_sleep: arguments.max_sleep,
    };
    let imported = wfformat::import(&text, &options)
        .map_err(|error| Invalid::new(format!("cannot import {}: {error}", arguments.file.display())))?;
    if arguments.output == Path::new("-") {
        output::line(imported.text.trim_end())?;
    } else {
        let text = match arguments.output.extension().is_some_and(|extension| extension == "json") {
            true => serde_json::to_string_pretty(&*imported.definition)?,
            false => imported.text.clone(),
        };
        let path = arguments.output.display();
        std::fs::write(&arguments.output, text).with_context(|| format!("cannot write {path}"))?;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for reading, and saturates")]
    let total = duration((imported.sleep_total * 1e6) as u64);
    output::note(&format!(
        "workflow {}: {} steps, {} dependencies, {total} of sleep in all",
        imported.definition.id,
        count(imported.definition.steps.len() as u64),
        count(imported.edges as u64),
    ));
    Ok(Exit::Success)
}
