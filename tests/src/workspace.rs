//! Where the sources and the outside test data are.

use std::path::{Path, PathBuf};

/// Names the folder of the test data, which must then be there.
pub const TESTDATA: &str = "MILLSTREAM_TESTDATA";
/// Makes missing test data an error when it is `1`.
pub const REQUIRE_TESTDATA: &str = "CI_REQUIRE_TESTDATA";

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace")
}

/// Finds test data that is not part of the repository, in the folder that [`TESTDATA`] names or else in
/// `../shared/testdata` beside it.
///
/// `None`, after saying so, when it is not there; the suite is then skipped.
///
/// # Panics
/// When the data is missing and must be there.
pub fn testdata(name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(TESTDATA).map(PathBuf::from);
    let required = named.is_some() || std::env::var(REQUIRE_TESTDATA).as_deref() == Ok("1");
    let path = named.unwrap_or_else(|| root().join("../shared/testdata")).join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(!required, "there is no test data at {}", path.display());
    eprintln!("SKIPPED: there is no test data at {}", path.display());
    None
}
