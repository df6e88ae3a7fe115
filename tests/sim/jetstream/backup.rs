//! Streams that go back to what they were: a directory that was copied and put back, a volume that was rolled back.
//!
//! ```text
//!   backup ──▶ appends, purges ──▶ restore + crash ──▶ other appends under the same sequences
//! ```

use super::Server;
use super::refusal::Refusal;
use super::stream::Stream;

/// What a stream was at a moment: messages, sequences, the time of its creation, and what its consumers had written.
#[derive(Debug, Clone)]
pub struct Backup {
    stream: Stream,
}

impl Server {
    /// Copies a stream.
    pub fn backup(&self, stream: &str) -> Result<Backup, Refusal> {
        Ok(Backup { stream: self.stream(stream)?.clone() })
    }

    /// Puts a copy in the place of a stream: messages that were purged since are there again, those that came since are
    /// not, and their sequences are given once more. It is still the stream that was created then. Follow it with
    /// [`Self::crash`]: nobody replaces the files of a server that runs.
    pub fn restore(&mut self, backup: &Backup) {
        self.changes += 1;
        let stream = backup.stream.clone();
        self.streams.insert(stream.config().name.as_str().into(), stream);
    }
}
