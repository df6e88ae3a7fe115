//! The tables of the index.

use millstream_model::view::ExecutionStatus;
use rusqlite::Connection;

/// Another number makes an index that was kept be built anew.
const VERSION: i64 = 1;
/// Stands for a moment that has not come, so that what has not ended is sorted after what has.
pub const NEVER: i64 = i64::MAX;

/// It began.
pub const STAGE_STARTED: i64 = 0;
/// It waits, and all of it is in its record.
pub const STAGE_PARKED: i64 = 1;
/// It ended, and all of it is in its record.
pub const STAGE_ENDED: i64 = 2;

const TABLES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE execution (
        n INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        workflow TEXT NOT NULL,
        status INTEGER NOT NULL,
        partial INTEGER NOT NULL,
        started INTEGER NOT NULL,
        ended INTEGER NOT NULL,
        duration INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        round INTEGER NOT NULL,
        stage INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        summary TEXT NOT NULL
    );
    CREATE INDEX execution_started ON execution (started, id);
    CREATE INDEX execution_ended ON execution (ended, id);
    CREATE INDEX execution_duration ON execution (duration, id);
    CREATE INDEX execution_workflow ON execution (workflow, started, id);
    CREATE INDEX execution_status ON execution (status, started, id);
    CREATE INDEX execution_expires ON execution (expires);
    CREATE TABLE label (name TEXT NOT NULL, value TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (name, value, n))
        WITHOUT ROWID;
    CREATE INDEX label_n ON label (n);
    CREATE TABLE attribute (name TEXT NOT NULL, value NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (name, value, n))
        WITHOUT ROWID;
    CREATE INDEX attribute_n ON attribute (n);
";

pub(super) const INSERT: &str = "INSERT INTO execution
    (id, workflow, status, partial, started, ended, duration, expires, round, stage, sequence, summary)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

pub(super) const UPDATE: &str = "UPDATE execution SET
    workflow = ?2, status = ?3, partial = ?4, started = ?5, ended = ?6, duration = ?7, expires = ?8, round = ?9,
    stage = ?10, sequence = ?11, summary = ?12 WHERE id = ?1";

/// Makes the tables where they are not, or are those of another version.
pub(super) fn prepare(connection: &mut Connection, keep: bool) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Damage is noticed and mended by building it anew; only a file that is kept is worth a flush.
    connection.pragma_update(None, "synchronous", if keep { "NORMAL" } else { "OFF" })?;
    connection.pragma_update(None, "cache_size", -65_536)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(64);
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for table in ["meta", "execution", "label", "attribute"] {
        transaction.execute(&format!("DROP TABLE IF EXISTS {table}"), [])?;
    }
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// A state as a number that never changes.
pub const fn status_code(status: ExecutionStatus) -> i64 {
    match status {
        ExecutionStatus::Pending => 0,
        ExecutionStatus::Running => 1,
        ExecutionStatus::Completed => 2,
        ExecutionStatus::Failed => 3,
        ExecutionStatus::Cancelled => 4,
        ExecutionStatus::Timeout => 5,
    }
}

/// The state of a number.
pub fn status_of(code: i64) -> Option<ExecutionStatus> {
    use ExecutionStatus::{Cancelled, Completed, Failed, Pending, Running, Timeout};
    [Pending, Running, Completed, Failed, Cancelled, Timeout].into_iter().find(|status| status_code(*status) == code)
}
