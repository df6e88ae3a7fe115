//! What the broker answers is told to the cores.

use millstream_coordinator::owner::failure::{PublishFailure, ScanFailure, Unpublished};

use super::{Awaited, Coordinator, End, Fetching, RETRY_MS, shadow};
use crate::simulation::happening::{Input, Wake};
use crate::simulation::physics::Physics;
use crate::simulation::plants::Plant;
use crate::simulation::request::{NoReply, Reply, Request};

impl Coordinator {
    pub(super) fn answered(&mut self, awaited: Awaited, reply: Result<Reply, NoReply>, physics: &mut Physics) {
        let now = physics.mono(self.started);
        let awaited = match awaited {
            Awaited::LeaseWatch => {
                if reply.is_err() {
                    physics.later(self.life, RETRY_MS * 4, Input::Wake(Wake::WatchLeases));
                }
                return;
            }
            Awaited::Lease { partition, releases } => return self.leased(partition, releases, &reply, physics),
            Awaited::Announced => return self.leases.announced(reply.is_ok(), now),
            Awaited::Withdrawn => return self.leases.withdrawn(now),
            Awaited::Beginning(beginning) => return self.begun(beginning, reply, physics),
            awaited => awaited,
        };
        let Some(core) = &mut self.core else { return };
        match (awaited, reply) {
            (Awaited::Feed, Ok(Reply::JournalState(info))) => {
                let another = self.journal_created.is_some_and(|created| created != info.created);
                let (last, next) = (info.last_sequence, self.next_sequence);
                if (another || last + 1 < next) && !physics.planted(Plant::RegressionUnchecked) {
                    self.end(End::WentBackwards { last, next }, physics);
                }
            }
            (Awaited::Feed, Err(NoReply::Offline)) => {}
            (Awaited::Feed, _) => physics.later(self.life, RETRY_MS, Input::Wake(Wake::Reopen)),
            (Awaited::Recorded { execution, end }, reply) => {
                let result = reply.map(drop).map_err(|failure| failure.of_store());
                core.recorded(execution, end, result.as_ref().copied(), now);
            }
            (Awaited::Parked(execution), Ok(Reply::Recorded(record))) => core.parked(execution, Ok(record)),
            (Awaited::Parked(execution), reply) => {
                let failure = reply.err().unwrap_or(NoReply::NoAnswer).of_store();
                core.parked(execution, Err(&failure));
            }
            (Awaited::Woken { execution, record }, reply) => self.woken(execution, record, reply, physics),
            (Awaited::Brought(want), reply) => self.brought_what_was_wanted(want, reply, physics),
            (Awaited::Storing(storing), reply) => self.stored_snapshot(storing, reply, physics),
            (Awaited::Trimmed { below }, reply) => {
                let result = reply.map(drop).map_err(|failure| failure.of_store());
                core.trimmed(below, result.as_ref().copied(), now);
            }
            (Awaited::Nothing, _) => {}
            (Awaited::Append { id }, reply) => {
                let failure = match &reply {
                    Err(failure) if !shadow::taken_for_success(failure, physics) => Some(failure.of_append()),
                    Ok(_) | Err(_) => None,
                };
                if failure.is_none() {
                    self.unconfirmed = None;
                }
                let result = failure.map_or(Ok(()), Err);
                // What is given up is considered again by the core, which says so with its commands.
                drop(core.appended(&id, result, now));
            }
            (Awaited::Publish { task, .. }, Ok(_)) => {
                self.refused.remove(&task);
                self.unknown.remove(&task);
            }
            (Awaited::Publish { task, capability, message }, Err(failure)) => {
                let failure = failure.of_publish();
                self.refused.remove(&task);
                self.unknown.remove(&task);
                match failure.verdict() {
                    Unpublished::Again | Unpublished::QueueGone => self.refused.insert(task, physics.now),
                    Unpublished::Suspect => self.unknown.insert(task, physics.now),
                    Unpublished::Never(_) => None,
                };
                match shadow::misjudged(&failure, physics) {
                    shadow::Misjudged::No => core.unpublished(task, &failure, now),
                    shadow::Misjudged::Full => core.unpublished(task, &PublishFailure::QueueFull, now),
                    shadow::Misjudged::Success => {}
                    shadow::Misjudged::Again => {
                        let request = Request::Publish { capability: capability.clone(), message: message.clone() };
                        let awaited = Awaited::Publish { task, capability, message };
                        self.ask_broker(request, awaited, physics);
                    }
                }
            }
            (Awaited::Fetch(number), reply) => self.fetched(number, reply, physics),
            (Awaited::Store(job), Ok(Reply::Stored(reference))) => core.stored(job, Ok(reference), now),
            (Awaited::Store(job), Err(failure)) => core.stored(job, Err(&failure.of_store()), now),
            (Awaited::TaskStream, Ok(_)) => {
                self.scan_sent = physics.now;
                self.ask_broker(Request::Scan, Awaited::Scan, physics);
            }
            (Awaited::Scan, Ok(Reply::Scanned(keys))) => {
                self.scan_answered = Some(self.scan_sent);
                let keys = self.shadow.scan(keys, physics.planted(Plant::OneScan));
                core.scanned(Ok(&keys), now);
                if physics.planted(Plant::MarkerNotAwaited) {
                    self.shadow.marker_owed = true;
                }
            }
            (Awaited::TaskStream | Awaited::Scan, _) => core.scanned(Err(ScanFailure), now),
            (Awaited::Presences, Ok(Reply::Workers(workers))) => core.present(&workers, now),
            (Awaited::Mark { execution, below }, reply) => {
                let result = reply.map(drop).map_err(|failure| failure.of_store());
                core.cancel_marked(execution, below, result.as_ref().copied(), now);
            }
            (Awaited::Presences | Awaited::Store(_), _) => {}
            (
                Awaited::Beginning(_)
                | Awaited::LeaseWatch
                | Awaited::Lease { .. }
                | Awaited::Announced
                | Awaited::Withdrawn,
                _,
            ) => {}
        }
    }

    fn fetched(&mut self, number: u64, reply: Result<Reply, NoReply>, physics: &mut Physics) {
        let now = physics.mono(self.started);
        let Some(mut fetching) = self.fetching.remove(&number) else { return };
        let result = match reply {
            Ok(Reply::Payload(text)) => {
                let reference = fetching.wanted.references[fetching.values.len()];
                fetching.values.push((reference, text));
                if fetching.values.len() < fetching.wanted.references.len() {
                    return self.fetch(fetching, physics);
                }
                Ok(())
            }
            Ok(_) => Err(NoReply::NoAnswer.of_store()),
            Err(failure) => Err(failure.of_store()),
        };
        if let Some(core) = &mut self.core {
            core.fetched(&fetching.wanted, fetching.values, result, now);
        }
    }

    pub(super) fn fetch(&mut self, fetching: Fetching, physics: &mut Physics) {
        let reference = fetching.wanted.references[fetching.values.len()];
        let request = Request::GetPayload { execution: fetching.wanted.execution, reference };
        self.numbers += 1;
        let number = self.numbers;
        self.fetching.insert(number, fetching);
        self.ask_broker(request, Awaited::Fetch(number), physics);
    }
}
