//! The witness of side effects: an HTTP service on a thread of its own that is not struck. A call is in a file, and on
//! the disk, before it is answered.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::chaos::record::now_ms;
use crate::chaos::workflow;
use crate::simulation::dice::Dice;
use crate::temp_dir::TempDir;
use crate::wait::lasting;

/// One call, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub at_ms: u64,
    pub key: String,
    pub attempt: u64,
    pub execution: String,
    pub step: String,
    pub item: Option<String>,
    /// Whether it was answered with a failure: there was no side effect.
    pub refused: bool,
}

/// How many of 1,000 keys are refused when they come for the first time.
const REFUSED_PER_MILLE: u64 = 50;

/// The service. It ends with the process.
#[derive(Debug)]
pub struct Ledger {
    address: SocketAddr,
    directory: TempDir,
}

#[derive(Clone)]
struct Shared {
    seed: u64,
    writer: mpsc::Sender<(Call, oneshot::Sender<()>)>,
}

impl Ledger {
    /// Starts the service on a free port of `host`.
    ///
    /// # Panics
    /// When it cannot listen there.
    pub fn open(seed: u64, host: &str) -> Self {
        let directory = TempDir::new("witness");
        let file = File::create(directory.join(FILE)).expect("a directory of our own can be written");
        let (writer, calls) = mpsc::channel();
        std::thread::spawn(move || write(file, &calls));
        let listener = std::net::TcpListener::bind((host, 0)).expect("the host has free ports");
        listener.set_nonblocking(true).expect("a listener can do without blocking");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Shared { seed, writer };
        std::thread::spawn(move || serve(listener, shared));
        Self { address, directory }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The file as it is.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn text(&self) -> String {
        std::fs::read_to_string(self.directory.join(FILE)).expect("the witness's file can be read")
    }

    /// All calls so far, in order of arrival.
    ///
    /// # Panics
    /// When the file is not what was written.
    pub fn calls(&self) -> Vec<Call> {
        self.text().lines().map(|line| serde_json::from_str(line).expect("a line is a call")).collect()
    }
}

const FILE: &str = "calls.jsonl";

fn serve(listener: std::net::TcpListener, shared: Shared) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("it is a listener without blocking");
        let router = Router::new().fallback(called).with_state(shared);
        axum::serve(listener, router).await.expect("serving goes on");
    });
}

/// Writes what has come in and brings all of it to the disk at once.
fn write(mut file: File, calls: &mpsc::Receiver<(Call, oneshot::Sender<()>)>) {
    while let Ok(first) = calls.recv() {
        let batch: Vec<_> = std::iter::once(first).chain(calls.try_iter()).collect();
        let mut text = String::new();
        for (call, _) in &batch {
            text.push_str(&serde_json::to_string(call).expect("a call has a JSON form"));
            text.push('\n');
        }
        file.write_all(text.as_bytes()).expect("the witness's file can be written");
        file.sync_data().expect("the witness's file can be brought to the disk");
        for (_, written) in batch {
            // A worker that was killed does not wait for its answer.
            written.send(()).unwrap_or_default();
        }
    }
}

async fn called(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    let key = header("idempotency-key").unwrap_or_default();
    let attempt = header("millstream-attempt").and_then(|text| text.parse().ok()).unwrap_or_default();
    let mut dice = Dice::of(shared.seed, &key);
    let refused = dice.below(1_000) < REFUSED_PER_MILLE && attempt == 1;
    let call = Call {
        at_ms: now_ms(),
        key,
        attempt,
        execution: header("millstream-execution-id").unwrap_or_default(),
        step: header("millstream-step-id").unwrap_or_default(),
        item: header("millstream-item"),
        refused,
    };
    let (written, on_disk) = oneshot::channel();
    shared.writer.send((call, written)).expect("the writer lives as long as the process");
    on_disk.await.expect("the writer answers everybody");
    let work_ms = if dice.chance(20) { dice.between(500, 2_500) } else { dice.between(2, 60) };
    lasting(Duration::from_millis(work_ms)).await;
    if refused {
        let error = json!({"error": {"message": "refused the first time"}});
        return (StatusCode::SERVICE_UNAVAILABLE, axum::Json(error));
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    (StatusCode::OK, axum::Json(workflow::answer(&body)))
}
