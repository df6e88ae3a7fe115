//! `native`: async Rust functions of this process.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use millstream_model::error::StepError;
use millstream_model::ids::AgentId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::adapter::Answer;
use crate::adapter::failure::Cause;
use crate::context::Context;

/// A handler, whatever types it was written with.
#[derive(Clone)]
pub struct Handler(Arc<dyn Fn(Context, Arc<RawValue>) -> BoxFuture<'static, Answer> + Send + Sync>);

/// The handlers of a worker.
#[derive(Debug, Clone, Default)]
pub struct Handlers(Arc<BTreeMap<AgentId, Handler>>);

impl Handler {
    /// Wraps an async function. An input that is not an `I` is `INVALID_INPUT`.
    pub fn new<F, Fut, I, O>(function: F) -> Self
    where
        F: Fn(Context, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, StepError>> + Send + 'static,
        I: DeserializeOwned,
        O: Serialize,
    {
        let function = Arc::new(function);
        Self(Arc::new(move |context, input| {
            let function = Arc::clone(&function);
            Box::pin(async move {
                let input = serde_json::from_str(input.get()).map_err(unexpected)?;
                let output = function(context, input).await?;
                serde_json::value::to_raw_value(&output).map(Arc::from).map_err(unwritable)
            })
        }))
    }

    pub(crate) fn call(&self, context: Context, input: Arc<RawValue>) -> BoxFuture<'static, Answer> {
        (self.0)(context, input)
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}

impl Handlers {
    pub(crate) fn new(handlers: BTreeMap<AgentId, Handler>) -> Self {
        Self(Arc::new(handlers))
    }

    pub(crate) fn get(&self, agent: &AgentId) -> Option<Handler> {
        self.0.get(agent).cloned()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
fn unexpected(problem: serde_json::Error) -> StepError {
    Cause::UnexpectedInput.error(format!("the input is not what the handler expects: {problem}"))
}

#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
fn unwritable(problem: serde_json::Error) -> StepError {
    Cause::UnwritableOutput.error(format!("the handler's answer has no JSON form: {problem}"))
}
