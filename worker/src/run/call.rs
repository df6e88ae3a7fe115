//! What a run consists of: the agent, its input, its turn, its answer.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use millstream_broker::PayloadError;
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::limits::{INLINE_MAX, RESULT_MAX};
use millstream_model::payload::{Body, Payload};
use millstream_model::task::Task;
use serde_json::value::RawValue;

use crate::adapter::failure::{Cause, bounded};
use crate::adapter::{Adapter, Answer};
use crate::context::Context;
use crate::gate::Turn;
use crate::run::Shared;
use crate::trouble::Trouble;

/// Room for the rest of an entry beside an inline value.
const ENTRY_MARGIN: usize = 8 * 1024;

/// A call that may be made.
pub(super) struct Prepared<'a> {
    pub(super) agent: Arc<Adapter>,
    pub(super) input: Arc<RawValue>,
    pub(super) turn: Turn<'a>,
}

/// Gets what a call needs, its turn last.
pub(super) async fn prepare<'a>(shared: &'a Shared, task: &'a Task) -> Result<Prepared<'a>, StepError> {
    let agent = shared.manifests.adapter(task).await?;
    let input = input(shared, task).await?;
    // What is left of the step's time must be enough for the call itself.
    let patience = Duration::from_millis(task.timeout_ms / 10 * 9);
    let turn = shared.gates.enter(&task.agent, patience).await?;
    Ok(Prepared { agent, input, turn })
}

/// Calls an agent. What it says of a failure is bounded, and a panic is its failure.
pub(super) async fn call(agent: &Adapter, context: &Context, input: Arc<RawValue>) -> Answer {
    let answer = match AssertUnwindSafe(agent.call(context, input)).catch_unwind().await {
        Ok(answer) => answer,
        Err(panic) => {
            Err(Cause::Panicked.error(format!("agent {} panicked: {}", context.agent(), panic_message(&*panic))))
        }
    };
    answer.map_err(bounded)
}

/// The input's text, wherever it is.
async fn input(shared: &Shared, task: &Task) -> Answer {
    if let Some(coding) = &task.input.enc {
        let message = format!("the input is coded as `{coding}`, which this worker cannot read");
        return Err(StepError::new(ErrorCode::InvalidInput, message));
    }
    let reference = match &task.input.body {
        Body::Inline(text) => return Ok(Arc::clone(text)),
        Body::Stored(reference) => *reference,
    };
    let mut trouble = Trouble::default();
    loop {
        match shared.broker.get_payload(task.key.execution, reference).await {
            Ok(text) => return Ok(Arc::from(text)),
            Err(error @ PayloadError::Store { .. }) if error.is_retryable() => {
                trouble.failed();
                trouble.pause().await;
            }
            Err(error) => {
                return Err(StepError::new(ErrorCode::InvalidInput, format!("the input cannot be loaded: {error}")));
            }
        }
    }
}

/// The output as it travels: here, or in the payload store when it is large.
pub(super) async fn store(shared: &Shared, task: &Task, text: Arc<RawValue>) -> Result<Payload, StepError> {
    let size = text.get().len();
    if size > RESULT_MAX {
        let message = format!("the output has {size} bytes; a step may return {RESULT_MAX}");
        return Err(Cause::OutputTooLarge.error(message));
    }
    let inline_max = INLINE_MAX.min((shared.broker.max_payload() / 2).saturating_sub(ENTRY_MARGIN));
    if size <= inline_max {
        return Ok(Payload { enc: None, body: Body::Inline(text) });
    }
    let mut trouble = Trouble::default();
    loop {
        match shared.broker.put_payload(task.key.execution, text.get()).await {
            Ok(reference) => return Ok(Payload::stored(reference)),
            Err(error) if error.is_retryable() => {
                if trouble.failed() {
                    tracing::warn!(execution = %task.key.execution, %error, "an output cannot be stored; trying on");
                }
                trouble.pause().await;
            }
            Err(error) => {
                tracing::error!(execution = %task.key.execution, %error, "an output is not accepted");
                return Err(StepError::new(ErrorCode::InternalError, format!("the output cannot be stored: {error}")));
            }
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "without a message",
    }
}
