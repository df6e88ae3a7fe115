//! NATS' text protocol with headers, one request at a time: what the broker crate cannot say, and nothing it would
//! smooth over.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(2);

/// A message from the server.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// Number of the subscription it came by.
    subscription: u64,
    pub(crate) subject: String,
    pub(crate) reply: String,
    /// Of a message that is only a status: 404, 408, 409, 503 and so on.
    pub(crate) status: Option<u16>,
    /// What the status says, or nothing.
    pub(crate) words: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) payload: Bytes,
}

impl Message {
    /// Stands for an answer that did not come.
    fn silence() -> Self {
        let payload = Bytes::from_static(br#"{"error":{"err_code":0,"description":"no answer"}}"#);
        let (subject, reply, words) = (String::new(), String::new(), "no answer".to_owned());
        Self { subscription: 0, subject, reply, status: Some(0), words, headers: Vec::new(), payload }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).expect("the API answers JSON")
    }
}

/// A connection.
pub(crate) struct Wire {
    stream: BufReader<TcpStream>,
    inbox: String,
    received: VecDeque<Message>,
    requests: u64,
    subscriptions: u64,
}

/// The subscription to the connection's inbox.
const INBOX: u64 = 1;

impl Wire {
    /// Connects; `name` sets its inbox apart from those of other connections.
    pub(crate) async fn connect(url: &str, name: &str) -> Self {
        let address = url.strip_prefix("nats://").expect("a NATS URL");
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a fresh socket takes options");
        let inbox = format!("_INBOX.{name}");
        let mut wire = Self {
            stream: BufReader::new(stream),
            inbox,
            received: VecDeque::new(),
            requests: 0,
            subscriptions: INBOX,
        };
        let hello = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"lang\":\"test\",\"version\":\"0\"}";
        let subscribe = format!("{hello}\r\nSUB {}.> 1\r\nPING\r\n", wire.inbox);
        wire.write(subscribe.as_bytes()).await;
        wire.until_pong().await;
        wire
    }

    /// A subject that only this connection hears, and nobody has used before.
    pub(crate) fn fresh_inbox(&mut self) -> String {
        self.requests += 1;
        format!("{}.{}", self.inbox, self.requests)
    }

    /// Subscribes to a subject of its own for deliveries, which carry the subject they were published on.
    pub(crate) async fn subscribe(&mut self) -> (u64, String) {
        self.subscriptions += 1;
        let subject = format!("_DELIVERIES{}.{}", self.inbox.trim_start_matches("_INBOX"), self.subscriptions);
        let subscribe = format!("SUB {subject} {}\r\n", self.subscriptions);
        self.write(subscribe.as_bytes()).await;
        (self.subscriptions, subject)
    }

    /// Sends a message and returns when the server has read it.
    pub(crate) async fn tell(&mut self, subject: &str, payload: &[u8]) {
        self.send(subject, "", &[], payload).await;
        self.write(b"PING\r\n").await;
        self.until_pong().await;
    }

    /// Sends a message and returns the answer.
    pub(crate) async fn ask(&mut self, subject: &str, headers: &[(&str, String)], payload: &[u8]) -> Message {
        self.ask_within(subject, headers, payload, PATIENCE).await
    }

    /// The same; no answer in that time is silence.
    pub(crate) async fn ask_within(
        &mut self,
        subject: &str,
        headers: &[(&str, String)],
        payload: &[u8],
        patience: Duration,
    ) -> Message {
        let reply = self.fresh_inbox();
        self.send(subject, &reply, headers, payload).await;
        self.next_that(|message| message.subject == reply, patience).await
    }

    /// Calls the JetStream API.
    pub(crate) async fn api(&mut self, method: &str, body: &Value) -> Value {
        self.ask(&format!("$JS.API.{method}"), &[], body.to_string().as_bytes()).await.json()
    }

    pub(crate) async fn send(&mut self, subject: &str, reply: &str, headers: &[(&str, String)], payload: &[u8]) {
        let mut bytes = Vec::with_capacity(payload.len() + 256);
        if headers.is_empty() {
            bytes.extend(format!("PUB {subject} {reply} {}\r\n", payload.len()).as_bytes());
        } else {
            let mut block = String::from("NATS/1.0\r\n");
            for (name, value) in headers {
                block += &format!("{name}: {value}\r\n");
            }
            block += "\r\n";
            let total = block.len() + payload.len();
            bytes.extend(format!("HPUB {subject} {reply} {} {total}\r\n{block}", block.len()).as_bytes());
        }
        bytes.extend(payload);
        bytes.extend(b"\r\n");
        self.write(&bytes).await;
    }

    /// The next message on a subject of the inbox; others are kept.
    pub(crate) async fn next_on(&mut self, subject: &str) -> Message {
        self.next_that(|message| message.subject == subject, PATIENCE).await
    }

    /// The next message of a subscription; others are kept.
    pub(crate) async fn next_of(&mut self, subscription: u64) -> Message {
        self.next_that(|message| message.subscription == subscription, PATIENCE).await
    }

    /// What has arrived of a subscription so far.
    pub(crate) async fn arrived_of(&mut self, subscription: u64) -> Vec<Message> {
        self.write(b"PING\r\n").await;
        self.until_pong().await;
        let (wanted, rest) = self.received.drain(..).partition(|message| message.subscription == subscription);
        self.received = rest;
        Vec::from(wanted)
    }

    async fn next_that(&mut self, is_wanted: impl Fn(&Message) -> bool, patience: Duration) -> Message {
        let next = tokio::time::timeout(patience, async {
            loop {
                if let Some(place) = self.received.iter().position(&is_wanted) {
                    return self.received.remove(place).expect("it was found there");
                }
                self.read_one().await;
            }
        });
        next.await.unwrap_or_else(|_| Message::silence())
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the server reads");
    }

    async fn until_pong(&mut self) {
        while self.read_one().await != "PONG" {}
    }

    /// Reads one line and keeps the message when it starts one.
    async fn read_one(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.expect("the server writes");
        let line = line.trim_end().to_owned();
        assert!(!line.starts_with("-ERR") && !line.is_empty(), "the server said {line:?}");
        if line == "PING" {
            self.write(b"PONG\r\n").await;
        }
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[words.len() - at].parse::<usize>().expect("a length");
        let (headers, total, lengths) = match words[0] {
            "MSG" => (0, number(1), 1),
            "HMSG" => (number(2), number(1), 2),
            _ => return line,
        };
        let mut bytes = vec![0; total + 2];
        self.stream.read_exact(&mut bytes).await.expect("the server writes");
        bytes.truncate(total);
        let mut payload = Bytes::from(bytes);
        let block = payload.split_to(headers);
        let block = std::str::from_utf8(&block).expect("headers are text");
        let mut lines = block.split("\r\n");
        let status = lines.next().unwrap_or_default().strip_prefix("NATS/1.0 ").unwrap_or_default();
        let (code, description) = status.split_once(' ').unwrap_or((status, ""));
        let headers = lines.filter_map(|line| line.split_once(':'));
        self.received.push_back(Message {
            subscription: words[2].parse().expect("a number"),
            subject: words[1].to_owned(),
            reply: if words.len() == 4 + lengths { words[3].to_owned() } else { String::new() },
            status: code.parse().ok(),
            words: description.to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect(),
            payload,
        });
        line
    }
}
