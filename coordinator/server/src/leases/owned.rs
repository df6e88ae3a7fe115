//! An owner that runs here, as its lease began it and will end it.

use std::sync::Arc;
use std::time::Duration;

use millstream_broker::Broker;
use millstream_model::ids::{NodeId, Partition};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::core::Why;
use crate::cluster::serving;
use crate::owner::Handle;

/// Requests that an owner may have at a time.
const REQUESTS_MAX: u32 = 16_384;
/// How long requests may take to end when the owner is to stop.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// See the module; cheap to clone.
#[derive(Clone)]
pub struct Owned {
    handle: Handle,
    requests: Arc<Semaphore>,
    /// Ends who answers for the owner.
    serving: CancellationToken,
    stop: CancellationToken,
}

impl std::fmt::Debug for Owned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owned").field("status", &*self.handle.status.borrow()).finish()
    }
}

impl Owned {
    pub(super) fn new(handle: Handle, stop: CancellationToken) -> Self {
        let requests = Arc::new(Semaphore::new(REQUESTS_MAX as usize));
        Self { handle, requests, serving: stop.child_token(), stop }
    }

    /// The owner.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Lets a request begin: the owner is not stopped before it ends. `None` once the owner is to stop.
    pub async fn begin(&self) -> Option<OwnedSemaphorePermit> {
        if self.serving.is_cancelled() {
            return None;
        }
        self.requests.clone().acquire_owned().await.ok()
    }

    /// Whether the owner is told to stop.
    pub fn is_stopping(&self) -> bool {
        self.serving.is_cancelled()
    }

    /// Answers other coordinators' questions to the owner, while it owns.
    pub(super) async fn serve(self, partition: Partition, node: NodeId, broker: Broker) {
        let mut status = self.handle.status.clone();
        let serving = self.serving.clone();
        let work = async {
            // Without its sender the owner has ended.
            if status.wait_for(|status| status.caught_up).await.is_ok() {
                serving::serve(&broker, partition, &node, &self).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = serving.cancelled() => {}
        }
    }

    /// Ends the owner once its requests have ended, or have had the time to.
    pub(super) async fn stop(self) {
        self.serving.cancel();
        let all = self.requests.acquire_many(REQUESTS_MAX);
        if tokio::time::timeout(SETTLE_MAX, all).await.is_err() {
            tracing::warn!("requests to an owner that is handed over have no answer yet");
        }
        self.requests.close();
        self.stop.cancel();
    }

    /// Waits for the owner's end, and tells why it came.
    pub(super) async fn ended(self) -> (Why, Option<String>) {
        let mut status = self.handle.status.clone();
        let ended = match status.wait_for(|status| status.stopped.is_some()).await {
            Ok(status) if status.halted => (Why::Halted, status.stopped.clone()),
            Ok(status) => (Why::Lost, status.stopped.clone()),
            // It ends without a word when it is told to.
            Err(_) if self.stop.is_cancelled() => (Why::Asked, None),
            Err(_) => (Why::Lost, Some("the owner's task ended".to_owned())),
        };
        self.serving.cancel();
        self.requests.close();
        self.stop.cancel();
        ended
    }
}
