//! What a fork keeps of another execution: small outputs travel inside its submission, the others are copied to its
//! own place in the payload store, so that each execution's values come and go with it.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use millstream_broker::{Broker, PayloadError};
use millstream_engine::KeptOutput;
use millstream_model::entry::{Kept, KeptOutcome};
use millstream_model::ids::{ExecutionId, StepId};
use millstream_model::limits::{INLINE_MAX, RESULT_MAX};
use millstream_model::payload::{Body, Payload, PayloadRef};

use super::SubmitError;
use crate::owner::ask::{KeptSteps, RETRY_AFTER};

/// Values that are copied at the same time.
const COPIES: usize = 4;
/// A value that is not longer stays inline whatever the room: a reference to it would be as long.
const REFERENCE_SIZE: usize = 128;

/// The outcomes as the submission of `to` carries them; inline values take at most `room` bytes of it.
pub(super) async fn store(
    broker: &Broker,
    from: ExecutionId,
    to: ExecutionId,
    kept: KeptSteps,
    room: usize,
) -> Result<Vec<Kept>, SubmitError> {
    if let Some((step, size)) = kept.iter().find_map(|(step, output)| too_large(output).map(|size| (step, size))) {
        return Err(SubmitError::KeptTooLarge { step: step.clone(), size, max: RESULT_MAX });
    }
    let copy = Copy { broker, from, to };
    let placed = place(kept, room);
    let stored = placed.into_iter().map(|(step, value)| async {
        let outcome = match value {
            Value::Settled(outcome) => outcome,
            Value::One(payload) => KeptOutcome::Completed(copy.one(payload).await?),
            Value::Whole(list) => KeptOutcome::Items(copy.one(list).await?),
            Value::Items(parts) => KeptOutcome::Items(copy.list(&parts).await?),
        };
        Ok(Kept { step, outcome })
    });
    let stored: Result<Vec<Kept>, PayloadError> = stream::iter(stored).buffered(COPIES).try_collect().await;
    stored.map_err(|source| match source.is_retryable() {
        true => SubmitError::Unavailable {
            reason: format!("what the fork keeps cannot be copied: {source}"),
            retry_after: RETRY_AFTER,
        },
        false => SubmitError::Kept { source },
    })
}

/// The size of a list whose parts are values each, and which would be none.
fn too_large(output: &KeptOutput) -> Option<usize> {
    let KeptOutput::Items(parts) = output else {
        return None;
    };
    let sizes = parts.iter().map(|part| part.as_ref().map_or(4, Payload::size));
    Some(sizes.fold(2_usize, |sum, size| sum.saturating_add(size).saturating_add(1))).filter(|size| *size > RESULT_MAX)
}

/// An outcome as it will travel, or a value that is copied first.
#[derive(Debug, PartialEq)]
enum Value {
    Settled(KeptOutcome),
    One(Payload),
    Whole(Payload),
    Items(Arc<Vec<Option<Payload>>>),
}

/// Decides which values stay inline.
fn place(kept: KeptSteps, mut room: usize) -> Vec<(StepId, Value)> {
    let mut takes = |size: usize| {
        let fits = size <= REFERENCE_SIZE || (size <= INLINE_MAX && size <= room);
        room = room.saturating_sub(if fits { size } else { REFERENCE_SIZE });
        fits
    };
    let mut place = |output: KeptOutput| match output {
        KeptOutput::Skipped => Value::Settled(KeptOutcome::Skipped),
        KeptOutput::Failed(error) => Value::Settled(KeptOutcome::Failed(error)),
        KeptOutput::One(payload) => match &payload.body {
            Body::Inline(text) if takes(text.get().len()) => Value::Settled(KeptOutcome::Completed(payload)),
            Body::Inline(_) | Body::Stored(_) => Value::One(payload),
        },
        KeptOutput::Whole(list) => match &list.body {
            Body::Inline(text) if takes(text.get().len()) => Value::Settled(KeptOutcome::Items(list)),
            Body::Inline(_) | Body::Stored(_) => Value::Whole(list),
        },
        KeptOutput::Items(parts) => match inline_list(&parts) {
            Some(list) if takes(list.size()) => Value::Settled(KeptOutcome::Items(list)),
            Some(_) | None => Value::Items(parts),
        },
    };
    kept.into_iter().map(|(step, output)| (step, place(output))).collect()
}

/// The list as one value, when all of it is here and short enough.
fn inline_list(parts: &[Option<Payload>]) -> Option<Payload> {
    let size: usize = parts.iter().map(|part| part.as_ref().map_or(4, Payload::size) + 1).sum();
    if size > INLINE_MAX {
        return None;
    }
    let texts = parts.iter().map(|part| part.as_ref().map_or(Some("null"), Payload::text));
    texts.collect::<Option<Vec<&str>>>().map(|texts| Payload::inline(list_of(&texts)))
}

fn list_of<T: AsRef<str>>(texts: &[T]) -> Box<serde_json::value::RawValue> {
    let mut list = String::with_capacity(2 + texts.iter().map(|text| text.as_ref().len() + 1).sum::<usize>());
    list.push('[');
    for (i, text) in texts.iter().enumerate() {
        if i > 0 {
            list.push(',');
        }
        list.push_str(text.as_ref());
    }
    list.push(']');
    serde_json::value::RawValue::from_string(list).expect("a list of JSON texts is JSON")
}

/// Copies values from one execution's place in the store to another's.
struct Copy<'a> {
    broker: &'a Broker,
    from: ExecutionId,
    to: ExecutionId,
}

impl Copy<'_> {
    async fn one(&self, payload: Payload) -> Result<Payload, PayloadError> {
        let text = self.text(&payload).await?;
        let reference = self.put(text.get()).await?;
        Ok(Payload { enc: payload.enc, body: Body::Stored(reference) })
    }

    async fn list(&self, parts: &[Option<Payload>]) -> Result<Payload, PayloadError> {
        let mut texts: Vec<Arc<str>> = Vec::with_capacity(parts.len());
        for part in parts {
            texts.push(match part {
                Some(payload) => self.text(payload).await?.get().into(),
                None => "null".into(),
            });
        }
        self.put(list_of(&texts).get()).await.map(Payload::stored)
    }

    async fn text(&self, payload: &Payload) -> Result<Arc<serde_json::value::RawValue>, PayloadError> {
        match &payload.body {
            Body::Inline(text) => Ok(Arc::clone(text)),
            Body::Stored(reference) => Ok(Arc::from(self.broker.get_payload(self.from, *reference).await?)),
        }
    }

    async fn put(&self, text: &str) -> Result<PayloadRef, PayloadError> {
        self.broker.put_payload(self.to, text).await
    }
}

#[cfg(test)]
mod tests {
    use millstream_model::error::{ErrorCode, StepError};
    use serde_json::json;

    use super::*;

    #[test]
    fn small_outputs_stay_inline_until_the_room_is_used_up() {
        let text = |length: usize| KeptOutput::One(Payload::from_value(&json!("x".repeat(length))));
        let kept = vec![(id("a"), text(500)), (id("b"), text(900)), (id("c"), text(500)), (id("d"), text(10))];
        assert_eq!(told(kept, 1_200), "a inline, b stored, c inline, d inline");
    }

    #[test]
    fn what_is_stored_is_copied_and_what_is_large_is_stored() {
        let stored = KeptOutput::One(Payload::stored(PayloadRef::to("1")));
        let large = KeptOutput::One(Payload::from_value(&json!("x".repeat(INLINE_MAX))));
        assert_eq!(told(vec![(id("a"), stored), (id("b"), large)], usize::MAX), "a stored, b stored");
    }

    #[test]
    fn a_list_that_no_value_could_hold_is_too_large() {
        let part = |size: usize| Some(Payload::stored(PayloadRef { size: size as u64, ..PayloadRef::to("1") }));
        let list = |parts: Vec<Option<Payload>>| KeptOutput::Items(Arc::new(parts));
        assert_eq!(too_large(&list(vec![part(RESULT_MAX / 2), part(RESULT_MAX / 2), None])), Some(RESULT_MAX + 9));
        assert_eq!(too_large(&list(vec![part(RESULT_MAX / 2), None])), None);
    }

    #[test]
    fn a_list_is_one_value_with_null_where_nothing_came() {
        let parts = vec![Some(Payload::from_value(&json!({"n": 1}))), None, Some(Payload::null())];
        let placed = place(vec![(id("a"), KeptOutput::Items(Arc::new(parts)))], 1_000);
        let expected = Payload::from_value(&json!([{"n": 1}, null, null]));
        assert_eq!(placed, [(id("a"), Value::Settled(KeptOutcome::Items(expected)))]);
        let far = vec![None, Some(Payload::stored(PayloadRef::to("1")))];
        assert_eq!(told(vec![(id("a"), KeptOutput::Items(Arc::new(far)))], 1_000), "a stored");
    }

    #[test]
    fn what_has_no_output_needs_no_room() {
        let error = StepError::new(ErrorCode::Timeout, "too slow");
        let kept = vec![(id("a"), KeptOutput::Skipped), (id("b"), KeptOutput::Failed(error))];
        assert_eq!(told(kept, 0), "a inline, b inline");
    }

    fn id(name: &str) -> StepId {
        name.parse().expect("a name")
    }

    fn told(kept: KeptSteps, room: usize) -> String {
        let placed = place(kept, room).into_iter().map(|(step, value)| match value {
            Value::Settled(_) => format!("{step} inline"),
            Value::One(_) | Value::Whole(_) | Value::Items(_) => format!("{step} stored"),
        });
        placed.collect::<Vec<_>>().join(", ")
    }
}
