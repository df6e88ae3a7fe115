//! What only root can do: scripts beside this file that make and cut cables and disks, and clean up after themselves.

use std::path::Path;
use std::process::Command;

use crate::workspace;

/// A script and the words that undo what it did.
#[derive(Debug)]
pub struct Script {
    path: &'static str,
    down: Vec<String>,
}

/// Why a harness cannot run here, or nothing.
pub fn missing(programs: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root".to_owned());
    }
    let folders: Vec<_> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let is_there = |program: &&&str| folders.iter().any(|folder| Path::new(folder).join(program).exists());
    programs.iter().find(|program| !is_there(program)).map(|program| format!("there is no `{program}`"))
}

impl Script {
    /// The script at `path` below the workspace; `down` are the words with which it is called when this is dropped.
    pub fn new(path: &'static str, down: &[&str]) -> Self {
        Self { path, down: down.iter().map(|word| (*word).to_owned()).collect() }
    }

    /// Calls the script.
    ///
    /// # Panics
    /// When it fails.
    pub fn call(&self, words: &[&str]) {
        let output = self.command(words).output().expect("there is a shell");
        assert!(output.status.success(), "{} {words:?}: {}", self.path, String::from_utf8_lossy(&output.stderr));
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("bash");
        command.arg(workspace::root().join(self.path)).args(words);
        command
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let words: Vec<&str> = self.down.iter().map(String::as_str).collect();
        match self.command(&words).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("{} {words:?}: {}", self.path, String::from_utf8_lossy(&output.stderr)),
            Err(problem) => eprintln!("{} {words:?}: {problem}", self.path),
        }
    }
}
