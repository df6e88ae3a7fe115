//! Who waits for which reply.
//!
//! One subscription per connection receives every reply; each message that wants one carries its
//! own number in the reply subject. Waiting for a reply ends with the reply, with the loss of the
//! connection the message was sent on, with the server's refusal of the subject, or at a deadline;
//! so nothing waits for ever and a thousand PubAcks cost one timer.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_nats::{Message, StatusCode};
use tokio::sync::oneshot;

use crate::request::RequestError;

/// How the wait for a reply ended.
#[derive(Debug)]
pub(crate) enum Reply {
    Message(Message),
    /// There will be none that we could take for it; what was asked may have been done.
    None(&'static str),
    /// The server does not let this connection publish to the subject; nothing was done.
    Denied,
}

impl Reply {
    /// The reply to what was sent to `subject`, or why there is none.
    pub(crate) fn message(self, subject: &str) -> Result<Message, RequestError> {
        let subject = || subject.to_owned();
        match self {
            Self::Message(message) if message.status == Some(StatusCode::NO_RESPONDERS) => {
                Err(RequestError::NoResponders { subject: subject() })
            }
            Self::Message(message) => Ok(message),
            Self::None(reason) => Err(RequestError::NoAnswer { subject: subject(), reason }),
            Self::Denied => Err(RequestError::Denied { subject: subject() }),
        }
    }
}

/// The wait for one reply. Dropping it changes nothing for the message.
#[derive(Debug)]
pub(crate) struct Ticket {
    receiver: oneshot::Receiver<Reply>,
}

impl Future for Ticket {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        Pin::new(&mut self.receiver).poll(cx).map(|reply| reply.unwrap_or(Reply::None(CLOSED)))
    }
}

const CLOSED: &str = "the connection was closed";
const LOST: &str = "the connection was lost";
const LATE: &str = "it took too long";

/// The waits of one connection.
#[derive(Debug)]
pub(crate) struct Replies {
    /// Start of every reply subject, with the dot.
    prefix: String,
    /// A mutex because every sender registers its wait before it sends, at any time and from any
    /// thread, and the router ends waits; it is held for one map operation.
    waits: Mutex<Waits>,
}

#[derive(Debug, Default)]
struct Waits {
    last: u64,
    open: HashMap<u64, Wait>,
}

#[derive(Debug)]
struct Wait {
    subject: String,
    /// Number of the connection the message was handed to, see [`Replies::lose`].
    connection: u64,
    deadline: Instant,
    sender: oneshot::Sender<Reply>,
}

impl Replies {
    pub(crate) fn new(inbox: String) -> Self {
        Self { prefix: inbox + ".", waits: Mutex::default() }
    }

    /// What to subscribe to.
    pub(crate) fn filter(&self) -> String {
        format!("{}*", self.prefix)
    }

    /// Registers a wait; the message must carry the reply subject that is returned with it.
    pub(crate) fn expect(&self, subject: String, connection: u64, wait: Duration) -> (String, Ticket) {
        let (sender, receiver) = oneshot::channel();
        let deadline = Instant::now() + wait;
        let number = {
            let mut waits = self.waits();
            waits.last += 1;
            let number = waits.last;
            waits.open.insert(number, Wait { subject, connection, deadline, sender });
            number
        };
        (format!("{}{number}", self.prefix), Ticket { receiver })
    }

    /// Hands a reply to who waits for it; a reply that nobody waits for any more is dropped.
    pub(crate) fn deliver(&self, message: Message) {
        let Some(number) = message.subject.strip_prefix(&self.prefix).and_then(|text| text.parse().ok()) else {
            return;
        };
        let wait = self.waits().open.remove(&number);
        if let Some(wait) = wait {
            wait.end(Reply::Message(message));
        }
    }

    /// Ends the waits on connections that are gone: those numbered below `current`.
    pub(crate) fn lose(&self, current: u64) {
        self.end_all(|wait| wait.connection < current, || Reply::None(LOST));
    }

    /// Ends the waits on a subject that the server refused.
    pub(crate) fn deny(&self, subject: &str) {
        self.end_all(|wait| wait.subject == subject, || Reply::Denied);
    }

    /// Ends the waits whose time is up.
    pub(crate) fn expire(&self, now: Instant) {
        self.end_all(|wait| wait.deadline <= now, || Reply::None(LATE));
    }

    /// Forgets the waits that nobody waits for any more.
    pub(crate) fn forget_abandoned(&self) {
        self.waits().open.retain(|_, wait| !wait.sender.is_closed());
    }

    fn end_all(&self, over: impl Fn(&Wait) -> bool, reply: impl Fn() -> Reply) {
        let ended: Vec<Wait> = self.waits().open.extract_if(|_, wait| over(wait)).map(|(_, wait)| wait).collect();
        for wait in ended {
            wait.end(reply());
        }
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wait {
    fn end(self, reply: Reply) {
        // Who waited may have gone; then nobody wants to know.
        drop(self.sender.send(reply));
    }
}

/// The subject in `Permissions Violation for Publish to "<subject>"`, or in the reply variant of it.
pub(crate) fn refused_subject(error: &str) -> Option<&str> {
    let rest = error.split_once("Permissions Violation for Publish")?.1;
    let (_, rest) = rest.split_once('"')?;
    rest.split_once('"').map(|(subject, _)| subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies() -> Replies {
        Replies::new("_INBOX.x".into())
    }

    fn message(subject: &str) -> Message {
        Message {
            subject: subject.into(),
            reply: None,
            payload: bytes::Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        }
    }

    #[tokio::test]
    async fn a_reply_reaches_the_one_that_waits_for_it() {
        let replies = replies();
        let (first, one) = replies.expect("a".into(), 1, Duration::from_secs(1));
        let (second, other) = replies.expect("a".into(), 1, Duration::from_secs(1));
        replies.deliver(message(&second));
        replies.deliver(message(&first));
        replies.deliver(message("_INBOX.x.nonsense"));
        assert!(matches!(one.await, Reply::Message(m) if *m.subject == *first));
        assert!(matches!(other.await, Reply::Message(m) if *m.subject == *second));
        assert!(replies.waits().open.is_empty());
    }

    #[tokio::test]
    async fn every_wait_ends() {
        let replies = replies();
        let (_, lost) = replies.expect("a".into(), 1, Duration::from_secs(60));
        let (_, denied) = replies.expect("b".into(), 2, Duration::from_secs(60));
        let (_, late) = replies.expect("c".into(), 2, Duration::ZERO);
        replies.lose(2);
        replies.deny("b");
        replies.expire(Instant::now());
        assert!(matches!(lost.await, Reply::None(LOST)));
        assert!(matches!(denied.await, Reply::Denied));
        assert!(matches!(late.await, Reply::None(LATE)));
        assert!(replies.waits().open.is_empty());
    }

    #[test]
    fn the_refused_subject_is_read_from_the_servers_words() {
        assert_eq!(refused_subject(r#"Permissions Violation for Publish to "ms.task.a.0""#), Some("ms.task.a.0"));
        assert_eq!(refused_subject("Authorization Violation"), None);
        assert_eq!(refused_subject(r#"Permissions Violation for Subscription to "a""#), None);
    }
}
