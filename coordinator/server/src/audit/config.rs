//! Where the audit trail is kept.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::StartAuditError;

/// One place where records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// The stream `MS_AUDIT`: one chain for all coordinators.
    Nats,
    /// The file `audit.sqlite`: one chain for the coordinators of this machine.
    Sqlite,
    /// A file for each trace, each a chain.
    Jsonl,
}

/// How decisions are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// In order, each once; none records nothing.
    pub backends: Vec<Backend>,
    /// Directory of the backends that need one.
    pub path: Option<PathBuf>,
    /// Whether every submission's plan and routes are recorded.
    pub submissions: bool,
}

/// The text names something that is no backend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' is not a backend of the audit trail")]
pub struct BackendsError {
    pub name: String,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { backends: vec![Backend::Nats], path: None, submissions: true }
    }
}

impl AuditConfig {
    /// Reads a list separated by commas; `none` stands alone.
    pub fn backends_of(text: &str) -> Result<Vec<Backend>, BackendsError> {
        let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        if names == ["none"] {
            return Ok(Vec::new());
        }
        let mut backends = names.into_iter().map(str::parse).collect::<Result<Vec<Backend>, _>>()?;
        backends.sort_unstable();
        backends.dedup();
        Ok(backends)
    }

    /// Whether a backend keeps files of its own.
    pub fn needs_path(&self) -> bool {
        self.backends.iter().any(|backend| matches!(backend, Backend::Jsonl | Backend::Sqlite))
    }

    /// The directory, which is made when it is not there.
    pub(super) fn directory(&self) -> Result<&Path, StartAuditError> {
        let path = self.path.as_deref().unwrap_or_else(|| Path::new("."));
        match std::fs::create_dir_all(path) {
            Ok(()) => Ok(path),
            Err(source) => Err(StartAuditError::Directory { path: path.display().to_string(), source }),
        }
    }
}

impl FromStr for Backend {
    type Err = BackendsError;

    fn from_str(name: &str) -> Result<Self, BackendsError> {
        match name {
            "nats" => Ok(Self::Nats),
            "sqlite" => Ok(Self::Sqlite),
            "jsonl" => Ok(Self::Jsonl),
            _ => Err(BackendsError { name: name.to_owned() }),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nats => "nats",
            Self::Sqlite => "sqlite",
            Self::Jsonl => "jsonl",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_a_list_and_none_stands_alone() {
        let read = AuditConfig::backends_of;
        assert_eq!(read("nats"), Ok(vec![Backend::Nats]));
        assert_eq!(read("jsonl, nats,jsonl"), Ok(vec![Backend::Nats, Backend::Jsonl]));
        assert_eq!(read("none"), Ok(Vec::new()));
        assert_eq!(read("nats,none"), Err(BackendsError { name: "none".to_owned() }));
        assert_eq!(read("paper"), Err(BackendsError { name: "paper".to_owned() }));
    }
}
