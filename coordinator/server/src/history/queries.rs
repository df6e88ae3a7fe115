//! What the index is asked, in SQL.

use std::collections::BTreeMap;

use millstream_model::history::Summary;
use millstream_model::ids::ExecutionId;
use millstream_model::view::ExecutionStatus;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::Found;
use super::cursor::Cursor;
use super::filter::{Filter, Is, Range, Sort, SortBy, fingerprint};
use super::index::{NEVER, STAGE_ENDED, STAGE_PARKED, id_of, micros, status_code, status_of};

/// A part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub executions: Vec<Found>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// Figures over a list.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics {
    pub total: u64,
    pub by_status: BTreeMap<ExecutionStatus, u64>,
    /// COMPLETED ones among those that ended; `None` when none has.
    pub success_rate: Option<f64>,
    /// Of those that ended.
    pub duration: Option<Durations>,
}

/// Durations in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Durations {
    pub average: f64,
    pub p50: f64,
    pub p95: f64,
    pub max: f64,
}

/// The cursor is one of another query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cursor belongs to a list with another filter or order")]
pub struct ForeignCursor;

/// What is known of an execution.
pub(super) fn find(connection: &Connection, execution: ExecutionId) -> rusqlite::Result<Option<Found>> {
    let mut statement = connection.prepare_cached("SELECT summary, stage, sequence FROM execution WHERE id = ?1")?;
    statement.query_row([execution.as_bytes()], found).optional()
}

/// A query that is ready to be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    filter: Filter,
    sort: Sort,
    cursor: Option<Cursor>,
    limit: usize,
}

impl Query {
    /// At most `limit` executions in the order of `sort`, after those that `cursor` ended with.
    pub fn new(filter: Filter, sort: Sort, cursor: Option<Cursor>, limit: usize) -> Result<Self, ForeignCursor> {
        match &cursor {
            Some(cursor) if cursor.query != fingerprint(&filter, sort) => Err(ForeignCursor),
            Some(_) | None => Ok(Self { filter, sort, cursor, limit }),
        }
    }

    pub(super) fn page(&self, connection: &Connection) -> rusqlite::Result<Page> {
        let mut conditions = Conditions::of(&self.filter);
        let columns = match self.sort.by {
            SortBy::StartedAt => "started, id",
            SortBy::EndedAt => "ended, id",
            SortBy::Duration => "duration, id",
            SortBy::Workflow => "workflow, started, id",
        };
        let (relation, direction) = if self.sort.descending { ("<", "DESC") } else { (">", "ASC") };
        if let Some(cursor) = &self.cursor {
            let id = Sql::Blob(cursor.id.as_bytes().to_vec());
            let key = Sql::Integer(cursor.key);
            let (places, values) = match self.sort.by {
                SortBy::Workflow => ("?, ?, ?", vec![Sql::Text(cursor.workflow.clone()), key, id]),
                SortBy::StartedAt | SortBy::EndedAt | SortBy::Duration => ("?, ?", vec![key, id]),
            };
            conditions.add(format!("({columns}) {relation} ({places})"), values);
        }
        let order: Vec<String> = columns.split(", ").map(|column| format!("{column} {direction}")).collect();
        let (condition, order) = (conditions.text(), order.join(", "));
        let text = format!(
            "SELECT summary, stage, sequence, id, workflow, started, ended, duration FROM execution e
             WHERE {condition} ORDER BY {order} LIMIT {}",
            self.limit.saturating_add(1)
        );
        let mut statement = connection.prepare_cached(&text)?;
        let rows = statement.query_map(params_from_iter(conditions.values), |row| Ok((found(row)?, self.place(row)?)));
        let mut rows: Vec<(Found, Cursor)> = rows?.collect::<rusqlite::Result<_>>()?;
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next = rows.last().filter(|_| more).map(|(_, place)| place.clone());
        Ok(Page { executions: rows.into_iter().map(|(found, _)| found).collect(), next })
    }

    /// The cursor behind a row.
    fn place(&self, row: &Row<'_>) -> rusqlite::Result<Cursor> {
        let (key, workflow) = match self.sort.by {
            SortBy::StartedAt => (row.get(5)?, String::new()),
            SortBy::EndedAt => (row.get(6)?, String::new()),
            SortBy::Duration => (row.get(7)?, String::new()),
            SortBy::Workflow => (row.get(5)?, row.get(4)?),
        };
        Ok(Cursor { query: fingerprint(&self.filter, self.sort), id: id_of(row.get(3)?), key, workflow })
    }
}

/// Figures over what `filter` lets through.
pub(super) fn metrics(connection: &Connection, filter: &Filter) -> rusqlite::Result<Metrics> {
    // All of the figures are of one moment, whatever is written meanwhile.
    let connection = connection.unchecked_transaction()?;
    let conditions = Conditions::of(filter);
    let condition = conditions.text();
    let text = format!("SELECT status, count(*) FROM execution e WHERE {condition} GROUP BY status");
    let mut statement = connection.prepare_cached(&text)?;
    let rows = statement.query_map(params_from_iter(&conditions.values), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut metrics = Metrics::default();
    for row in rows {
        let (code, count): (i64, i64) = row?;
        let count = count.cast_unsigned();
        metrics.total += count;
        if let Some(status) = status_of(code) {
            metrics.by_status.insert(status, count);
        }
    }
    let ended = format!("{condition} AND ended < {NEVER}");
    let text = format!("SELECT count(*), avg(duration), max(duration) FROM execution e WHERE {ended}");
    let (count, average, max): (i64, Option<f64>, Option<i64>) = connection
        .prepare_cached(&text)?
        .query_row(params_from_iter(&conditions.values), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let (count, Some(average), Some(max)) = (count.cast_unsigned(), average, max) else { return Ok(metrics) };
    let completed = metrics.by_status.get(&ExecutionStatus::Completed).copied().unwrap_or_default();
    metrics.success_rate = Some(completed as f64 / count as f64);
    let rank = |percent: u64| -> rusqlite::Result<i64> {
        // The nearest rank: the least duration that `percent` of them do not exceed.
        let rank = (count * percent).div_ceil(100).max(1) - 1;
        let text = format!("SELECT duration FROM execution e WHERE {ended} ORDER BY duration LIMIT 1 OFFSET {rank}");
        connection.prepare(&text)?.query_row(params_from_iter(&conditions.values), |row| row.get(0))
    };
    let millis = |micros: i64| micros as f64 / 1_000.0;
    let (p50, p95) = (millis(rank(50)?), millis(rank(95)?));
    metrics.duration = Some(Durations { average: average / 1_000.0, p50, p95, max: millis(max) });
    Ok(metrics)
}

fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    let text = row.get_ref(0)?.as_str()?;
    let summary: Summary = serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error)))?;
    let stage: i64 = row.get(1)?;
    let sequence: i64 = row.get(2)?;
    Ok(Found {
        summary,
        record: (stage == STAGE_PARKED || stage == STAGE_ENDED).then_some(sequence.cast_unsigned()),
        parked: stage == STAGE_PARKED,
    })
}

/// The conditions of a query, and what their question marks stand for.
#[derive(Debug, Default)]
struct Conditions {
    texts: Vec<String>,
    values: Vec<Sql>,
}

impl Conditions {
    fn of(filter: &Filter) -> Self {
        let mut conditions = Self::default();
        if !filter.workflows.is_empty() {
            let names = filter.workflows.iter().map(|workflow| Sql::Text(workflow.as_str().to_owned()));
            conditions.any_of("workflow", names.collect());
        }
        if !filter.statuses.is_empty() {
            let codes = filter.statuses.iter().map(|status| Sql::Integer(status_code(*status)));
            conditions.any_of("status", codes.collect());
        }
        conditions.range("started", filter.started);
        conditions.range("ended", filter.ended);
        if filter.ended != Range::default() {
            conditions.add(format!("ended < {NEVER}"), Vec::new());
        }
        if let Some(partial) = filter.partial {
            conditions.add("partial = ?".to_owned(), vec![Sql::Integer(i64::from(partial))]);
        }
        for (name, value) in &filter.labels {
            let text = "n IN (SELECT n FROM label WHERE name = ? AND value = ?)";
            conditions.add(text.to_owned(), vec![Sql::Text(name.clone()), Sql::Text(value.clone())]);
        }
        for comparison in &filter.attributes {
            let name = Sql::Text(comparison.name.clone());
            let (is, values) = match &comparison.is {
                Is::Equal(text) => match number(text) {
                    Some(number) => ("value IN (?, ?)".to_owned(), vec![name, Sql::Text(text.clone()), number]),
                    None => ("value = ?".to_owned(), vec![name, Sql::Text(text.clone())]),
                },
                Is::Number(relation, number) => {
                    // Every text is greater than every number, and none is less than the empty one.
                    (format!("value {} ? AND value < ''", relation.as_str()), vec![name, Sql::Real(*number)])
                }
            };
            conditions.add(format!("n IN (SELECT n FROM attribute WHERE name = ? AND {is})"), values);
        }
        conditions
    }

    fn add(&mut self, text: String, values: Vec<Sql>) {
        self.texts.push(text);
        self.values.extend(values);
    }

    fn any_of(&mut self, column: &str, values: Vec<Sql>) {
        let places = vec!["?"; values.len()].join(", ");
        self.add(format!("{column} IN ({places})"), values);
    }

    fn range(&mut self, column: &str, range: Range) {
        if let Some(after) = range.after {
            self.add(format!("{column} >= ?"), vec![Sql::Integer(micros(after))]);
        }
        if let Some(before) = range.before {
            self.add(format!("{column} < ?"), vec![Sql::Integer(micros(before))]);
        }
    }

    fn text(&self) -> String {
        if self.texts.is_empty() { "TRUE".to_owned() } else { self.texts.join(" AND ") }
    }
}

/// The number that a text is in JSON.
fn number(text: &str) -> Option<Sql> {
    match serde_json::from_str(text).ok()? {
        serde_json::Value::Number(number) => {
            number.as_i64().map(Sql::Integer).or_else(|| number.as_f64().map(Sql::Real))
        }
        _ => None,
    }
}
