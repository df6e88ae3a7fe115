//! How the reader of a suggestion can call this very program again.

use std::path::Path;

/// The command as it can be typed here: by name when it is on PATH, else by path.
pub(crate) fn program() -> String {
    let Ok(executable) = std::env::current_exe() else { return "millstream".to_owned() };
    let on_path = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join("millstream") == executable));
    match std::env::current_dir() {
        _ if on_path => "millstream".to_owned(),
        Ok(directory) => relative(&executable, &directory),
        Err(_) => executable.display().to_string(),
    }
}

fn relative(executable: &Path, directory: &Path) -> String {
    match executable.strip_prefix(directory) {
        Ok(inside) => format!("./{}", inside.display()),
        Err(_) => executable.display().to_string(),
    }
}

/// Whether the examples lie where suggestions say they do.
pub(crate) fn examples_are_here() -> bool {
    Path::new("examples/hello.yaml").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_below_this_directory_is_called_by_its_relative_path() {
        let here = Path::new("/src/millstream");
        let there = Path::new("/src/millstream/target/release/millstream");
        assert_eq!(relative(there, here), "./target/release/millstream");
        assert_eq!(relative(Path::new("/opt/millstream"), here), "/opt/millstream");
    }
}
