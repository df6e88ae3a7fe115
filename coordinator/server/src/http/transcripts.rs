//! Executions from their transcripts, wherever those are: with the owner while it knows them, later in the history.

use bytes::Bytes;
use millstream_engine::{Execution, Halt};
use millstream_model::ids::ExecutionId;
use millstream_model::position::Position;
use millstream_model::transcript::Transcribed;

use super::executions::{not_found, query_problem};
use super::problem::{Problem, ProblemKind};
use super::{Api, RETRY_AFTER};
use crate::history::{self, IndexError, RefoldError};

/// The compressed transcript of an execution, from its owner or the history.
pub(super) async fn transcript(api: &Api, id: ExecutionId) -> Result<Bytes, Problem> {
    let transcript = api.cluster()?.transcript(id).await.map_err(query_problem)?;
    transcript.ok_or_else(|| not_found(id))
}

/// The execution of a transcript as it was after the entry at `until`, or as it is at the end.
pub(super) async fn refold(api: &Api, transcript: Bytes, until: Option<Position>) -> Result<Box<Execution>, Problem> {
    history::refold(api.catalog()?, transcript, until).await.map_err(|error| match (&error, until) {
        (RefoldError::Fold(Halt::NoSubmission), Some(until)) => {
            let detail = format!("at: the execution had not begun at {until}");
            Problem::new(ProblemKind::InvalidRequest, detail)
        }
        (_, _) => refold_problem(&error),
    })
}

/// The entries of a transcript.
pub(super) async fn read(transcript: Bytes) -> Result<Transcribed, Problem> {
    let read = tokio::task::spawn_blocking(move || Transcribed::read(&transcript)).await;
    let read = read.map_err(|_| RefoldError::Aborted).and_then(|read| read.map_err(RefoldError::from));
    read.map_err(|error| refold_problem(&error))
}

pub(super) fn index_problem(error: &IndexError) -> Problem {
    tracing::warn!(%error, "the index does not answer");
    Problem::unavailable(error.to_string(), RETRY_AFTER)
}

pub(super) fn refold_problem(error: &RefoldError) -> Problem {
    if error.is_retryable() {
        return Problem::unavailable(error.to_string(), RETRY_AFTER);
    }
    tracing::error!(%error, "an execution cannot be folded again");
    let kind = match error {
        RefoldError::Payload(_) => ProblemKind::PayloadUnavailable,
        RefoldError::Transcript(_) | RefoldError::Plan(_) | RefoldError::Fold(_) | RefoldError::Aborted => {
            ProblemKind::Internal
        }
    };
    Problem::new(kind, error.to_string())
}
