//! What people name on the command line: files, and values that stand there or in files.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use millstream_model::agent::Agent;
use millstream_model::plan::Plan;
use millstream_model::validate::{self, Problem};
use serde_json::Value;

use crate::outcome::Invalid;

/// A definition as it was read.
#[derive(Debug)]
pub(crate) struct Source {
    /// How its file is called.
    pub name: String,
    pub text: String,
}

impl Source {
    /// Reads a definition; `-` is stdin.
    pub(crate) fn read(path: &Path) -> Result<Self, Invalid> {
        let text = text(path)?;
        let name = if path == Path::new("-") { "<stdin>".to_owned() } else { path.display().to_string() };
        Ok(Self { name, text })
    }

    /// Checks it.
    pub(crate) fn plan(&self) -> Result<Plan, Vec<Problem>> {
        validate::definition(&self.text)
    }
}

/// The text of a file; `-` is stdin.
pub(crate) fn text(path: &Path) -> Result<String, Invalid> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|error| Invalid::new(format!("cannot read {}: {error}", path.display())))
}

/// A JSON value as given on the command line: itself, or `@` and the file it is in.
pub(crate) fn value(option: &str, text_or_file: &str) -> Result<Value, Invalid> {
    let (origin, json) = match text_or_file.strip_prefix('@') {
        Some(file) => (file.to_owned(), text(Path::new(file))?),
        None => (option.to_owned(), text_or_file.to_owned()),
    };
    serde_json::from_str(&json).map_err(|error| Invalid::new(format!("{origin} is not JSON: {error}")))
}

/// Manifests in files, and in folders whose every YAML and JSON file is one.
pub(crate) fn agents(paths: &[PathBuf]) -> Result<Vec<Agent>, Invalid> {
    let mut agents = Vec::new();
    for path in paths {
        if path.is_dir() {
            for file in manifests(path)? {
                agents.push(agent(&file)?);
            }
        } else {
            agents.push(agent(path)?);
        }
    }
    Ok(agents)
}

fn manifests(folder: &Path) -> Result<Vec<PathBuf>, Invalid> {
    let unreadable = |error: std::io::Error| Invalid::new(format!("cannot read {}: {error}", folder.display()));
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let entries: Vec<_> = entries.collect::<Result<_, _>>().map_err(unreadable)?;
    let mut files: Vec<PathBuf> =
        entries.iter().map(std::fs::DirEntry::path).filter(|path| is_manifest(path)).collect();
    files.sort();
    Ok(files)
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

fn agent(path: &Path) -> Result<Agent, Invalid> {
    parse_agent(&text(path)?).map_err(|error| Invalid::new(format!("{} is not an agent: {error}", path.display())))
}

/// Reads a manifest, YAML or JSON.
pub(crate) fn parse_agent(text: &str) -> Result<Agent, serde_saphyr::Error> {
    serde_saphyr::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stands_on_the_command_line_or_in_a_file() {
        assert_eq!(value("--input", r#"{"a":1}"#).expect("JSON"), serde_json::json!({"a": 1}));
        assert!(value("--input", "{").expect_err("no").to_string().starts_with("--input is not JSON: "));
        assert!(value("--input", "@/nowhere.json").expect_err("no").to_string().starts_with("cannot read /nowhere"));
    }

    #[test]
    fn a_manifest_that_is_none_is_refused() {
        assert!(parse_agent("id: a\nframework: http\ncapabilities: [http]\n").is_ok());
        assert!(parse_agent("id: a b\n").is_err());
    }
}
