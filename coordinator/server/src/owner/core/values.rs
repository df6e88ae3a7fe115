//! Values of the payload store: what the Core makes of them when they have come or are stored.

use std::sync::Arc;

use millstream_model::payload::PayloadRef;
use serde_json::value::RawValue;

use crate::owner::clock::Mono;
use crate::owner::command::{Job, Wanted};
use crate::owner::failure::StoreFailure;
use crate::owner::later::Chore;

use super::{Core, Due, owed};

/// Between two tries of the payload store.
const PAYLOAD_RETRY_MS: u64 = 200;

impl Core {
    /// Values have come, perhaps not all that were wanted.
    pub fn fetched(
        &mut self,
        wanted: &Wanted,
        values: Vec<(PayloadRef, Arc<RawValue>)>,
        result: Result<(), StoreFailure>,
        now: Mono,
    ) {
        self.emitter.keep(values);
        let jobs = self.emitter.release(wanted);
        match result {
            Ok(()) => self.due.extend(jobs.into_iter().map(Due::Attempt)),
            Err(StoreFailure::Passing { .. }) => {
                let at = now.plus_millis(PAYLOAD_RETRY_MS);
                jobs.into_iter().for_each(|job| self.later.push(at, Chore::Attempt(job)));
            }
            Err(StoreFailure::Lasting { reason }) => {
                for job in jobs {
                    if let Some(execution) = owed(&self.machine, job) {
                        let attempted = self.emitter.give_up(execution, job, reason.clone());
                        self.note(attempted);
                    }
                }
            }
        }
        self.due.push_back(Due::Trim);
    }

    /// The value of a job is in the payload store, or is not yet.
    pub fn stored(&mut self, job: Job, result: Result<PayloadRef, &StoreFailure>, now: Mono) {
        let Some(execution) = owed(&self.machine, job) else {
            self.emitter.drop_value(job);
            return;
        };
        match result {
            Ok(reference) => {
                let attempted = self.emitter.stored(execution, job, reference);
                self.note(attempted);
            }
            // Without it the execution cannot go on.
            Err(StoreFailure::Passing { .. } | StoreFailure::Lasting { .. }) => {
                self.later.push(now.plus_millis(PAYLOAD_RETRY_MS), Chore::Store(job));
            }
        }
    }
}
