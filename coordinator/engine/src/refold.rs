//! Folding one execution again, from its transcript.

use std::sync::Arc;

use millstream_model::entry::Entry;
use millstream_model::hash::ContentHash;
use millstream_model::ids::ExecutionId;
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::transcript::{Line, Revisions, Transcribed};

use crate::Effect;
use crate::execution::Execution;
use crate::outcome::{Applied, Halt, Outcome};
use crate::partition::{FOLD_REV, Origin, Partition};

/// What one line of a transcript did.
#[derive(Debug)]
pub struct Step<'a> {
    pub line: &'a Line,
    pub outcome: Outcome,
    pub effects: Vec<Effect>,
}

/// One execution in a partition of its own, folded line by line.
#[derive(Debug)]
pub struct Refold {
    execution: ExecutionId,
    partition: Partition,
}

/// What a transcript begins with: the execution and the definition it runs.
pub fn submission(transcript: &Transcribed) -> Option<(ExecutionId, ContentHash)> {
    match &transcript.lines.first()?.entry {
        Entry::Submitted(submitted) => Some((submitted.execution, submitted.definition)),
        _ => None,
    }
}

impl Refold {
    /// Before the first line.
    pub fn new(execution: ExecutionId, revisions: Revisions, plan: Arc<Plan>) -> Result<Self, Halt> {
        if revisions.fold > FOLD_REV {
            return Err(Halt::FoldRevision { found: revisions.fold, known: FOLD_REV });
        }
        let mut partition = Partition::of_revision(revisions.fold);
        partition.install(plan);
        Ok(Self { execution, partition })
    }

    /// Folds the next line.
    pub fn apply<'a>(&mut self, line: &'a Line) -> Result<Step<'a>, Halt> {
        let origin = line.by.as_ref().map_or(Origin::Control, Origin::Result);
        let Applied { outcome, effects } = self.partition.apply(line.position, line.at, origin, line.entry.clone())?;
        Ok(Step { line, outcome, effects })
    }

    /// The execution as it is after the lines so far; `None` before the first.
    pub fn execution(&self) -> Option<&Execution> {
        self.partition.execution(self.execution)
    }
}

impl Execution {
    /// The execution of a transcript, whose definition is `plan`.
    pub fn refold(transcript: &Transcribed, plan: Arc<Plan>) -> Result<Box<Self>, Halt> {
        Self::refold_until(transcript, plan, None)
    }

    /// The execution as it was after the entry at `until`, or after the last one before that place.
    pub fn refold_until(transcript: &Transcribed, plan: Arc<Plan>, until: Option<Position>) -> Result<Box<Self>, Halt> {
        let (id, _) = submission(transcript).ok_or(Halt::NoSubmission)?;
        let mut refold = Refold::new(id, transcript.revisions, plan)?;
        for line in transcript.lines.iter().take_while(|line| until.is_none_or(|until| line.position <= until)) {
            refold.apply(line)?;
        }
        refold.partition.take(id).ok_or(Halt::NoSubmission)
    }
}
