//! A copy of the stream in SQLite, so that questions cost no reading of it.
//!
//! It is begun with the first question and follows the stream as long as somebody asks: who only records pays nothing
//! for it. The chain is verified on the way.

use std::time::Duration;

use millstream_broker::{AuditReader, Broker, ReadError};
use millstream_model::audit::{self, AuditRecord, FirstBad, Head, Verifier};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{DatabaseError, Filter, FindError, Order, Orders, Page, ask, database};

/// Between two tries of what NATS does not do yet.
const RETRY: Duration = Duration::from_secs(1);
/// How long who asks waits for a copy that is being made.
const READY_WAIT: Duration = Duration::from_secs(10);
/// How long the copy follows the stream after a question.
const FOLLOWING: Duration = Duration::from_secs(600);

/// The copy; questions about it go to its database.
pub(super) struct View {
    orders: Orders,
    status: watch::Receiver<Status>,
    /// When somebody asked last.
    asked: watch::Sender<Option<Instant>>,
}

/// How far the copy is.
#[derive(Debug, Clone, Default)]
struct Status {
    /// It follows, and has what the stream had when it began to.
    ready: bool,
    /// The newest record that follows all before it.
    head: Head,
    broken: Option<FirstBad>,
}

impl View {
    pub(super) fn start(broker: Broker, closed: CancellationToken) -> Result<Self, DatabaseError> {
        let orders = database::start(None)?;
        let (sender, status) = watch::channel(Status::default());
        let (asked, questions) = watch::channel(None);
        let verifier = Verifier::default();
        let follower = Follower { broker, orders: orders.clone(), status: sender, questions, verifier, next: 1 };
        tokio::spawn(async move {
            tokio::select! {
                () = follower.follow() => {}
                () = closed.cancelled() => {}
            }
        });
        Ok(Self { orders, status, asked })
    }

    /// Has the copy follow the stream, and waits until it has a record, for a while.
    pub(super) async fn reached(&self, head: Head, wait: Duration) {
        self.asked.send_replace(Some(Instant::now()));
        let mut status = self.status.clone();
        let reached = status.wait_for(|status| status.head.seq >= head.seq || status.broken.is_some());
        // Who has waited long enough takes what there is.
        drop(timeout(wait, reached).await);
    }

    pub(super) async fn find(&self, filter: Filter) -> Result<Page, FindError> {
        self.asked.send_replace(Some(Instant::now()));
        let mut status = self.status.clone();
        let ready = status.wait_for(|status| status.ready);
        let Ok(Ok(_)) = timeout(READY_WAIT, ready).await else { return Err(FindError::NotReady) };
        let Status { head, broken, .. } = self.status.borrow().clone();
        Ok(Page { lines: ask(&self.orders, filter).await?, head: Some(head), broken })
    }
}

struct Follower {
    broker: Broker,
    orders: Orders,
    status: watch::Sender<Status>,
    questions: watch::Receiver<Option<Instant>>,
    verifier: Verifier,
    /// Sequence of the next message.
    next: u64,
}

impl Follower {
    /// Follows whenever somebody asks; ends when nobody can ask any more.
    async fn follow(mut self) {
        while self.questions.wait_for(|asked| asked.is_some_and(|at| at.elapsed() < FOLLOWING)).await.is_ok() {
            if let Err(error) = self.read().await {
                tracing::warn!(%error, next = self.next, "the audit trail cannot be followed");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Copies message after message until nobody has asked for long.
    async fn read(&mut self) -> Result<(), ReadError> {
        let last = self.broker.audit_last().await?.map_or(0, |(sequence, _)| sequence);
        let mut reader: AuditReader = self.broker.read_audit(self.next).await?;
        loop {
            if self.next > last {
                self.status.send_if_modified(|status| !std::mem::replace(&mut status.ready, true));
            }
            let until = self.questions.borrow().map_or_else(Instant::now, |asked| asked + FOLLOWING);
            let message = tokio::select! {
                message = reader.next() => message?,
                () = sleep_until(until) => {
                    let more = self.questions.borrow_and_update().is_some_and(|asked| asked.elapsed() < FOLLOWING);
                    if more {
                        continue;
                    }
                    self.status.send_modify(|status| status.ready = false);
                    return Ok(());
                }
            };
            self.next = message.sequence + 1;
            let records = self.records(&message.payload);
            if self.orders.send(Order::Insert(records)).await.is_err() {
                return Ok(());
            }
            self.tell(message.sequence);
        }
    }

    fn records(&mut self, message: &[u8]) -> Vec<(AuditRecord, String)> {
        let mut records = Vec::new();
        for line in audit::lines(message) {
            self.verifier.push(line);
            let Ok(text) = std::str::from_utf8(line) else { continue };
            if let Ok(record) = AuditRecord::of_line(line) {
                records.push((record, text.to_owned()));
            }
        }
        records
    }

    fn tell(&self, sequence: u64) {
        self.status.send_modify(|status| {
            status.head = self.verifier.head();
            if status.broken.is_none()
                && let Some(bad) = self.verifier.bad()
            {
                tracing::error!(error = %bad, sequence, "the audit trail is broken");
                status.broken = Some(bad.clone());
            }
        });
    }
}
