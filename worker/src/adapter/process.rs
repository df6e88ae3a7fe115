//! `process`: an agent that is a program, one process per run and never a shell.
//!
//! Config: `{"argv": ["prog", "arg"], "env": {…}, "cwd": "…"}`. The step's input is JSON on
//! stdin, the output JSON on stdout (nothing is null), the end of stderr goes into the details
//! of a failure. The environment is PATH, HOME and LANG of the worker, what `env` says, and
//! `MILLSTREAM_EXECUTION_ID`, `_STEP_ID`, `_ITEM`, `_ATTEMPT`, `_TIMEOUT_MS`, `_IDEMPOTENCY_KEY`,
//! `TRACEPARENT`.
//!
//! What a failure is called is in the table of [`failure`](crate::adapter::failure). A program that fails and writes
//! `{"error": {"code", "message", "retryable", "details", "trace"}}` to stdout has the last word.
//!
//! Every byte on stdout or stderr is a sign of life.
//!
//! The program leads its own process group, which is killed when the run is over, however it
//! came to its end: nothing is left behind.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use millstream_model::error::StepError;
use millstream_model::limits::RESULT_MAX;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::adapter::failure::{Cause, Said, python_traceback};
use crate::adapter::{Answer, ConfigProblem, json_from};
use crate::context::Context;

/// Bytes of stderr that are kept, the last ones.
const STDERR_KEPT: usize = 8 * 1024;
/// How long pipes may stay open when the group is dead: only a process that left the group holds them.
const DRAIN: Duration = Duration::from_secs(1);
const INHERITED: [&str; 3] = ["PATH", "HOME", "LANG"];

/// A program as an agent.
#[derive(Debug)]
pub struct ProcessAgent {
    program: String,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    directory: Option<PathBuf>,
}

impl ProcessAgent {
    pub(crate) fn prepare(config: &Value) -> Result<Self, ConfigProblem> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Config {
            argv: Vec<String>,
            #[serde(default)]
            env: BTreeMap<String, String>,
            #[serde(default)]
            cwd: Option<PathBuf>,
        }
        let Config { argv, env, cwd } = ConfigProblem::read(config)?;
        let mut argv = argv.into_iter();
        let program = argv.next().filter(|program| !program.is_empty());
        let program = program.ok_or_else(|| ConfigProblem::at(".argv", "names no program"))?;
        if let Some(name) = env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(ConfigProblem::at(".env", format!("`{name}` is no name of an environment variable")));
        }
        Ok(Self { program, arguments: argv.collect(), environment: env, directory: cwd })
    }

    pub(crate) async fn call(&self, context: &Context, input: Arc<RawValue>) -> Answer {
        let mut child = self.command(context).spawn().map_err(|problem| {
            Cause::ProcessNotStarted(problem.kind()).error(format!("cannot start `{}`: {problem}", self.program))
        })?;
        let group = Group::led_by(&child);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read its input closes the pipe, which is its right.
                drop(stdin.write_all(input.get().as_bytes()).await);
            }
            Ok(())
        };
        let mut said = Vec::new();
        let mut complained = Vec::new();
        let (status, piped) = {
            let read = read_capped(context, stdout, &mut said, RESULT_MAX);
            let listen = read_tail(context, stderr, &mut complained, STDERR_KEPT);
            let pipes = async { tokio::try_join!(feed, read, listen) };
            tokio::pin!(pipes);
            tokio::select! {
                status = child.wait() => {
                    drop(group);
                    // A process outside the group may keep the pipes for ever: what was read counts.
                    (status, tokio::time::timeout(DRAIN, &mut pipes).await.unwrap_or(Ok(((), (), ()))))
                }
                piped = &mut pipes => {
                    if piped.is_err() {
                        group.kill();
                    }
                    let status = child.wait().await;
                    drop(group);
                    (status, piped)
                }
            }
        };
        if let Err(Flood) = piped {
            let message = format!("`{}` wrote more than {RESULT_MAX} bytes to stdout", self.program);
            return Err(Cause::OutputTooLarge.error(message));
        }
        match status {
            Ok(status) if status.success() => self.output(said, &complained),
            Ok(status) => Err(self.ended(status, &said, &complained)),
            Err(problem) => {
                let what = format!("cannot be waited for: {problem}");
                Err(self.failure(Cause::ProcessEnded, &what, &complained))
            }
        }
    }

    fn output(&self, said: Vec<u8>, complained: &[u8]) -> Answer {
        let said = if said.iter().all(u8::is_ascii_whitespace) { b"null".to_vec() } else { said };
        json_from(said).map_err(|not_json| {
            let what = format!("wrote no JSON to stdout: {}", not_json.problem);
            let mut error = self.failure(Cause::ProcessNotJson, &what, complained);
            if let Some(details) = &mut error.details {
                details["stdout"] = not_json.excerpt.into();
            }
            error
        })
    }

    /// What an end other than exit code 0 means.
    fn ended(&self, status: ExitStatus, said: &[u8], complained: &[u8]) -> StepError {
        let text = tail_text(complained);
        let traceback = python_traceback(&text);
        let cause = traceback.map_or(Cause::ProcessEnded, |(_, class)| Cause::PythonRaised(class));
        let mut error = self.failure(cause, &how_it_ended(status), complained);
        if let Some(details) = &mut error.details {
            match (status.code(), status.signal()) {
                (Some(code), _) => details["exit_code"] = code.into(),
                (None, Some(signal)) => details["signal"] = signal.into(),
                (None, None) => {}
            }
        }
        if let Some((trace, _)) = traceback {
            error.message = format!("{}: {}", error.message, trace.lines().next_back().unwrap_or_default());
            error.trace = Some(trace.to_owned());
        }
        match Said::read(said) {
            Some(said) => said.over(error),
            None => error,
        }
    }

    fn failure(&self, cause: Cause<'_>, what: &str, complained: &[u8]) -> StepError {
        let details = json!({"stderr": tail_text(complained)});
        cause.error_with(format!("`{}` {what}", self.program), details)
    }

    fn command(&self, context: &Context) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear();
        command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(&self.environment);
        command.env("MILLSTREAM_EXECUTION_ID", context.execution().to_string());
        command.env("MILLSTREAM_STEP_ID", context.step().as_str());
        command.env("MILLSTREAM_ATTEMPT", context.attempt().to_string());
        command.env("MILLSTREAM_TIMEOUT_MS", context.time_remaining().as_millis().to_string());
        command.env("MILLSTREAM_IDEMPOTENCY_KEY", context.idempotency_key());
        if let Some(item) = context.item() {
            command.env("MILLSTREAM_ITEM", item.to_string());
        }
        if let Some(trace) = context.trace() {
            command.env("TRACEPARENT", trace.to_string());
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Killing on drop also reaps.
        command.process_group(0).kill_on_drop(true);
        command
    }
}

/// Kills a process group when it goes out of scope.
struct Group(Option<Pid>);

impl Group {
    fn led_by(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }

    fn kill(&self) {
        if let Some(leader) = self.0 {
            // Fails only when no process of the group is left, which is what is wanted.
            kill_process_group(leader, Signal::KILL).ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program writes more than anybody reads.
struct Flood;

/// Reads until the end, or until there is more than `max` bytes.
async fn read_capped(
    context: &Context,
    pipe: Option<impl AsyncRead + Unpin>,
    bytes: &mut Vec<u8>,
    max: usize,
) -> Result<(), Flood> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    // A pipe that breaks ends like one that is closed; the exit status tells the rest.
    while let Ok(1..) = pipe.read_buf(bytes).await {
        context.heartbeat();
        if bytes.len() > max {
            return Err(Flood);
        }
    }
    Ok(())
}

/// Reads until the end and keeps the last `kept` bytes.
async fn read_tail(
    context: &Context,
    pipe: Option<impl AsyncRead + Unpin>,
    bytes: &mut Vec<u8>,
    kept: usize,
) -> Result<(), Flood> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    while let Ok(1..) = pipe.read_buf(bytes).await {
        context.heartbeat();
        if bytes.len() > 2 * kept {
            bytes.drain(..bytes.len() - kept);
        }
    }
    bytes.drain(..bytes.len().saturating_sub(kept));
    Ok(())
}

/// The end of a text that may have lost the first bytes of its first character.
fn tail_text(bytes: &[u8]) -> Cow<'_, str> {
    let start = bytes.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
    String::from_utf8_lossy(&bytes[start..])
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => format!("ended with {status}"),
    }
}

#[cfg(test)]
mod tests;
