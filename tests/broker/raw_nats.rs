//! NATS' own text protocol, for what the broker must not be able to do: delete, damage, look inside.

use std::collections::VecDeque;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A connection that does one thing at a time.
pub(crate) struct RawNats {
    stream: BufReader<TcpStream>,
    received: VecDeque<(String, Vec<u8>)>,
    requests: u64,
}

impl RawNats {
    pub(crate) async fn connect(url: &str) -> Self {
        let address = url.strip_prefix("nats://").expect("a NATS URL");
        let stream = TcpStream::connect(address).await.expect("the server listens");
        let mut raw = Self { stream: BufReader::new(stream), received: VecDeque::new(), requests: 0 };
        raw.write("CONNECT {\"verbose\":false,\"headers\":false,\"lang\":\"test\",\"version\":\"0\"}\r\n").await;
        raw.write("SUB _INBOX.raw.* 1\r\n").await;
        raw
    }

    /// Every later message on `subject` is kept for [`Self::next`].
    pub(crate) async fn subscribe(&mut self, subject: &str) {
        self.write(&format!("SUB {subject} 2\r\nPING\r\n")).await;
        self.read_until_pong().await;
    }

    pub(crate) async fn publish(&mut self, subject: &str, payload: &[u8]) {
        self.send(subject, "", payload).await;
        self.write("PING\r\n").await;
        self.read_until_pong().await;
    }

    /// Calls the JetStream API and returns its answer, refusals included.
    pub(crate) async fn api(&mut self, method: &str, body: &Value) -> Value {
        self.requests += 1;
        let reply = format!("_INBOX.raw.{}", self.requests);
        self.send(&format!("$JS.API.{method}"), &reply, body.to_string().as_bytes()).await;
        loop {
            if let Some(place) = self.received.iter().position(|(subject, _)| *subject == reply) {
                let (_, answer) = self.received.remove(place).expect("it was found there");
                return serde_json::from_slice(&answer).expect("the API answers JSON");
            }
            self.read_one().await;
        }
    }

    /// The oldest kept message: its subject and payload.
    pub(crate) async fn next(&mut self) -> (String, Vec<u8>) {
        while self.received.is_empty() {
            self.read_one().await;
        }
        self.received.pop_front().expect("something was received")
    }

    async fn send(&mut self, subject: &str, reply: &str, payload: &[u8]) {
        self.write(&format!("PUB {subject} {reply} {}\r\n", payload.len())).await;
        self.stream.write_all(payload).await.expect("the server reads");
        self.write("\r\n").await;
    }

    async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("the server reads");
    }

    async fn read_until_pong(&mut self) {
        while self.read_one().await != "PONG" {}
    }

    /// Reads one line and keeps the message when it starts one.
    async fn read_one(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.expect("the server writes");
        let line = line.trim_end().to_owned();
        assert!(!line.starts_with("-ERR"), "{line}");
        if line == "PING" {
            self.write("PONG\r\n").await;
        }
        if let Some(message) = line.strip_prefix("MSG ") {
            let subject = message.split(' ').next().expect("a subject").to_owned();
            let length: usize = message.split(' ').next_back().expect("a length").parse().expect("a number");
            let mut payload = vec![0; length + 2];
            self.stream.read_exact(&mut payload).await.expect("the server writes");
            payload.truncate(length);
            self.received.push_back((subject, payload));
        }
        line
    }
}
