//! What a user may not do is an error, not an endless wait.

use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_broker::{AppendError, Broker, BrokerConfig, ConnectError, PublishError};
use millstream_tests::nats::{self, Server};

use crate::fixture::{P0, config, http, task, topology};

async fn server() -> Server {
    nats::start_with(
        "authorization { users: [ {user: coordinator, password: c}, {user: worker, password: w, permissions: \
         {publish: {deny: [\"ms.task.>\", \"ms.journal.*.control\", \"$JS.API.STREAM.CREATE.>\"]}}} ] }\n\
         no_auth_user: coordinator",
    )
    .await
}

async fn connect(server: &Server, user: &str, password: &str) -> Result<Broker, ConnectError> {
    let config = BrokerConfig { user: Some(user.into()), password: Some(password.into()), ..config(server) };
    Broker::connect(config).await
}

#[tokio::test]
async fn a_denied_publish_is_denied_at_once() {
    let server = server().await;
    let coordinator = connect(&server, "coordinator", "c").await.expect("connected");
    coordinator.provision(&topology()).await.expect("provisioned");
    let worker = connect(&server, "worker", "w").await.expect("connected");

    let start = Instant::now();
    let refused = worker.publish_task(&http(), P0, task(1), None).await.expect("sent").await;
    let error = refused.expect_err("not allowed");
    assert!(matches!(&error, PublishError::Denied { subject } if subject == "ms.task.http.0"), "{error}");
    assert!(!error.is_retryable() && !error.is_unknown());
    let error = worker.append_control(P0, "id", Bytes::from_static(b"x")).await.expect_err("not allowed");
    assert!(matches!(&error, AppendError::Denied { subject } if subject == "ms.journal.0.control"), "{error}");
    assert!(!error.is_retryable());
    assert!(start.elapsed() < Duration::from_secs(4), "not by waiting for an answer that never comes");

    worker.append_results(P0, &http(), Bytes::from_static(b"x"), None).await.expect("allowed");
}

#[tokio::test]
async fn wrong_credentials_are_an_error_and_not_a_reason_to_wait() {
    let server = server().await;
    assert!(matches!(connect(&server, "worker", "wrong").await, Err(ConnectError::Unauthorized { .. })));
}
