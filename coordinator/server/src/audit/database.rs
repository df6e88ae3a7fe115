//! Records in SQLite: a chain of its own in a file, or a copy of the stream for questions.
//!
//! One thread owns the connection. Writes that wait together share a transaction.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_model::audit::{AuditRecord, Decision, Head};
use millstream_model::time::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params, params_from_iter};
use tokio::sync::mpsc;

use super::{Filter, FindError, Order, Orders, QUEUE};

/// How long another process may hold the file.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// Orders of one transaction.
const ORDERS_MAX: usize = 256;
/// Between two tries of what the disk does not take.
const RETRY: Duration = Duration::from_secs(1);
/// Pages in memory of the copy, as SQLite counts: negative numbers are KiB.
const CACHE_KIB: i32 = -32 * 1024;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS audit (
        seq INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        trace_id TEXT,
        execution TEXT,
        kind TEXT NOT NULL,
        actor TEXT,
        line TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS audit_trace ON audit (trace_id) WHERE trace_id IS NOT NULL;
    CREATE INDEX IF NOT EXISTS audit_execution ON audit (execution) WHERE execution IS NOT NULL;
    CREATE INDEX IF NOT EXISTS audit_kind ON audit (kind, seq);
    CREATE INDEX IF NOT EXISTS audit_actor ON audit (actor, seq) WHERE actor IS NOT NULL;
";

/// Why SQLite does not do what it is asked for.
#[derive(Debug, thiserror::Error)]
#[error("the audit database {path}: {source}")]
pub struct DatabaseError {
    path: String,
    #[source]
    source: rusqlite::Error,
}

/// Starts the thread of a database; without a path it is temporary and of this process alone.
pub(super) fn start(path: Option<&Path>) -> Result<Orders, DatabaseError> {
    let mut database = Database::open(path)?;
    let (orders, queue) = mpsc::channel(QUEUE);
    std::thread::spawn(move || database.work(queue));
    Ok(orders)
}

/// The lines of a database, the oldest first.
pub fn lines_of(path: &Path, mut visit: impl FnMut(&[u8])) -> Result<(), DatabaseError> {
    let failed = |source| DatabaseError { path: path.display().to_string(), source };
    let connection = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    let mut statement = connection.prepare("SELECT line FROM audit ORDER BY seq").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        visit(row.get_ref(0).and_then(|value| Ok(value.as_bytes()?)).map_err(failed)?);
    }
    Ok(())
}

struct Database {
    connection: Connection,
    path: String,
}

impl Database {
    fn open(path: Option<&Path>) -> Result<Self, DatabaseError> {
        let shown = path.map_or_else(|| "of the stream".to_owned(), |path| path.display().to_string());
        let failed = |source| DatabaseError { path: shown.clone(), source };
        // SQLite takes an empty path for a temporary file.
        let connection = Connection::open(path.map_or_else(PathBuf::new, Path::to_owned)).map_err(failed)?;
        let set_up = || {
            connection.busy_timeout(BUSY_WAIT)?;
            if path.is_some() {
                connection.pragma_update(None, "journal_mode", "WAL")?;
                connection.pragma_update(None, "synchronous", "FULL")?;
            } else {
                connection.pragma_update(None, "journal_mode", "OFF")?;
                connection.pragma_update(None, "synchronous", "OFF")?;
                connection.pragma_update(None, "cache_size", CACHE_KIB)?;
            }
            connection.execute_batch(SCHEMA)
        };
        set_up().map_err(failed)?;
        Ok(Self { connection, path: shown })
    }

    fn work(&mut self, mut queue: mpsc::Receiver<Order>) {
        let mut orders = Vec::new();
        while queue.blocking_recv_many(&mut orders, ORDERS_MAX) > 0 {
            let mut failures = 0_u32;
            while let Err(error) = self.write(&orders) {
                failures = failures.saturating_add(1);
                if failures.is_power_of_two() {
                    tracing::error!(%error, database = self.path, "records of the audit trail cannot be written yet");
                }
                std::thread::sleep(RETRY);
            }
            for order in orders.drain(..) {
                match order {
                    Order::Append(_) | Order::Insert(_) => {}
                    // Who asked and went away needs no answer.
                    Order::Find(filter, reply) => drop(reply.send(self.find(&filter))),
                    Order::Flush(reply) => drop(reply.send(head(&self.connection).unwrap_or_default())),
                }
            }
        }
    }

    fn write(&mut self, orders: &[Order]) -> Result<(), rusqlite::Error> {
        if !orders.iter().any(|order| matches!(order, Order::Append(_) | Order::Insert(_))) {
            return Ok(());
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have written since the last transaction.
        let mut head = head(&transaction)?;
        for order in orders {
            match order {
                Order::Append(decisions) => {
                    for decision in decisions.iter() {
                        let line = head.append(decision);
                        insert(&transaction, "INSERT", head.seq, decision, &line)?;
                    }
                }
                Order::Insert(records) => {
                    for (record, line) in records {
                        // The first record of a number counts; a forged second one is for `audit verify` to name.
                        insert(&transaction, "INSERT OR IGNORE", record.seq, &columns(record), line)?;
                    }
                }
                Order::Find(..) | Order::Flush(_) => {}
            }
        }
        transaction.commit()
    }

    fn find(&self, filter: &Filter) -> Result<Vec<String>, FindError> {
        let failed = |source| DatabaseError { path: self.path.clone(), source };
        let (clauses, values) = conditions(filter);
        let query = format!("SELECT line FROM audit WHERE {clauses} ORDER BY seq DESC LIMIT ?");
        let mut statement = self.connection.prepare_cached(&query).map_err(failed)?;
        let rows = statement.query_map(params_from_iter(values), |row| row.get(0)).map_err(failed)?;
        Ok(rows.collect::<Result<_, _>>().map_err(failed)?)
    }
}

/// What is searched of a record, without what is only shown.
fn columns(record: &AuditRecord) -> Decision {
    Decision {
        at: record.at,
        trace_id: record.trace_id,
        execution: record.execution,
        kind: record.kind,
        actor: record.actor.clone(),
        target: String::new(),
        reasoning: String::new(),
        alternatives: Vec::new(),
        context: serde_json::Value::Null,
    }
}

fn insert(
    transaction: &Transaction<'_>,
    verb: &str,
    seq: u64,
    decision: &Decision,
    line: &str,
) -> Result<(), rusqlite::Error> {
    let mut statement = transaction.prepare_cached(&format!("{verb} INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)"))?;
    statement.execute(params![
        integer(seq),
        micros(decision.at),
        decision.trace_id.map(|trace| trace.to_string()),
        decision.execution.map(|execution| execution.to_string()),
        decision.kind.as_str(),
        decision.actor,
        line,
    ])?;
    Ok(())
}

/// The newest record. A line that somebody spoiled is followed all the same: `audit verify` names it.
fn head(connection: &Connection) -> Result<Head, rusqlite::Error> {
    let mut statement = connection.prepare_cached("SELECT seq, line FROM audit ORDER BY seq DESC LIMIT 1")?;
    let newest = statement.query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))).optional()?;
    let Some((seq, line)) = newest else { return Ok(Head::default()) };
    let hash = AuditRecord::of_line(line.as_bytes()).map(|record| record.hash).unwrap_or_default();
    Ok(Head { seq: u64::try_from(seq).unwrap_or_default(), hash })
}

/// The clauses of a query and their values, the limit last.
fn conditions(filter: &Filter) -> (String, Vec<Value>) {
    let mut clauses = vec!["TRUE"];
    let mut values = Vec::new();
    let mut add = |clause: &'static str, given: Vec<Value>| {
        clauses.push(clause);
        values.extend(given);
    };
    if let Some(trace) = filter.trace {
        let trace = Value::Text(trace.to_string());
        let clause =
            "(trace_id = ? OR trace_id IS NULL AND execution IN (SELECT execution FROM audit WHERE trace_id = ?))";
        add(clause, vec![trace.clone(), trace]);
    }
    if let Some(execution) = filter.execution {
        add("execution = ?", vec![Value::Text(execution.to_string())]);
    }
    if let Some(kind) = filter.kind {
        add("kind = ?", vec![Value::Text(kind.as_str().to_owned())]);
    }
    if let Some(actor) = &filter.actor {
        add("actor = ?", vec![Value::Text(actor.clone())]);
    }
    if let Some(after) = filter.after {
        add("at > ?", vec![Value::Integer(micros(after))]);
    }
    if let Some(before) = filter.before {
        add("at < ?", vec![Value::Integer(micros(before))]);
    }
    if let Some(cursor) = filter.cursor {
        add("seq < ?", vec![Value::Integer(integer(cursor))]);
    }
    values.push(Value::Integer(i64::try_from(filter.limit).unwrap_or(i64::MAX)));
    (clauses.join(" AND "), values)
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn micros(moment: Timestamp) -> i64 {
    integer(moment.as_micros())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millstream_model::audit::{AuditKind, Verifier};
    use serde_json::json;

    use super::*;

    #[test]
    fn two_processes_write_one_chain_into_a_file() {
        let directory = Directory::new("database");
        let path = directory.0.join("audit.sqlite");
        let mut one = Database::open(Some(&path)).expect("it opens");
        let mut other = Database::open(Some(&path)).expect("it opens");
        for n in 0..3 {
            one.write(&[append(&[2 * n])]).expect("written");
            other.write(&[append(&[2 * n + 1])]).expect("written");
        }
        let mut verifier = Verifier::default();
        lines_of(&path, |line| verifier.push(line)).expect("readable");
        assert_eq!(verifier.finish().expect("whole").records, 6);
    }

    #[test]
    fn a_changed_row_is_found_and_followed() {
        let directory = Directory::new("changed");
        let path = directory.0.join("audit.sqlite");
        let mut database = Database::open(Some(&path)).expect("it opens");
        database.write(&[append(&[1, 2])]).expect("written");
        let change = "UPDATE audit SET line = replace(line, 'because', 'no reason') WHERE seq = 2";
        assert_eq!(database.connection.execute(change, []).expect("changed"), 1);
        database.write(&[append(&[3])]).expect("written");
        let mut verifier = Verifier::default();
        lines_of(&path, |line| verifier.push(line)).expect("readable");
        assert_eq!(verifier.finish().expect_err("broken").seq, 2);
    }

    #[test]
    fn every_filter_narrows_what_is_found() {
        let mut database = Database::open(None).expect("it opens");
        database.write(&[append(&[1, 2, 3, 4])]).expect("written");
        let found = |filter: Filter| -> Vec<u64> {
            let lines = database.find(&Filter { limit: 10, ..filter }).expect("found");
            lines.iter().map(|line| AuditRecord::of_line(line.as_bytes()).expect("a record").seq).collect()
        };
        let all = Filter::default;
        assert_eq!(found(all()), [4, 3, 2, 1]);
        assert_eq!(found(Filter { cursor: Some(3), ..all() }), [2, 1]);
        assert_eq!(found(Filter { actor: Some("actor 2".to_owned()), ..all() }), [2]);
        assert_eq!(found(Filter { kind: Some(AuditKind::Plan), ..all() }), [0; 0]);
        assert_eq!(found(Filter { after: Some(at(3)), ..all() }), [4]);
        assert_eq!(found(Filter { before: Some(at(2)), kind: Some(AuditKind::Admin), ..all() }), [1]);
        let id = "01934567-89ab-7cde-8f01-234567890a03".parse().expect("an id");
        assert_eq!(found(Filter { execution: Some(id), ..all() }), [0; 0]);
    }

    #[test]
    fn a_trace_has_what_was_done_to_its_executions() {
        let mut database = Database::open(None).expect("it opens");
        let execution = "01934567-89ab-7cde-8f01-234567890a03".parse().expect("an id");
        let trace = "0af7651916cd43dd8448eb211c80319c".parse().expect("a trace");
        let of = |trace_id| Decision { execution: Some(execution), trace_id, ..decision(1) };
        let decisions: Arc<[Decision]> = vec![of(Some(trace)), of(None), decision(2)].into();
        database.write(&[Order::Append(decisions)]).expect("written");
        let filter = Filter { trace: Some(trace), limit: 10, ..Filter::default() };
        assert_eq!(database.find(&filter).expect("found").len(), 2);
    }

    #[test]
    fn the_copy_keeps_the_first_record_of_a_number() {
        let mut database = Database::open(None).expect("it opens");
        let record = |n| {
            let line = Head::default().append(&decision(n));
            (AuditRecord::of_line(line.as_bytes()).expect("a record"), line)
        };
        database.write(&[Order::Insert(vec![record(1)]), Order::Insert(vec![record(2)])]).expect("written");
        let lines = database.find(&Filter { limit: 10, ..Filter::default() }).expect("found");
        assert_eq!(lines, [record(1).1]);
    }

    fn append(numbers: &[u64]) -> Order {
        Order::Append(numbers.iter().map(|n| decision(*n)).collect())
    }

    fn at(n: u64) -> Timestamp {
        Timestamp::from_millis(1_763_648_712_000 + n)
    }

    fn decision(n: u64) -> Decision {
        Decision {
            at: at(n),
            trace_id: None,
            execution: None,
            kind: AuditKind::Admin,
            actor: Some(format!("actor {n}")),
            target: format!("workflow w{n}"),
            reasoning: "because".to_owned(),
            alternatives: Vec::new(),
            context: json!({}),
        }
    }

    /// A directory that goes with the test.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("millstream-audit-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a writable directory");
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }
}
