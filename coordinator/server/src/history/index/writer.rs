//! The thread that writes: it takes what has arrived in one transaction.

use std::thread;

use millstream_broker::HistoryMessage;
use millstream_model::history::Record;
use millstream_model::time::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Index, IndexError, Indexed};

/// Records of one transaction.
const BATCH_MAX: usize = 2_000;
/// Records that wait for the thread; then reading waits too.
const WAITING_MAX: usize = 4_000;

/// What the thread is told to do, in this order.
#[derive(Debug)]
pub enum Work {
    /// Another stream is read from its beginning.
    Reset(Timestamp),
    Add(HistoryMessage),
    /// Drop what has run out by this moment.
    Expire(Timestamp),
}

/// How far the index is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last record that can be found.
    pub sequence: u64,
    /// Whether it has caught up with the stream once.
    pub complete: bool,
}

/// A thread and the way to it.
#[derive(Debug)]
pub struct Writer {
    pub work: mpsc::Sender<Work>,
    /// Told when the thread gives up; closed when it ends otherwise.
    pub failed: oneshot::Receiver<IndexError>,
}

impl Writer {
    /// Starts the thread. It ends when [`Self::work`] is dropped, or with the first failure.
    pub fn start(mut index: Index, progress: watch::Sender<Progress>) -> Result<Self, IndexError> {
        let (work, mut waiting) = mpsc::channel(WAITING_MAX);
        let (fail, failed) = oneshot::channel();
        let run = move || {
            let mut taken = Vec::with_capacity(BATCH_MAX);
            while waiting.blocking_recv_many(&mut taken, BATCH_MAX) > 0 {
                if let Err(error) = perform(&mut index, taken.drain(..), &progress) {
                    // Nobody asks any more when the coordinator stops.
                    drop(fail.send(error));
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("history-index".to_owned());
        thread.spawn(run).map_err(|source| IndexError::Thread { source })?;
        Ok(Self { work, failed })
    }
}

fn perform(
    index: &mut Index,
    works: impl Iterator<Item = Work>,
    progress: &watch::Sender<Progress>,
) -> Result<(), IndexError> {
    let mut records: Vec<Indexed> = Vec::new();
    for work in works {
        match work {
            Work::Add(HistoryMessage { sequence, time, payload, .. }) => {
                records.push(Indexed { sequence, time, record: Record::decode(&payload) });
            }
            Work::Reset(stream) => {
                records.clear();
                index.reset(stream)?;
                progress.send_modify(|progress| progress.sequence = 0);
            }
            Work::Expire(now) => {
                add(index, &mut records, progress)?;
                index.expire(now)?;
            }
        }
    }
    add(index, &mut records, progress)
}

fn add(index: &mut Index, records: &mut Vec<Indexed>, progress: &watch::Sender<Progress>) -> Result<(), IndexError> {
    let Some(last) = records.last().map(|record| record.sequence) else { return Ok(()) };
    index.add(records)?;
    records.clear();
    progress.send_modify(|progress| progress.sequence = last);
    Ok(())
}
