//! The worker's process, as far as it goes without NATS.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

#[test]
fn help_documents_every_setting() {
    let output = worker(&["--help"]);
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).expect("a text");
    for wanted in ["--nats-url", "--capabilities", "--concurrency", "MILLSTREAM__SHUTDOWN_GRACE_MS", "OTEL_EXPORTER"] {
        assert!(help.contains(wanted), "{wanted} in {help}");
    }
}

#[test]
fn wrong_usage_is_code_2() {
    for arguments in [&["--capabilitys", "a"][..], &["--concurrency", "0"], &["--capabilities", "a b"]] {
        assert_eq!(worker(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn settings_that_cannot_work_are_code_1_and_one_line() {
    for (arguments, wanted) in [
        (["--config", "/nonexistent.yaml"], "nonexistent.yaml"),
        (["--prefix", "a.b"], "prefix `a.b`"),
        (["--nats-url", "ftp://nowhere"], "`ftp://nowhere` is not a NATS URL"),
    ] {
        let output = worker(&arguments);
        let said = String::from_utf8(output.stderr).expect("a text");
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(wanted) && said.starts_with("millstream-worker: "), "{said}");
    }
}

#[tokio::test]
async fn a_worker_that_waits_for_nats_stops_when_it_is_asked_to() {
    let mut command = tokio::process::Command::from(command(&["--nats-url", "nats://127.0.0.1:9"]));
    let mut child = command.kill_on_drop(true).spawn().expect("the worker starts");
    let mut stderr = tokio::io::BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    let said = tokio::io::AsyncBufReadExt::read_line(&mut stderr, &mut line);
    tokio::time::timeout(Duration::from_secs(20), said).await.expect("it says that it waits").expect("a line");
    let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("it runs");
    kill_process(id, Signal::TERM).expect("it runs");
    let status =
        tokio::time::timeout(Duration::from_secs(10), child.wait()).await.expect("it stops").expect("a status");
    assert!(status.success(), "{status}");
}

fn worker(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the worker starts")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream-worker"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MILLSTREAM") {
            command.env_remove(name);
        }
    }
    command
}
