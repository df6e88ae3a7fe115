//! Keeping the index up with the stream, and building it anew when it is of no use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use millstream_broker::{Broker, HistoryReader, ReadError};
use millstream_model::time::Timestamp;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::index::{Index, IndexError, Progress, Reached, Readers, Work, Writer};

/// Between two looks for what has run out. A stream that is silent for as long has been read to its end.
const TICK: Duration = Duration::from_secs(1);
/// Before what did not work is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Where the index is kept.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Over restarts.
    Kept(PathBuf),
    /// For the life of the process.
    Temporary,
}

/// A file that is open.
pub(super) struct Opened {
    index: Index,
    readers: Readers,
    reached: Reached,
}

impl Opened {
    /// Opens the index. One that is damaged is removed and begun anew.
    pub(super) fn open(place: &Place) -> Result<Self, IndexError> {
        let path = match place {
            Place::Kept(path) => path.clone(),
            Place::Temporary => std::env::temp_dir().join(format!("millstream-index-{}.sqlite", Uuid::new_v4())),
        };
        let opened = match try_open(&path, place) {
            Err(error) if error.is_damage() => {
                tracing::warn!(%error, "the index is damaged; it is built anew");
                remove(&path)?;
                try_open(&path, place)?
            }
            outcome => outcome?,
        };
        if cfg!(unix) && matches!(place, Place::Temporary) {
            // What is open stays, and nothing is left behind however the process ends.
            remove(&path)?;
        }
        Ok(opened)
    }
}

fn try_open(path: &Path, place: &Place) -> Result<Opened, IndexError> {
    let index = Index::open(path, matches!(place, Place::Kept(_)))?;
    let reached = index.reached()?;
    let readers = Readers::open(path)?;
    Ok(Opened { index, readers, reached })
}

fn remove(path: &Path) -> Result<(), IndexError> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(IndexError::Remove { path: name.into(), source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// What keeps the index going, in a task of its own.
pub(super) struct Feeding {
    pub(super) broker: Broker,
    pub(super) place: Place,
    pub(super) readers: watch::Sender<Option<Arc<Readers>>>,
    pub(super) progress: watch::Sender<Progress>,
    /// A query has met damage.
    pub(super) damaged: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

impl Feeding {
    pub(super) async fn run(self, opened: Opened) {
        let mut next = Some(opened);
        while !self.stop.is_cancelled() {
            let outcome = match next.take() {
                Some(opened) => self.use_up(opened).await,
                None => match self.open_again().await {
                    Ok(opened) => {
                        next = Some(opened);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, "the index of the history has failed; it is opened anew");
                self.stop.run_until_cancelled(sleep(RETRY)).await;
            }
        }
        self.readers.send_replace(None);
    }

    async fn open_again(&self) -> Result<Opened, IndexError> {
        let place = self.place.clone();
        tokio::task::spawn_blocking(move || Opened::open(&place)).await.map_err(|_| IndexError::Closed)?
    }

    /// Feeds the index until it fails, or the coordinator stops.
    async fn use_up(&self, opened: Opened) -> Result<(), IndexError> {
        let Opened { index, readers, reached } = opened;
        self.progress.send_replace(Progress { sequence: reached.sequence, complete: false });
        self.readers.send_replace(Some(Arc::new(readers)));
        let Writer { work, failed } = Writer::start(index, self.progress.clone())?;
        let outcome = tokio::select! {
            () = self.stop.cancelled() => Ok(()),
            Ok(error) = failed => Err(error),
            () = self.damaged.notified() => Err(self.give_up()),
            () = self.feed(&work, reached) => Err(IndexError::Closed),
        };
        if outcome.as_ref().is_err_and(IndexError::is_damage) {
            self.give_up();
        }
        outcome
    }

    /// Takes the file away, so that the next one is begun anew.
    fn give_up(&self) -> IndexError {
        self.readers.send_replace(None);
        if let Place::Kept(path) = &self.place
            && let Err(error) = remove(path)
        {
            return error;
        }
        IndexError::Closed
    }

    /// Reads the stream for ever; returns when nobody takes it.
    async fn feed(&self, work: &mpsc::Sender<Work>, reached: Reached) {
        let mut reached = reached;
        loop {
            match self.broker.read_history(reached.sequence + 1).await {
                Ok(reader) if reached.stream == Some(reader.created()) => {
                    reached.sequence = match self.follow(work, reader).await {
                        Ok(sequence) => sequence,
                        Err(Closed) => return,
                    };
                }
                Ok(reader) => {
                    if work.send(Work::Reset(reader.created())).await.is_err() {
                        return;
                    }
                    reached = Reached { stream: Some(reader.created()), sequence: 0 };
                    continue;
                }
                Err(
                    error
                    @ (ReadError::WentBackwards { .. } | ReadError::Rewritten { .. } | ReadError::Replaced { .. }),
                ) => {
                    tracing::warn!(%error, "the history is another; its index is built anew");
                    reached = Reached { stream: None, sequence: 0 };
                    continue;
                }
                Err(error) => tracing::debug!(%error, "the history cannot be read yet"),
            }
            sleep(RETRY).await;
        }
    }

    /// Hands over what the reader gives until the stream ends. Returns the last sequence.
    async fn follow(&self, work: &mpsc::Sender<Work>, mut reader: HistoryReader) -> Result<u64, Closed> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent = false;
        loop {
            let next = tokio::select! {
                message = reader.next() => match message {
                    Ok(message) => {
                        silent = false;
                        Work::Add(message)
                    }
                    Err(error) if error.is_retryable() => continue,
                    Err(error) => {
                        tracing::warn!(%error, "the history is not what it was");
                        return Ok(reader.position() - 1);
                    }
                },
                _ = ticks.tick() => {
                    if silent && work.capacity() == work.max_capacity() {
                        self.progress.send_if_modified(|progress| !std::mem::replace(&mut progress.complete, true));
                    }
                    silent = true;
                    Work::Expire(wall_clock())
                }
            };
            work.send(next).await.map_err(|_| Closed)?;
        }
    }
}

/// The writer's thread has ended.
struct Closed;

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
