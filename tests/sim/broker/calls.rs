//! Requests, carried out as the broker crate carries them out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_model::limits::{CANCELLED_TTL_MS, PRESENCE_TTL_MS};
use millstream_model::payload::PayloadRef;
use millstream_model::task::{Claim, Task, TaskKey};
use serde::Deserialize;

use super::{Broker, PARTITION, Reader, Stored};
use crate::simulation::coverage::{Phase, Phases};
use crate::simulation::faults::Fault;
use crate::simulation::jetstream::{Answer, Expected, Newest, Publish, ReadFrom, RequestFailed, View};
use crate::simulation::network::Life;
use crate::simulation::physics::Physics;
use crate::simulation::request::{NoReply, Reply, Request};

/// Attempts to claim while others release and claim the same key.
const CLAIM_ATTEMPTS: u32 = 5;

impl From<RequestFailed> for NoReply {
    fn from(failed: RequestFailed) -> Self {
        match failed {
            RequestFailed::NoResponders => Self::NoResponders,
            RequestFailed::Silence => Self::NoAnswer,
            RequestFailed::TooLarge { size, .. } => Self::TooLarge { size },
            RequestFailed::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

impl Broker {
    pub(super) fn carry_out(
        &mut self,
        life: Life,
        connection: u64,
        request: Request,
        physics: &mut Physics,
    ) -> Result<Reply, NoReply> {
        match request {
            Request::JournalState => {
                let info = self.server.stream_info(&self.names.journal_stream(PARTITION)).map_err(NoReply::Refused)?;
                Ok(Reply::JournalState(info))
            }
            Request::ReadJournal { from } => {
                let stream = self.names.journal_stream(PARTITION);
                let feed = self.server.open_feed(&stream, None, ReadFrom::Sequence(from));
                let feed = feed.map_err(NoReply::Refused)?;
                self.journal_readers.retain(|reader| reader.life.node != life.node);
                self.journal_readers.push(Reader { life, connection, feed });
                let info = self.server.stream_info(&stream).map_err(NoReply::Refused)?;
                Ok(Reply::JournalState(info))
            }
            Request::Append { msg_id, batch } => {
                let subject = self.names.journal_control(PARTITION);
                self.append(&subject, Some(&msg_id), batch, physics)
            }
            Request::AppendResults { capability, batch } => {
                let subject = self.names.journal_result(PARTITION, &capability);
                self.append(&subject, None, batch, physics)
            }
            Request::Publish { capability, message } => {
                let subject = self.names.task(&capability, PARTITION);
                self.server.publish(&Publish::new(&subject, message.clone()))?;
                self.queued.extend(serde_json::from_slice::<Task>(&message).map(|task| task.key));
                Ok(Reply::Done)
            }
            Request::EnsureTaskStream => {
                self.ensure_task_stream();
                Ok(Reply::Done)
            }
            Request::Scan => self.scan(physics),
            Request::MarkCancelled { execution, below } => {
                let key = self.names.cancelled_execution(execution);
                let lifetime = Some(Duration::from_millis(CANCELLED_TTL_MS));
                let value = below.to_string().into();
                self.server.put_record(&self.names.cancelled(), &key, value, Expected::Anything, lifetime)?;
                Ok(Reply::Done)
            }
            Request::WatchCancelled => {
                let stream = crate::simulation::jetstream::bucket_stream(&self.names.cancelled());
                let feed = self.server.open_feed(&stream, None, ReadFrom::NewestPerSubject);
                let feed = feed.map_err(NoReply::Refused)?;
                self.cancel_readers.retain(|reader| reader.life.node != life.node);
                self.cancel_readers.push(Reader { life, connection, feed });
                Ok(Reply::Done)
            }
            Request::Announce { worker } => {
                let (bucket, key) = (self.names.workers(), self.names.worker(&worker));
                let lifetime = Some(Duration::from_millis(PRESENCE_TTL_MS));
                self.server.put_record(&bucket, &key, Bytes::from_static(b"{}"), Expected::Anything, lifetime)?;
                Ok(Reply::Done)
            }
            Request::Withdraw { worker } => {
                let (bucket, key) = (self.names.workers(), self.names.worker(&worker));
                let lifetime = Some(Duration::from_millis(PRESENCE_TTL_MS));
                self.server.delete_record(&bucket, &key, Expected::Anything, lifetime)?;
                Ok(Reply::Done)
            }
            Request::ListWorkers => {
                let view = self.view(physics);
                let records = self.server.records(&self.names.workers(), "*", view)?;
                let names = records.iter().filter_map(|record| record.subject.rsplit('.').next()?.parse().ok());
                Ok(Reply::Workers(names.collect()))
            }
            Request::Pull { .. } => Ok(Reply::Pulled(Vec::new())),
            Request::Claim { key, claim, ttl_ms } => self.claim(&key, &claim, ttl_ms),
            Request::ReleaseClaim { key, revision } => {
                let marker = Some(Duration::from_secs(1));
                let expected = Expected::Revision(revision);
                match self.server.delete_record(&self.names.claims(), &key, expected, marker) {
                    Err(RequestFailed::Refused(refusal)) if refusal.code == 10071 => Ok(Reply::Done),
                    result => Ok(result.map(|_| Reply::Done)?),
                }
            }
            Request::Ack(token) => Ok(self.server.answer(&token, Answer::Ack).map(|()| Reply::Done)?),
            Request::Progress(token) => Ok(self.server.answer(&token, Answer::Progress).map(|()| Reply::Done)?),
            Request::HandBack { token, delay_ms } => {
                let answer = delay_ms.map_or(Answer::Nak, |delay| Answer::NakAfter(Duration::from_millis(delay)));
                Ok(self.server.answer(&token, answer).map(|()| Reply::Done)?)
            }
            Request::PutPayload { execution, text } => {
                let reference = PayloadRef::to(text.get());
                self.payloads.insert((execution, reference.hash), text);
                Ok(Reply::Stored(reference))
            }
            Request::GetPayload { execution, reference } => {
                let value = self.payloads.get(&(execution, reference.hash));
                value.map(|text| Reply::Payload(Arc::clone(text))).ok_or(NoReply::Missing)
            }
            Request::Keep(request) => self.keep_request(request),
            Request::Lease(request) => self.lease_request(life, connection, request, physics.now),
        }
    }

    fn append(
        &mut self,
        subject: &str,
        msg_id: Option<&str>,
        batch: Bytes,
        physics: &Physics,
    ) -> Result<Reply, NoReply> {
        let mut publish = Publish::new(subject, batch.clone());
        if let Some(id) = msg_id {
            publish = publish.msg_id(id);
        }
        let ack = self.server.publish(&publish)?;
        if !ack.duplicate {
            self.stored.push(Stored {
                sequence: ack.sequence,
                time: self.server.clock(),
                subject: subject.into(),
                msg_id: msg_id.map(str::to_owned),
                payload: batch,
                at: physics.now,
            });
        }
        Ok(Reply::Done)
    }

    fn scan(&mut self, physics: &mut Physics) -> Result<Reply, NoReply> {
        #[derive(Deserialize)]
        struct Head {
            key: TaskKey,
        }
        let view = self.view(physics);
        let filter = self.names.tasks_of_partition(PARTITION);
        let tasks = self.server.messages(&self.tasks_stream(), &filter, view)?;
        let heads = tasks.iter().filter_map(|task| serde_json::from_slice::<Head>(&task.payload).ok());
        Ok(Reply::Scanned(heads.map(|head| head.key).collect()))
    }

    /// What a read sees: now and then the past, or what was acked a moment ago.
    fn view(&self, physics: &mut Physics) -> View {
        if !physics.strikes(Fault::StaleRead, || Phases::of(Phase::Sweep)) {
            return View::CURRENT;
        }
        let age = physics.dice.between(1, 1_500);
        let past = self.moment_at(super::Time(physics.now.0.saturating_sub(age * 1_000)));
        if physics.dice.chance(500) { View::as_of(past) } else { View::removals_as_of(past) }
    }

    fn claim(&mut self, key: &str, claim: &Claim, ttl_ms: u64) -> Result<Reply, NoReply> {
        let bucket = self.names.claims();
        let value: Bytes = serde_json::to_vec(claim).expect("a claim always has a JSON form").into();
        let mut expected = 0;
        for _ in 0..CLAIM_ATTEMPTS {
            let lifetime = Some(Duration::from_millis(ttl_ms));
            match self.server.put_record(&bucket, key, value.clone(), Expected::Revision(expected), lifetime) {
                Ok(ack) => return Ok(Reply::ClaimWon { revision: ack.sequence }),
                Err(RequestFailed::Refused(refusal)) if matches!(refusal.code, 10071 | 10164) => {}
                Err(failed) => return Err(failed.into()),
            }
            match self.server.newest_record(&bucket, key, View::CURRENT)? {
                Newest::Record(record) => {
                    let stored_at = record.time;
                    let claim = serde_json::from_slice(&record.payload).map_err(|_| NoReply::Missing)?;
                    return Ok(Reply::ClaimHeld { claim, stored_at });
                }
                Newest::Marker { revision } => expected = revision,
                Newest::Nothing => expected = 0,
            }
        }
        Err(NoReply::NoAnswer)
    }
}
