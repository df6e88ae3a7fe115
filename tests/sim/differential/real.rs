//! Operations on a real server.

use std::time::Duration;

use millstream_tests::simulation::jetstream::{Answer, ReadFrom};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::modelled::{agrees, consumer_line, delivered, headers, pub_ack, queue_line, stored_line, stream_numbers};
use crate::operation::{Operation, Publication, Which};
use crate::setting::{Setting, consumer_json, nanos, stream_json};
use crate::wire::{Message, Wire};

/// A server of one sequence. Operations answer with the same texts as the model.
pub(crate) struct Real {
    wire: Wire,
    setting: Setting,
    /// Reply subjects, those of one fetch in the order of their messages.
    deliveries: Vec<String>,
    feeds: Vec<OpenFeed>,
    /// Where fetched messages arrive: subscription and subject.
    pulls: (u64, String),
}

/// A push consumer without acks.
struct OpenFeed {
    subscription: u64,
    stream: String,
    consumer: String,
    /// Messages that were read from it.
    read: u64,
}

/// What is expected and takes longer is not there.
const PATIENCE: Duration = Duration::from_secs(4);
/// The same when none is expected.
const SILENCE: Duration = Duration::from_millis(60);
/// How long a pull waits for what should not be there.
const PULL: Duration = Duration::from_millis(10);
/// How often something that is not there yet is looked for.
const LOOK: Duration = Duration::from_millis(2);

impl Real {
    pub(crate) async fn new(setting: Setting, mut wire: Wire) -> Self {
        for which in setting.streams() {
            let config = setting.stream_config(*which);
            let created = wire.api(&format!("STREAM.CREATE.{}", config.name), &stream_json(&config)).await;
            assert_eq!(created["error"], Value::Null, "{config:?}");
        }
        let pulls = wire.subscribe().await;
        Self { wire, setting, deliveries: Vec::new(), feeds: Vec::new(), pulls }
    }

    /// Removes what the sequence leaves behind, and gives the connection back.
    pub(crate) async fn end(mut self) -> Wire {
        for which in self.setting.streams() {
            self.wire.api(&format!("STREAM.DELETE.{}", self.setting.stream_name(*which)), &json!({})).await;
        }
        self.wire
    }

    /// Goes on with another connection, after a restart.
    pub(crate) async fn reconnect(&mut self, wire: Wire) {
        self.wire = wire;
        self.pulls = self.wire.subscribe().await;
    }

    /// Performs an operation. What is only looked at is looked at again until it is as expected, for a while: acks
    /// and deliveries become visible late.
    pub(crate) async fn perform(&mut self, operation: &Operation, expected: &str, until: Instant) -> String {
        let mut text = self.attempt(operation, expected).await;
        while !agrees(expected, &text) && Instant::now() + LOOK < until {
            tokio::time::sleep_until(Instant::now() + LOOK).await;
            match operation {
                Operation::Scan { .. }
                | Operation::Newest { .. }
                | Operation::Get { .. }
                | Operation::StreamInfo { .. }
                | Operation::ConsumerInfo { .. } => text = self.attempt(operation, expected).await,
                Operation::ReadFeed { feed } if text != "broken" => {
                    let more = self.read_feed(*feed).await;
                    text = if more == "broken" {
                        more
                    } else {
                        [text, more].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
                    };
                }
                Operation::Answer { delivery, .. } => {
                    let (heard, _) = text.split_once("; ").expect("an answer has two parts");
                    let reply = self.deliveries[*delivery].clone();
                    text = format!("{heard}; {}", self.queue_state(&reply).await);
                }
                _ => break,
            }
        }
        text
    }

    async fn attempt(&mut self, operation: &Operation, expected: &str) -> String {
        let name = |which: Which| self.setting.stream_name(which);
        match operation {
            Operation::Publish(publication) => self.publish(publication).await,
            Operation::Fetch { capability, max } => self.fetch(*capability, *max, expected).await,
            Operation::Answer { delivery, answer, ask } => {
                let reply = self.deliveries[*delivery].clone();
                let patience = if expected.starts_with("no answer") { SILENCE } else { PATIENCE };
                self.answer(&reply, *answer, ask.then_some(patience)).await
            }
            Operation::Wait { .. } | Operation::Restart | Operation::Keep { .. } | Operation::Restore { .. } => {
                String::new()
            }
            Operation::Purge { stream, before } => {
                let method = format!("STREAM.PURGE.{}", name(*stream));
                let answer = self.wire.api(&method, &json!({"seq": before})).await;
                refused(&answer).unwrap_or_else(|| answer["purged"].to_string())
            }
            Operation::DeleteMessage { stream, sequence } => {
                let method = format!("STREAM.MSG.DELETE.{}", name(*stream));
                let answer = self.wire.api(&method, &json!({"seq": sequence, "no_erase": true})).await;
                match refused(&answer).as_deref() {
                    None => "deleted".to_owned(),
                    Some("10057 no message found" | "10057 stream store EOF") => "not there".to_owned(),
                    Some(text) if text.starts_with("10043 ") => "not there".to_owned(),
                    Some(text) => text.to_owned(),
                }
            }
            Operation::Limit { stream, max_msgs, max_bytes } => {
                let mut config = self.setting.stream_config(*stream);
                (config.max_msgs, config.max_bytes) = (*max_msgs, *max_bytes);
                let answer = self.wire.api(&format!("STREAM.UPDATE.{}", config.name), &stream_json(&config)).await;
                refused(&answer).unwrap_or_else(|| "limited".to_owned())
            }
            Operation::Scan { stream, filter } => self.scan(&name(*stream), filter).await,
            Operation::Newest { stream, subject } => {
                let get = format!("$JS.API.DIRECT.GET.{}.{subject}", name(*stream));
                let answer = self.wire.ask(&get, &[], b"").await;
                match answer.status {
                    None => stored(&answer),
                    Some(404) => String::new(),
                    Some(503) => "no responders".to_owned(),
                    Some(other) => format!("{other} {}", answer.words),
                }
            }
            Operation::Get { stream, sequence, directly } => self.get(&name(*stream), *sequence, *directly).await,
            Operation::StreamInfo { stream } => {
                let info = self.wire.api(&format!("STREAM.INFO.{}", name(*stream)), &json!({})).await;
                refused(&info).unwrap_or_else(|| {
                    let number = |name: &str| info["state"][name].as_u64().unwrap_or(0);
                    stream_numbers(number("messages"), number("bytes"), number("first_seq"), number("last_seq"))
                })
            }
            Operation::ConsumerInfo { capability } => {
                let consumer = self.setting.consumer_config(*capability).name;
                let info = self.wire.api(&format!("CONSUMER.INFO.{}.{consumer}", name(Which::Tasks)), &json!({})).await;
                refused(&info).unwrap_or_else(|| {
                    let number = |value: &Value| value.as_u64().unwrap_or(0);
                    consumer_line(
                        number(&info["delivered"]["consumer_seq"]),
                        number(&info["num_ack_pending"]),
                        number(&info["num_redelivered"]),
                        number(&info["num_pending"]),
                    )
                })
            }
            Operation::DeleteTasks => {
                let answer = self.wire.api(&format!("STREAM.DELETE.{}", name(Which::Tasks)), &json!({})).await;
                refused(&answer).unwrap_or_else(|| "deleted".to_owned())
            }
            Operation::CreateTasks { first_sequence } => {
                let mut config = self.setting.stream_config(Which::Tasks);
                config.first_sequence = *first_sequence;
                let answer = self.wire.api(&format!("STREAM.CREATE.{}", config.name), &stream_json(&config)).await;
                refused(&answer).unwrap_or_else(|| "created".to_owned())
            }
            Operation::CreateConsumer { capability } => {
                let config = self.setting.consumer_config(*capability);
                let stream = name(Which::Tasks);
                let method = format!("CONSUMER.CREATE.{stream}.{}.{}", config.name, config.filter);
                let body = json!({"stream_name": stream, "config": consumer_json(&config)});
                let answer = self.wire.api(&method, &body).await;
                refused(&answer).unwrap_or_else(|| "created".to_owned())
            }
            Operation::DeleteConsumer { capability } => {
                let consumer = self.setting.consumer_config(*capability).name;
                let method = format!("CONSUMER.DELETE.{}.{consumer}", name(Which::Tasks));
                let answer = self.wire.api(&method, &json!({})).await;
                refused(&answer).unwrap_or_else(|| "deleted".to_owned())
            }
            Operation::OpenFeed { stream, filter, from } => {
                self.open_feed(name(*stream), filter.as_deref(), *from).await
            }
            Operation::ReadFeed { feed } => self.read_feed(*feed).await,
        }
    }

    async fn publish(&mut self, publication: &Publication) -> String {
        let headers = headers(publication);
        let answer = self.wire.ask(&publication.subject, &headers, publication.payload.as_bytes()).await;
        if answer.status == Some(503) {
            return "no responders".to_owned();
        }
        let answer = answer.json();
        refused(&answer).unwrap_or_else(|| {
            pub_ack(answer["seq"].as_u64().unwrap_or(0), answer["duplicate"].as_bool().unwrap_or(false))
        })
    }

    /// Fetches as many as are expected, for which a busy server gets time, and then looks whether there are more.
    async fn fetch(&mut self, capability: usize, max: usize, expected: &str) -> String {
        let expected = expected.split(", ").filter(|part| part.contains(" delivery ")).count().min(max);
        let mut fetched = Vec::new();
        for (batch, expires) in [(expected, PATIENCE), (max - expected, PULL)] {
            if batch > 0
                && let Err(refusal) = self.pull(capability, batch, expires, &mut fetched).await
            {
                return refusal;
            }
        }
        let lines: Vec<String> = fetched.iter().map(|(_, line, _)| line.clone()).collect();
        fetched.sort();
        self.deliveries.extend(fetched.into_iter().map(|(_, _, reply)| reply));
        lines.join(", ")
    }

    /// One pull; what it brings is added as stream sequence, text and reply subject.
    async fn pull(
        &mut self,
        capability: usize,
        batch: usize,
        expires: Duration,
        fetched: &mut Vec<(u64, String, String)>,
    ) -> Result<(), String> {
        let stream = self.setting.stream_name(Which::Tasks);
        let consumer = self.setting.consumer_config(capability).name;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        // Without an end, a pull that `max_ack_pending` stalls would stay open.
        let request = json!({"batch": batch, "no_wait": true, "expires": nanos(expires)}).to_string();
        let (subscription, inbox) = self.pulls.clone();
        self.wire.send(&subject, &inbox, &[], request.as_bytes()).await;
        for _ in 0..batch {
            let message = self.wire.next_of(subscription).await;
            match message.status {
                None => {
                    // $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<time>.<pending>
                    let numbers = message.reply.split('.').skip(4);
                    let numbers: Vec<u64> = numbers.filter_map(|word| word.parse().ok()).collect();
                    let line = delivered(numbers[1], numbers[0], numbers[2], &message.payload);
                    fetched.push((numbers[1], line, message.reply));
                }
                Some(503) => return Err("no responders".to_owned()),
                Some(404 | 408) => return Ok(()),
                Some(other) => return Err(format!("{other} {}", message.words)),
            }
        }
        Ok(())
    }

    async fn answer(&mut self, reply: &str, answer: Answer, ask: Option<Duration>) -> String {
        let words = match answer {
            Answer::Ack => "+ACK".to_owned(),
            Answer::Nak => "-NAK".to_owned(),
            Answer::NakAfter(delay) => format!("-NAK {{\"delay\":{}}}", delay.as_nanos()),
            Answer::Progress => "+WPI".to_owned(),
        };
        let mut heard = "told".to_owned();
        if let Some(patience) = ask {
            let answer = self.wire.ask_within(reply, &[], words.as_bytes(), patience).await;
            heard = match answer.status {
                None => "confirmed".to_owned(),
                Some(503) => "no responders".to_owned(),
                Some(_) => answer.words,
            };
        } else {
            self.wire.tell(reply, words.as_bytes()).await;
        }
        // Answers are taken in turn: when one for nothing is confirmed, those before it were carried out.
        let mut tokens: Vec<&str> = reply.split('.').collect();
        tokens[5] = "18000000000000000000";
        self.wire.ask(&tokens.join("."), &[], b"+WPI").await;
        format!("{heard}; {}", self.queue_state(reply).await)
    }

    async fn queue_state(&mut self, reply: &str) -> String {
        let tokens: Vec<&str> = reply.split('.').collect();
        let (stream, consumer) = (tokens[2], tokens[3]);
        let info = self.wire.api(&format!("STREAM.INFO.{stream}"), &json!({})).await;
        let messages = info.get("state").map(|state| state["messages"].as_u64().unwrap_or(0));
        let info = self.wire.api(&format!("CONSUMER.INFO.{stream}.{consumer}"), &json!({})).await;
        let pending = info.get("num_ack_pending").map(|pending| pending.as_u64().unwrap_or(0));
        queue_line(messages, pending)
    }

    async fn scan(&mut self, stream: &str, filter: &str) -> String {
        let mut lines = Vec::new();
        let mut next = 1;
        loop {
            let inbox = self.wire.fresh_inbox();
            let page = json!({"seq": next, "batch": 3, "next_by_subj": filter}).to_string();
            self.wire.send(&format!("$JS.API.DIRECT.GET.{stream}"), &inbox, &[], page.as_bytes()).await;
            loop {
                let message = self.wire.next_on(&inbox).await;
                match message.status {
                    None => {
                        next =
                            message.header("Nats-Sequence").and_then(|text| text.parse::<u64>().ok()).expect("one") + 1;
                        lines.push(stored(&message));
                    }
                    Some(204) if message.header("Nats-Num-Pending").is_some_and(|pending| pending != "0") => break,
                    Some(204 | 404) => return lines.join(", "),
                    Some(503) => return "no responders".to_owned(),
                    Some(other) => return format!("{other} {}", message.words),
                }
            }
        }
    }

    async fn get(&mut self, stream: &str, sequence: u64, directly: bool) -> String {
        let body = json!({"seq": sequence});
        if !directly {
            let answer = self.wire.api(&format!("STREAM.MSG.GET.{stream}"), &body).await;
            return match refused(&answer) {
                None => got(&answer["message"]),
                Some(text) if text.starts_with("10037 ") => String::new(),
                Some(text) => text,
            };
        }
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let answer = self.wire.ask(&subject, &[], body.to_string().as_bytes()).await;
        match answer.status {
            None => stored(&answer),
            Some(404) => String::new(),
            Some(503) => "no responders".to_owned(),
            Some(other) => format!("{other} {}", answer.words),
        }
    }

    async fn open_feed(&mut self, stream: String, filter: Option<&str>, from: ReadFrom) -> String {
        let (subscription, inbox) = self.wire.subscribe().await;
        let mut config = json!({
            "deliver_subject": inbox, "ack_policy": "none", "max_deliver": 1, "num_replicas": 1,
            "mem_storage": true, "inactive_threshold": 30_000_000_000_u64, "replay_policy": "instant",
        });
        match from {
            ReadFrom::Sequence(sequence) => {
                config["deliver_policy"] = "by_start_sequence".into();
                config["opt_start_seq"] = sequence.into();
            }
            ReadFrom::NewestPerSubject => config["deliver_policy"] = "last_per_subject".into(),
        }
        config["filter_subject"] = filter.unwrap_or(">").into();
        let body = json!({"stream_name": stream, "config": config});
        let answer = self.wire.api(&format!("CONSUMER.CREATE.{stream}"), &body).await;
        if let Some(text) = refused(&answer) {
            return text;
        }
        let waiting = answer["num_pending"].as_u64().unwrap_or(0);
        let consumer = answer["name"].as_str().expect("a consumer has a name").to_owned();
        self.feeds.push(OpenFeed { subscription, stream, consumer, read: 0 });
        format!("{waiting} waiting")
    }

    async fn read_feed(&mut self, feed: usize) -> String {
        let OpenFeed { subscription, stream, consumer, .. } = &self.feeds[feed];
        // Before a restart, its subscription may have been another's.
        let info = self.wire.api(&format!("CONSUMER.INFO.{stream}.{consumer}"), &json!({})).await;
        if info.get("error").is_some() {
            return "broken".to_owned();
        }
        let messages = self.wire.arrived_of(*subscription).await;
        let read = &mut self.feeds[feed].read;
        let mut lines = Vec::new();
        for message in messages.iter().filter(|message| message.status.is_none()) {
            *read += 1;
            // Whatever a reader is made to skip, its own count has no gaps.
            let count = message.reply.split('.').nth(6).and_then(|word| word.parse().ok());
            lines.push(if count == Some(*read) {
                pushed(message)
            } else {
                format!("{} as {count:?}", pushed(message))
            });
        }
        lines.join(", ")
    }
}

/// The words of a refusal, if that is what it is.
fn refused(answer: &Value) -> Option<String> {
    let error = answer.get("error")?;
    Some(format!("{} {}", error["err_code"], error["description"].as_str().unwrap_or_default()))
}

/// A message as a direct get returns it.
fn stored(message: &Message) -> String {
    let sequence = message.header("Nats-Sequence").and_then(|text| text.parse().ok()).unwrap_or(0);
    stored_line(sequence, message.header("Nats-Subject").unwrap_or_default(), &message.payload, &marker(message))
}

/// A message as the leader returns it: bytes in base64.
fn got(message: &Value) -> String {
    let bytes = |name: &str| base64(message[name].as_str().unwrap_or_default());
    let headers = String::from_utf8(bytes("hdrs")).expect("headers are text");
    let marker = headers.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        matches!(name, "KV-Operation" | "Nats-Marker-Reason").then(|| format!(" {value}"))
    });
    let subject = message["subject"].as_str().unwrap_or_default();
    stored_line(message["seq"].as_u64().unwrap_or(0), subject, &bytes("data"), &marker.unwrap_or_default())
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = DIGITS.iter().position(|known| *known == digit).expect("the API writes base64");
        bits = bits << 6 | u32::try_from(value).expect("there are 64 digits");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 255).expect("it is a byte"));
        }
    }
    bytes
}

/// A message as a push consumer delivers it.
fn pushed(message: &Message) -> String {
    let sequence = message.reply.split('.').nth(5).and_then(|word| word.parse().ok()).unwrap_or(0);
    stored_line(sequence, &message.subject, &message.payload, &marker(message))
}

fn marker(message: &Message) -> String {
    let marker = message.header("KV-Operation").or_else(|| message.header("Nats-Marker-Reason"));
    marker.map_or(String::new(), |marker| format!(" {marker}"))
}
