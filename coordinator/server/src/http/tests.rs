//! What callers get when they do it wrong: each failure, by the kind of its problem.

use std::collections::BTreeSet;

use axum::body::{Body, to_bytes};
use axum::http::request::Builder;
use axum::http::{Method, Request};
use millstream_model::limits::{DEFINITION_SIZE_MAX, REQUEST_BODY_MAX};
use tower::ServiceExt;

use super::problem::{PROBLEM_JSON, ProblemJson};
use super::*;

const EXECUTION: &str = "/executions/01934567-89ab-7cde-8f01-234567890a03";

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    let problem = refused(get("/workflow"), ProblemKind::RouteNotFound).await;
    assert!(problem.detail.contains("/workflow"), "{}", problem.detail);
    refused(get("/workflows/"), ProblemKind::RouteNotFound).await;
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_a_problem_that_names_those_it_takes() {
    let response = send(request(Method::PATCH, "/workflows/w").body(Body::empty())).await;
    assert_eq!(response.headers()["allow"], "GET, PUT, DELETE, HEAD");
    let problem = problem(response, ProblemKind::MethodNotAllowed).await;
    assert!(problem.detail.contains("does not take PATCH"), "{}", problem.detail);
}

#[tokio::test]
async fn every_route_of_the_table_is_served_and_listed_once() {
    let mut seen = BTreeSet::new();
    for route in routes::routes() {
        assert!(seen.insert((route.method, route.path)), "{} {} is there twice", route.method, route.path);
        assert!(!route.summary.is_empty());
        let path = route.path.replace("{id}", "01934567-89ab-7cde-8f01-234567890a03");
        let method: Method = route.method.parse().expect("a method");
        let response = send(request(method, &path).body(Body::empty())).await;
        assert!(!matches!(response.status().as_u16(), 404 | 405), "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn a_bad_id_is_a_problem_that_says_what_an_id_is() {
    let named = refused(get("/workflows/a.b"), ProblemKind::InvalidId).await;
    assert!(named.detail.contains("'a.b'") && named.detail.contains("only letters"), "{}", named.detail);
    refused(get("/agents/1st"), ProblemKind::InvalidId).await;
    refused(get("/agents/%ff"), ProblemKind::InvalidId).await;
    refused(get("/executions/7"), ProblemKind::InvalidId).await;
}

#[tokio::test]
async fn bad_json_is_a_problem_with_its_place() {
    let problem = refused(post("/workflows/w/execute", "{\"input\": {\n  \"day\": }}"), ProblemKind::InvalidJson).await;
    assert_eq!(problem.detail, "expected value at line 2 column 10");
    refused(post("/agents", "{"), ProblemKind::InvalidJson).await;
}

#[tokio::test]
async fn json_of_another_form_is_a_problem_that_names_the_member() {
    let unknown = refused(post("/workflows/w/execute", r#"{"inputs": 1}"#), ProblemKind::InvalidBody).await;
    assert!(unknown.detail.contains("unknown field `inputs`"), "{}", unknown.detail);
    let labels = r#"{"labels": {"team": 7}}"#;
    refused(post("/workflows/w/execute", labels), ProblemKind::InvalidBody).await;
    let missing = refused(post("/agents", r#"{"id": "a", "framework": "native"}"#), ProblemKind::InvalidBody).await;
    assert!(missing.detail.contains("missing field `capabilities`"), "{}", missing.detail);
}

#[tokio::test]
async fn a_body_that_is_no_text_is_a_problem() {
    let bytes = request(Method::POST, "/workflows").body(Body::from(vec![b'a', 0xff]));
    let problem = refused(bytes, ProblemKind::InvalidBody).await;
    assert!(problem.detail.contains("byte 1"), "{}", problem.detail);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_by_its_declared_length() {
    let declared = request(Method::POST, "/workflows/w/execute").header("content-length", REQUEST_BODY_MAX + 1);
    let problem = refused(declared.body(Body::from("{}")), ProblemKind::BodyTooLarge).await;
    assert!(problem.detail.contains(&REQUEST_BODY_MAX.to_string()), "{}", problem.detail);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_while_it_comes() {
    let body = Body::from(" ".repeat(DEFINITION_SIZE_MAX + 1));
    refused(request(Method::POST, "/workflows").body(body), ProblemKind::BodyTooLarge).await;
    let body = Body::from(" ".repeat(limits::AGENT_SIZE_MAX + 1));
    refused(request(Method::PUT, "/agents/a").body(body), ProblemKind::BodyTooLarge).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_given_up() {
    let body = Body::from_stream(futures::stream::pending::<Result<String, std::io::Error>>());
    let problem = refused(request(Method::POST, "/workflows").body(body), ProblemKind::BodyTimeout).await;
    assert!(problem.detail.contains("30 s"), "{}", problem.detail);
}

#[tokio::test]
async fn a_body_of_another_type_or_coding_is_a_problem() {
    let form = request(Method::POST, "/workflows/w/execute").header("content-type", "text/csv; charset=utf-8");
    let problem = refused(form.body(Body::from("{}")), ProblemKind::UnsupportedMediaType).await;
    assert!(problem.detail.contains("text/csv"), "{}", problem.detail);
    let curl = request(Method::POST, "/workflows/w/execute");
    let curl = curl.header("content-type", "application/x-www-form-urlencoded");
    refused(curl.body(Body::from("{")), ProblemKind::InvalidJson).await;
    let coded = request(Method::POST, "/workflows").header("content-encoding", "gzip");
    refused(coded.body(Body::empty()), ProblemKind::UnsupportedMediaType).await;
}

#[tokio::test]
async fn a_page_of_another_site_cannot_change_anything() {
    let request =
        |origin: &str| request(Method::POST, "/workflows").header("host", "127.0.0.1:8686").header("origin", origin);
    for foreign in ["http://elsewhere.example", "null", "http://127.0.0.1:9999"] {
        let problem = refused(request(foreign).body(Body::from("{}")), ProblemKind::CrossSite).await;
        assert!(problem.detail.contains(foreign), "{}", problem.detail);
    }
    refused(request("http://127.0.0.1:8686").body(Body::from("{}")), ProblemKind::InvalidDefinition).await;
}

#[tokio::test]
async fn bad_parameters_are_problems() {
    let wait = refused(post("/workflows/w/execute?wait=5h", "{}"), ProblemKind::InvalidRequest).await;
    assert!(wait.detail.contains("500ms, 30s or 2m"), "{}", wait.detail);
    let unknown = refused(post("/workflows/w/execute?await=5s", "{}"), ProblemKind::InvalidRequest).await;
    assert!(unknown.detail.contains("await"), "{}", unknown.detail);
    refused(get(&format!("{EXECUTION}/events?last_event_id=7")), ProblemKind::InvalidRequest).await;
    let resumed = request(Method::GET, &format!("{EXECUTION}/events")).header("last-event-id", "7.0");
    refused(resumed.body(Body::empty()), ProblemKind::InvalidRequest).await;
    let reason = "r".repeat(limits::REASON_LENGTH_MAX + 1);
    let cancel = request(Method::DELETE, &format!("{EXECUTION}?reason={reason}")).body(Body::empty());
    refused(cancel, ProblemKind::InvalidRequest).await;
    let cancel = request(Method::DELETE, &format!("{EXECUTION}?compensate=perhaps")).body(Body::empty());
    refused(cancel, ProblemKind::InvalidRequest).await;
}

#[tokio::test]
async fn a_resume_says_who_and_why_and_nothing_else() {
    let resume = |body: &str| post(&format!("{EXECUTION}/resume"), body);
    for bad in [r#"{"from": "a"}"#, r#"{"by": 7}"#, &format!(r#"{{"by": "{}"}}"#, "x".repeat(257))] {
        refused(resume(bad), ProblemKind::InvalidBody).await;
    }
    refused(resume(""), ProblemKind::Unavailable).await;
    refused(resume(r#"{"by": "ada", "reason": "mended"}"#), ProblemKind::Unavailable).await;
}

#[tokio::test]
async fn a_fork_names_its_step_and_what_changes() {
    let fork = |body: &str| post(&format!("{EXECUTION}/fork"), body);
    for bad in [r#"{"form": "a"}"#, r#"{"from": "a b"}"#, r#"{"labels": 1}"#] {
        refused(fork(bad), ProblemKind::InvalidBody).await;
    }
    refused(fork(r#"{"from": "a", "input": null, "definition": "id: w"}"#), ProblemKind::Unavailable).await;
}

#[tokio::test]
async fn an_idempotency_key_has_1_to_255_visible_characters() {
    let keyed = |key: &str| {
        let request = request(Method::POST, "/workflows/w/execute").header("idempotency-key", key);
        request.body(Body::from("{}"))
    };
    for bad in ["", "a b", "ä", &"k".repeat(256)] {
        refused(keyed(bad), ProblemKind::InvalidRequest).await;
    }
    refused(keyed(&"k".repeat(255)), ProblemKind::Unavailable).await;
}

#[tokio::test]
async fn labels_are_bounded_in_number_and_length() {
    let labels: Vec<String> = (0..65).map(|n| format!("\"l{n}\": \"\"")).collect();
    let many = format!("{{\"labels\": {{{}}}}}", labels.join(","));
    refused(post("/workflows/w/execute", &many), ProblemKind::InvalidBody).await;
    refused(post("/workflows/w/execute", r#"{"labels": {"": "x"}}"#), ProblemKind::InvalidBody).await;
    let long = format!("{{\"labels\": {{\"l\": \"{}\"}}}}", "x".repeat(257));
    refused(post("/workflows/w/execute", &long), ProblemKind::InvalidBody).await;
}

#[tokio::test]
async fn a_definition_with_problems_gets_all_of_them() {
    let text = "id: w\nsteps:\n  - id: a\n    agent_id: x\n    depends_on: [b]\n  - id: a\n    agent_id: x\n";
    let problem = refused(post("/workflows", text), ProblemKind::InvalidDefinition).await;
    assert!(problem.problems.len() >= 2, "{:?}", problem.problems);
    let first = problem.problems[0].as_object().expect("an object");
    for member in ["path", "line", "column", "message", "help"] {
        assert!(first.contains_key(member), "{member} is missing from {first:?}");
    }
}

#[tokio::test]
async fn the_id_in_the_path_and_in_the_body_must_agree() {
    let put = |path: &str, body: &str| request(Method::PUT, path).body(Body::from(body.to_owned()));
    let workflow = put("/workflows/other", "id: w\nsteps:\n  - id: a\n    agent_id: x\n");
    refused(workflow, ProblemKind::InvalidDefinition).await;
    let agent = put("/agents/other", r#"{"id": "a", "framework": "native", "capabilities": ["x"]}"#);
    refused(agent, ProblemKind::InvalidAgent).await;
}

#[tokio::test]
async fn before_the_cluster_is_there_callers_are_told_to_come_back() {
    for path in ["/workflows", "/workflows/w", "/agents", "/agents/a", EXECUTION, &format!("{EXECUTION}/events")] {
        let response = send(get(path)).await;
        assert_eq!(response.headers()["retry-after"], "1", "{path}");
        problem(response, ProblemKind::Unavailable).await;
    }
}

#[tokio::test]
async fn a_starting_coordinator_is_alive_and_not_ready() {
    for (path, status) in [("/healthz/started", 200), ("/healthz/live", 200), ("/healthz/ready", 503)] {
        let response = send(get(path)).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/json", "{path}");
    }
}

#[tokio::test]
async fn a_stopped_server_lets_go_of_its_port() {
    let stop = CancellationToken::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(serve(listener, router(Api::starting(stop.clone())), stop.clone()));
    let (head, _) = exchange(address, "GET /healthz/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    stop.cancel();
    server.await.expect("it ends without a panic");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_client_that_has_sent_too_much_still_reads_why_it_is_refused() {
    let stop = CancellationToken::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(serve(listener, router(Api::starting(stop.clone())), stop.clone()));
    let size = 4 * DEFINITION_SIZE_MAX;
    let text = format!("POST /workflows HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n");
    let (head, body) = exchange(address, &(text + &" ".repeat(size))).await;
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    assert!(body.contains("urn:millstream:problem:body-too-large"), "{body}");
    stop.cancel();
    server.await.expect("it ends without a panic");
}

/// Sends `text` whole and reads the answer to its end.
async fn exchange(address: std::net::SocketAddr, text: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    stream.write_all(text.as_bytes()).await.expect("it is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

fn request(method: Method, path: &str) -> Builder {
    Request::builder().method(method).uri(path)
}

fn get(path: &str) -> Result<Request<Body>, axum::http::Error> {
    request(Method::GET, path).body(Body::empty())
}

fn post(path: &str, body: &str) -> Result<Request<Body>, axum::http::Error> {
    request(Method::POST, path).body(Body::from(body.to_owned()))
}

async fn send(request: Result<Request<Body>, axum::http::Error>) -> Response {
    let api = Api::starting(CancellationToken::new());
    router(api).oneshot(request.expect("a request")).await.expect("a router always answers")
}

async fn refused(request: Result<Request<Body>, axum::http::Error>, kind: ProblemKind) -> ProblemJson {
    problem(send(request).await, kind).await
}

async fn problem(response: Response, kind: ProblemKind) -> ProblemJson {
    let status = response.status();
    let media_type = response.headers()["content-type"].clone();
    let body = to_bytes(response.into_body(), 1024 * 1024).await.expect("a body");
    let text = String::from_utf8_lossy(&body);
    assert_eq!(media_type, PROBLEM_JSON, "{text}");
    let problem: ProblemJson = serde_json::from_slice(&body).expect("a problem");
    assert_eq!(problem.kind, format!("urn:millstream:problem:{}", kind.slug()), "{text}");
    assert_eq!(status, kind.status());
    assert_eq!(problem.status, status.as_u16());
    problem
}
