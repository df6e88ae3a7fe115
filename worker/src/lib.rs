//! Pulls tasks and runs them; also the SDK for native handlers.
//!
//! A native agent is an async function:
//!
//! ```no_run
//! use millstream_worker::{Context, StepError, Worker, WorkerConfig};
//! use serde_json::{Value, json};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let worker = Worker::builder(WorkerConfig::default())
//!         .handler("greet", |_: Context, input: Value| async move {
//!             Ok(json!({ "text": format!("Hello {}!", input["name"]) }))
//!         })
//!         .start()
//!         .await?;
//!     tokio::signal::ctrl_c().await?;
//!     worker.stop().await;
//!     Ok(())
//! }
//! # type Unused = StepError;
//! ```
//!
//! A step with `agent_id: greet` then runs it. A handler may take and return any types that serde
//! knows, fails with a [`StepError`], and learns from its [`Context`] which run it is.
//!
//! Inside: [`protocol`] decides what happens to a task, `run` does it, `lane` pulls one
//! capability's tasks under its bulkhead, `results` packs entries into batches, and [`adapter`]
//! has one module per framework.

pub mod adapter;
mod cancelled;
mod circuit;
mod clock;
mod context;
mod gate;
mod lane;
mod manifests;
pub mod protocol;
mod results;
mod run;
mod trouble;
mod worker;

pub use context::Context;
pub use millstream_model::error::{ErrorCode, StepError};
pub use worker::{RunningWorker, StartError, Worker, WorkerBuilder, WorkerConfig};
