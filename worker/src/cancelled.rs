//! Follows the marks of cancelled executions.

use std::sync::RwLock;

use millstream_broker::Broker;
use millstream_model::task::TaskKey;
use tokio::sync::watch;

use crate::protocol::CancelMarks;
use crate::trouble::Trouble;

/// The marks that were seen, written by one task and read by every run, hence the lock.
#[derive(Debug)]
pub(crate) struct Cancelled {
    marks: RwLock<CancelMarks>,
    changed: watch::Sender<()>,
}

impl Default for Cancelled {
    fn default() -> Self {
        Self { marks: RwLock::default(), changed: watch::channel(()).0 }
    }
}

impl Cancelled {
    /// Whether a task that heeds cancels is not to be run.
    pub(crate) fn covers(&self, task: &TaskKey) -> bool {
        self.marks.read().expect("nobody panics holding it").covers(task)
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
                Ok((execution, below)) => {
                    trouble.over();
                    if self.marks.write().expect("nobody panics holding it").insert(execution, below) {
                        self.changed.send_replace(());
                    }
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
}
