//! What workers say they do, for those who follow an execution here. It is not in the journal, and best effort.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_broker::{Broker, LiveEvents};
use millstream_model::event::Event;
use millstream_model::ids::ExecutionId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Notices that may wait for a reader; more are lost.
const WAITING_MAX: usize = 256;
/// Executions that may be followed before those are forgotten that nobody follows any more.
const FEW: usize = 256;
/// Before workers are listened to again.
const RETRY: Duration = Duration::from_millis(500);

/// A handle to the notices; cheap to clone.
#[derive(Debug, Clone)]
pub struct Notices {
    followers: mpsc::UnboundedSender<(ExecutionId, mpsc::Sender<Event>)>,
}

type Followers = BTreeMap<ExecutionId, Vec<mpsc::Sender<Event>>>;

impl Notices {
    /// Listens until `stop`.
    pub fn start(broker: Broker, stop: CancellationToken) -> Self {
        let (followers, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            tokio::select! {
                () = pass(broker, requests) => {}
                () = stop.cancelled() => {}
            }
        });
        Self { followers }
    }

    /// The notices of an execution from here on. They end when the process does.
    pub fn follow(&self, execution: ExecutionId) -> mpsc::Receiver<Event> {
        let (notices, follower) = mpsc::channel(WAITING_MAX);
        // After the stop there are none.
        drop(self.followers.send((execution, notices)));
        follower
    }
}

async fn pass(broker: Broker, mut requests: mpsc::UnboundedReceiver<(ExecutionId, mpsc::Sender<Event>)>) {
    let mut followers = Followers::new();
    let mut forget_at = FEW;
    let mut live = None;
    loop {
        tokio::select! {
            request = requests.recv() => {
                let Some((execution, follower)) = request else { return };
                followers.entry(execution).or_default().push(follower);
                // Those who have left are forgotten when there are twice as many as were left the last time.
                if followers.len() >= forget_at {
                    followers.retain(|_, of| {
                        of.retain(|follower| !follower.is_closed());
                        !of.is_empty()
                    });
                    forget_at = FEW.max(2 * followers.len());
                }
            }
            notice = next(&broker, &mut live) => tell(&mut followers, &notice),
        }
    }
}

fn tell(followers: &mut Followers, notice: &Event) {
    if let Some(of) = followers.get_mut(&notice.execution_id) {
        // Who is too slow misses a notice, and stays.
        of.retain(|follower| !matches!(follower.try_send(notice.clone()), Err(mpsc::error::TrySendError::Closed(_))));
        if of.is_empty() {
            followers.remove(&notice.execution_id);
        }
    }
}

/// The next notice, across interruptions. Dropping the future loses nothing that was heard.
async fn next(broker: &Broker, live: &mut Option<LiveEvents>) -> Event {
    loop {
        match live {
            Some(events) => match events.next().await {
                Some(notice) => return notice,
                None => *live = None,
            },
            None => match broker.subscribe_live().await {
                Ok(events) => *live = Some(events),
                Err(error) => {
                    tracing::debug!(%error, "notices of workers cannot be followed yet");
                    tokio::time::sleep(RETRY).await;
                }
            },
        }
    }
}
