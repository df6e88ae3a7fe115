//! Definitions, compiled once.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_broker::{Broker, StoreError};
use millstream_model::hash::ContentHash;
use millstream_model::plan::Plan;

use super::{Finding, Kind, Report, patiently};
use crate::export_file::{NoPlan, compile};

/// Steps of the plans that are kept.
const STEPS_KEPT_MAX: usize = 200_000;

/// The definitions of a cluster.
pub(super) struct Plans {
    broker: Broker,
    plans: BTreeMap<ContentHash, Arc<Plan>>,
}

/// Why a definition is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Useless {
    #[error("definition {hash} is not in the store")]
    Missing { hash: ContentHash },
    #[error(transparent)]
    NoPlan(#[from] NoPlan),
}

impl Plans {
    pub(super) fn new(broker: Broker) -> Self {
        Self { broker, plans: BTreeMap::new() }
    }

    /// The plan of the definition that is stored as `hash`.
    pub(super) async fn get(&mut self, hash: ContentHash) -> anyhow::Result<Result<Arc<Plan>, Useless>> {
        if let Some(plan) = self.plans.get(&hash) {
            return Ok(Ok(Arc::clone(plan)));
        }
        let ask = async || self.broker.definition_by_hash(hash).await;
        let Some(text) = patiently("a definition", ask, StoreError::is_retryable).await? else {
            return Ok(Err(Useless::Missing { hash }));
        };
        let plan = match compile(hash, &text) {
            Ok(plan) => plan,
            Err(error) => return Ok(Err(error.into())),
        };
        let steps: usize = self.plans.values().map(|plan| plan.steps.len().max(1)).sum();
        if steps > STEPS_KEPT_MAX {
            self.plans.clear();
        }
        self.plans.insert(hash, Arc::clone(&plan));
        Ok(Ok(plan))
    }

    /// Looks at every definition that is in force.
    pub(super) async fn check_stored(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let ask = async || self.broker.definitions().await;
        for (id, record) in patiently("the definitions", ask, StoreError::is_retryable).await? {
            report.counts.definitions += 1;
            if let Err(useless) = self.get(record.hash).await? {
                report.add(Finding::new(Kind::Definition, format!("workflow {id}: {useless}")));
            }
        }
        Ok(())
    }
}
