//! Stand-ins for the services that the incident example calls, with fixed replies.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::extract::Json;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Where the manifests of the examples expect the services.
pub(super) const PORT: u16 = 8900;

/// The services, answering until they are dropped.
#[derive(Debug)]
pub(super) struct Services {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Services {
    /// Starts them on the loopback interface; port 0 takes a free one.
    pub(super) async fn start(port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            // Serving fails only when the listener does, and then the steps that call it say so.
            axum::serve(listener, router()).await.ok();
        });
        Ok(Self { address, server })
    }

    /// Their common origin.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn router() -> Router {
    Router::new()
        .route("/monitoring/query", reply(140, |_| json!({"current": 87.5, "avg": 75.2, "max": 92.1})))
        .route("/logging/search", reply(260, |_| json!({"hits": vec![error(); 15]})))
        .route("/tickets/search", reply(90, |_| json!({"issues": [{"id": "INC-12340"}, {"id": "INC-12342"}]})))
        .route("/tickets/comments", reply(60, |asked| json!({"ticket": asked["ticket"], "status": "updated"})))
        .route("/remediation/playbooks", reply(300, |asked| json!({"playbook": asked["playbook"], "status": "done"})))
        .route("/pager/incidents", reply(180, |_| json!({"id": "PD-789", "assigned_to": "oncall@company.com"})))
}

fn error() -> Value {
    json!({"level": "ERROR", "message": "OutOfMemoryError: heap space exceeded"})
}

/// Answers after a while, as a service that has something to do would.
fn reply(millis: u64, answer: fn(&Value) -> Value) -> axum::routing::MethodRouter {
    post(move |Json(asked): Json<Value>| async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Json(answer(&asked))
    })
}
