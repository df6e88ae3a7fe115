//! Measures how fast the index of the history is built anew: `index_rebuild [executions] [nats URL]`.
//!
//! Each execution has two records, of its start and its end, with labels, attributes and a transcript of a few steps.
//! Without a URL the records come from memory, and what is measured is reading and indexing them.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use millstream_broker::{Broker, BrokerConfig, HistoryMessage};
use millstream_coordinator::history::index::{Index, Progress, Work, Writer};
use millstream_coordinator::history::{Filter, History, Query, Sort, summary};
use millstream_model::hash::ContentHash;
use millstream_model::history::{Kept, KeptIn, Record, Summary};
use millstream_model::ids::{ExecutionId, Namespace, Partition};
use millstream_model::time::Timestamp;
use millstream_model::trace::TraceId;
use millstream_model::view::{Counts, ExecutionStatus};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Bytes of a compressed transcript of five steps.
const TRANSCRIPT: usize = 1_500;
/// Appends that are under way at the same time.
const WINDOW: usize = 256;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    match arguments.next() {
        None => from_memory(count).await,
        Some(url) => from_broker(count, url).await,
    }
}

async fn from_memory(count: u64) -> anyhow::Result<()> {
    let path = std::env::temp_dir().join(format!("millstream-rebuild-{}.sqlite", Uuid::new_v4()));
    let index = Index::open(&path, false)?;
    let (progress, mut reached) = watch::channel(Progress::default());
    let messages: Vec<HistoryMessage> = records(count)
        .zip(1..)
        .map(|(record, sequence)| HistoryMessage {
            sequence,
            time: Timestamp::from_millis(1_790_000_000_000 + sequence),
            partition: Partition(0),
            payload: record.encode(),
        })
        .collect();
    let last = messages.len() as u64;
    let start = Instant::now();
    let writer = Writer::start(index, progress)?;
    for message in messages {
        writer.work.send(Work::Add(message)).await.context("the writer has failed")?;
    }
    reached.wait_for(|progress| progress.sequence == last).await?;
    report("from memory", count, start);
    let size = std::fs::metadata(&path)?.len() / count;
    println!("{size} bytes of index per execution");
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", path.display())).ok();
    }
    Ok(())
}

/// Of a broker whose history is empty.
async fn from_broker(count: u64, url: String) -> anyhow::Result<()> {
    let broker = Broker::connect(BrokerConfig { url, ..BrokerConfig::default() }).await?;
    broker.provision(&millstream_broker::Topology { partitions: 1, ..Default::default() }).await?;
    let mut under_way = tokio::task::JoinSet::new();
    for record in records(count) {
        if under_way.len() >= WINDOW {
            under_way.join_next().await.context("there are some")???;
        }
        let broker = broker.clone();
        under_way.spawn(async move {
            let ttl = summary::time_to_live(&record);
            broker.append_history(Partition(0), None, record.encode(), ttl).await.map(drop)
        });
    }
    while let Some(appended) = under_way.join_next().await {
        appended??;
    }
    let start = Instant::now();
    let stop = CancellationToken::new();
    let history = History::start(broker.clone(), None, stop.clone()).await?;
    let last = broker.history_state().await?.last;
    while !history.caught_up(last).await {}
    report("from the stream", count, start);
    let start = Instant::now();
    let page = history.list(Query::new(Filter::default(), Sort::default(), None, 50)?).await?;
    println!("a page of {} in {:.1} ms", page.executions.len(), start.elapsed().as_secs_f64() * 1e3);
    stop.cancel();
    Ok(())
}

fn report(what: &str, count: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{count} executions {what} in {seconds:.2} s: {:.0} executions/s", count as f64 / seconds);
}

/// The starts, 128 to a record, each followed by the ends.
fn records(count: u64) -> impl Iterator<Item = Record> {
    (0..count.div_ceil(128)).flat_map(move |batch| {
        let members = batch * 128..((batch + 1) * 128).min(count);
        let started = Record::Started(members.clone().map(|n| summary_of(n, ExecutionStatus::Running)).collect());
        std::iter::once(started).chain(members.map(ended))
    })
}

fn ended(n: u64) -> Record {
    let status = if n.is_multiple_of(20) { ExecutionStatus::Failed } else { ExecutionStatus::Completed };
    let transcript: Vec<u8> = ContentHash::of(&n.to_le_bytes()).as_bytes().repeat(TRANSCRIPT.div_ceil(32));
    Record::Ended(Kept {
        summary: summary_of(n, status),
        state: ContentHash::of(b"state"),
        entries: 12,
        text: 9_000,
        transcript: KeptIn::Here(Bytes::from(transcript)),
    })
}

fn summary_of(n: u64, status: ExecutionStatus) -> Summary {
    let unique = ContentHash::of(&n.to_be_bytes());
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    id[8..].copy_from_slice(&unique.as_bytes()[..8]);
    let execution = ExecutionId::new(Uuid::from_bytes(id), Partition(0));
    let started_at = Timestamp::from_millis(1_790_000_000_000 + n);
    Summary {
        execution,
        ns: Namespace::default(),
        workflow: format!("workflow-{}", n % 10).parse().expect("a name"),
        definition: ContentHash::of(b"definition"),
        status,
        partial: false,
        started_at,
        ended_at: status.is_terminal().then(|| started_at.plus_millis(10 + n % 5_000)),
        labels: BTreeMap::from([("team".to_owned(), format!("team-{}", n % 7))]),
        attributes: BTreeMap::from([
            ("order".to_owned(), json!(format!("order-{n}"))),
            ("total".to_owned(), json!(n % 1_000)),
        ]),
        error: None,
        counts: Counts::default(),
        steps: 5,
        round: 0,
        trace: TraceId::of(execution),
        fork_of: None,
        retention_ms: 30 * 24 * 3_600_000,
    }
}
