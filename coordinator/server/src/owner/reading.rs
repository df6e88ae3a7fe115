//! What an owner folds: the journal, decoded ahead of the fold, and the definitions it names.

use std::sync::Arc;

use millstream_broker::Broker;
use millstream_model::hash::ContentHash;
use millstream_model::ids::Partition;
use millstream_model::plan::Plan;
use tokio::sync::mpsc;

use super::machine::Message;
use super::{Ended, RETRY};
use crate::catalog::{Catalog, PlanError};

/// A message and the id it was appended under.
pub struct Read {
    pub message: Message,
    pub id: Option<String>,
}

/// The plan of a definition, however long the store lets it wait.
pub async fn plan(catalog: &Catalog, hash: ContentHash) -> Result<Arc<Plan>, PlanError> {
    loop {
        match catalog.plan(hash).await {
            Err(error) if error.is_retryable() => tokio::time::sleep(RETRY).await,
            result => return result,
        }
    }
}

/// Reads and decodes the journal ahead of the fold, from message `from` on.
pub async fn read_journal(
    broker: Broker,
    partition: Partition,
    from: u64,
    messages: mpsc::Sender<Result<Read, Ended>>,
) {
    let mut reader = match broker.read_journal(partition, from).await {
        Ok(reader) => reader,
        Err(error) => {
            drop(messages.send(Err(error.into())).await);
            return;
        }
    };
    loop {
        let read = match reader.next().await {
            Ok(m) => Message::decode(m.sequence, m.time, m.subject, &m.payload)
                .map(|message| Read { message, id: m.msg_id })
                .map_err(Ended::from),
            Err(error) if error.is_retryable() => {
                tracing::warn!(%partition, %error, "the journal cannot be read at the moment");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            Err(error) => Err(error.into()),
        };
        let failed = read.is_err();
        if messages.send(read).await.is_err() || failed {
            return;
        }
    }
}
