//! What clients of a seed want, and when.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_engine::partition::EXPR_REV;
use millstream_model::entry::{Defaults, Idempotency, Resumed, Submitted};
use millstream_model::hash::ContentHash;
use millstream_model::ids::{ExecutionId, Namespace};
use millstream_model::payload::{Body, Payload, PayloadRef};
use millstream_model::token::Secret;
use serde_json::value::{RawValue, to_raw_value};

use super::{Workflow, Workload, definition};
use crate::simulation::dice::Dice;

/// A submission that somebody wants.
#[derive(Debug)]
pub struct Wish {
    pub at_ms: u64,
    pub submitted: Box<Submitted>,
    /// The input's text, when it is to be put into the payload store first.
    pub stored_input: Option<Arc<RawValue>>,
    /// When somebody cancels it, and whether what was done is to be undone.
    pub cancel: Option<(u64, bool)>,
}

/// The submissions of a world.
pub fn random(workload: &Workload, chaos_ms: u64, dice: &mut Dice) -> Vec<Wish> {
    let count = match dice.below(10) {
        0 => 8 + dice.index(8),
        _ => 1 + dice.index(5),
    };
    let spread_ms = if chaos_ms > 100_000 { chaos_ms } else { dice.pick(&[10, 1_000, 10_000]) };
    let mut wishes: Vec<Wish> = Vec::new();
    for number in 0..count {
        let key = if dice.chance(600) { Some(number) } else { None };
        let (key, body) = match key {
            // Somebody asks for what was asked for before, or uses a key twice.
            Some(number) if number > 0 && dice.chance(150) => (Some(number - 1), dice.below(2)),
            key => (key, 0),
        };
        let at_ms = dice.below(spread_ms);
        let mut wish = one(workload, at_ms, dice);
        wish.cancel = dice.chance(200).then(|| (at_ms + dice.below(8_000), dice.chance(400)));
        wish.submitted.idempotency = key.map(|key| Idempotency {
            key: ContentHash::of(format!("key {key}").as_bytes()),
            body: ContentHash::of(format!("{} {body}", wish.submitted.definition).as_bytes()),
        });
        wishes.push(wish);
    }
    wishes
}

/// A submission at a time, without a key.
fn one(workload: &Workload, at_ms: u64, dice: &mut Dice) -> Wish {
    let workflow = &workload.workflows[dice.index(workload.workflows.len())];
    let text: Arc<RawValue> = Arc::from(to_raw_value(&definition::input()).expect("a JSON value has a text"));
    let is_stored = dice.chance(100);
    let input = if is_stored {
        Payload::stored(PayloadRef::to(text.get()))
    } else {
        Payload { enc: None, body: Body::Inline(Arc::clone(&text)) }
    };
    let submitted = Box::new(Submitted {
        execution: execution(dice, at_ms),
        ns: Namespace::default(),
        workflow: workflow.plan.definition.id.clone(),
        definition: workflow.plan.hash,
        input,
        context: None,
        labels: BTreeMap::new(),
        idempotency: None,
        secret: Secret::new(dice.bytes()),
        agents: workflow.routing.agents.clone(),
        routes: workflow.routing.routes.clone(),
        fallbacks: workflow.routing.fallbacks.clone(),
        compensations: workflow.routing.compensations.clone(),
        defaults: Defaults::default(),
        expr_rev: EXPR_REV,
        trace: None,
        fork: None,
    });
    Wish { at_ms, submitted, stored_input: is_stored.then_some(text), cancel: None }
}

/// Somebody asks that an execution goes on.
pub fn resume(execution: ExecutionId, workflow: &Workflow) -> Resumed {
    Resumed {
        execution,
        by: Some("a client".to_owned()),
        reason: Some("mended".to_owned()),
        transcript: None,
        agents: workflow.routing.agents.clone(),
        routes: workflow.routing.routes.clone(),
        fallbacks: workflow.routing.fallbacks.clone(),
        compensations: workflow.routing.compensations.clone(),
    }
}

/// A new id; its last byte is the partition.
pub fn execution(dice: &mut Dice, at_ms: u64) -> ExecutionId {
    let (a, b) = (dice.bits(), dice.bits());
    let text = format!(
        "{:08x}-{:04x}-7{:03x}-8{:03x}-{:010x}00",
        0x0194_0000_u64 + at_ms / 65_536,
        at_ms % 65_536,
        a % 4_096,
        (a >> 16) % 4_096,
        b % (1 << 40)
    );
    text.parse().expect("an id")
}
