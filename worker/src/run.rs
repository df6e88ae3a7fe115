//! One delivery from its arrival to its ack: does what [`protocol`](crate::protocol) says.

mod call;
mod tending;

use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{Acker, Broker, ClaimHandle, ClaimOutcome, Delivery};
use millstream_model::batch::encode_entry;
use millstream_model::entry::Entry;
use millstream_model::error::StepError;
use millstream_model::ids::WorkerId;
use millstream_model::task::{Claim, Task};
use millstream_model::time::Timestamp;
use millstream_model::trace::TraceParent;
use tokio_util::sync::CancellationToken;

use crate::adapter::Answer;
use crate::cancelled::Cancelled;
use crate::clock::now;
use crate::gate::Gates;
use crate::manifests::Manifests;
use crate::protocol::{self, Delivered, Event, Moment, Next, Outcome};
use crate::results::{Results, Stored};
use crate::trouble::Trouble;

use call::{Prepared, call, prepare, store};
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
pub(crate) async fn work(shared: &Shared, results: &Results, delivery: Delivery, on_probation: bool) {
    let acker = delivery.acker();
    let task = match protocol::read(&delivery.payload) {
        Ok(task) => Arc::new(task),
        Err(refusal) => {
            tracing::warn!(sequence = delivery.stream_sequence, %refusal, "a task goes back to the queue");
            hand_back(&acker, Some(refusal.delay_ms())).await;
            return;
        }
    };
    let (trace, message, delivered) = (delivery.traceparent, delivery.stream_sequence, delivery.delivered);
    drop(delivery);
    let mut machine = Delivered::new(&task, message, delivered, &shared.worker);
    if on_probation {
        machine = machine.on_probation();
    }
    let tending = Tending::new(shared, &task, trace, machine, acker);
    let run = Run { shared, results, task: &task, trace, tending, claim: None, claiming: Trouble::default() };
    run.drive().await;
}

struct Run<'a> {
    shared: &'a Shared,
    results: &'a Results,
    task: &'a Arc<Task>,
    trace: Option<TraceParent>,
    tending: Tending<'a>,
    claim: Option<ClaimHandle>,
    claiming: Trouble,
}

impl Run<'_> {
    async fn drive(mut self) {
        let mut next = self.tending.on(Event::Arrived(self.moment()));
        loop {
            next = match next {
                Next::Claim { key, claim, ttl_ms } => self.claim(&key, &claim, ttl_ms).await,
                Next::Announce(entry) => self.announce(&entry).await,
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
        Moment { now: now(), cancelled: self.shared.cancelled.covers(&self.task.key) }
    }

    async fn claim(&mut self, key: &str, claim: &Claim, ttl_ms: u64) -> Next {
        let ask = self.shared.broker.claim(key, claim, Duration::from_millis(ttl_ms));
        let outcome = match self.tending.tend(ask).await {
            Ok(outcome) => outcome,
            Err(next) => return next,
        };
        let event = match outcome {
            Ok(ClaimOutcome::Won(handle)) => {
                self.claim = Some(handle);
                Event::ClaimWon(self.moment())
            }
            Ok(ClaimOutcome::Held { claim, stored_at }) => Event::ClaimTaken { claim, stored_at, now: self.moment() },
            Err(error) if error.is_retryable() => {
                if self.claiming.failed() {
                    tracing::debug!(key, %error, "a claim is not answered; asking again");
                }
                if let Err(next) = self.tending.tend(self.claiming.pause()).await {
                    return next;
                }
                Event::ClaimUnanswered(self.moment())
            }
            Err(error) => {
                tracing::error!(key, %error, "a claim is refused; its task goes back to the queue");
                Event::ClaimRefused
            }
        };
        self.tending.on(event)
    }

    async fn run(&mut self) -> Next {
        let started_at = now();
        let context = self.tending.start(started_at);
        let Prepared { agent, input, turn } = match self.tending.tend(prepare(self.shared, self.task)).await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(error)) => return self.ran(started_at, Err(error)).await,
            Err(next) => {
                self.tending.record_stopped(started_at, &next);
                return next;
            }
        };
        self.tending.call(turn.waited);
        match self.tending.tend(call(&agent, &context, input)).await {
            Ok(answer) => {
                turn.call.ended(answer.as_ref().err().map(|error| error.code));
                self.ran(started_at, answer).await
            }
            Err(next) => {
                if let Some(error) = failure(&next) {
                    turn.call.ended(Some(error.code));
                }
                self.tending.record_stopped(started_at, &next);
                next
            }
        }
    }

    /// The run is over; its output is put where it belongs.
    async fn ran(&mut self, started_at: Timestamp, answer: Answer) -> Next {
        let ended_at = now();
        let span = self.tending.record(started_at, ended_at, answer.as_ref().err());
        self.tending.stop();
        let result = match answer {
            Ok(text) => match self.tending.tend(store(self.shared, self.task, text)).await {
                Ok(result) => result,
                Err(next) => return next,
            },
            Err(error) => Err(error),
        };
        self.tending.on(Event::Ran(Outcome { started_at, ended_at, span, result }))
    }

    async fn announce(&mut self, entry: &Entry) -> Next {
        let event = match self.store(entry).await {
            Ok(Stored::Yes) => Event::Announced(self.moment()),
            Ok(Stored::TooLarge | Stored::Refused) => Event::NotAccepted,
            Err(next) => return next,
        };
        self.tending.on(event)
    }

    async fn append(&mut self, entry: &Entry) -> Next {
        let event = match self.store(entry).await {
            Ok(Stored::Yes) => Event::Stored,
            Ok(Stored::TooLarge) => Event::TooLarge { now: now() },
            Ok(Stored::Refused) => {
                let key = &self.task.key;
                tracing::error!(
                    execution = %key.execution, step = %key.step, item = key.item, attempt = self.tending.ordinal(),
                    "a result was not accepted and is given up; its task goes back to the queue"
                );
                Event::NotAccepted
            }
            Err(next) => return next,
        };
        self.tending.on(event)
    }

    async fn store(&mut self, entry: &Entry) -> Result<Stored, Next> {
        let append = self.results.append(Arc::clone(self.task), self.trace, encode_entry(entry));
        self.tending.tend(append).await
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

/// What a run failed with that was stopped.
fn failure(next: &Next) -> Option<&StepError> {
    let Next::Append(entry) = next else { return None };
    let Entry::TaskFailed(failed) = &**entry else { return None };
    Some(&failed.error)
}

/// NAKs. When that is lost, the task comes back after ack_wait.
pub(crate) async fn hand_back(acker: &Acker, delay_ms: Option<u64>) {
    if let Err(error) = acker.nak(delay_ms.map(Duration::from_millis)).await {
        tracing::debug!(%error, "a task was not handed back; it comes back by itself");
    }
}
