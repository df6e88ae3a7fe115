//! A worker with an agent of its own: `cargo run -p millstream-worker --example resize`.
//!
//! It joins the cluster at NATS' usual address and registers the native agent `resize`. A step
//! with `agent_id: resize` then runs the handler below:
//!
//! ```yaml
//! id: thumbnails
//! name: Thumbnails
//! version: 1.0.0
//! steps:
//!   - id: each
//!     agent_id: resize
//!     fan_out: {items: $.input.images, concurrency: 100}
//! ```

use millstream_worker::{Context, ErrorCode, StepError, Worker, WorkerConfig};
use serde::{Deserialize, Serialize};

/// What the step is given; anything else is INVALID_INPUT before the handler is called.
#[derive(Deserialize)]
struct Image {
    width: u32,
    height: u32,
}

/// What the step's output will be.
#[derive(Serialize)]
struct Thumbnail {
    width: u32,
    height: u32,
}

/// Fits an image into 200 × 200.
async fn resize(context: Context, image: Image) -> Result<Thumbnail, StepError> {
    let longer = image.width.max(image.height);
    if longer == 0 {
        return Err(StepError::new(ErrorCode::InvalidInput, format!("step {}: an empty image", context.step())));
    }
    Ok(Thumbnail { width: image.width * 200 / longer, height: image.height * 200 / longer })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let worker = Worker::builder(WorkerConfig::default()).handler("resize", resize).start().await?;
    println!("{} runs `resize`; Ctrl-C stops it", worker.id());
    tokio::signal::ctrl_c().await?;
    worker.stop().await;
    Ok(())
}
