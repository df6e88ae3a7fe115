//! Records in NATS: one chain in `MS_AUDIT` that all coordinators append to.
//!
//! A message holds the records of several decisions and is appended only behind the message that its author knows as
//! the last. Who finds another one there reads the head again and links its records anew. Of a message whose answer
//! was lost, the same bytes are sent again: at most one of the two finds its place, and when another message is there
//! its bytes tell whose it is.

use std::time::Duration;

use bytes::Bytes;
use millstream_broker::{AppendError, AuditAppendError, Broker, ReadError};
use millstream_model::audit::{self, AuditRecord, Decision, Head};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Order, Orders, QUEUE};

/// Records of one message.
const RECORDS_MAX: usize = 256;
/// Bytes of one message, as long as it has more than one record.
const BYTES_MAX: usize = 256 * 1024;
/// Between two tries of what NATS does not do yet.
const RETRY: Duration = Duration::from_millis(250);
/// How far back a sound record is looked for when the last message has none.
const SEARCH: u64 = 1_000;

/// Where the chain ends, as the writer knows it.
#[derive(Debug, Clone, Copy, Default)]
struct End {
    head: Head,
    /// Sequence of the stream's last message.
    sequence: u64,
}

/// Starts the task that writes.
pub(super) fn start(broker: Broker, closed: CancellationToken) -> Orders {
    let (orders, queue) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        tokio::select! {
            () = Writer { broker, end: None }.work(queue) => {}
            () = closed.cancelled() => {}
        }
    });
    orders
}

struct Writer {
    broker: Broker,
    /// `None` when it has to be read.
    end: Option<End>,
}

impl Writer {
    async fn work(mut self, mut queue: mpsc::Receiver<Order>) {
        let mut orders = Vec::new();
        while queue.recv_many(&mut orders, RECORDS_MAX).await > 0 {
            let mut groups = Vec::new();
            let mut flushes = Vec::new();
            for order in orders.drain(..) {
                match order {
                    Order::Append(decisions) => groups.push(decisions),
                    Order::Flush(reply) => flushes.push(reply),
                    Order::Insert(_) | Order::Find(..) => {}
                }
            }
            let decisions: Vec<&Decision> = groups.iter().flat_map(|group| group.iter()).collect();
            self.append_all(&decisions).await;
            self.answer(flushes).await;
        }
    }

    async fn answer(&mut self, flushes: Vec<oneshot::Sender<Head>>) {
        if flushes.is_empty() {
            return;
        }
        let end = self.end().await;
        for reply in flushes {
            // Who asked and went away needs no answer.
            reply.send(end.head).ok();
        }
    }

    async fn append_all(&mut self, mut decisions: &[&Decision]) {
        while !decisions.is_empty() {
            let appended = self.append(decisions).await;
            decisions = &decisions[appended..];
        }
    }

    /// Appends the first of `decisions` as one message and tells how many they are.
    async fn append(&mut self, decisions: &[&Decision]) -> usize {
        let mut room = BYTES_MAX;
        let mut failures = 0_u32;
        loop {
            let end = self.end().await;
            let (lines, head) = link(end.head, decisions, room);
            let message = Bytes::from(audit::join(&lines));
            let size = message.len();
            match self.place(end, message).await {
                Ok(sequence) => {
                    self.end = Some(End { head, sequence });
                    return lines.len();
                }
                Err(AuditAppendError::Moved) => self.end = None,
                Err(AuditAppendError::Append(AppendError::TooLarge { .. })) if lines.len() > 1 => room = size / 2,
                Err(AuditAppendError::Append(error @ AppendError::TooLarge { .. })) => {
                    let target = &decisions[0].target;
                    tracing::error!(%error, about = target, "NATS takes no message as large as this record: it is lost");
                    return 1;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures.is_power_of_two() {
                        tracing::error!(%error, "records of the audit trail cannot be stored yet");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Stores a message behind the end. An answer that was lost is asked for again.
    async fn place(&mut self, end: End, message: Bytes) -> Result<u64, AuditAppendError> {
        let mut in_doubt = false;
        loop {
            match self.broker.append_audit(message.clone(), end.sequence).await {
                Err(error) if error.is_unknown() => {
                    in_doubt = true;
                    tracing::debug!(%error, "whether records of the audit trail are stored is asked for");
                    self.broker.connected().await;
                    tokio::time::sleep(RETRY).await;
                }
                Err(AuditAppendError::Moved) if in_doubt => {
                    let next = end.sequence + 1;
                    let stored = self.message(next).await;
                    return if stored == Some(message) { Ok(next) } else { Err(AuditAppendError::Moved) };
                }
                Err(error) if in_doubt && error.is_retryable() => tokio::time::sleep(RETRY).await,
                answer => return answer,
            }
        }
    }

    /// The message with this sequence, which is there; `None` when the reader skips it.
    async fn message(&self, sequence: u64) -> Option<Bytes> {
        loop {
            match self.read(sequence).await {
                Ok(found) => return found,
                Err(error) => {
                    tracing::debug!(%error, "the audit trail cannot be read yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn read(&self, sequence: u64) -> Result<Option<Bytes>, ReadError> {
        let message = self.broker.read_audit(sequence).await?.next().await?;
        Ok((message.sequence == sequence).then_some(message.payload))
    }

    /// Where the chain ends.
    async fn end(&mut self) -> End {
        let mut failures = 0_u32;
        loop {
            if let Some(end) = self.end {
                return end;
            }
            match self.find_end().await {
                Ok(end) => self.end = Some(end),
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures.is_power_of_two() {
                        tracing::warn!(%error, "the end of the audit trail cannot be read yet");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn find_end(&self) -> Result<End, ReadError> {
        let Some((sequence, message)) = self.broker.audit_last().await? else { return Ok(End::default()) };
        if let Some(head) = last_head(&message) {
            return Ok(End { head, sequence });
        }
        tracing::error!(sequence, "the last message of the audit trail has no record: somebody else wrote it");
        let mut head = Head::default();
        let mut reader = self.broker.read_audit(sequence.saturating_sub(SEARCH).max(1)).await?;
        while reader.position() < sequence {
            head = last_head(&reader.next().await?.payload).unwrap_or(head);
        }
        Ok(End { head, sequence })
    }
}

/// Lines of the first decisions, as many as fit into one message, at least one; and the head behind them.
fn link(mut head: Head, decisions: &[&Decision], room: usize) -> (Vec<String>, Head) {
    let mut lines = Vec::new();
    let mut size = 0;
    for decision in decisions.iter().take(RECORDS_MAX) {
        let mut next = head;
        let line = next.append(decision);
        size += line.len() + 1;
        if size > room && !lines.is_empty() {
            break;
        }
        lines.push(line);
        head = next;
    }
    (lines, head)
}

/// The head of a chain that ends with this message.
fn last_head(message: &[u8]) -> Option<Head> {
    audit::lines(message).rev().find_map(|line| AuditRecord::of_line(line).ok()).map(|record| record.head())
}

#[cfg(test)]
mod tests {
    use millstream_model::audit::{AuditKind, verify_chain};
    use millstream_model::time::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_holds_what_fits_and_at_least_one_record() {
        let decision = decision(1_000);
        let decisions = [&decision; 300];
        let (lines, head) = link(Head::default(), &decisions, usize::MAX);
        assert_eq!((lines.len(), head.seq), (RECORDS_MAX, 256));
        let (lines, head) = link(Head::default(), &decisions, 5_000);
        assert_eq!((lines.len(), head.seq), (3, 3));
        assert_eq!(link(Head::default(), &decisions, 10).0.len(), 1);
    }

    #[test]
    fn messages_continue_each_other() {
        let decision = decision(10);
        let decisions = [&decision; 4];
        let (first, head) = link(Head::default(), &decisions[..2], usize::MAX);
        let message = audit::join(&first);
        assert_eq!(last_head(&message), Some(head));
        let (second, _) = link(head, &decisions[2..], usize::MAX);
        let all = [message, audit::join(&second)].concat();
        assert_eq!(verify_chain(audit::lines(&all), None).expect("whole").records, 4);
        assert_eq!(last_head(b"garbage"), None);
    }

    fn decision(size: usize) -> Decision {
        Decision {
            at: Timestamp::from_millis(1_763_648_712_000),
            trace_id: None,
            execution: None,
            kind: AuditKind::Plan,
            actor: None,
            target: "workflow w".to_owned(),
            reasoning: "because".to_owned(),
            alternatives: Vec::new(),
            context: json!({ "filling": "x".repeat(size) }),
        }
    }
}
