//! Limits of the API that no other room needs to know; the others are in `millstream_model::limits`.

use std::time::Duration;

/// Body of `POST` and `PUT /agents`.
pub const AGENT_SIZE_MAX: usize = 256 * 1024;
/// Characters of an `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_LENGTH_MAX: usize = 255;
/// Characters of a label's name.
pub const LABEL_NAME_LENGTH_MAX: usize = 63;
/// Characters of a label's value.
pub const LABEL_VALUE_LENGTH_MAX: usize = 256;
/// Body of `POST /executions/{id}/resume`.
pub const RESUME_SIZE_MAX: usize = 16 * 1024;
/// Bytes of a reason for a cancel, a resume or a fork.
pub const REASON_LENGTH_MAX: usize = 1_024;
/// Bytes of the name of who asks for one of them.
pub const BY_LENGTH_MAX: usize = 256;
/// Records of one page of `GET /audit`, unless it asks for another number, and at most.
pub const AUDIT_PAGE: usize = 100;
pub const AUDIT_PAGE_MAX: usize = 1_000;
/// Violations of a schema that one answer lists.
pub const VIOLATIONS_MAX: usize = 100;
/// Executions of a page of a list, unless the caller says.
pub const LIST_LIMIT: usize = 50;
/// Executions that a page of a list may have.
pub const LIST_LIMIT_MAX: usize = 500;
/// Entries of a page, unless the caller says.
pub const ENTRIES_LIMIT: usize = 1_000;
/// Entries that a page may have.
pub const ENTRIES_LIMIT_MAX: usize = 10_000;
/// A longer `?wait=` waits this long.
pub const WAIT_MAX: Duration = Duration::from_secs(300);
/// JSON text above which it is read off the event loop.
pub const INLINE_PARSE_MAX: usize = 256 * 1024;

/// A request's line and headers must be here this long after the connection's last answer.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The next piece of a body must be here this long after the last one.
pub const BODY_STALL_MAX: Duration = Duration::from_secs(30);
/// A client that takes nothing of its answer for this long is dropped.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// How long the rest of a refused body is read, so that the client comes to read the refusal.
pub const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);
/// How much of a refused body is read.
pub const DISCARD_SIZE_MAX: usize = 256 * 1024 * 1024;
/// How long open requests may take after a stop.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Connections at a time.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Silence after which an event stream gets a comment, so that nothing between takes it for dead.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
