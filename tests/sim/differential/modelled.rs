//! Operations on the model.

use std::collections::BTreeSet;

use millstream_model::time::Timestamp;
use millstream_tests::simulation::jetstream::{
    AckToken, Backup, Feed, FeedBroken, Forgotten, Moment, PubAck, Publish, RequestFailed, Server, ServerOptions,
    StoredMessage, StreamInfo, View,
};

use crate::operation::{Operation, Publication, Which};
use crate::setting::Setting;

/// Before what may be missing.
const MAYBE: &str = "maybe ";

/// A server of one sequence. Operations answer with a text that is to be equal.
#[derive(Clone)]
pub(crate) struct Modelled {
    pub(crate) server: Server,
    pub(crate) setting: Setting,
    /// Those of one fetch in the order of their messages.
    pub(crate) deliveries: Vec<AckToken>,
    pub(crate) feeds: Vec<OpenFeed>,
    pub(crate) deleted_tasks: bool,
    kept: Option<Backup>,
}

/// A feed, and what a reader may have seen of it. A server delivers as soon as it can, so a reader sees what is
/// there when it reads, and maybe also what is gone by then.
#[derive(Clone)]
pub(crate) struct OpenFeed {
    eager: Feed,
    lazy: Feed,
    seen: Vec<(u64, String)>,
    broken: bool,
}

impl Modelled {
    pub(crate) fn new(setting: Setting) -> Self {
        let mut server = Server::new(ServerOptions::default(), Timestamp::from_millis(1_700_000_000_000));
        for which in setting.streams() {
            server.create_stream(setting.stream_config(*which)).expect("its name is free");
        }
        Self { server, setting, deliveries: Vec::new(), feeds: Vec::new(), deleted_tasks: false, kept: None }
    }

    /// Performs an operation and tells the answer.
    pub(crate) fn perform(&mut self, operation: &Operation) -> String {
        let text = self.answer(operation);
        for feed in &mut self.feeds {
            feed.follow(&self.server);
        }
        text
    }

    fn answer(&mut self, operation: &Operation) -> String {
        let server = &mut self.server;
        let setting = &self.setting;
        let name = |which: Which| setting.stream_name(which);
        match operation {
            Operation::Publish(publication) => published(&server.publish(&publish(publication))),
            Operation::Fetch { capability, max } => {
                let consumer = setting.consumer_config(*capability).name;
                match server.fetch(&name(Which::Tasks), &consumer, *max) {
                    Err(error) => error.to_string(),
                    Ok(deliveries) => {
                        let lines = deliveries.iter().map(|delivery| {
                            let token = &delivery.token;
                            delivered(
                                token.stream_sequence,
                                token.delivered,
                                token.consumer_sequence,
                                &delivery.payload,
                            )
                        });
                        let text = lines.collect::<Vec<_>>().join(", ");
                        let mut tokens: Vec<AckToken> = deliveries.into_iter().map(|delivery| delivery.token).collect();
                        tokens.sort_by_key(|token| token.stream_sequence);
                        self.deliveries.extend(tokens);
                        text
                    }
                }
            }
            Operation::Answer { delivery, answer, ask } => {
                let token = self.deliveries[*delivery].clone();
                let heard = match server.answer(&token, *answer) {
                    Ok(()) | Err(_) if !ask => "told".to_owned(),
                    Ok(()) => "confirmed".to_owned(),
                    Err(error) => error.to_string(),
                };
                format!("{heard}; {}", self.queue_state(&token.consumer))
            }
            Operation::Wait { slots } => {
                let slot = u64::try_from(setting.pace.slot().as_millis()).expect("slots are short");
                server.set_clock(server.clock().plus_millis(slot * u64::from(*slots)));
                String::new()
            }
            Operation::Purge { stream, before } => text(server.purge(&name(*stream), *before)),
            Operation::DeleteMessage { stream, sequence } => text(
                server
                    .delete_message(&name(*stream), *sequence)
                    .map(|was_there| if was_there { "deleted" } else { "not there" }),
            ),
            Operation::Limit { stream, max_msgs, max_bytes } => {
                text(server.limit_stream(&name(*stream), *max_msgs, *max_bytes).map(|_| "limited"))
            }
            Operation::Scan { stream, filter } => match server.messages(&name(*stream), filter, View::CURRENT) {
                Err(error) => error.to_string(),
                Ok(messages) => listed(&messages),
            },
            Operation::Newest { stream, subject } => match server.newest(&name(*stream), subject, View::CURRENT) {
                Err(error) => error.to_string(),
                Ok(message) => listed(message.as_slice()),
            },
            Operation::Get { stream, sequence, directly } => match server.message(&name(*stream), *sequence) {
                Err(_) if *directly => RequestFailed::NoResponders.to_string(),
                Err(refusal) => refusal.to_string(),
                Ok(message) => listed(message.as_slice()),
            },
            Operation::StreamInfo { stream } => text(server.stream_info(&name(*stream)).map(stream_line)),
            Operation::ConsumerInfo { capability } => {
                let consumer = setting.consumer_config(*capability).name;
                text(
                    server
                        .consumer_info(&name(Which::Tasks), &consumer)
                        .map(|info| consumer_line(info.delivered, info.ack_pending, info.redelivered, info.pending)),
                )
            }
            Operation::DeleteTasks => {
                self.deleted_tasks = true;
                text(server.delete_stream(&name(Which::Tasks)).map(|()| "deleted"))
            }
            Operation::CreateTasks { first_sequence } => {
                let mut config = setting.stream_config(Which::Tasks);
                config.first_sequence = *first_sequence;
                text(server.create_stream(config).map(|_| "created"))
            }
            Operation::CreateConsumer { capability } => {
                let config = setting.consumer_config(*capability);
                text(server.create_consumer(&name(Which::Tasks), config).map(|()| "created"))
            }
            Operation::DeleteConsumer { capability } => {
                let consumer = setting.consumer_config(*capability).name;
                text(server.delete_consumer(&name(Which::Tasks), &consumer).map(|()| "deleted"))
            }
            Operation::OpenFeed { stream, filter, from } => {
                let feed = server.open_feed(&name(*stream), filter.as_deref(), *from);
                let text = text(feed.as_ref().map(|feed| format!("{} waiting", feed.waiting())).map_err(Clone::clone));
                let open = |feed: Feed| OpenFeed { lazy: feed.clone(), eager: feed, seen: Vec::new(), broken: false };
                self.feeds.extend(feed.ok().map(open));
                text
            }
            Operation::ReadFeed { feed } => self.feeds[*feed].read(server),
            Operation::Restart => {
                server.crash(Forgotten::Nothing);
                String::new()
            }
            Operation::Keep { stream } => {
                self.kept = server.backup(&name(*stream)).ok();
                String::new()
            }
            Operation::Restore { stream: _ } => {
                server.restore(self.kept.as_ref().expect("a copy was kept before"));
                server.crash(Forgotten::Nothing);
                String::new()
            }
        }
    }

    /// What an answer to a delivery may have changed.
    fn queue_state(&self, consumer: &str) -> String {
        let stream = self.setting.stream_name(Which::Tasks);
        let messages = self.server.stream_info(&stream).map(|info| info.messages);
        let pending = self.server.consumer_info(&stream, consumer).map(|info| info.ack_pending);
        queue_line(messages.ok(), pending.ok())
    }

    pub(crate) fn moment(&self) -> Moment {
        self.server.moment()
    }
}

impl OpenFeed {
    fn follow(&mut self, server: &Server) {
        loop {
            match server.feed_next(&mut self.eager) {
                Ok(Some(message)) => self.seen.push((message.sequence, line(message))),
                Ok(None) => return,
                Err(FeedBroken) => {
                    self.broken = true;
                    return;
                }
            }
        }
    }

    /// What a reader must see, and with [`MAYBE`] what it may see.
    fn read(&mut self, server: &Server) -> String {
        self.follow(server);
        if self.broken {
            return "broken".to_owned();
        }
        let mut there = BTreeSet::new();
        while let Ok(Some(message)) = server.feed_next(&mut self.lazy) {
            there.insert(message.sequence);
        }
        let seen = std::mem::take(&mut self.seen).into_iter();
        let lines =
            seen.map(|(sequence, line)| if there.contains(&sequence) { line } else { format!("{MAYBE}{line}") });
        lines.collect::<Vec<_>>().join(", ")
    }
}

/// Whether an answer of a server is one that the model allows.
pub(crate) fn agrees(expected: &str, found: &str) -> bool {
    let mut found = found.split(", ").filter(|part| !part.is_empty()).peekable();
    for part in expected.split(", ").filter(|part| !part.is_empty()) {
        let optional = part.strip_prefix(MAYBE);
        if found.peek() == Some(&optional.unwrap_or(part)) {
            found.next();
        } else if optional.is_none() {
            return false;
        }
    }
    found.next().is_none()
}

fn publish(publication: &Publication) -> Publish<'_> {
    let mut publish = Publish::new(&publication.subject, publication.payload.clone().into());
    if let Some(id) = &publication.msg_id {
        publish = publish.msg_id(id);
    }
    if let Some(sequence) = publication.expected_subject {
        publish = publish.expected_last_subject_sequence(sequence);
    }
    if let Some(sequence) = publication.expected_stream {
        publish = publish.expected_last_sequence(sequence);
    }
    if let Some(lifetime) = publication.lifetime {
        publish = publish.lifetime(lifetime);
    }
    if let Some(marker) = publication.marker {
        publish = publish.marker(marker);
    }
    publish
}

/// The headers of a publication.
pub(crate) fn headers(publication: &Publication) -> Vec<(&'static str, String)> {
    publish(publication).headers()
}

fn published(outcome: &Result<PubAck, RequestFailed>) -> String {
    match outcome {
        Ok(ack) => pub_ack(ack.sequence, ack.duplicate),
        Err(error) => error.to_string(),
    }
}

fn text(outcome: Result<impl ToString, impl ToString>) -> String {
    match outcome {
        Ok(good) => good.to_string(),
        Err(bad) => bad.to_string(),
    }
}

fn stream_line(info: StreamInfo) -> String {
    stream_numbers(info.messages, info.bytes, info.first_sequence, info.last_sequence)
}

fn listed(messages: &[&StoredMessage]) -> String {
    messages.iter().map(|message| line(message)).collect::<Vec<_>>().join(", ")
}

fn line(message: &StoredMessage) -> String {
    let marker = message.marker.map_or(String::new(), |marker| format!(" {}", marker.header().1));
    stored_line(message.sequence, &message.subject, &message.payload, &marker)
}

pub(crate) fn pub_ack(sequence: u64, duplicate: bool) -> String {
    format!("{} {sequence}", if duplicate { "duplicate" } else { "stored" })
}

pub(crate) fn stored_line(sequence: u64, subject: &str, payload: &[u8], marker: &str) -> String {
    format!("{sequence} {subject} {}{marker}", number(payload))
}

pub(crate) fn delivered(sequence: u64, count: u64, consumer_sequence: u64, payload: &[u8]) -> String {
    format!("{sequence} delivery {count} {} (consumer sequence {consumer_sequence})", number(payload))
}

pub(crate) fn stream_numbers(messages: u64, bytes: u64, first: u64, last: u64) -> String {
    format!("{messages} messages, {bytes} bytes, {first}..{last}")
}

pub(crate) fn consumer_line(delivered: u64, pending: u64, redelivered: u64, waiting: u64) -> String {
    format!("{delivered} deliveries, {pending} unacked, {redelivered} redelivered, {waiting} waiting")
}

pub(crate) fn queue_line(messages: Option<u64>, pending: Option<u64>) -> String {
    let number = |number: Option<u64>| number.map_or("no".to_owned(), |number| number.to_string());
    format!("{} messages, {} unacked", number(messages), number(pending))
}

/// Payloads begin with the number of their operation.
fn number(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).chars().take_while(char::is_ascii_digit).collect()
}
