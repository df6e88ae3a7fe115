//! Plans in memory: every definition is compiled once per content hash, however many ask for it at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use millstream_model::hash::ContentHash;
use millstream_model::plan::Plan;
use tokio::sync::OnceCell;

/// Steps of all plans that are kept beside the newest one.
const STEPS_KEPT_MAX: usize = 200_000;

/// Invariant: what is kept besides plans that are being compiled has at most [`STEPS_KEPT_MAX`] steps, or is one plan.
#[derive(Debug, Default)]
pub(super) struct Plans {
    /// Locked for a look-up, never while a plan is compiled.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    plans: BTreeMap<ContentHash, Slot>,
    clock: u64,
}

#[derive(Debug, Default)]
struct Slot {
    plan: Arc<OnceCell<Arc<Plan>>>,
    used: u64,
}

impl Plans {
    /// The plan of `hash`, made by `compile` if it is not here.
    pub(super) async fn get_or_compile<E, F>(
        &self,
        hash: ContentHash,
        compile: impl FnOnce() -> F,
    ) -> Result<Arc<Plan>, E>
    where
        F: Future<Output = Result<Arc<Plan>, E>>,
    {
        let cell = self.slot(hash);
        if let Some(plan) = cell.get() {
            return Ok(Arc::clone(plan));
        }
        let compiled = cell.get_or_try_init(compile).await.cloned();
        drop(cell);
        self.lock().shrink(hash, STEPS_KEPT_MAX);
        compiled
    }

    /// Keeps a plan that was compiled elsewhere.
    pub(super) fn keep(&self, plan: Arc<Plan>) {
        let hash = plan.hash;
        // When there is one already it is the same plan: its hash says so.
        self.slot(hash).set(plan).ok();
        self.lock().shrink(hash, STEPS_KEPT_MAX);
    }

    fn slot(&self, hash: ContentHash) -> Arc<OnceCell<Arc<Plan>>> {
        let mut kept = self.lock();
        kept.clock += 1;
        let used = kept.clock;
        let slot = kept.plans.entry(hash).or_default();
        slot.used = used;
        Arc::clone(&slot.plan)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("nobody panics while holding the plans")
    }
}

impl Kept {
    /// Drops the plans that were not used for longest, and slots whose compilation failed.
    fn shrink(&mut self, newest: ContentHash, steps_max: usize) {
        self.plans.retain(|_, slot| slot.plan.initialized() || Arc::strong_count(&slot.plan) > 1);
        let mut steps: usize = self.plans.values().map(Slot::steps).sum();
        while steps > steps_max {
            let oldest = self.plans.iter().filter(|(hash, _)| **hash != newest).min_by_key(|(_, slot)| slot.used);
            let Some(hash) = oldest.map(|(hash, _)| *hash) else { return };
            steps -= self.plans.remove(&hash).map_or(0, |slot| slot.steps());
        }
    }
}

impl Slot {
    fn steps(&self) -> usize {
        self.plan.get().map_or(0, |plan| plan.steps.len().max(1))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use millstream_model::validate;

    use super::*;

    #[tokio::test]
    async fn a_definition_is_compiled_once_however_many_ask_for_it_at_once() {
        let (plans, compiled) = (Plans::default(), AtomicU32::new(0));
        let plan = plan("w", 1);
        let ask = || {
            plans.get_or_compile(plan.hash, || async {
                compiled.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok::<_, ()>(Arc::clone(&plan))
            })
        };
        let (one, two, three) = tokio::join!(ask(), ask(), ask());
        assert!([one, two, three].into_iter().all(|found| found.is_ok_and(|found| Arc::ptr_eq(&found, &plan))));
        assert_eq!(compiled.into_inner(), 1);
    }

    #[tokio::test]
    async fn a_compilation_that_failed_is_tried_again_and_leaves_nothing() {
        let plans = Plans::default();
        let plan = plan("w", 1);
        let failed = plans.get_or_compile(plan.hash, async || Err("the store is away")).await;
        assert_eq!(failed.map(|_| ()), Err("the store is away"));
        assert!(plans.lock().plans.is_empty());
        let found = plans.get_or_compile(plan.hash, async || Ok::<_, ()>(Arc::clone(&plan))).await;
        assert!(found.is_ok());
    }

    #[test]
    fn the_plan_that_was_not_used_for_longest_goes_first() {
        let plans = Plans::default();
        let [old, used, new] = ["old", "used", "new"].map(|id| plan(id, 100));
        for plan in [&old, &used, &new] {
            plans.keep(Arc::clone(plan));
        }
        plans.slot(used.hash);
        let mut kept = plans.lock();
        kept.shrink(new.hash, 250);
        assert!(!kept.plans.contains_key(&old.hash));
        kept.shrink(new.hash, 0);
        assert_eq!(kept.plans.keys().collect::<Vec<_>>(), [&new.hash]);
    }

    fn plan(id: &str, steps: usize) -> Arc<Plan> {
        let steps: String = (0..steps).map(|n| format!("  - {{id: s{n}, agent_id: a}}\n")).collect();
        Arc::new(validate::definition(&format!("id: {id}\nsteps:\n{steps}")).expect("a valid definition"))
    }
}
