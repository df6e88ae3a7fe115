//! The workspace's executables, built once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::workspace;

/// The executables of the profile that the tests themselves were built with.
#[derive(Debug)]
pub struct Binaries {
    pub millstream: PathBuf,
    pub coordinator: PathBuf,
    pub worker: PathBuf,
}

/// Builds the executables at the first call of this process. Cargo's own lock makes that safe
/// among test binaries that run at the same time, and after the first one there is nothing to do.
///
/// # Panics
/// When they do not build.
pub fn binaries() -> &'static Binaries {
    static BUILT: OnceLock<Binaries> = OnceLock::new();
    BUILT.get_or_init(build)
}

fn build() -> Binaries {
    let executable = std::env::current_exe().expect("a test has an executable");
    let profile_dir = executable.parent().and_then(Path::parent).expect("cargo puts tests in <target>/<profile>/deps");
    let target_dir = profile_dir.parent().expect("cargo puts profiles in <target>");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()).expect("profiles have plain names") {
        "debug" => "dev",
        name => name,
    };
    // `--tests` resolves features as `cargo test --workspace` does; without it every dependency
    // whose features differ would be compiled a second time.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--workspace", "--bins", "--tests", "--quiet", "--profile", profile, "--target-dir"])
        .arg(target_dir)
        .current_dir(workspace::root())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "the executables do not build:\n{}", String::from_utf8_lossy(&output.stderr));
    Binaries {
        millstream: profile_dir.join("millstream"),
        coordinator: profile_dir.join("millstream-coordinator"),
        worker: profile_dir.join("millstream-worker"),
    }
}
