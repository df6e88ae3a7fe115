//! What the documents show works.

use std::path::Path;
use std::process::Command;

use millstream_tests::binaries::binaries;
use millstream_tests::cluster::Cluster;
use millstream_tests::temp_dir::TempDir;
use millstream_tests::workspace;
use serde_json::json;

use crate::PATIENCE;

/// Documents that show whole definitions.
const DOCUMENTS: [&str; 2] = ["README.md", "docs/workflow.md"];

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(workspace::root().join(path)).expect("a readable file")
}

/// Code blocks of a language, each with its line.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String, bool)> = None;
    for (i, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((i + 1, String::new(), info.trim() == language)),
            (Some(_), Some(_)) => {
                let (line, block, wanted) = open.take().expect("matched above");
                found.extend(wanted.then_some((line, block)));
            }
            (Some((_, block, _)), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

#[test]
fn every_definition_that_a_document_or_an_example_shows_is_valid() {
    let directory = TempDir::new("documents");
    let mut definitions: Vec<(String, String)> = Vec::new();
    for document in DOCUMENTS {
        let whole = blocks(&read(document), "yaml").into_iter().filter(|(_, text)| text.starts_with("id: "));
        definitions.extend(whole.map(|(line, text)| (format!("{document}:{line}"), text)));
    }
    assert!(definitions.len() >= 2, "the documents show whole definitions");
    let examples = std::fs::read_dir(workspace::root().join("examples")).expect("there are examples");
    for entry in examples {
        let path = entry.expect("a readable folder").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            definitions.push((path.display().to_string(), read(&path)));
        }
    }
    for (place, text) in definitions {
        let file = directory.join("definition.yaml");
        std::fs::write(&file, text).expect("a writable directory");
        let output = Command::new(&binaries().millstream).arg("validate").arg(&file).output().expect("it runs");
        assert!(output.status.success(), "{place}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn the_first_workflow_of_the_readme_runs() {
    let cluster = Cluster::shared().await;
    let definitions = blocks(&read("README.md"), "yaml");
    let (_, definition) = definitions.into_iter().find(|(_, text)| text.starts_with("id: greet")).expect("it is there");
    cluster.api().define(definition).await;
    let execution = cluster.api().run("greet", json!({"names": ["Ada", "Grace", "Alan"]}), PATIENCE).await;
    assert_eq!(execution["status"], "COMPLETED", "{execution}");
    assert_eq!(execution["output"]["crowd"], json!({"first": "Ada"}));
    assert_eq!(execution["output"]["greetings"][2], json!({"hello": "Alan", "place": 2}));
}

#[test]
fn every_command_that_a_document_shows_exists() {
    let mut seen = 0;
    let documents = ["README.md", "docs/workflow.md", "docs/agents.md", "docs/api.md", "docs/configuration.md"];
    for document in documents.into_iter().chain(["docs/checking.md"]) {
        for (line, block) in blocks(&read(document), "sh") {
            for command in block.lines().filter_map(subcommand) {
                let output =
                    Command::new(&binaries().millstream).args(&command).arg("--help").output().expect("it runs");
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{document}:{line}: millstream {}: {said}", command.join(" "));
                seen += 1;
            }
        }
    }
    assert!(seen >= 5, "the documents show commands");
}

/// The words after `millstream` that name a command: they come before the first option, file or id.
fn subcommand(line: &str) -> Option<Vec<&str>> {
    let rest = ["cargo run --release -- ", "cargo run -- ", "millstream "]
        .iter()
        .find_map(|start| line.strip_prefix(start))?;
    let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
    let two_words = ["agents", "executions", "import", "workflows"];
    let mut words = rest.split_whitespace().take_while(is_word);
    let first = words.next()?;
    let second = words.next().filter(|_| two_words.contains(&first));
    Some([first].into_iter().chain(second).collect())
}
