//! The journal, message by message: what a message wants is brought before it is folded.

use std::sync::Arc;

use millstream_coordinator::owner::machine::{Message, Stop};
use millstream_engine::Want;
use millstream_model::entry::Entry;
use millstream_model::names::JournalSubject;

use super::{Awaited, Coordinator, End, shadow};
use crate::simulation::happening::{Input, Wake};
use crate::simulation::physics::Physics;
use crate::simulation::plants::Plant;
use crate::simulation::request::{Keeping, NoReply, Reply, Request};

impl Coordinator {
    /// A message of the journal has come.
    pub(super) fn arrived(&mut self, decoded: Result<Message, Stop>, msg_id: Option<&str>, physics: &mut Physics) {
        match decoded {
            Ok(message) => self.inbox.push_back((message, msg_id.map(str::to_owned))),
            // What comes before it is not folded any more, which nobody minds.
            Err(stop) => return self.end(End::Stop(stop), physics),
        }
        self.fold_inbox(physics);
    }

    /// Folds what is there, until something must be brought.
    fn fold_inbox(&mut self, physics: &mut Physics) {
        while self.core.is_some() {
            if self.head.is_none() {
                let Some((message, id)) = self.inbox.pop_front() else { return };
                match self.prepared(message, physics) {
                    Ok(message) => self.head = Some((message, id)),
                    Err(end) => return self.end(end, physics),
                }
            }
            if !self.brings {
                self.bring(physics);
            }
            if self.brings {
                return;
            }
            if let Some((message, id)) = self.head.take() {
                self.fold(message, id.as_deref(), physics);
                // What it asks for is done before it hears of anything else.
                self.perform(physics);
                if self.doomed {
                    return;
                }
            }
        }
    }

    /// Asks for what the message at the head wants.
    fn bring(&mut self, physics: &mut Physics) {
        let (Some(core), Some((message, _))) = (&mut self.core, &self.head) else { return };
        for want in core.wants(message).into_iter().filter(|want| !self.satisfied.contains(want)) {
            let request = match want {
                Want::Definition(hash) => {
                    if let Some(plan) = self.plans.get(&hash) {
                        core.install(Arc::clone(plan));
                    }
                    continue;
                }
                Want::Parked(_, record) => Keeping::HistoryMessage { sequence: record },
                Want::Transcript(execution, reference) => Keeping::GetTranscript { execution, reference },
            };
            self.brings = true;
            return self.ask_broker(Request::Keep(request), Awaited::Brought(want), physics);
        }
    }

    pub(super) fn bring_again(&mut self, physics: &mut Physics) {
        if std::mem::take(&mut self.brings) {
            self.fold_inbox(physics);
        }
    }

    pub(super) fn brought_what_was_wanted(&mut self, want: Want, reply: Result<Reply, NoReply>, physics: &mut Physics) {
        use millstream_coordinator::owner::failure::StoreFailure;
        let (Want::Parked(execution, _) | Want::Transcript(execution, _)) = want else { return };
        match (self.brought(execution, reply), &mut self.core) {
            (Ok((found, transcript)), Some(core)) => {
                match want {
                    Want::Parked(_, record) => core.unpark(record, found, transcript),
                    Want::Transcript(..) | Want::Definition(_) => core.recall(found, transcript),
                }
                self.satisfied.insert(want);
                self.brings = false;
                self.fold_inbox(physics);
            }
            (Err(StoreFailure::Passing { .. }), _) => {
                physics.later(self.life, super::RETRY_MS, Input::Wake(Wake::Bring));
            }
            (Err(StoreFailure::Lasting { reason }), _) => self.end(End::Absent { execution, reason }, physics),
            (Ok(_), None) => {}
        }
    }

    /// The message as bugs make it.
    fn prepared(&mut self, mut message: Message, physics: &Physics) -> Result<Message, End> {
        let core = self.core.as_ref().expect("it folds");
        let garbage = message.entries.iter().any(Option::is_none);
        if garbage && physics.planted(Plant::HaltOnGarbage) {
            let reason = "garbage".to_owned();
            return Err(End::Stop(Stop::Unreadable { sequence: message.sequence, reason }));
        }
        if message.subject == Some(JournalSubject::Control) {
            let fold_rev = message.entries.iter().flatten().filter_map(|written| match &written.entry {
                Entry::Epoch(epoch) => Some(epoch.fold_rev),
                _ => None,
            });
            if let Some(fold_rev) = fold_rev.max().filter(|fold_rev| *fold_rev > self.fold_rev) {
                return Err(End::OldBuild { fold_rev });
            }
        }
        if physics.planted(Plant::NoContiguityCheck) {
            self.offset = i64::try_from(message.sequence - 1 - self.shadow.folded).expect("journals are short");
        }
        self.shadow.folded += 1;
        message.sequence = message.sequence.wrapping_add_signed(-self.offset);
        if physics.planted(Plant::IgnoreEpoch) {
            shadow::hide_epochs(&mut message, &self.node);
        }
        if physics.planted(Plant::EpochOfLowerNumber) {
            shadow::renumber_epochs(&mut message, core.partition().epoch().map(|(epoch, _)| epoch.epoch));
        }
        let own = |entry: &Entry| matches!(entry, Entry::Scanned(scanned) if scanned.node == self.node);
        if message.entries.iter().flatten().any(|written| own(&written.entry)) {
            self.decides_by = self.scan_answered;
        }
        Ok(self.tamper.message(message, core.partition()))
    }

    fn fold(&mut self, message: Message, msg_id: Option<&str>, physics: &mut Physics) {
        let now = physics.mono(self.started);
        self.satisfied.clear();
        let Some(core) = &mut self.core else { return };
        let sequence = message.sequence.wrapping_add_signed(self.offset);
        if physics.planted(Plant::EmitDuringReplay) && !core.owns() {
            self.shadow.replay(&message, &self.plans);
        }
        let owned = core.owns();
        match core.message(message, msg_id, now) {
            Ok(_) => {
                if !owned && core.owns() {
                    self.took_over_at = Some(sequence);
                    self.shadow.inherited = core.partition().executions().map(|execution| execution.id()).collect();
                }
                let life = self.life;
                physics.tell(|| format!("{life} folds {sequence}"));
            }
            Err(stop) => self.end(End::Stop(stop), physics),
        }
    }
}
