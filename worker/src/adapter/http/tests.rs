use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes as AxumBytes};
use axum::extract::Path;
use axum::http::{HeaderMap as Headers, Response as AxumResponse};
use axum::routing::{any, post};
use millstream_model::error::ErrorCode;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::context::tests::{context, heard_ms};

#[tokio::test]
async fn the_input_is_the_body_and_the_answer_the_output_both_unchanged() {
    let server = server().await;
    let answer = call(server, "/echo", json!({})).await;
    assert_eq!(answer, Ok("{\"b\": 1.50, \"a\": []}".to_owned()));
}

#[tokio::test]
async fn a_request_says_which_run_it_is() {
    let server = server().await;
    let config = json!({"headers": {"Authorization": "Bearer s3cret"}});
    let seen: Value = serde_json::from_str(&call(server, "/headers", config).await.expect("an answer")).expect("JSON");
    for (name, wanted) in [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("idempotency-key", "k-1"),
        ("millstream-execution-id", "0193a5a0-0000-7000-8000-000000000003"),
        ("millstream-step-id", "fetch"),
        ("millstream-item", "0"),
        ("millstream-attempt", "2"),
        ("authorization", "Bearer s3cret"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(seen[name], wanted, "{name}");
    }
    assert!(seen.get("tracestate").is_none());
    let left: u64 = seen["millstream-timeout-ms"].as_str().expect("a header").parse().expect("a number");
    assert!((1..=60_000).contains(&left), "{left}");
}

#[tokio::test]
async fn an_empty_answer_is_null() {
    let server = server().await;
    assert_eq!(call(server, "/status/204", json!({})).await, Ok("null".to_owned()));
}

#[tokio::test]
async fn a_get_has_no_body() {
    let server = server().await;
    assert_eq!(call(server, "/length", json!({"method": "get"})).await, Ok("0".to_owned()));
    assert_eq!(call(server, "/length", json!({"method": "put"})).await, Ok("20".to_owned()));
}

#[tokio::test]
async fn the_status_decides_the_code() {
    let server = server().await;
    for (status, code) in [
        (304, ErrorCode::ExternalServiceError),
        (400, ErrorCode::InvalidInput),
        (401, ErrorCode::PermissionDenied),
        (402, ErrorCode::PermissionDenied),
        (403, ErrorCode::PermissionDenied),
        (404, ErrorCode::InvalidInput),
        (405, ErrorCode::InvalidInput),
        (407, ErrorCode::PermissionDenied),
        (408, ErrorCode::Timeout),
        (409, ErrorCode::ExternalServiceError),
        (410, ErrorCode::InvalidInput),
        (413, ErrorCode::InvalidInput),
        (422, ErrorCode::InvalidInput),
        (425, ErrorCode::ExternalServiceError),
        (429, ErrorCode::RateLimited),
        (451, ErrorCode::PermissionDenied),
        (500, ErrorCode::ExternalServiceError),
        (503, ErrorCode::ExternalServiceError),
        (504, ErrorCode::Timeout),
    ] {
        let error = call(server, &format!("/status/{status}"), json!({})).await.expect_err("a failure");
        assert_eq!(error.code, code, "{status}");
        assert!(error.message.contains(&status.to_string()), "{}", error.message);
        assert_eq!(error.retryable, None);
        assert_eq!(error.details.expect("details")["status"], status);
    }
}

#[tokio::test]
async fn a_failures_body_has_the_last_word() {
    let server = server().await;
    let error = call(server, "/says/BUDGET_EXCEEDED", json!({})).await.expect_err("a failure");
    assert_eq!(
        (error.code, error.message.as_str(), error.retryable),
        (ErrorCode::BudgetExceeded, "no more", Some(false))
    );
    let details = error.details.expect("details");
    assert_eq!(details, json!({"status": 500, "retry_after": "7", "details": {"left": 0}}));
    assert_eq!(error.trace.as_deref(), Some("at line 7"));
    let error = call(server, "/says/OUT_OF_PAPER", json!({})).await.expect_err("a failure");
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::ExternalServiceError, "no more"));
    assert_eq!(error.details.expect("details")["code"], "OUT_OF_PAPER");
}

#[tokio::test]
async fn an_answer_that_is_not_json_is_quoted() {
    let server = server().await;
    let error = call(server, "/garbage", json!({})).await.expect_err("a failure");
    assert_eq!(error.code, ErrorCode::ExternalServiceError);
    assert_eq!(error.details.expect("details")["body"], "<html>Welcome</html>");
}

#[tokio::test]
async fn an_answer_above_the_limit_is_not_read_to_its_end() {
    let server = server().await;
    for path in ["/flood/announced", "/flood/chunked"] {
        let error = call(server, path, json!({})).await.expect_err("a failure");
        assert_eq!(error.code, ErrorCode::ResultTooLarge, "{path}");
    }
}

#[tokio::test]
async fn nobody_there_is_an_external_failure_that_hides_secrets() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let url = format!("http://user:s3cret@{address}/x?token=s3cret");
    let agent = prepared(&json!({"url": url}));
    let error = agent.call(&context(1), input()).await.expect_err("a failure");
    assert_eq!(error.code, ErrorCode::ExternalServiceError);
    assert!(error.message.contains(&format!("POST http://{address}/x")), "{}", error.message);
    assert!(error.message.contains("refused") && !error.message.contains("s3cret"), "{}", error.message);
}

#[tokio::test]
async fn a_connection_that_breaks_off_is_an_external_failure() {
    let server = server().await;
    let error = call(server, "/broken", json!({})).await.expect_err("a failure");
    assert_eq!(error.code, ErrorCode::ExternalServiceError);
}

#[tokio::test]
async fn every_piece_of_an_answer_is_a_sign_of_life() {
    let (pieces, answer) = mpsc::unbounded_channel::<Result<AxumBytes, std::io::Error>>();
    let answer = Arc::new(std::sync::Mutex::new(Some(answer)));
    let slow = any(move || {
        let mut pieces = answer.lock().expect("one call at a time").take().expect("one call");
        async move { Body::from_stream(futures::stream::poll_fn(move |cx| pieces.poll_recv(cx))) }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", slow)).await });
    let (agent, context) = (prepared(&json!({"url": url})), context(1));
    let (watched, full) = (context.clone(), Duration::from_millis(context.timeout_ms()));
    let call = tokio::spawn(async move { agent.call(&watched, input()).await });
    let mut heard = vec![0];
    for piece in ["[1", ", 2", "]"] {
        // Signs of life are told apart by the millisecond.
        while context.time_remaining() + Duration::from_millis(heard.last().expect("a moment") + 2) > full {
            tokio::task::yield_now().await;
        }
        pieces.send(Ok(AxumBytes::from(piece))).expect("the server listens");
        let next = async {
            while heard_ms(&context) <= *heard.last().expect("a moment") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), next).await.expect("a sign of life");
        heard.push(heard_ms(&context));
    }
    drop(pieces);
    assert_eq!(call.await.expect("no panic").expect("an answer").get(), "[1, 2]");
}

#[tokio::test]
async fn redirects_are_followed_and_loops_are_not() {
    let server = server().await;
    assert_eq!(call(server, "/redirect/2", json!({})).await, Ok("{\"b\": 1.50, \"a\": []}".to_owned()));
    let error = call(server, "/redirect/9", json!({})).await.expect_err("a failure");
    assert_eq!(error.code, ErrorCode::ExternalServiceError);
    assert!(error.message.contains("redirect"), "{}", error.message);
}

#[tokio::test]
async fn dropping_a_call_aborts_the_request() {
    let (sender, mut ended) = mpsc::unbounded_channel();
    let hang = any(move || {
        let told = TellsItsEnd(sender.clone());
        async move {
            std::future::pending::<()>().await;
            drop(told);
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", hang)).await });
    let agent = prepared(&json!({"url": format!("http://{address}/")}));
    let called = tokio::time::timeout(Duration::from_millis(200), agent.call(&context(1), input())).await;
    assert!(called.is_err(), "the agent hangs");
    let seen = tokio::time::timeout(Duration::from_secs(5), ended.recv()).await;
    assert_eq!(seen, Ok(Some(())), "the server sees the connection close");
}

#[test]
fn a_config_that_cannot_work_is_refused_with_its_place() {
    for (config, wanted) in [
        (json!(null), "config: invalid type"),
        (json!({}), "config: missing field `url`"),
        (json!({"url": "ftp://x"}), "config.url: expected http:// or https://"),
        (json!({"url": "/relative"}), "config.url: relative URL"),
        (json!({"url": "http://x", "method": "a b"}), "config.method: invalid"),
        (json!({"url": "http://x", "headers": {"a b": "c"}}), "config.headers.a b: invalid"),
        (json!({"url": "http://x", "headers": {"a": "b\n"}}), "config.headers.a: "),
        (json!({"url": "http://x", "timeout": 5}), "config: unknown field `timeout`"),
    ] {
        let problem = HttpAgent::prepare(&config, &HttpClients::default()).expect_err("a problem");
        let text = format!("config{}: {}", problem.pointer, problem.message);
        assert!(text.starts_with(wanted), "{text}");
    }
}

struct TellsItsEnd(mpsc::UnboundedSender<()>);

impl Drop for TellsItsEnd {
    fn drop(&mut self) {
        self.0.send(()).expect("the test listens");
    }
}

fn prepared(config: &Value) -> HttpAgent {
    HttpAgent::prepare(config, &HttpClients::default()).unwrap_or_else(|problem| panic!("{problem:?}"))
}

fn input() -> Arc<RawValue> {
    Arc::from(RawValue::from_string("{\"b\": 1.50, \"a\": []}".to_owned()).expect("JSON"))
}

async fn call(server: SocketAddr, path: &str, mut config: Value) -> Result<String, StepError> {
    config["url"] = format!("http://{server}{path}").into();
    prepared(&config).call(&context(2), input()).await.map(|output| output.get().to_owned())
}

async fn server() -> SocketAddr {
    let app = Router::new()
        .route("/echo", post(|body: AxumBytes| async move { body }))
        .route("/length", any(|body: AxumBytes| async move { body.len().to_string() }))
        .route("/headers", post(headers))
        .route("/status/{status}", post(|Path(status): Path<u16>| async move { answer(status, "", Body::empty()) }))
        .route("/says/{code}", post(says))
        .route("/garbage", post(|| async { "<html>Welcome</html>" }))
        .route("/flood/announced", post(|| async { answer(200, &(RESULT_MAX + 1).to_string(), flood()) }))
        .route("/flood/chunked", post(|| async { answer(200, "", flood()) }))
        .route("/broken", post(|| async { answer(200, "99", Body::from("{")) }))
        .route("/redirect/{left}", any(redirect));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn headers(headers: Headers) -> String {
    let text = |value: &axum::http::HeaderValue| value.to_str().expect("text").to_owned();
    let headers: serde_json::Map<_, _> =
        headers.iter().map(|(name, value)| (name.to_string(), text(value).into())).collect();
    Value::Object(headers).to_string()
}

async fn says(Path(code): Path<String>) -> AxumResponse<Body> {
    let body = json!({"error": {"code": code, "message": "no more", "retryable": false, "details": {"left": 0}, "trace": "at line 7"}});
    let mut answer = answer(500, "", Body::from(body.to_string()));
    answer.headers_mut().insert("retry-after", "7".parse().expect("a header"));
    answer
}

async fn redirect(Path(left): Path<u32>) -> AxumResponse<Body> {
    let to = if left > 1 { format!("/redirect/{}", left - 1) } else { "/echo".to_owned() };
    let mut answer = answer(307, "", Body::empty());
    answer.headers_mut().insert("location", to.parse().expect("a header"));
    answer
}

fn answer(status: u16, length: &str, body: Body) -> AxumResponse<Body> {
    let mut answer = AxumResponse::new(body);
    *answer.status_mut() = status.try_into().expect("a status");
    if !length.is_empty() {
        answer.headers_mut().insert("content-length", length.parse().expect("a length"));
    }
    answer
}

/// One chunk more than anybody may answer.
fn flood() -> Body {
    let chunk = AxumBytes::from(vec![b' '; 1024 * 1024]);
    let chunks = RESULT_MAX / chunk.len() + 1;
    Body::from_stream(futures::stream::iter((0..chunks).map(move |_| Ok::<_, std::io::Error>(chunk.clone()))))
}
