//! Reading stored messages without a consumer: one from a stream's leader, one or many from any replica (ADR-31).

use std::time::Duration;

use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use futures::StreamExt;
use millstream_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Broker;
use crate::base64;
use crate::message::{StoredMessage, is_end};
use crate::request::{ANSWER_WAIT, RequestError, code};

/// Bytes of one page, far below what makes the server drop a connection that reads slowly.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// One page of a listing.
#[derive(Debug, Serialize)]
struct Page<'a> {
    seq: u64,
    batch: usize,
    max_bytes: usize,
    next_by_subj: &'a str,
}

/// Which single message is wanted.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Get<'a> {
    Newest { last_by_subj: &'a str },
    At { seq: u64 },
}

impl Broker {
    /// Visits every message of a stream whose subject matches `filter`, in order, in pages of at most `batch`.
    ///
    /// In a replicated stream a follower may answer, who may not know the newest messages yet.
    pub(crate) async fn visit_stored(
        &self,
        stream: &str,
        filter: &str,
        batch: usize,
        mut visit: impl FnMut(StoredMessage),
    ) -> Result<(), RequestError> {
        let mut next = 1;
        loop {
            let page = Page { seq: next, batch, max_bytes: PAGE_BYTES, next_by_subj: filter };
            let mut last = None;
            let more = self
                .visit_page(stream, &page, |message| {
                    last = Some(message.sequence);
                    visit(message);
                })
                .await?;
            match last {
                Some(last) if more => next = last + 1,
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// Every message that [`Self::visit_stored`] visits.
    pub(crate) async fn stored_messages(
        &self,
        stream: &str,
        filter: &str,
        batch: usize,
    ) -> Result<Vec<StoredMessage>, RequestError> {
        let mut found = Vec::new();
        self.visit_stored(stream, filter, batch, |message| found.push(message)).await?;
        Ok(found)
    }

    /// Visits one page; whether there may be another.
    async fn visit_page(
        &self,
        stream: &str,
        page: &Page<'_>,
        mut visit: impl FnMut(StoredMessage),
    ) -> Result<bool, RequestError> {
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let body = Bytes::from(serde_json::to_vec(page).expect("a page request always has a JSON form"));
        let mut link = self.link();
        if !self.is_connected() && tokio::time::timeout(ANSWER_WAIT, self.connected()).await.is_err() {
            return Err(RequestError::Offline);
        }
        let inbox = self.client().new_inbox();
        let mut answers = self.client().subscribe(inbox.clone()).await.map_err(|_| RequestError::Offline)?;
        let connection = link.borrow_and_update().connects;
        self.client().publish_with_reply(subject.clone(), inbox, body).await.map_err(|_| RequestError::Offline)?;
        let no_answer = |reason| RequestError::NoAnswer { subject: subject.clone(), reason };
        loop {
            let message = tokio::select! {
                message = next_within(&mut answers, ANSWER_WAIT) => {
                    message.ok_or_else(|| no_answer("it took too long"))?
                }
                Ok(_) = link.wait_for(|link| !link.connected || link.connects != connection) => {
                    return Err(no_answer("the connection was lost"));
                }
            };
            match message.status {
                None => {
                    let message = StoredMessage::from_direct_get(message);
                    visit(message.ok_or_else(|| no_answer("not a stored message"))?);
                }
                Some(status) if is_end(status) => {
                    let pending = message.headers.as_ref().and_then(|headers| headers.get_last("Nats-Num-Pending"));
                    return Ok(pending.is_some_and(|pending| pending.as_str() != "0"));
                }
                Some(async_nats::StatusCode::NO_RESPONDERS) => {
                    return Err(RequestError::NoResponders { subject });
                }
                Some(status) => {
                    return Err(RequestError::Refused {
                        subject,
                        code: u64::from(status.as_u16()),
                        description: message.description.unwrap_or_default(),
                    });
                }
            }
        }
    }

    /// The newest message of a subject, as the stream's leader knows it.
    pub(crate) async fn newest_message(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<StoredMessage>, RequestError> {
        self.leader_message(stream, &Get::Newest { last_by_subj: subject }).await
    }

    /// The message with a sequence, as the stream's leader knows it.
    pub(crate) async fn message_at(&self, stream: &str, seq: u64) -> Result<Option<StoredMessage>, RequestError> {
        self.leader_message(stream, &Get::At { seq }).await
    }

    /// The message with a sequence, as any replica knows it; a follower may not know the newest ones yet.
    pub(crate) async fn replica_message_at(
        &self,
        stream: &str,
        seq: u64,
    ) -> Result<Option<StoredMessage>, RequestError> {
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let body = serde_json::to_vec(&Get::At { seq }).expect("a get request always has a JSON form");
        let answer = self.request(&subject, None, body.into(), ANSWER_WAIT).await?;
        Ok(if answer.status.is_none() { StoredMessage::from_direct_get(answer) } else { None })
    }

    async fn leader_message(&self, stream: &str, get: &Get<'_>) -> Result<Option<StoredMessage>, RequestError> {
        #[derive(Deserialize)]
        struct Answer {
            message: Raw,
        }
        #[derive(Deserialize)]
        struct Raw {
            subject: String,
            seq: u64,
            time: String,
            #[serde(default)]
            hdrs: String,
            #[serde(default)]
            data: String,
        }
        let method = format!("STREAM.MSG.GET.{stream}");
        let raw = match self.api::<Answer>(&method, get).await {
            Ok(answer) => answer.message,
            Err(error) if error.code() == Some(code::NO_MESSAGE) => return Ok(None),
            Err(error) => return Err(error),
        };
        let unreadable = |what| RequestError::Unreadable {
            subject: format!("$JS.API.{method}"),
            source: <serde_json::Error as serde::de::Error>::custom(what),
        };
        Ok(Some(StoredMessage {
            subject: raw.subject,
            sequence: raw.seq,
            time: Timestamp::from_rfc3339(&raw.time).ok_or_else(|| unreadable("a time that is not RFC 3339"))?,
            headers: base64::decode(&raw.hdrs)
                .and_then(|bytes| parse_headers(&bytes))
                .ok_or_else(|| unreadable("headers that are not of NATS"))?,
            payload: base64::decode(&raw.data).ok_or_else(|| unreadable("data that is not base64"))?.into(),
        }))
    }

    /// The newest message of a subject, as any replica knows it; a follower may not know the newest one yet.
    pub(crate) async fn replica_message(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<StoredMessage>, RequestError> {
        let get = format!("$JS.API.DIRECT.GET.{stream}.{subject}");
        let answer = self.request(&get, None, Bytes::new(), ANSWER_WAIT).await?;
        Ok(if answer.status.is_none() { StoredMessage::from_direct_get(answer) } else { None })
    }
}

/// Reads `NATS/1.0\r\nName: value\r\n…\r\n\r\n`; nothing is no headers.
fn parse_headers(bytes: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let text = std::str::from_utf8(bytes).ok()?;
    for line in text.split("\r\n").skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        headers.append(name, value.trim());
    }
    Some(headers)
}

async fn next_within(answers: &mut async_nats::Subscriber, wait: Duration) -> Option<Message> {
    tokio::time::timeout(wait, answers.next()).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_back_from_their_bytes() {
        let headers = parse_headers(b"NATS/1.0\r\nKV-Operation: DEL\r\nNats-TTL:5s\r\n\r\n").expect("headers");
        assert_eq!(headers.get_last("KV-Operation").map(async_nats::HeaderValue::as_str), Some("DEL"));
        assert_eq!(headers.get_last("Nats-TTL").map(async_nats::HeaderValue::as_str), Some("5s"));
        assert!(parse_headers(b"").expect("no headers").is_empty());
        assert!(parse_headers(b"NATS/1.0\r\nnonsense\r\n\r\n").is_none());
    }
}
