//! An owner whose world is the test: commands as text, and the words to answer them with.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use millstream_coordinator::owner::clock::Mono;
use millstream_coordinator::owner::command::{Answer, AskId, Command, Job, Wanted};
use millstream_coordinator::owner::core::{Core, Ownership, Restored, Told};
use millstream_coordinator::owner::keeper::{Keeping, Taken};
use millstream_coordinator::owner::machine::{Message, Stop};
use millstream_engine::partition::FOLD_REV;
use millstream_engine::{Evaluate, Execution, Partition, Request, TaskRef, Want, render};
use millstream_model::batch::{Batch, BatchBuilder, Written};
use millstream_model::entry::{
    CancelRequested, Defaults, Entry, Epoch, Idempotency, ResolvedAgent, Resumed, Run, Submitted, TaskFailed,
    TaskSucceeded,
};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::hash::ContentHash;
use millstream_model::ids::{Capability, ExecutionId, Namespace};
use millstream_model::names::JournalSubject;
use millstream_model::payload::{Payload, PayloadRef};
use millstream_model::plan::Plan;
use millstream_model::snapshot::Snapshot;
use millstream_model::task::{Task, TaskKey};
use millstream_model::time::Timestamp;
use millstream_model::token::Secret;
use millstream_model::transcript::{Transcribed, Transcript};
use millstream_model::validate;

/// Two steps, one after the other.
pub const CHAIN: &str = "{id: w, steps: [{id: a, agent_id: x}, {id: b, agent_id: x, depends_on: [a]}]}";

/// The owner `me` in epoch 1.
pub struct Owner {
    pub core: Core,
    pub now: Mono,
    sequence: u64,
    batches: BTreeMap<String, bytes::Bytes>,
    /// What was published last under a name such as `a #1`.
    published: BTreeMap<String, TaskRef>,
    pub wanted: Option<Wanted>,
    /// The snapshot that is to be stored, and the transcript that is to go into the history.
    pub taken: Option<Box<Taken>>,
    pub transcript: Option<Transcript>,
    definition: &'static str,
}

impl Owner {
    /// It is about to append its epoch. Executions run `definition`.
    pub fn new(definition: &'static str) -> Self {
        Self::keeping(definition, Keeping::default())
    }

    /// Likewise, with other bounds of what it keeps.
    pub fn keeping(definition: &'static str, keeping: Keeping) -> Self {
        Self::beginning(definition, keeping, "me", 0, None)
    }

    /// While some coordinator folds no newer revision than this.
    pub fn beginning_with_revision(definition: &'static str, fold_rev: u16) -> Self {
        let mut owner = Self::new(definition);
        let ownership = Ownership {
            node: "me".parse().expect("a name"),
            epoch: 1,
            id_prefix: "me-1".to_owned(),
            batch_size_max: 1 << 20,
            connection: Some(1),
            fold_rev,
            keeping: Keeping::default(),
        };
        owner.core = Core::new(ownership, None);
        owner
    }

    /// The owner `node`, which begins after message `sequence`, maybe with a snapshot.
    pub fn beginning(
        definition: &'static str,
        keeping: Keeping,
        node: &str,
        sequence: u64,
        restored: Option<Restored>,
    ) -> Self {
        let ownership = Ownership {
            node: node.parse().expect("a name"),
            epoch: sequence + 1,
            id_prefix: format!("{node}-{}", sequence + 1),
            batch_size_max: 1 << 20,
            connection: Some(1),
            fold_rev: FOLD_REV,
            keeping,
        };
        let core = Core::new(ownership, restored);
        let (batches, published) = (BTreeMap::new(), BTreeMap::new());
        Self {
            core,
            now: Mono(1),
            sequence,
            batches,
            published,
            wanted: None,
            taken: None,
            transcript: None,
            definition,
        }
    }

    /// It has folded its epoch and its first marker, `me-1-1` and `me-1-2`, and has nothing to do.
    pub fn owning(definition: &'static str) -> Self {
        Self::owning_with(definition, Keeping::default())
    }

    pub fn owning_with(definition: &'static str, keeping: Keeping) -> Self {
        let mut owner = Self::keeping(definition, keeping);
        assert_eq!(owner.commands(), ["append me-1-1: epoch"]);
        owner.store("me-1-1");
        assert_eq!(owner.commands(), ["report", "scan"]);
        owner.core.scanned(Ok(&[]), owner.now);
        assert_eq!(owner.commands(), ["append me-1-2: marker"]);
        owner.store("me-1-2");
        assert_eq!(owner.pass(0), [""; 0]);
        owner
    }

    /// Execution 1 runs, and its first commands are taken.
    pub fn running(definition: &'static str) -> Self {
        let mut owner = Self::owning(definition);
        owner.read(submitted(1, definition));
        owner
    }

    /// The snapshot that is to be stored after `act`.
    pub fn taken_after(&mut self, act: impl FnOnce(&mut Self) -> Vec<String>) -> Box<Taken> {
        self.taken = None;
        let commands = act(self);
        self.taken.take().unwrap_or_else(|| panic!("no snapshot in {commands:?}"))
    }

    /// Takes every command.
    pub fn commands(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(command) = self.core.next_command(self.now) {
            // Told at every submission; nothing waits for it.
            if !matches!(command, Command::Started(_)) {
                lines.push(self.line(command));
            }
        }
        lines
    }

    fn line(&mut self, command: Command) -> String {
        match command {
            Command::Append { id, batch } => {
                let entries = Batch::decode(&batch).expect("a batch").entries;
                let entries: Vec<String> = entries.iter().map(|e| words(e.as_ref().expect("an entry"))).collect();
                let line = format!("append {id}: {}", entries.join(" + "));
                self.batches.insert(id, batch);
                line
            }
            Command::Publish { task, message, .. } => {
                let message: Task = serde_json::from_slice(&message).expect("a task");
                let name = name(&message.key);
                self.published.insert(name.clone(), task);
                format!("publish {name}")
            }
            Command::Fetch(wanted) => {
                let line = format!("fetch {}", wanted.references.len());
                self.wanted = Some(wanted);
                line
            }
            Command::Store { job: Job::Publish(_), text } => format!("store an input of {} bytes", text.get().len()),
            Command::Store { job: Job::Evaluate(_), text } => format!("store a value of {} bytes", text.get().len()),
            Command::Scan => "scan".to_owned(),
            Command::ListPresences => "list presences".to_owned(),
            Command::MarkCancelled { .. } => "mark cancelled".to_owned(),
            Command::Answer { ask, answer } => format!(
                "answer {}: {}",
                ask.0,
                match answer {
                    Answer::Folded(outcome) => match render::outcome(&outcome) {
                        accepted if accepted.is_empty() => "accepted".to_owned(),
                        other => other,
                    },
                    Answer::Rejected(rejection) => format!("rejected, {rejection}"),
                    Answer::Unavailable { reason } => reason,
                    Answer::NotOwner => "not the owner".to_owned(),
                    Answer::Busy { reason, limit } => format!("{limit:?}: {reason}"),
                }
            ),
            Command::Ended(_) => "ended".to_owned(),
            Command::Report => "report".to_owned(),
            Command::Started(_) => unreachable!("it was left out"),
            Command::Record { end, transcript, .. } => {
                let line = format!("record of {} entries, ended at {end}", transcript.len());
                self.transcript = Some(transcript);
                line
            }
            Command::Park { transcript, .. } => {
                let line = format!("park with {} entries", transcript.len());
                self.transcript = Some(transcript);
                line
            }
            Command::Wake { record, .. } => format!("wake from record {record}"),
            Command::DropRecord { record } => format!("drop record {record}"),
            Command::Snapshot(taken) => {
                let executions = taken.snapshot.executions.len();
                let line = format!("snapshot of {executions} executions up to message {}", taken.sequence);
                self.taken = Some(taken);
                line
            }
            Command::Trim { below } => format!("trim below {below}"),
        }
    }

    /// The batch `id` is stored, acked, and read back.
    pub fn store(&mut self, id: &str) -> Told {
        self.core.appended(id, Ok(()), self.now);
        self.read_back(id)
    }

    /// The batch `id` is read back; its ack may still come.
    pub fn read_back(&mut self, id: &str) -> Told {
        let batch = self.batches[id].clone();
        let (sequence, time) = self.next();
        let message = Message::decode(sequence, time, Some(JournalSubject::Control), &batch).expect("a message");
        self.message(message, Some(id)).expect("no reason to stop")
    }

    /// An entry that somebody else appended is read.
    pub fn read(&mut self, entry: Entry) -> Told {
        self.try_read(entry).expect("no reason to stop")
    }

    pub fn try_read(&mut self, entry: Entry) -> Result<Told, Stop> {
        let subject = if entry.is_result() { JournalSubject::Result(pool()) } else { JournalSubject::Control };
        let (sequence, time) = self.next();
        self.message(message(sequence, time, subject, entry), None)
    }

    fn message(&mut self, message: Message, id: Option<&str>) -> Result<Told, Stop> {
        for want in self.core.wants(&message) {
            match want {
                Want::Definition(_) => self.core.install(Arc::new(plan(self.definition))),
                Want::Parked(_, record) => self.bring(record),
                Want::Transcript(..) => {
                    let (execution, transcript) = self.refolded();
                    self.core.recall(execution, transcript);
                }
            }
        }
        self.core.message(message, id, self.now)
    }

    /// The execution whose transcript went into the history last comes back.
    pub fn bring(&mut self, record: u64) {
        let (execution, transcript) = self.refolded();
        self.core.unpark(record, execution, transcript);
    }

    fn refolded(&self) -> (Box<Execution>, Transcript) {
        let transcript = self.transcript.as_ref().expect("one went into the history");
        refold(transcript, self.definition)
    }

    /// An owner `node` that begins with the snapshot that was taken last, and folds from there on.
    pub fn successor(&self, node: &str) -> Self {
        let taken = self.taken.as_ref().expect("one was taken");
        let snapshot = Snapshot::decode(&taken.snapshot.encode()).expect("a snapshot");
        let folded: VecDeque<_> =
            snapshot.executions.iter().map(|(_, transcript)| refold(transcript, self.definition).0).collect();
        let partition = Partition::restore(&snapshot, folded).expect("a snapshot of this build");
        assert_eq!(partition.state_hash(), taken.state);
        let transcripts = snapshot.executions.into_iter().collect();
        let restored = Restored { partition, transcripts, sequence: taken.sequence };
        Self::beginning(self.definition, self.core.keeper().keeping, node, taken.sequence, Some(restored))
    }

    fn next(&mut self) -> (u64, Timestamp) {
        self.sequence += 1;
        (self.sequence, Timestamp::from_micros(self.now.0))
    }

    /// A caller asks for execution `n`; the number is also the request's.
    pub fn submit(&mut self, n: u8, key: Option<&str>) {
        let Entry::Submitted(mut submitted) = submitted(n, self.definition) else { unreachable!() };
        let body = ContentHash::of(b"body");
        submitted.idempotency = key.map(|key| Idempotency { key: ContentHash::of(key.as_bytes()), body });
        self.core.ask(AskId(n.into()), Request::Submit(submitted), self.now);
    }

    /// Time passes, and the owner looks.
    pub fn pass(&mut self, millis: u64) -> Vec<String> {
        self.now = self.now.plus_millis(millis);
        self.core.tick(self.now);
        self.commands()
    }

    /// What was published under a name such as `a #1`.
    pub fn task(&self, name: &str) -> TaskRef {
        self.published[name]
    }

    /// Milliseconds until the owner wants to look.
    pub fn wakes_in(&self) -> Option<u64> {
        self.core.wakes_at().map(|at| at.0.saturating_sub(self.now.0) / 1_000)
    }
}

/// An entry alone in its message.
pub fn message(sequence: u64, time: Timestamp, subject: JournalSubject, entry: Entry) -> Message {
    let written = Written::of(entry);
    let mut batch = BatchBuilder::new(&Namespace::default(), 1 << 20);
    assert!(batch.push(&written.text));
    Message { sequence, time, subject: Some(subject), payload: batch.finish(), entries: vec![Some(written)] }
}

fn refold(transcript: &Transcript, definition: &str) -> (Box<Execution>, Transcript) {
    let read = Transcribed::read(&transcript.finish()).expect("a transcript");
    (Execution::refold(&read, Arc::new(plan(definition))).expect("an execution"), transcript.clone())
}

/// The job of evaluating the items of the first step.
pub fn items_job(n: u8) -> Job {
    Job::Evaluate(Evaluate::Items(id(n), millstream_model::plan::StepIndex(0)))
}

fn words(entry: &Entry) -> String {
    match entry {
        Entry::Epoch(_) => "epoch".to_owned(),
        Entry::Scanned(_) => "marker".to_owned(),
        Entry::Submitted(_) => "submitted".to_owned(),
        Entry::Reissued(e) => format!("reissued {}", name(&e.task)),
        Entry::Unpublishable(e) => format!("unpublishable {}: {} {}", name(&e.task), e.error.code, e.error.message),
        entry => render::entry(entry),
    }
}

fn name(key: &TaskKey) -> String {
    let item = key.item.map_or_else(String::new, |item| format!("[{item}]"));
    format!("{}{item} #{}", key.step, key.attempt)
}

pub fn plan(definition: &str) -> Plan {
    validate::definition(definition).expect("a definition")
}

pub fn submitted(n: u8, definition: &str) -> Entry {
    submitted_with(n, definition, Payload::null())
}

pub fn submitted_with(n: u8, definition: &str, input: Payload) -> Entry {
    let plan = plan(definition);
    let manifest = ContentHash::of(b"manifest");
    Entry::Submitted(Box::new(Submitted {
        execution: id(n),
        ns: Namespace::default(),
        workflow: plan.definition.id.clone(),
        definition: plan.hash,
        input,
        context: None,
        labels: Default::default(),
        idempotency: None,
        secret: Secret::new([1; 16]),
        agents: vec![ResolvedAgent { agent: "x".parse().expect("a name"), capability: pool(), manifest }],
        routes: plan.definition.steps.iter().map(|step| step.agent_id.as_ref().map(|_| 0)).collect(),
        fallbacks: Vec::new(),
        compensations: Vec::new(),
        defaults: Defaults::default(),
        expr_rev: 1,
        trace: None,
        fork: None,
    }))
}

pub fn cancel_requested(n: u8) -> Entry {
    Entry::CancelRequested(CancelRequested { execution: id(n), reason: None, by: None, compensate: false })
}

pub fn epoch(node: &str, epoch: u64) -> Entry {
    Entry::Epoch(Epoch { node: node.parse().expect("a name"), epoch, fold_rev: FOLD_REV })
}

pub fn succeeded(n: u8, step: &str) -> Entry {
    let task = key(n, step);
    let token = Secret::new([1; 16]).token(&task.step, None, 0, 1);
    let at = Timestamp::default();
    let worker = "w".parse().expect("a name");
    let run = Run { ordinal: 1, token, worker, started_at: at, ended_at: at, span: None };
    Entry::TaskSucceeded(TaskSucceeded { task, run, output: Payload::null(), metrics: None })
}

pub fn failed(n: u8, step: &str) -> Entry {
    let Entry::TaskSucceeded(TaskSucceeded { task, run, .. }) = succeeded(n, step) else { unreachable!() };
    let error = StepError::new(ErrorCode::ExternalServiceError, "away");
    Entry::TaskFailed(TaskFailed { task, run, error })
}

/// Someone resumes it; `transcript` has so many bytes where the partition has forgotten the execution.
pub fn resumed(n: u8, transcript: Option<u64>) -> Entry {
    let Entry::Submitted(submitted) = submitted(n, CHAIN) else { unreachable!() };
    let Submitted { agents, routes, .. } = *submitted;
    let transcript = transcript.map(|size| PayloadRef { hash: ContentHash::of(b"transcript"), size });
    Entry::Resumed(Box::new(Resumed {
        execution: id(n),
        by: None,
        reason: None,
        transcript,
        agents,
        routes: routes[..1].to_vec(),
        fallbacks: Vec::new(),
        compensations: Vec::new(),
    }))
}

pub fn key(n: u8, step: &str) -> TaskKey {
    TaskKey { execution: id(n), step: step.parse().expect("a name"), item: None, activation: 0, attempt: 1 }
}

pub fn pool() -> Capability {
    "pool".parse().expect("a name")
}

pub fn id(n: u8) -> ExecutionId {
    format!("0193a5a0-0000-7000-80{n:02x}-000000000003").parse().expect("an id")
}
