//! Executions whose tasks are not to be run any more, as far as this worker has seen.

use std::collections::{HashSet, VecDeque};
use std::sync::RwLock;

use millstream_broker::Broker;
use millstream_model::ids::ExecutionId;
use tokio::sync::watch;

use crate::trouble::Trouble;

/// Executions that are remembered; older ones are fenced by the fold.
const REMEMBERED_MAX: usize = 100_000;

/// The executions, written by one task and read by every run, hence the lock.
#[derive(Debug)]
pub(crate) struct Cancelled {
    seen: RwLock<Seen>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Seen {
    executions: HashSet<ExecutionId>,
    order: VecDeque<ExecutionId>,
}

impl Default for Cancelled {
    fn default() -> Self {
        Self { seen: RwLock::default(), changed: watch::channel(()).0 }
    }
}

impl Cancelled {
    pub(crate) fn contains(&self, execution: ExecutionId) -> bool {
        self.seen.read().expect("nobody panics holding it").executions.contains(&execution)
    }

    /// Learns of changes from here on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Follows the broker for ever.
    pub(crate) async fn follow(&self, broker: &Broker) {
        let mut watch = broker.watch_cancelled();
        let mut trouble = Trouble::default();
        loop {
            match watch.next().await {
                Ok(execution) => {
                    trouble.over();
                    self.insert(execution);
                }
                Err(error) => {
                    if trouble.failed() {
                        tracing::warn!(%error, "cancelled executions are not seen at the moment");
                    }
                    trouble.pause().await;
                }
            }
        }
    }

    fn insert(&self, execution: ExecutionId) {
        let mut seen = self.seen.write().expect("nobody panics holding it");
        if !seen.executions.insert(execution) {
            return;
        }
        seen.order.push_back(execution);
        if seen.order.len() > REMEMBERED_MAX
            && let Some(oldest) = seen.order.pop_front()
        {
            seen.executions.remove(&oldest);
        }
        drop(seen);
        self.changed.send_replace(());
    }
}
