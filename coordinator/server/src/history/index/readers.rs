//! Connections that read.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};

use super::IndexError;

/// Queries at the same time.
const CONNECTIONS: usize = 4;

/// A few connections that read what is committed.
#[derive(Debug)]
pub struct Readers {
    path: PathBuf,
    /// Each is locked while it runs a query, on a thread that may wait.
    connections: [Mutex<Connection>; CONNECTIONS],
    next: AtomicUsize,
}

impl Readers {
    /// Opens them on a file that a writer has prepared.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.pragma_update(None, "cache_size", -16_384)?;
            connection.pragma_update(None, "temp_store", "MEMORY")?;
            // The file itself is opened by the first that reads it.
            connection.query_row("SELECT count(*) FROM meta", [], |_| Ok(()))?;
            Ok(Mutex::new(connection))
        };
        let of = |source| IndexError::of(path, source);
        let connections = [open().map_err(of)?, open().map_err(of)?, open().map_err(of)?, open().map_err(of)?];
        Ok(Self { path: path.to_owned(), connections, next: AtomicUsize::new(0) })
    }

    /// Reads; blocks the thread.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, IndexError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS;
        // A query that panicked has left its connection as it was.
        let connection = self.connections[turn].lock().unwrap_or_else(PoisonError::into_inner);
        query(&connection).map_err(|source| IndexError::of(&self.path, source))
    }
}
