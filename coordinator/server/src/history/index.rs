//! The index: a SQLite file with a row for each execution of the history, which lists and searches read.
//!
//! It is derived: a coordinator builds it from the stream, keeps up with it, and throws it away when it is damaged or of
//! another stream.
//!
//! ```text
//!  MS_HISTORY ──reader──▶ writer (one thread) ──batches──▶ file ◀── queries (a few connections)
//! ```
//!
//! Of several records of one execution the last one counts, by round and then by what it says: one that ended is not
//! made running again by a record of its start that was stored late.

mod readers;
mod schema;
mod writer;

use std::path::{Path, PathBuf};

use millstream_model::history::{Record, Summary, UnreadableRecord};
use millstream_model::ids::{ExecutionId, Partition};
use millstream_model::time::Timestamp;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};
use serde_json::Value;
use uuid::Uuid;

use super::summary;

pub(super) use readers::Readers;
pub(super) use schema::{NEVER, STAGE_ENDED, STAGE_PARKED, STAGE_STARTED, status_code, status_of};
pub use writer::{Progress, Work, Writer};

/// Why the index does not answer.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("the index {} cannot be used: {source}", path.display())]
    Database {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the index {} cannot be removed: {source}", path.display())]
    Remove {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the thread of the index cannot be started: {source}")]
    Thread {
        #[source]
        source: std::io::Error,
    },
    #[error("the index is closed")]
    Closed,
}

impl IndexError {
    pub(super) fn of(path: &Path, source: rusqlite::Error) -> Self {
        Self::Database { path: path.to_owned(), source }
    }

    /// Whether the file is of no use any more.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Database { source, .. } => {
                matches!(source.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
                    || matches!(
                        source,
                        rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::FromSqlConversionFailure(..)
                    )
            }
            Self::Remove { .. } | Self::Thread { .. } | Self::Closed => false,
        }
    }
}

/// A record on its way into the index.
#[derive(Debug)]
pub struct Indexed {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the stream stored it.
    pub time: Timestamp,
    pub record: Result<Record, UnreadableRecord>,
}

/// The one who writes.
#[derive(Debug)]
pub struct Index {
    connection: Connection,
    path: PathBuf,
}

/// How far the index is in which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// When the stream was created; `None` before the first.
    pub stream: Option<Timestamp>,
    /// The last record that is in it.
    pub sequence: u64,
}

impl Index {
    /// Opens or creates the file. `keep` says whether it is to survive the process.
    pub fn open(path: &Path, keep: bool) -> Result<Self, IndexError> {
        let of = |source| IndexError::of(path, source);
        let mut connection = Connection::open(path).map_err(of)?;
        schema::prepare(&mut connection, keep).map_err(of)?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// How far it is.
    pub fn reached(&self) -> Result<Reached, IndexError> {
        let read = |name| {
            let mut statement = self.connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
            statement.query_row([name], |row| row.get::<_, i64>(0)).optional()
        };
        let of = |source| IndexError::of(&self.path, source);
        let stream = read("stream").map_err(of)?.map(|micros| Timestamp::from_micros(micros.cast_unsigned()));
        let sequence = read("sequence").map_err(of)?.unwrap_or_default().cast_unsigned();
        Ok(Reached { stream, sequence })
    }

    /// Forgets everything: it is the index of `stream` from here on.
    pub fn reset(&mut self, stream: Timestamp) -> Result<(), IndexError> {
        self.transact(|transaction| {
            for table in ["execution", "label", "attribute", "meta"] {
                transaction.execute(&format!("DELETE FROM {table}"), [])?;
            }
            set_meta(transaction, "stream", stream.as_micros())
        })
    }

    /// Takes in records, in the order of the stream.
    pub fn add(&mut self, records: &[Indexed]) -> Result<(), IndexError> {
        let Some(last) = records.last() else { return Ok(()) };
        self.transact(|transaction| {
            for indexed in records {
                match &indexed.record {
                    Ok(Record::Started(summaries)) => {
                        let expires = expiry(indexed);
                        summaries.iter().try_for_each(|s| upsert(transaction, indexed, s, STAGE_STARTED, expires))?;
                    }
                    Ok(Record::Parked(kept)) => upsert(transaction, indexed, &kept.summary, STAGE_PARKED, NEVER)?,
                    Ok(Record::Ended(kept)) => {
                        upsert(transaction, indexed, &kept.summary, STAGE_ENDED, expiry(indexed))?;
                    }
                    Err(error) => {
                        let sequence = indexed.sequence;
                        tracing::warn!(%error, sequence, "a record of the history cannot be read and is not indexed");
                    }
                }
            }
            set_meta(transaction, "sequence", last.sequence)
        })
    }

    /// Drops what the history has dropped by `now`; how many executions that were.
    pub fn expire(&mut self, now: Timestamp) -> Result<usize, IndexError> {
        self.transact(|transaction| {
            let now = micros(now);
            for table in ["label", "attribute"] {
                transaction.execute(
                    &format!("DELETE FROM {table} WHERE n IN (SELECT n FROM execution WHERE expires <= ?1)"),
                    [now],
                )?;
            }
            transaction.execute("DELETE FROM execution WHERE expires <= ?1", [now])
        })
    }

    fn transact<T>(&mut self, body: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, IndexError> {
        let attempt = (|| {
            let transaction = self.connection.transaction()?;
            let done = body(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })();
        attempt.map_err(|source| IndexError::of(&self.path, source))
    }
}

/// The id whose bytes these are.
pub(super) fn id_of(bytes: [u8; 16]) -> ExecutionId {
    ExecutionId::new(Uuid::from_bytes(bytes), Partition(bytes[15]))
}

pub(super) fn micros(moment: Timestamp) -> i64 {
    i64::try_from(moment.as_micros()).unwrap_or(NEVER)
}

/// When the stream drops the record.
fn expiry(indexed: &Indexed) -> i64 {
    let lives = indexed.record.as_ref().ok().and_then(summary::time_to_live);
    lives.map_or(NEVER, |lives| micros(indexed.time.plus_millis(u64::try_from(lives.as_millis()).unwrap_or(u64::MAX))))
}

fn set_meta(transaction: &Transaction<'_>, name: &str, value: u64) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?;
    statement.execute(params![name, value.cast_signed()]).map(drop)
}

/// Of what is known of an execution, what compares records of it: its round and stage.
type Standing = (i64, i64);

fn upsert(
    transaction: &Transaction<'_>,
    indexed: &Indexed,
    summary: &Summary,
    stage: i64,
    expires: i64,
) -> rusqlite::Result<()> {
    let id = summary.execution.as_bytes();
    let known: Option<(i64, Standing)> = transaction
        .prepare_cached("SELECT n, round, stage FROM execution WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))
        .optional()?;
    let round = i64::from(summary.round);
    let ended = summary.ended_at.map_or(NEVER, micros);
    let duration = summary.ended_at.map_or(NEVER, |end| {
        i64::try_from(end.as_micros().saturating_sub(summary.started_at.as_micros())).unwrap_or(NEVER)
    });
    let text = serde_json::to_string(summary).expect("a summary always has a JSON form");
    let values = params![
        id,
        summary.workflow.as_str(),
        status_code(summary.status),
        summary.partial,
        micros(summary.started_at),
        ended,
        duration,
        expires,
        round,
        stage,
        indexed.sequence.cast_signed(),
        text,
    ];
    let n = match known {
        None => {
            transaction.prepare_cached(schema::INSERT)?.execute(values)?;
            transaction.last_insert_rowid()
        }
        Some((_, (known_round, known_stage)))
            if known_round > round || (known_round == round && known_stage == STAGE_ENDED && stage != STAGE_ENDED) =>
        {
            return Ok(());
        }
        Some((n, _)) => {
            transaction.prepare_cached(schema::UPDATE)?.execute(values)?;
            for clear in ["DELETE FROM label WHERE n = ?1", "DELETE FROM attribute WHERE n = ?1"] {
                transaction.prepare_cached(clear)?.execute([n])?;
            }
            n
        }
    };
    for (name, value) in &summary.labels {
        let mut insert = transaction.prepare_cached("INSERT INTO label (name, value, n) VALUES (?1, ?2, ?3)")?;
        insert.execute(params![name, value, n])?;
    }
    for (name, value) in &summary.attributes {
        let mut insert = transaction.prepare_cached("INSERT INTO attribute (name, value, n) VALUES (?1, ?2, ?3)")?;
        match value {
            Value::String(text) => insert.execute(params![name, text, n])?,
            Value::Bool(flag) => insert.execute(params![name, if *flag { "true" } else { "false" }, n])?,
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => insert.execute(params![name, whole, n])?,
                (None, Some(real)) => insert.execute(params![name, real, n])?,
                (None, None) => 0,
            },
            Value::Null | Value::Array(_) | Value::Object(_) => 0,
        };
    }
    Ok(())
}
