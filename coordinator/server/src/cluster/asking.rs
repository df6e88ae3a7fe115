//! Finds the owner of a partition and asks it: here, or in another process.

use std::time::Duration;

use millstream_broker::RequestError;
use millstream_model::ids::{ExecutionId, NodeId, Partition};
use tokio::time::{Instant, sleep, timeout_at};

use super::wire::{Question, Told};
use super::{Cluster, serving};
use crate::leases::Owned;

/// How long an owner may take to answer, and how long a request waits while there is none.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the answer to a submission is waited for before the execution itself is looked for.
const SUBMISSION_WAIT: Duration = Duration::from_secs(10);
/// How long a question that can be asked again waits for one answer.
const LOOK_WAIT: Duration = Duration::from_secs(4);
/// Before an owner is looked for again.
pub(super) const RETRY: Duration = Duration::from_millis(100);

const UNKNOWN: &str = "the journal does not answer; whether the request is in it is not known: repeat it with the \
                       same Idempotency-Key";

/// Where an owner runs.
pub(super) enum Place {
    Here(Owned),
    There(NodeId),
}

impl Cluster {
    /// Asks the owner of the partition, wherever it is. While there is none, and as long as it is certain that nothing
    /// came of it, it is asked again.
    pub(super) async fn ask(&self, partition: Partition, question: &Question) -> Told {
        self.ask_until(partition, question, Instant::now() + ANSWER_TIMEOUT).await
    }

    /// As [`Self::ask`]. When the answer to a submission is lost, the execution is proof that it was accepted.
    pub(super) async fn ask_to_submit(&self, execution: ExecutionId, question: &Question) -> Told {
        let began = Instant::now();
        let told = self.ask_until(execution.partition(), question, began + SUBMISSION_WAIT).await;
        if !matches!(told, Told::Unavailable { .. }) {
            return told;
        }
        let look = Question::Transcript(execution);
        match self.ask_until(execution.partition(), &look, began + ANSWER_TIMEOUT).await {
            Told::Here(_) | Told::Parked { .. } => Told::Accepted { execution, repeated: false },
            _ => told,
        }
    }

    async fn ask_until(&self, partition: Partition, question: &Question, deadline: Instant) -> Told {
        loop {
            let told = match self.place_of(partition) {
                None => Told::NotOwner,
                Some(Place::Here(owned)) => {
                    let settled = timeout_at(deadline, serving::settle(&owned, question.clone())).await;
                    settled.unwrap_or_else(|_| Told::Unavailable { reason: UNKNOWN.to_owned() })
                }
                Some(Place::There(node)) => self.ask_there(partition, &node, question, deadline).await,
            };
            if told != Told::NotOwner || Instant::now() + RETRY >= deadline {
                return told;
            }
            sleep(RETRY).await;
        }
    }

    async fn ask_there(&self, partition: Partition, node: &NodeId, question: &Question, deadline: Instant) -> Told {
        let subject = self.broker.names().query_of(partition, node);
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = if question.changes_something() { left } else { left.min(LOOK_WAIT) };
        match self.broker.ask(&subject, question.encode(), wait).await {
            Ok(answer) => Told::decode(&answer).unwrap_or_else(|error| Told::Unavailable {
                reason: format!("the answer of coordinator {node} cannot be read: {error}"),
            }),
            Err(RequestError::NoResponders { .. } | RequestError::Offline) => Told::NotOwner,
            Err(error @ (RequestError::Denied { .. } | RequestError::TooLarge { .. })) => {
                Told::Unavailable { reason: format!("coordinator {node} cannot be asked: {error}") }
            }
            Err(error) if question.changes_something() => {
                tracing::debug!(%partition, %node, %error, "an owner does not answer");
                Told::Unavailable { reason: UNKNOWN.to_owned() }
            }
            Err(_) => Told::NotOwner,
        }
    }

    /// Where the owner of a partition runs; `None` while nobody knows of one.
    pub(super) fn place_of(&self, partition: Partition) -> Option<Place> {
        let view = self.view.borrow();
        if let Some(owned) = view.owned.get(&partition) {
            let is_ready = owned.handle().status.borrow().caught_up && !owned.is_stopping();
            return is_ready.then(|| Place::Here(owned.clone()));
        }
        let node = view.holders.get(&partition)?;
        (node != self.leases.node()).then(|| Place::There(node.clone()))
    }
}
