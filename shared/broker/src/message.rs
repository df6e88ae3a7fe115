//! What JetStream says about a stored message: in a delivery's reply subject, and in the answers of
//! its get requests.

use async_nats::{HeaderMap, Message, StatusCode, header};
use bytes::Bytes;
use millstream_model::time::Timestamp;

/// A message of a stream as a get request returned it.
#[derive(Debug, Clone)]
pub(crate) struct StoredMessage {
    pub(crate) subject: String,
    pub(crate) sequence: u64,
    pub(crate) time: Timestamp,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

impl StoredMessage {
    /// Reads the answer of a direct get; `None` when it is not one.
    pub(crate) fn from_direct_get(message: Message) -> Option<Self> {
        let headers = message.headers?;
        Some(Self {
            subject: headers.get_last(header::NATS_SUBJECT)?.as_str().to_owned(),
            sequence: headers.get_last(header::NATS_SEQUENCE)?.as_str().parse().ok()?,
            time: Timestamp::from_rfc3339(headers.get_last(header::NATS_TIME_STAMP)?.as_str())?,
            payload: message.payload,
            headers,
        })
    }
}

/// What a delivery's reply subject tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeliveryInfo {
    /// Deliveries of this message to this consumer, this one included.
    pub(crate) delivered: u64,
    pub(crate) stream_sequence: u64,
    pub(crate) consumer_sequence: u64,
    pub(crate) time: Timestamp,
    /// Messages that the consumer has yet to deliver.
    pub(crate) pending: u64,
}

impl DeliveryInfo {
    /// Reads `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<nanoseconds>.<pending>`,
    /// or its longer form with domain and account before the stream (ADR-15).
    pub(crate) fn parse(reply: &str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        let tokens = rest.split('.').count();
        let before = match tokens {
            7 => 2,
            9.. => 4,
            _ => return None,
        };
        let mut tokens = rest.split('.').skip(before).map(|token| token.parse::<u64>().ok());
        let mut number = || tokens.next().flatten();
        Some(Self {
            delivered: number()?,
            stream_sequence: number()?,
            consumer_sequence: number()?,
            time: Timestamp::from_micros(number()? / 1_000),
            pending: number()?,
        })
    }
}

/// The last value of a header.
pub(crate) fn header_value<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers.as_ref()?.get_last(name).map(async_nats::HeaderValue::as_str)
}

/// A status that says there is nothing (more).
pub(crate) fn is_end(status: StatusCode) -> bool {
    matches!(status.as_u16(), 204 | 404)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_reply_subject_are_read() {
        let expected = DeliveryInfo {
            delivered: 2,
            stream_sequence: 17,
            consumer_sequence: 5,
            time: Timestamp::from_micros(1_763_648_712_000_345),
            pending: 3,
        };
        let short = "$JS.ACK.MS_TASKS.http.2.17.5.1763648712000345678.3";
        let long = "$JS.ACK.hub.ACCHASH.MS_TASKS.http.2.17.5.1763648712000345678.3.random";
        assert_eq!(DeliveryInfo::parse(short), Some(expected));
        assert_eq!(DeliveryInfo::parse(long), Some(expected));
        assert_eq!(DeliveryInfo::parse("$JS.ACK.x"), None);
        assert_eq!(DeliveryInfo::parse("_INBOX.a"), None);
    }
}
