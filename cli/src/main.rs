//! `millstream`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    millstream_cli::main()
}
