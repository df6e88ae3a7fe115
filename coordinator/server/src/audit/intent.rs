//! What is about to be decided, with its places in the queues.

use std::sync::Arc;

use millstream_model::audit::Decision;
use millstream_model::ids::ExecutionId;
use millstream_model::trace::TraceId;
use serde_json::{Value, json};
use tokio::sync::mpsc::OwnedPermit;

use super::Order;

/// Decisions that are recorded when it is known how they ended.
///
/// Who drops it unsettled, as a handler does whose caller went away, leaves records whose outcome is unknown.
#[must_use = "an intent is settled, or its outcome is recorded as unknown"]
pub struct Intent {
    places: Vec<OwnedPermit<Order>>,
    decisions: Vec<Decision>,
}

/// How something ended that was to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// It was not done.
    Refused,
    /// It may have been done.
    Unknown {
        reason: String,
    },
}

impl Intent {
    /// Nothing is recorded.
    pub fn none() -> Self {
        Self { places: Vec::new(), decisions: Vec::new() }
    }

    pub(super) fn new(places: Vec<OwnedPermit<Order>>, decisions: Vec<Decision>) -> Self {
        Self { places, decisions }
    }

    /// The decisions are about this execution.
    pub fn about(&mut self, execution: ExecutionId, trace: TraceId) {
        for decision in &mut self.decisions {
            decision.execution = Some(execution);
            decision.trace_id = Some(trace);
        }
    }

    /// Adds to the context of every decision.
    pub fn note(&mut self, name: &str, value: &Value) {
        for context in self.decisions.iter_mut().filter_map(|decision| decision.context.as_object_mut()) {
            context.insert(name.to_owned(), value.clone());
        }
    }

    /// Records what was done or may have been done.
    pub fn settle(mut self, outcome: Outcome) {
        match outcome {
            Outcome::Done => {}
            Outcome::Refused => self.places.clear(),
            Outcome::Unknown { reason } => self.mark_unknown(&reason),
        }
        self.send();
    }

    fn mark_unknown(&mut self, reason: &str) {
        self.note("outcome", &json!("unknown"));
        self.note("outcome_reason", &json!(reason));
    }

    fn send(&mut self) {
        if self.places.is_empty() {
            return;
        }
        let decisions: Arc<[Decision]> = std::mem::take(&mut self.decisions).into();
        for place in self.places.drain(..) {
            drop(place.send(Order::Append(Arc::clone(&decisions))));
        }
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        if !self.places.is_empty() {
            self.mark_unknown("the request ended before its answer");
            self.send();
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_model::audit::AuditKind;
    use millstream_model::time::Timestamp;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_was_done_is_recorded_as_it_was_intended() {
        let mut recorded = record(|intent| intent.settle(Outcome::Done)).await;
        assert_eq!(recorded.pop().map(|decision| decision.context), Some(json!({})));
    }

    #[tokio::test]
    async fn what_was_refused_is_not_recorded() {
        assert_eq!(record(|intent| intent.settle(Outcome::Refused)).await, []);
    }

    #[tokio::test]
    async fn who_goes_away_leaves_an_outcome_that_is_unknown() {
        let recorded = record(drop).await;
        assert_eq!(recorded[0].context["outcome"], "unknown");
        let unavailable = Outcome::Unknown { reason: "no answer".to_owned() };
        let recorded = record(|intent| intent.settle(unavailable)).await;
        assert_eq!(recorded[0].context["outcome_reason"], "no answer");
    }

    async fn record(end: impl FnOnce(Intent)) -> Vec<Decision> {
        let (orders, mut queue) = mpsc::channel(1);
        let place = orders.reserve_owned().await.expect("the queue is open");
        let decision = Decision {
            at: Timestamp::from_millis(1_763_648_712_000),
            trace_id: None,
            execution: None,
            kind: AuditKind::Admin,
            actor: None,
            target: "workflow w".to_owned(),
            reasoning: "because".to_owned(),
            alternatives: Vec::new(),
            context: json!({}),
        };
        end(Intent::new(vec![place], vec![decision]));
        match queue.recv().await {
            Some(Order::Append(decisions)) => decisions.to_vec(),
            Some(_) => panic!("an intent only appends"),
            None => Vec::new(),
        }
    }
}
