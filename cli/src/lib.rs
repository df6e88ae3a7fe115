//! The command line, the local cluster and the demo.
//!
//! Floor 3. What only computes ([`wfformat`], [`graph`], [`report`], [`progress`]) knows the model and nothing else;
//! [`replay`] and [`export_file`] fold executions again; [`server_api`] speaks to a coordinator as any client does;
//! [`doctor`] and [`verify`] read what lives in NATS, over a [`connection`] like a coordinator's, and change nothing;
//! [`local_cluster`] runs a cluster in this process, on a [`nats_server`] of its own.

mod aftermath;
mod arguments;
mod commands;
mod connection;
mod demo;
mod doctor;
mod export_file;
mod files;
mod graph;
mod invocation;
mod local_cluster;
mod logs;
pub mod nats_server;
mod outcome;
mod output;
mod progress;
mod replay;
mod report;
mod runner;
mod server_api;
mod signals;
mod verify;
mod wfformat;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::Arguments;
use crate::outcome::Exit;
use crate::output::Closed;
use crate::server_api::RequestError;

/// Does what the command line says.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match commands::perform(arguments.command) {
        Ok(exit) => exit.into(),
        Err(error) if error.is::<Closed>() => Exit::Success.into(),
        Err(error) => {
            let prefix = console::style("error").for_stderr().red().bold();
            output::note(&format!("{prefix}: {}", chain(&error)));
            exit_of(&error).into()
        }
    }
}

/// The causes of an error that its text does not already tell.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(&format!(": {cause}"));
        }
    }
    text
}

fn exit_of(error: &anyhow::Error) -> Exit {
    if error.is::<outcome::Invalid>() || error.is::<server_api::InvalidServer>() {
        return Exit::Invalid;
    }
    match error.downcast_ref::<RequestError>() {
        Some(RequestError::Refused(problem)) if problem.status < 500 => Exit::Invalid,
        _ => Exit::Broken,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = Err::<(), _>(std::io::Error::other("disk full")).context("cannot write x: disk full");
        assert_eq!(chain(&error.expect_err("an error")), "cannot write x: disk full");
        let error = Err::<(), _>(std::io::Error::other("disk full")).context("cannot write x");
        assert_eq!(chain(&error.expect_err("an error")), "cannot write x: disk full");
    }

    #[test]
    fn what_the_caller_can_mend_is_told_apart() {
        assert_eq!(exit_of(&outcome::Invalid::new("no").into()), Exit::Invalid);
        assert_eq!(exit_of(&anyhow::anyhow!("no")), Exit::Broken);
    }
}
