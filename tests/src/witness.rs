//! A small HTTP service that remembers who called it: the outside world of a side-effect test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse;
use serde_json::Value;
use tokio::sync::watch;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    pub path: String,
    pub execution: String,
    pub step: String,
    pub item: Option<String>,
    pub attempt: String,
    pub idempotency_key: String,
    pub traceparent: Option<String>,
    pub body: String,
}

/// What the service says: status and JSON.
pub type Reply = (u16, Value);

struct Shared {
    calls: Mutex<Vec<Call>>,
    answer: Box<dyn Fn(&Call) -> Reply + Send + Sync>,
    open: watch::Receiver<bool>,
}

/// The service. It ends with the runtime of the test that started it.
pub struct Witness {
    address: SocketAddr,
    shared: Arc<Shared>,
    gate: watch::Sender<bool>,
}

impl Witness {
    /// Starts a service that answers every call with `answer`.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub async fn start(answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let (gate, open) = watch::channel(true);
        let shared = Arc::new(Shared { calls: Mutex::default(), answer: Box::new(answer), open });
        let router = Router::new().fallback(serve).with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound listener has an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shared, gate }
    }

    /// The URL of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Notes calls, but answers them only after [`Self::release`].
    pub fn hold(&self) {
        self.gate.send_replace(false);
    }

    /// Answers what waits and everything that follows.
    pub fn release(&self) {
        self.gate.send_replace(true);
    }

    /// All calls so far, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        calls(&self.shared).clone()
    }

    /// How often each (execution, step, item, attempt, idempotency key) was called.
    pub fn counts(&self) -> BTreeMap<(String, String, Option<String>, String, String), usize> {
        let mut counts = BTreeMap::new();
        for call in self.calls() {
            *counts.entry((call.execution, call.step, call.item, call.attempt, call.idempotency_key)).or_default() += 1;
        }
        counts
    }
}

async fn serve(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    let call = Call {
        path: uri.path().to_owned(),
        execution: header("millstream-execution-id").unwrap_or_default(),
        step: header("millstream-step-id").unwrap_or_default(),
        item: header("millstream-item"),
        attempt: header("millstream-attempt").unwrap_or_default(),
        idempotency_key: header("idempotency-key").unwrap_or_default(),
        traceparent: header("traceparent"),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    calls(&shared).push(call.clone());
    // An error says that the test is over, and nobody reads the answer then.
    drop(shared.open.clone().wait_for(|open| *open).await);
    let (status, value) = (shared.answer)(&call);
    (StatusCode::from_u16(status).expect("tests answer with real status codes"), axum::Json(value))
}

fn calls(shared: &Shared) -> MutexGuard<'_, Vec<Call>> {
    shared.calls.lock().unwrap_or_else(PoisonError::into_inner)
}
