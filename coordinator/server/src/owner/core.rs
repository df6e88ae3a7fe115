//! Everything the owner of a partition decides, without its IO.
//!
//! The shell brings what happened, with the time, and performs the commands that follow:
//!
//! ```text
//!   message, ask, appended, unpublished, fetched, stored, scanned, present, link, tick
//!        │
//!        ▼                ┌─▶ Machine  (the fold, alarms, the sweep)
//!      Core ──────────────┼─▶ Emitter  (inputs, evaluations, values)
//!        │                ├─▶ Appends  (group commit, repetition)
//!        ▼                └─▶ Unsent, Later (what is tried again)
//!   next_command … until there is none
//! ```
//!
//! What leaves memory, and how the journal is cut, is the Keeper's (`core/keeping.rs`).
//!
//! Inputs of tasks are rendered when their command is taken, so that a fold that publishes thousands holds one at a
//! time; entries are appended when no other command is left, so that they travel together.

mod keeping;
mod values;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use millstream_engine::{Effect, Execution, Outcome, Partition, Request, TaskRef, Want};
use millstream_model::entry::{Entry, Unpublishable};
use millstream_model::error::StepError;
use millstream_model::ids::{ExecutionId, NodeId, WorkerId};
use millstream_model::plan::Plan;
use millstream_model::task::TaskKey;
use millstream_model::transcript::Transcript;

use super::appends::{Appends, Next, NotAppended};
use super::clock::Mono;
use super::command::{Answer, AskId, Command, Job};
use super::emit::{Attempted, Emitter};
use super::failure::{AppendFailure, PublishFailure, ScanFailure, StoreFailure, Unpublished};
use super::keeper::{Keeper, Keeping, Lines};
use super::later::{Chore, Later};
use super::machine::{Counts, Folded, Machine, Message, Stop};
use super::unsent::Unsent;

pub use keeping::Whereabouts;

/// Before what could not be appended is tried again.
const REAPPEND_MS: u64 = 1_000;
/// Between two tries to tell workers of a cancel.
const MARK_RETRY_MS: u64 = 250;

/// Who owns, and how large its messages may be.
#[derive(Debug, Clone)]
pub struct Ownership {
    pub node: NodeId,
    /// One more than the journal's last sequence when the owner began.
    pub epoch: u64,
    /// Starts the id of every batch it appends; nobody else's ids ever start with it.
    pub id_prefix: String,
    /// Half of the broker's `max_payload`.
    pub batch_size_max: usize,
    /// The connection that the owner begins on; `None` while there is none.
    pub connection: Option<u64>,
    /// Newest revision of the fold that all live coordinators support.
    pub fold_rev: u16,
    pub keeping: Keeping,
}

/// What an owner begins with that has loaded a snapshot.
#[derive(Debug, Default)]
pub struct Restored {
    pub partition: Partition,
    pub transcripts: BTreeMap<ExecutionId, Transcript>,
    /// The last message of the journal that is in it.
    pub sequence: u64,
}

/// What folding a message told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What became of each entry, in order.
    pub outcomes: Vec<Outcome>,
    /// Executions whose state changed.
    pub touched: Vec<ExecutionId>,
    /// Executions that were submitted.
    pub begun: Vec<ExecutionId>,
}

/// The owner of one partition, without its IO.
///
/// Invariant: after each call the caller takes commands until there is none.
#[derive(Debug)]
pub struct Core {
    machine: Machine,
    keeper: Keeper,
    emitter: Emitter,
    appends: Appends,
    /// Tasks that were certainly not stored: they are published as originals once that can succeed.
    unsent: Unsent,
    later: Later,
    due: VecDeque<Due>,
    /// The connection that was last seen; another one means that there was a gap between them.
    connection: Option<u64>,
    /// The queue was gone and has not been listed since.
    queue_gone: bool,
    /// Why submissions are refused at the moment, as the shell sees the journal.
    storage_full: Option<String>,
    /// Executions that were brought for an entry that resumes them.
    recalled: Vec<ExecutionId>,
}

/// What is done next.
#[derive(Debug)]
enum Due {
    Attempt(Job),
    Command(Command),
    /// The jobs that needed fetched values are done.
    Trim,
}

impl Core {
    /// An owner that is about to append its epoch and to fold the journal, from its first message or from what follows
    /// a snapshot.
    pub fn new(ownership: Ownership, restored: Option<Restored>) -> Self {
        let Ownership { node, epoch, id_prefix, batch_size_max, connection, fold_rev, keeping } = ownership;
        let mut appends = Appends::new(id_prefix, batch_size_max);
        let base = restored.as_ref().map(|restored| restored.sequence);
        let Restored { partition, transcripts, sequence } = restored.unwrap_or_default();
        let keeper = Keeper::new(keeping, transcripts, base, &partition);
        let machine = Machine::new(node, epoch, fold_rev, partition, sequence);
        appends.push(machine.epoch_entry(), None);
        Self {
            machine,
            keeper,
            emitter: Emitter::default(),
            appends,
            unsent: Unsent::default(),
            later: Later::default(),
            due: VecDeque::new(),
            connection,
            queue_gone: false,
            storage_full: None,
            recalled: Vec::new(),
        }
    }

    /// The folded state.
    pub fn partition(&self) -> &Partition {
        self.machine.partition()
    }

    pub fn counts(&self) -> &Counts {
        self.machine.counts()
    }

    /// Whether the journal is folded up to the own epoch, and no newer one.
    pub fn owns(&self) -> bool {
        self.machine.owns()
    }

    /// How many things it keeps in mind beside the folded state: what waits to be sent, appended, fetched, stored, tried
    /// again or looked for. 0 when nothing is under way, however much was.
    pub fn in_mind(&self) -> usize {
        self.machine.in_mind()
            + self.emitter.in_mind()
            + self.appends.in_mind()
            + self.unsent.len()
            + self.later.len()
            + self.keeper.in_mind()
            + self.due.len()
    }

    /// What must be brought before the message is folded.
    pub fn wants(&self, message: &Message) -> Vec<Want> {
        self.machine.wants(message)
    }

    /// Makes a definition known.
    pub fn install(&mut self, plan: Arc<Plan>) {
        self.machine.install(plan);
    }

    /// The next message of the journal, and the id it was appended under. After an error there are no commands any
    /// more.
    pub fn message(&mut self, message: Message, id: Option<&str>, now: Mono) -> Result<Told, Stop> {
        let lines = Lines::of(&message);
        let mut folded = self.machine.fold(message, now)?;
        self.keeper.folded(lines, &folded.outcomes, self.machine.partition());
        let told = Told {
            begun: std::mem::take(&mut folded.begun),
            outcomes: std::mem::take(&mut folded.outcomes),
            touched: std::mem::take(&mut folded.touched),
        };
        let asks = id.and_then(|id| self.appends.read_back(id)).unwrap_or_default();
        for (ask, &outcome) in asks.into_iter().zip(&told.outcomes) {
            if let Some(ask) = ask {
                self.answer(ask, Answer::Folded(outcome));
            }
        }
        if folded.took_over || folded.counted {
            self.due.push_back(Due::Command(Command::Report));
        }
        let took_over = folded.took_over;
        self.take_on(folded);
        self.keep(took_over, &told, now);
        Ok(told)
    }

    /// A caller asks for something. The answer is a command: at once when it is refused, else once its entry is folded.
    pub fn ask(&mut self, ask: AskId, request: Request, now: Mono) {
        if !self.machine.owns() {
            self.answer(ask, Answer::NotOwner);
            return;
        }
        if let Some((reason, limit)) = self.refusal(&request) {
            self.answer(ask, Answer::Busy { reason, limit });
            return;
        }
        match self.machine.decide(request, now) {
            Ok(entry) => self.appends.push(entry, Some(ask)),
            Err(rejection) => self.answer(ask, Answer::Rejected(rejection)),
        }
    }

    /// What became of the batch that was sent last under `id`. Returns why it is given up, if it is.
    pub fn appended(&mut self, id: &str, result: Result<(), AppendFailure>, now: Mono) -> Option<AppendFailure> {
        let given_up = self.appends.settled(id, result, now)?;
        Some(self.reconsider(given_up, now))
    }

    /// A task may not be in its queue.
    pub fn unpublished(&mut self, task: TaskRef, failure: &PublishFailure, now: Mono) {
        match failure.verdict() {
            Unpublished::Suspect => self.machine.suspect([task]),
            Unpublished::Again => self.keep_unsent(task, now),
            Unpublished::QueueGone => {
                if !std::mem::replace(&mut self.queue_gone, true) {
                    let known = Known { unsent: &self.unsent, emitter: &self.emitter, later: &self.later };
                    self.machine.suspect_all(|task| known.not_queued(task));
                }
                self.keep_unsent(task, now);
                // A scan creates the queue again, also when nothing was in it.
                let folded = self.machine.look();
                self.take_on(folded);
            }
            Unpublished::Never(error) => self.fail(task, error),
        }
    }

    /// The queue was listed, or could not be.
    pub fn scanned(&mut self, present: Result<&[TaskKey], ScanFailure>, now: Mono) {
        match present {
            Ok(present) => {
                self.queue_gone = false;
                let folded = self.machine.scanned(present);
                self.take_on(folded);
            }
            Err(ScanFailure) => self.machine.scan_failed(now),
        }
    }

    /// The workers that are present.
    pub fn present(&mut self, workers: &BTreeSet<WorkerId>, now: Mono) {
        let folded = self.machine.present(workers, now);
        self.take_on(folded);
    }

    /// The workers were told of a cancel, or could not be.
    pub fn cancel_marked(&mut self, execution: ExecutionId, below: u32, result: Result<(), &StoreFailure>, now: Mono) {
        match result {
            Err(StoreFailure::Passing { .. }) => {
                self.later.push(now.plus_millis(MARK_RETRY_MS), Chore::MarkCancelled { execution, below });
            }
            // Nobody can be told; the fold fences what workers still do.
            Ok(()) | Err(StoreFailure::Lasting { .. }) => {}
        }
    }

    /// The connection, by number; `None` while there is none.
    pub fn link(&mut self, connection: Option<u64>) {
        if connection == std::mem::replace(&mut self.connection, connection) {
            return;
        }
        self.machine.disconnected();
        if connection.is_some() {
            let folded = self.machine.look();
            self.take_on(folded);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Mono) {
        let known = Known { unsent: &self.unsent, emitter: &self.emitter, later: &self.later };
        let folded = self.machine.tick(now, |task| known.not_queued(task));
        self.take_on(folded);
        for chore in self.later.take(now) {
            self.do_chore(chore);
        }
        self.tick_keeper(now);
        if self.connection.is_some() {
            let tasks = self.unsent.take(now);
            self.due.extend(tasks.into_iter().map(|task| Due::Attempt(Job::Publish(task))));
        }
    }

    /// When `tick` has something to do though nothing happens.
    pub fn wakes_at(&self) -> Option<Mono> {
        let unsent = self.connection.and_then(|_| self.unsent.wakes_at());
        let wakes =
            [self.machine.wakes_at(), self.later.wakes_at(), self.appends.wakes_at(), unsent, self.keeper_wakes_at()];
        wakes.into_iter().flatten().min()
    }

    /// The next thing to do. Entries are appended last, with all that became ready meanwhile.
    pub fn next_command(&mut self, now: Mono) -> Option<Command> {
        while !self.machine.is_stopped() {
            match self.due.pop_front() {
                Some(Due::Command(command)) => return Some(command),
                Some(Due::Attempt(job)) => {
                    if let Some(command) = self.attempt(job) {
                        return Some(command);
                    }
                }
                Some(Due::Trim) => self.emitter.trim(),
                None => match self.appends.next(now)? {
                    Next::Send { id, batch } => return Some(Command::Append { id, batch }),
                    Next::GiveUp(given_up) => {
                        self.reconsider(given_up, now);
                    }
                },
            }
        }
        None
    }

    fn take_on(&mut self, folded: Folded) {
        for entry in folded.appends {
            self.appends.push(entry, None);
        }
        if folded.scan {
            self.due.push_back(Due::Command(Command::Scan));
        }
        if folded.presences {
            self.due.push_back(Due::Command(Command::ListPresences));
        }
        for (execution, record) in folded.wakes {
            self.due.push_back(Due::Command(Command::Wake { execution, record }));
        }
        for effect in folded.effects {
            let due = match effect {
                Effect::Publish(task) => Due::Attempt(Job::Publish(task)),
                Effect::Evaluate(what) => Due::Attempt(Job::Evaluate(what)),
                Effect::Cancel { execution, below } => Due::Command(Command::MarkCancelled { execution, below }),
                Effect::End(execution) => {
                    self.emitter.forget(execution);
                    self.due.push_back(Due::Command(Command::Ended(execution)));
                    self.record(execution);
                    continue;
                }
            };
            self.due.push_back(due);
        }
    }

    /// Tries a job, if it is still owed.
    fn attempt(&mut self, job: Job) -> Option<Command> {
        let execution = owed(&self.machine, job)?;
        let attempted = match job {
            Job::Publish(task) => self.emitter.publish(execution, task),
            Job::Evaluate(what) => self.emitter.evaluate(execution, what),
        };
        match attempted {
            Attempted::Do(command) => Some(command),
            Attempted::Append(entry) => {
                self.appends.push(entry, None);
                None
            }
            Attempted::Waits => None,
        }
    }

    fn note(&mut self, attempted: Attempted) {
        match attempted {
            Attempted::Do(command) => self.due.push_back(Due::Command(command)),
            Attempted::Append(entry) => self.appends.push(entry, None),
            Attempted::Waits => {}
        }
    }

    fn do_chore(&mut self, chore: Chore) {
        match chore {
            Chore::TakeOver => {
                if self.machine.lacks_epoch() {
                    self.appends.push(self.machine.epoch_entry(), None);
                }
            }
            Chore::MarkCancelled { execution, below } => {
                self.due.push_back(Due::Command(Command::MarkCancelled { execution, below }));
            }
            Chore::Store(job) => {
                if let Some(text) = self.emitter.to_store(job) {
                    self.due.push_back(Due::Command(Command::Store { job, text }));
                }
            }
            Chore::Record(execution) => self.record(execution),
            Chore::Attempt(job) => self.due.push_back(Due::Attempt(job)),
        }
    }

    fn keep_unsent(&mut self, task: TaskRef, now: Mono) {
        if !self.machine.is_outstanding(&task) {
            return;
        }
        self.machine.acquit(&task);
        self.unsent.insert(task, now);
    }

    /// The task will never be in its queue.
    fn fail(&mut self, task: TaskRef, error: StepError) {
        if let Some(execution) = owed(&self.machine, Job::Publish(task)) {
            let task = execution.task_key(&task);
            self.appends.push(Entry::Unpublishable(Unpublishable { task, error }), None);
        }
    }

    /// Entries are not in the journal, as far as is known: callers are told, and what is still owed is tried again.
    fn reconsider(&mut self, given_up: NotAppended, now: Mono) -> AppendFailure {
        let NotAppended { failure, entries, asks } = given_up;
        for ask in asks {
            let reason = format!("the journal did not take the entry: {failure}");
            self.answer(ask, Answer::Unavailable { reason });
        }
        for entry in &entries {
            if let Entry::Archived(archived) = entry {
                self.keeper.archive.not_appended(archived, now);
            }
        }
        let at = now.plus_millis(REAPPEND_MS);
        for effect in self.machine.not_appended(&entries, now) {
            match effect {
                Effect::Publish(task) => self.later.push(at, Chore::Attempt(Job::Publish(task))),
                Effect::Evaluate(what) => self.later.push(at, Chore::Attempt(Job::Evaluate(what))),
                Effect::Cancel { .. } | Effect::End(_) => {}
            }
        }
        if self.machine.lacks_epoch() && entries.iter().any(|entry| matches!(entry, Entry::Epoch(_))) {
            self.later.push(at, Chore::TakeOver);
        }
        failure
    }

    fn answer(&mut self, ask: AskId, answer: Answer) {
        self.due.push_back(Due::Command(Command::Answer { ask, answer }));
    }
}

/// What is known not to be in the queue: it is not missing there.
struct Known<'a> {
    unsent: &'a Unsent,
    emitter: &'a Emitter,
    later: &'a Later,
}

impl Known<'_> {
    fn not_queued(&self, task: &TaskRef) -> bool {
        self.unsent.contains(task) || self.emitter.prepares(task) || self.later.contains(task)
    }
}

/// The execution of a job, when the job is still owed.
fn owed(machine: &Machine, job: Job) -> Option<&Execution> {
    let is_owed = match job {
        Job::Publish(task) => machine.is_outstanding(&task),
        Job::Evaluate(what) => machine.is_evaluating(what),
    };
    if is_owed { machine.partition().execution(job.execution()) } else { None }
}
