//! `builtin`: agents for trying things out. Config: `{"op": "echo" | "sleep" | "fail"}`.
//!
//! | op | input | what it does |
//! |---|---|---|
//! | `echo` | anything | answers its input |
//! | `sleep` | `{"ms": n}` or `{"seconds": x}`, both: their sum | answers its input after that time |
//! | `fail` | `{"code", "message", "retryable", "times"}`, all optional | fails; with `times` only while the attempt is at most that |

use std::sync::Arc;
use std::time::Duration;

use millstream_model::error::{ErrorCode, StepError};
use millstream_model::limits::DURATION_MS_MAX;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::adapter::{Answer, ConfigProblem};
use crate::context::Context;

/// A built-in agent.
#[derive(Debug)]
pub struct Builtin {
    op: Op,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Echo,
    Sleep,
    Fail,
}

impl Builtin {
    pub(crate) fn prepare(config: &Value) -> Result<Self, ConfigProblem> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Config {
            op: Op,
        }
        let Config { op } = ConfigProblem::read(config)?;
        Ok(Self { op })
    }

    pub(crate) async fn call(&self, context: &Context, input: Arc<RawValue>) -> Answer {
        match self.op {
            Op::Echo => Ok(input),
            Op::Sleep => {
                tokio::time::sleep(duration(&input)?).await;
                Ok(input)
            }
            Op::Fail => fail(context.attempt(), input),
        }
    }
}

fn duration(input: &RawValue) -> Result<Duration, StepError> {
    #[derive(Deserialize)]
    struct Sleep {
        #[serde(default)]
        ms: Option<f64>,
        #[serde(default)]
        seconds: Option<f64>,
    }
    let sleep: Sleep = read(input)?;
    if sleep.ms.is_none() && sleep.seconds.is_none() {
        return Err(StepError::new(ErrorCode::InvalidInput, "builtin-sleep expects {\"ms\": n} or {\"seconds\": x}"));
    }
    let milliseconds = sleep.ms.unwrap_or(0.0) + sleep.seconds.unwrap_or(0.0) * 1_000.0;
    Duration::try_from_secs_f64(milliseconds / 1_000.0)
        .ok()
        .filter(|time| time.as_millis() <= u128::from(DURATION_MS_MAX))
        .ok_or_else(|| StepError::new(ErrorCode::InvalidInput, format!("cannot sleep for {milliseconds} ms")))
}

fn fail(attempt: u32, input: Arc<RawValue>) -> Answer {
    #[derive(Deserialize)]
    struct Fail {
        #[serde(default)]
        code: Option<ErrorCode>,
        #[serde(default)]
        message: Option<String>,
        #[serde(default)]
        retryable: Option<bool>,
        #[serde(default)]
        times: Option<u32>,
    }
    let wish: Fail = match input.get() {
        "null" => Fail { code: None, message: None, retryable: None, times: None },
        _ => read(&input)?,
    };
    if wish.times.is_some_and(|times| attempt > times) {
        return Ok(input);
    }
    let message = wish.message.unwrap_or_else(|| "builtin-fail fails, as it was asked to".to_owned());
    let mut error = StepError::new(wish.code.unwrap_or(ErrorCode::InternalError), message);
    error.retryable = wish.retryable;
    Err(error)
}

fn read<T: serde::de::DeserializeOwned>(input: &RawValue) -> Result<T, StepError> {
    serde_json::from_str(input.get()).map_err(|problem| StepError::new(ErrorCode::InvalidInput, problem.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::context::tests::context;

    async fn call(op: &str, attempt: u32, input: &str) -> Result<String, StepError> {
        let agent = Builtin::prepare(&json!({ "op": op })).unwrap_or_else(|problem| panic!("{problem:?}"));
        let input = RawValue::from_string(input.to_owned()).expect("JSON");
        agent.call(&context(attempt), Arc::from(input)).await.map(|output| output.get().to_owned())
    }

    #[tokio::test]
    async fn echo_answers_its_input_as_it_was_written() {
        assert_eq!(call("echo", 1, "{\"b\": 1.50}").await, Ok("{\"b\": 1.50}".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn sleep_takes_its_time_and_answers_its_input() {
        let started = tokio::time::Instant::now();
        let input = r#"{"ms": 500, "seconds": 1.5, "files": ["a"]}"#;
        assert_eq!(call("sleep", 1, input).await, Ok(input.to_owned()));
        assert_eq!(started.elapsed().as_millis(), 2_000);
        for bad in ["{}", "7", r#"{"ms": -1}"#, r#"{"ms": 1e300}"#, r#"{"ms": "1"}"#] {
            assert_eq!(call("sleep", 1, bad).await.map_err(|error| error.code), Err(ErrorCode::InvalidInput), "{bad}");
        }
    }

    #[tokio::test]
    async fn fail_fails_as_it_was_asked_to_and_as_often() {
        let input = r#"{"code": "RATE_LIMITED", "message": "slow down", "retryable": false, "times": 2}"#;
        for attempt in [1, 2] {
            let error = call("fail", attempt, input).await.expect_err("a failure");
            assert_eq!(
                (error.code, error.message.as_str(), error.retryable),
                (ErrorCode::RateLimited, "slow down", Some(false))
            );
        }
        assert_eq!(call("fail", 3, input).await, Ok(input.to_owned()));
        let plain = call("fail", 9, "null").await.expect_err("a failure");
        assert_eq!(plain.code, ErrorCode::InternalError);
    }
}
