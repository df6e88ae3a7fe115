//! The index over a real file: what is found, in which order, page by page, and what becomes of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use millstream_model::hash::ContentHash;
use millstream_model::ids::{ExecutionId, Namespace, Partition};
use millstream_model::time::Timestamp;
use millstream_model::trace::TraceId;
use millstream_model::view::{Counts, ExecutionStatus};
use serde_json::{Value, json};
use uuid::Uuid;

use super::feeding::{Opened, Place};
use super::index::{Index, Indexed};
use super::*;

/// An index in a file that is gone when the test is.
struct Fixture {
    index: Index,
    readers: Readers,
    path: PathBuf,
    next: u64,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            let mut path = self.path.clone().into_os_string();
            path.push(suffix);
            // The last connection has taken its own files with it.
            drop(std::fs::remove_file(path));
        }
    }
}

impl Fixture {
    fn new() -> Self {
        Self::at(std::env::temp_dir().join(format!("millstream-test-{}.sqlite", Uuid::new_v4())))
    }

    fn at(path: PathBuf) -> Self {
        let index = Index::open(&path, true).expect("an index");
        let readers = Readers::open(&path).expect("readers");
        Self { index, readers, path, next: 1 }
    }

    fn add(&mut self, record: Record) -> u64 {
        let sequence = self.next;
        self.next += 1;
        let indexed = Indexed { sequence, time: at(sequence), record: Ok(record) };
        self.index.add(&[indexed]).expect("added");
        sequence
    }

    fn ended(&mut self, summary: Summary) -> u64 {
        self.add(Record::Ended(kept(summary)))
    }

    fn page(&self, filter: &Filter, sort: Sort, cursor: Option<Cursor>, limit: usize) -> Page {
        let query = Query::new(filter.clone(), sort, cursor, limit).expect("the cursor is of this query");
        self.readers.read(|connection| query.page(connection)).expect("a page")
    }

    /// The numbers of the executions that a filter lets through, in the order of their starts.
    fn numbers(&self, filter: &Filter) -> Vec<u64> {
        let sort = Sort { by: SortBy::StartedAt, descending: false };
        numbers(&self.page(filter, sort, None, 100))
    }

    fn find(&self, n: u64) -> Option<Found> {
        self.readers.read(|connection| queries::find(connection, id(n))).expect("an answer")
    }
}

fn id(n: u64) -> ExecutionId {
    ExecutionId::new(Uuid::from_u128(u128::from(n) << 64), Partition(3))
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + second * 1_000)
}

/// Execution `n`, which began in second `n`.
fn running(n: u64) -> Summary {
    Summary {
        execution: id(n),
        ns: Namespace::default(),
        workflow: "orders".parse().expect("a name"),
        definition: ContentHash::of(b"d"),
        status: ExecutionStatus::Running,
        partial: false,
        started_at: at(n),
        ended_at: None,
        labels: BTreeMap::new(),
        attributes: BTreeMap::new(),
        error: None,
        counts: Counts::default(),
        steps: 1,
        round: 0,
        trace: TraceId::of(id(n)),
        fork_of: None,
        retention_ms: 3_600_000,
    }
}

/// Execution `n`, which took `seconds`.
fn done(n: u64, status: ExecutionStatus, seconds: u64) -> Summary {
    Summary { status, ended_at: Some(at(n + seconds)), ..running(n) }
}

fn with_attribute(n: u64, name: &str, value: Value) -> Summary {
    Summary { attributes: BTreeMap::from([(name.to_owned(), value)]), ..done(n, ExecutionStatus::Completed, 1) }
}

fn kept(summary: Summary) -> Kept {
    let transcript = KeptIn::Here(Bytes::from_static(b"x"));
    Kept { summary, state: ContentHash::of(b"s"), entries: 1, text: 1, transcript }
}

fn numbers(page: &Page) -> Vec<u64> {
    page.executions
        .iter()
        .map(|found| {
            u64::try_from(found.summary.execution.as_bytes()[..8].iter().fold(0_u128, |n, b| n << 8 | u128::from(*b)))
                .expect("8 bytes")
        })
        .collect()
}

fn attribute(name: &str, is: Is) -> Filter {
    Filter { attributes: vec![Comparison { name: name.to_owned(), is }], ..Filter::default() }
}

#[test]
fn each_filter_lets_through_what_it_says() {
    let mut fixture = Fixture::new();
    fixture
        .add(Record::Started(vec![running(1), Summary { workflow: "other".parse().expect("a name"), ..running(2) }]));
    fixture.ended(Summary { partial: true, ..done(3, ExecutionStatus::Failed, 10) });
    let labels = BTreeMap::from([("team".to_owned(), "a:b".to_owned()), ("env".to_owned(), "prod".to_owned())]);
    fixture.ended(Summary { labels, ..done(4, ExecutionStatus::Completed, 20) });
    fixture.ended(Summary {
        labels: BTreeMap::from([("team".to_owned(), "a:b".to_owned())]),
        ..done(5, ExecutionStatus::Completed, 2)
    });

    let all = Filter::default();
    assert_eq!(fixture.numbers(&all), [1, 2, 3, 4, 5]);
    let other = Filter { workflows: vec!["other".parse().expect("a name")], ..all.clone() };
    assert_eq!(fixture.numbers(&other), [2]);
    let statuses = |statuses: &[ExecutionStatus]| Filter { statuses: statuses.to_vec(), ..Filter::default() };
    assert_eq!(fixture.numbers(&statuses(&[ExecutionStatus::Failed])), [3]);
    assert_eq!(fixture.numbers(&statuses(&[ExecutionStatus::Failed, ExecutionStatus::Running])), [1, 2, 3]);
    assert_eq!(fixture.numbers(&Filter { partial: Some(true), ..all.clone() }), [3]);
    let range = |after: Option<u64>, before: Option<u64>| Range { after: after.map(at), before: before.map(at) };
    assert_eq!(fixture.numbers(&Filter { started: range(Some(2), Some(4)), ..all.clone() }), [2, 3]);
    assert_eq!(fixture.numbers(&Filter { ended: range(Some(8), None), ..all.clone() }), [3, 4]);
    assert_eq!(fixture.numbers(&Filter { ended: range(None, Some(13)), ..all }), [5]);
    let label = |pairs: &[(&str, &str)]| Filter {
        labels: pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Filter::default()
    };
    assert_eq!(fixture.numbers(&label(&[("team", "a:b")])), [4, 5]);
    assert_eq!(fixture.numbers(&label(&[("team", "a:b"), ("env", "prod")])), [4]);
    assert_eq!(fixture.numbers(&label(&[("team", "a")])), [0; 0]);
}

#[test]
fn attributes_are_compared_as_what_they_are() {
    let mut fixture = Fixture::new();
    for (n, value) in
        [(1, json!("7")), (2, json!(7)), (3, json!(7.0)), (4, json!(8.5)), (5, json!(true)), (6, json!("z"))]
    {
        fixture.ended(with_attribute(n, "a", value));
    }
    fixture.ended(with_attribute(7, "b", json!(7)));
    let equal = |text: &str| attribute("a", Is::Equal(text.to_owned()));
    let number = |relation, number| attribute("a", Is::Number(relation, number));
    assert_eq!(fixture.numbers(&equal("7")), [1, 2, 3]);
    assert_eq!(fixture.numbers(&equal("7.0")), [2, 3]);
    assert_eq!(fixture.numbers(&equal("true")), [5]);
    assert_eq!(fixture.numbers(&equal("z")), [6]);
    assert_eq!(fixture.numbers(&number(Relation::Greater, 7.0)), [4]);
    assert_eq!(fixture.numbers(&number(Relation::GreaterOrEqual, 7.0)), [2, 3, 4]);
    assert_eq!(fixture.numbers(&number(Relation::Less, 8.5)), [2, 3]);
    assert_eq!(fixture.numbers(&number(Relation::LessOrEqual, 8.5)), [2, 3, 4]);
}

#[test]
fn pages_follow_each_other_in_every_order_while_others_arrive() {
    for by in SortBy::ALL {
        for descending in [false, true] {
            let mut fixture = Fixture::new();
            fixture.add(Record::Started(vec![running(1), running(2)]));
            for n in 3..=9 {
                let workflow = if n % 2 == 0 { "a" } else { "b" }.parse().expect("a name");
                fixture.ended(Summary { workflow, ..done(n, ExecutionStatus::Completed, 20 - n % 3) });
            }
            let sort = Sort { by, descending };
            let whole = numbers(&fixture.page(&Filter::default(), sort, None, 100));
            let mut paged = Vec::new();
            let mut cursor = None;
            loop {
                let page = fixture.page(&Filter::default(), sort, cursor, 2);
                paged.extend(numbers(&page));
                let text = page.next.map(|next| next.to_string());
                let Some(text) = text else { break };
                cursor = Some(text.parse().expect("a cursor reads back"));
                // What is newer than all and longer than all, in a workflow before all, comes before or after the pages.
                if paged.len() == 2 {
                    let workflow = if descending { "z" } else { "A" }.parse().expect("a name");
                    let n = if descending { 100 } else { 0 };
                    fixture.ended(Summary {
                        workflow,
                        ..done(n, ExecutionStatus::Completed, if descending { 900 } else { 0 })
                    });
                }
            }
            if descending && matches!(by, SortBy::EndedAt | SortBy::Duration) {
                // Those that run come first, so what has ended meanwhile is still ahead.
                paged.retain(|n| *n != 100);
            }
            assert_eq!(paged, whole, "{by:?} {descending}");
            assert_eq!(whole.len(), 9);
        }
    }
}

#[test]
fn what_runs_is_sorted_after_what_has_ended() {
    let mut fixture = Fixture::new();
    fixture.add(Record::Started(vec![running(1)]));
    fixture.ended(done(2, ExecutionStatus::Completed, 5));
    for by in [SortBy::EndedAt, SortBy::Duration] {
        let sorted = |descending| numbers(&fixture.page(&Filter::default(), Sort { by, descending }, None, 10));
        assert_eq!(sorted(false), [2, 1]);
        assert_eq!(sorted(true), [1, 2]);
    }
}

#[test]
fn a_cursor_is_of_one_query_however_that_is_written() {
    let mut fixture = Fixture::new();
    fixture.add(Record::Started(vec![running(1), running(2)]));
    let statuses = |statuses: &[ExecutionStatus]| Filter { statuses: statuses.to_vec(), ..Filter::default() };
    let filter = statuses(&[ExecutionStatus::Running, ExecutionStatus::Failed]);
    let cursor = fixture.page(&filter, Sort::default(), None, 1).next.expect("another page");
    let reordered = statuses(&[ExecutionStatus::Failed, ExecutionStatus::Running]);
    assert!(Query::new(reordered, Sort::default(), Some(cursor.clone()), 7).is_ok());
    let other = Query::new(Filter::default(), Sort::default(), Some(cursor.clone()), 1);
    assert_eq!(other, Err(ForeignCursor));
    let ascending = Sort { by: SortBy::StartedAt, descending: false };
    assert_eq!(Query::new(filter, ascending, Some(cursor), 1), Err(ForeignCursor));
}

#[test]
fn the_last_word_on_an_execution_counts_whatever_comes_late() {
    let mut fixture = Fixture::new();
    fixture.add(Record::Started(vec![running(1)]));
    assert_eq!(fixture.find(1).map(|found| (found.record, found.parked)), Some((None, false)));
    let parked = fixture.add(Record::Parked(kept(running(1))));
    assert_eq!(fixture.find(1).map(|found| (found.record, found.parked)), Some((Some(parked), true)));
    let failed = fixture.ended(done(1, ExecutionStatus::Failed, 4));
    fixture.add(Record::Started(vec![running(1)]));
    let found = fixture.find(1).expect("it is there");
    assert_eq!((found.summary.status, found.record), (ExecutionStatus::Failed, Some(failed)));

    fixture.add(Record::Started(vec![Summary { round: 1, ..running(1) }]));
    assert_eq!(
        fixture.find(1).map(|found| (found.summary.status, found.record)),
        Some((ExecutionStatus::Running, None))
    );
    fixture.ended(done(1, ExecutionStatus::Failed, 4));
    assert_eq!(fixture.find(1).map(|found| found.summary.status), Some(ExecutionStatus::Running));
    fixture.ended(Summary { round: 1, ..done(1, ExecutionStatus::Completed, 9) });
    assert_eq!(fixture.find(1).map(|found| found.summary.status), Some(ExecutionStatus::Completed));
    assert_eq!(fixture.numbers(&Filter::default()), [1]);
}

#[test]
fn rows_leave_with_their_records_and_parked_ones_stay() {
    let mut fixture = Fixture::new();
    let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
    let short = Summary { retention_ms: 1_000, labels, ..with_attribute(1, "a", json!(1)) };
    let stored = fixture.ended(short);
    fixture.add(Record::Parked(kept(running(2))));
    fixture.add(Record::Started(vec![running(3)]));
    assert_eq!(fixture.index.expire(at(stored)).expect("expired"), 0);
    assert_eq!(fixture.index.expire(at(stored + 1)).expect("expired"), 1);
    assert_eq!(fixture.numbers(&Filter::default()), [2, 3]);
    assert_eq!(fixture.numbers(&attribute("a", Is::Equal("1".to_owned()))), [0; 0]);
    assert_eq!(fixture.index.expire(Timestamp::from_millis(i64::MAX.unsigned_abs() / 2_000)).expect("expired"), 1);
    assert_eq!(fixture.numbers(&Filter::default()), [2]);
}

#[test]
fn figures_are_those_of_the_filter() {
    let mut fixture = Fixture::new();
    let empty = |fixture: &Fixture, filter: &Filter| {
        fixture.readers.read(|connection| queries::metrics(connection, filter)).expect("figures")
    };
    assert_eq!(empty(&fixture, &Filter::default()), Metrics::default());
    fixture
        .add(Record::Started(vec![running(1), Summary { workflow: "other".parse().expect("a name"), ..running(2) }]));
    for n in 1..=20 {
        let status = if n == 20 { ExecutionStatus::Failed } else { ExecutionStatus::Completed };
        fixture.ended(done(10 + n, status, n));
    }
    let filter = Filter { workflows: vec!["orders".parse().expect("a name")], ..Filter::default() };
    let figures = empty(&fixture, &filter);
    assert_eq!(figures.total, 21);
    let by_status = [(ExecutionStatus::Running, 1), (ExecutionStatus::Completed, 19), (ExecutionStatus::Failed, 1)];
    assert_eq!(figures.by_status, BTreeMap::from(by_status));
    assert_eq!(figures.success_rate, Some(0.95));
    let durations = Durations { average: 10_500.0, p50: 10_000.0, p95: 19_000.0, max: 20_000.0 };
    assert_eq!(figures.duration, Some(durations));
}

#[test]
fn a_kept_index_remembers_how_far_it_is_and_a_foreign_one_is_emptied() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.index.reached().expect("reached"), index::Reached { stream: None, sequence: 0 });
    fixture.index.reset(at(77)).expect("reset");
    let sequence = fixture.ended(done(1, ExecutionStatus::Completed, 1));
    let again = Fixture::at(fixture.path.clone());
    let reached = index::Reached { stream: Some(at(77)), sequence };
    assert_eq!(again.index.reached().expect("reached"), reached);
    assert_eq!(again.numbers(&Filter::default()), [1]);
    fixture.index.reset(at(78)).expect("reset");
    assert_eq!(again.numbers(&Filter::default()), [0; 0]);
}

#[test]
fn a_damaged_index_is_begun_anew() {
    let path = std::env::temp_dir().join(format!("millstream-test-{}.sqlite", Uuid::new_v4()));
    std::fs::write(&path, b"this is no database, however long one looks at it").expect("a file");
    let place = Place::Kept(path.clone());
    Opened::open(&place).expect("a new index");
    let fixture = Fixture::at(path);
    assert_eq!(fixture.numbers(&Filter::default()), [0; 0]);
}

#[test]
fn a_temporary_index_leaves_nothing_behind() {
    let left = || {
        let names = std::fs::read_dir(std::env::temp_dir()).expect("a folder").flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().starts_with("millstream-index-")).count()
    };
    let before = left();
    let opened = Opened::open(&Place::Temporary).expect("an index");
    assert!(left() <= before);
    drop(opened);
}
