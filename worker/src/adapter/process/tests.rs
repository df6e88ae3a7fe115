use std::time::Duration;

use millstream_model::error::ErrorCode;

use super::*;
use crate::context::tests::{context, heard_ms};

#[tokio::test]
async fn stdin_is_the_input_and_stdout_the_output() {
    assert_eq!(run("cat").await, Ok("{\"b\": 1.50}".to_owned()));
    assert_eq!(run("cat >/dev/null; echo ' [1, 2] '").await, Ok("[1, 2]".to_owned()));
}

#[tokio::test]
async fn a_program_may_ignore_its_input_and_say_nothing() {
    assert_eq!(run("exec <&-; exit 0").await, Ok("null".to_owned()));
}

#[tokio::test]
async fn an_input_and_an_output_larger_than_a_pipe_pass() {
    let large = format!("\"{}\"", "x".repeat(1024 * 1024));
    let input = Arc::from(RawValue::from_string(large.clone()).expect("JSON"));
    let output = sh("cat").call(&context(1), input).await;
    assert!(output.is_ok_and(|output| output.get() == large));
}

#[tokio::test]
async fn an_exit_code_is_a_failure_with_the_end_of_stderr() {
    let error = run("yes noise | head -5000 >&2; echo 'the reason' >&2; exit 3").await.expect_err("a failure");
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::InternalError, "`sh` exited with code 3"));
    let details = error.details.expect("details");
    let stderr = details["stderr"].as_str().expect("a text");
    assert!(stderr.ends_with("the reason\n") && stderr.len() <= STDERR_KEPT, "{stderr}");
    assert_eq!(details["exit_code"], 3);
}

#[tokio::test]
async fn a_signal_is_named() {
    let error = run("kill -9 $$").await.expect_err("a failure");
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::InternalError, "`sh` was killed by signal 9"));
    assert_eq!(error.details.expect("details")["signal"], 9);
}

#[tokio::test]
async fn a_program_that_fails_may_say_why() {
    let error =
        run(r#"echo '{"error": {"code": "RATE_LIMITED", "message": "slow down", "retryable": false}}'; exit 1"#)
            .await
            .expect_err("a failure");
    assert_eq!(
        (error.code, error.message.as_str(), error.retryable),
        (ErrorCode::RateLimited, "slow down", Some(false))
    );
    assert_eq!(error.details.expect("details")["exit_code"], 1);
}

#[tokio::test]
async fn a_python_traceback_is_kept_and_names_the_failure() {
    let script = "printf 'Traceback (most recent call last):\\n  File \"a.py\", line 1\\nValueError: no such month\\n' >&2; exit 1";
    let error = run(script).await.expect_err("a failure");
    assert_eq!(
        (error.code, error.message.as_str()),
        (ErrorCode::InvalidInput, "`sh` exited with code 1: ValueError: no such month")
    );
    assert!(error.trace.is_some_and(|trace| trace.starts_with("Traceback") && trace.contains("a.py")));
}

#[tokio::test]
async fn the_end_of_stderr_begins_with_a_whole_character() {
    let error = run("yes é | head -c 20001 | tr -d '\\n' >&2; exit 1").await.expect_err("a failure");
    let details = error.details.expect("details");
    let stderr = details["stderr"].as_str().expect("a text");
    assert!(stderr.starts_with('é'), "{}", &stderr[..8]);
}

#[tokio::test]
async fn what_a_program_writes_is_a_sign_of_life_on_either_pipe() {
    for pipe in ["1", "2"] {
        let context = context(1);
        let watched = context.clone();
        let script = format!("sleep 0.05; echo 7 >&{pipe}; read -r _; sleep 1000");
        let call = tokio::spawn(async move { sh(&script).call(&watched, input()).await });
        let heard = async {
            while heard_ms(&context) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), heard).await.expect("a sign of life");
        assert!(heard_ms(&context) >= 50);
        call.abort();
    }
}

#[tokio::test]
async fn a_program_that_may_not_be_executed_is_a_matter_of_permission() {
    let agent = prepared(&json!({"argv": ["/etc/passwd"]}));
    let error = agent.call(&context(1), input()).await.expect_err("a failure");
    assert_eq!(error.code, ErrorCode::PermissionDenied);
}

#[tokio::test]
async fn garbage_on_stdout_is_quoted() {
    let error = run("echo 'Traceback: boom'; echo hint >&2").await.expect_err("a failure");
    assert_eq!(error.code, ErrorCode::InternalError);
    assert!(error.message.starts_with("`sh` wrote no JSON to stdout: "), "{}", error.message);
    assert_eq!(error.details, Some(json!({"stdout": "Traceback: boom", "stderr": "hint\n"})));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let agent = prepared(&json!({"argv": ["/nonexistent/program"]}));
    let error = agent.call(&context(1), input()).await.expect_err("a failure");
    assert_eq!(error.code, ErrorCode::InternalError);
    assert!(error.message.starts_with("cannot start `/nonexistent/program`: No such file"), "{}", error.message);
}

#[tokio::test]
async fn an_output_above_the_limit_ends_the_program() {
    let error = run("trap '' PIPE; cat /dev/zero").await.expect_err("a failure");
    assert_eq!(error.code, ErrorCode::ResultTooLarge);
}

#[tokio::test]
async fn a_program_sees_its_run_and_nothing_else_of_the_worker() {
    let agent = prepared(
        &json!({"argv": ["sh", "-c", "env | sort | cut -d= -f1 | tr '\\n' ' ' | sed 's/.*/\"&\"/'"], "env": {"MODE": "fast"}, "cwd": "/"}),
    );
    let names = agent.call(&context(2), input()).await.expect("an answer");
    let mut names: Vec<&str> = names.get().trim_matches('"').split_whitespace().collect();
    names.retain(|name| !["_", "PWD", "OLDPWD", "SHLVL", "PATH", "HOME", "LANG"].contains(name));
    assert_eq!(
        names,
        [
            "MILLSTREAM_ATTEMPT",
            "MILLSTREAM_EXECUTION_ID",
            "MILLSTREAM_IDEMPOTENCY_KEY",
            "MILLSTREAM_ITEM",
            "MILLSTREAM_STEP_ID",
            "MILLSTREAM_TIMEOUT_MS",
            "MODE",
            "TRACEPARENT",
        ]
    );
    let agent = prepared(
        &json!({"argv": ["sh", "-c", "echo \"\\\"$MODE $MILLSTREAM_ATTEMPT $PWD\\\"\""], "env": {"MODE": "fast"}, "cwd": "/"}),
    );
    assert_eq!(agent.call(&context(2), input()).await.expect("an answer").get(), "\"fast 2 /\"");
}

#[tokio::test]
async fn dropping_a_call_kills_the_whole_group_and_leaves_no_zombie() {
    let directory = Directory::new("drop");
    let script = format!("sleep 1000 & echo $! > {0}/child; echo $$ > {0}/leader; wait", directory.0.display());
    let call = tokio::time::timeout(Duration::from_millis(700), run(&script)).await;
    assert!(call.is_err(), "the program hangs");
    eventually_gone(&directory, "child").await;
    eventually_gone(&directory, "leader").await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_killed_and_its_answer_counts() {
    let directory = Directory::new("behind");
    let script = format!("sleep 1000 & echo $! > {}/child; echo 7", directory.0.display());
    let started = std::time::Instant::now();
    assert_eq!(run(&script).await, Ok("7".to_owned()));
    assert!(started.elapsed() < Duration::from_secs(5), "nobody waits for the pipe of what was left");
    eventually_gone(&directory, "child").await;
}

#[test]
fn a_config_that_cannot_work_is_refused_with_its_place() {
    for (config, wanted) in [
        (json!({}), "config: missing field `argv`"),
        (json!({"argv": []}), "config.argv: names no program"),
        (json!({"argv": "rm -rf /"}), "config: invalid type: string"),
        (json!({"argv": ["a"], "env": {"A=B": "c"}}), "config.env: `A=B` is no name"),
        (json!({"argv": ["a"], "shell": true}), "config: unknown field `shell`"),
    ] {
        let problem = ProcessAgent::prepare(&config).expect_err("a problem");
        let text = format!("config{}: {}", problem.pointer, problem.message);
        assert!(text.starts_with(wanted), "{text}");
    }
}

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("millstream-process-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the directory is there");
    }
}

/// Waits until the process whose id is in the file has vanished, also from the process table.
async fn eventually_gone(directory: &Directory, file: &str) {
    let id = std::fs::read_to_string(directory.0.join(file)).expect("the script wrote its process id");
    let id = Pid::from_raw(id.trim().parse().expect("a process id")).expect("a process id");
    let gone = async {
        while rustix::process::test_kill_process(id).is_ok() && !is_zombie_of_init(id) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the process is gone");
}

/// Grandchildren are reaped by whoever adopts them, which in a container may be nobody.
fn is_zombie_of_init(id: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.as_raw_nonzero())).unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let mut fields = after_name.split(' ');
    fields.next() == Some("Z") && fields.next() != Some(&std::process::id().to_string())
}

fn prepared(config: &Value) -> ProcessAgent {
    ProcessAgent::prepare(config).unwrap_or_else(|problem| panic!("{problem:?}"))
}

fn sh(script: &str) -> ProcessAgent {
    prepared(&json!({"argv": ["sh", "-c", script]}))
}

fn input() -> Arc<RawValue> {
    Arc::from(RawValue::from_string("{\"b\": 1.50}".to_owned()).expect("JSON"))
}

async fn run(script: &str) -> Result<String, StepError> {
    sh(script).call(&context(1), input()).await.map(|output| output.get().to_owned())
}
