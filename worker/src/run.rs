//! One delivery from its arrival to its ack: does what [`protocol`](crate::protocol) says.

mod call;
mod tending;

use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{Acker, Broker, ClaimHandle, ClaimOutcome, Delivery};
use millstream_model::batch::encode_entry;
use millstream_model::entry::Entry;
use millstream_model::ids::WorkerId;
use millstream_model::task::{Claim, Task};
use millstream_model::trace::TraceParent;
use tokio_util::sync::CancellationToken;

use crate::cancelled::Cancelled;
use crate::clock::now;
use crate::gate::Gates;
use crate::manifests::Manifests;
use crate::protocol::{self, Delivered, Event, Moment, Next, Outcome};
use crate::results::{Results, Stored};
use crate::trouble::Trouble;

use call::{call, store};
use tending::Tending;

/// What the runs of a worker share.
pub(crate) struct Shared {
    pub(crate) broker: Broker,
    pub(crate) worker: WorkerId,
    pub(crate) manifests: Manifests,
    pub(crate) gates: Gates,
    pub(crate) cancelled: Cancelled,
    /// Cancelled when the grace of a stopping worker is over.
    pub(crate) over: CancellationToken,
}

/// Works on a delivery until nothing is owed for it any more.
pub(crate) async fn work(shared: &Shared, results: &Results, delivery: Delivery) {
    let acker = delivery.acker();
    let task = match protocol::read(&delivery.payload) {
        Ok(task) => Arc::new(task),
        Err(refusal) => {
            tracing::warn!(sequence = delivery.stream_sequence, %refusal, "a task goes back to the queue");
            hand_back(&acker, Some(refusal.delay_ms())).await;
            return;
        }
    };
    let (trace, delivered) = (delivery.traceparent, delivery.delivered);
    drop(delivery);
    let machine = Delivered::new(&task, delivered, &shared.worker);
    let tending = Tending::new(shared, &task, trace, machine, acker);
    Run { shared, results, task: &task, trace, tending, claim: None }.drive().await;
}

struct Run<'a> {
    shared: &'a Shared,
    results: &'a Results,
    task: &'a Arc<Task>,
    trace: Option<TraceParent>,
    tending: Tending<'a>,
    claim: Option<ClaimHandle>,
}

impl Run<'_> {
    async fn drive(mut self) {
        let mut next = self.tending.on(Event::Arrived(self.moment()));
        loop {
            next = match next {
                Next::Claim { key, claim, ttl_ms } => self.claim(&key, &claim, ttl_ms).await,
                Next::Run => self.run().await,
                Next::Append(entry) => self.append(&entry).await,
                Next::Ack => return self.ack().await,
                Next::AckConfirmed => self.ack_confirmed().await,
                Next::ReleaseClaim => self.release_claim().await,
                Next::HandBack { delay_ms } => return hand_back(self.tending.acker(), delay_ms).await,
                Next::Leave | Next::Continue | Next::Done => return,
            };
        }
    }

    fn moment(&self) -> Moment {
        Moment { now: now(), cancelled: self.shared.cancelled.contains(self.task.key.execution) }
    }

    async fn claim(&mut self, key: &str, claim: &Claim, ttl_ms: u64) -> Next {
        let broker = &self.shared.broker;
        let ask = async {
            let mut trouble = Trouble::default();
            loop {
                match broker.claim(key, claim, Duration::from_millis(ttl_ms)).await {
                    Ok(outcome) => return Some(outcome),
                    Err(error) if error.is_retryable() => trouble.failed(),
                    Err(error) => {
                        tracing::error!(key, %error, "a claim is refused; its task goes back to the queue");
                        return None;
                    }
                };
                trouble.pause().await;
            }
        };
        let event = match self.tending.tend(ask).await {
            Ok(Some(ClaimOutcome::Won(handle))) => {
                self.claim = Some(handle);
                Event::ClaimWon(self.moment())
            }
            Ok(Some(ClaimOutcome::Held { claim, stored_at })) => {
                Event::ClaimTaken { claim, stored_at, now: self.moment() }
            }
            Ok(None) => Event::ClaimRefused,
            Err(next) => return next,
        };
        self.tending.on(event)
    }

    async fn run(&mut self) -> Next {
        let started_at = now();
        let context = self.tending.start(started_at);
        let answer = match self.tending.tend(call(self.shared, self.task, &context)).await {
            Ok(answer) => answer,
            Err(next) => {
                self.tending.record_stopped(started_at, &next);
                return next;
            }
        };
        let ended_at = now();
        self.tending.stop();
        let span = self.tending.record(started_at, ended_at, answer.as_ref().err());
        let result = match answer {
            Ok(text) => match self.tending.tend(store(self.shared, self.task, text)).await {
                Ok(result) => result,
                Err(next) => return next,
            },
            Err(error) => Err(error),
        };
        self.tending.on(Event::Ran(Outcome { started_at, ended_at, span, result }))
    }

    async fn append(&mut self, entry: &Entry) -> Next {
        let text = encode_entry(entry);
        let append = self.results.append(Arc::clone(self.task), self.trace, text);
        let event = match self.tending.tend(append).await {
            Ok(Stored::Yes) => Event::Stored,
            Ok(Stored::TooLarge) => Event::TooLarge { now: now() },
            Err(next) => return next,
        };
        self.tending.on(event)
    }

    async fn ack(&self) {
        if let Err(error) = self.tending.acker().ack().await {
            tracing::debug!(%error, "an ack was not sent; the task comes again and the fold ignores it");
        }
    }

    async fn ack_confirmed(&mut self) -> Next {
        let confirmed = self.tending.acker().ack_confirmed().await.is_ok();
        self.tending.on(Event::Acked { confirmed })
    }

    async fn release_claim(&mut self) -> Next {
        if let Some(handle) = self.claim.take()
            && let Err(error) = self.shared.broker.release_claim(handle).await
        {
            tracing::debug!(%error, "a claim was not released; it ends by its TTL");
        }
        self.tending.on(Event::Released)
    }
}

/// NAKs. When that is lost, the task comes back after ack_wait.
pub(crate) async fn hand_back(acker: &Acker, delay_ms: Option<u64>) {
    if let Err(error) = acker.nak(delay_ms.map(Duration::from_millis)).await {
        tracing::debug!(%error, "a task was not handed back; it comes back by itself");
    }
}
