//! What can be said about the audit trail.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use millstream_model::audit::Head;

use super::{Nats, Server};

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Checks that the audit trail is whole: nothing is altered, removed or moved, and names the first bad record
    Verify(VerifyAudit),
    /// Lists what was decided, the newest first
    List(ListAudit),
}

#[derive(Debug, Args)]
pub(crate) struct VerifyAudit {
    /// A file of the backend jsonl or sqlite [default: the trail in NATS]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// A record that must be there, as an earlier check told it: only so is a cut-off end seen
    #[arg(long, value_name = "SEQ:HASH")]
    pub expect_head: Option<Head>,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub nats: Nats,
}

#[derive(Debug, Args)]
pub(crate) struct ListAudit {
    /// Only what belongs to this trace
    #[arg(long, value_name = "ID")]
    pub trace: Option<String>,
    /// Only what is about this execution
    #[arg(long, value_name = "ID")]
    pub execution: Option<String>,
    /// Only plan, routing, policy, approval, adaptation or admin
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Only what was done on behalf of this one
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Only what is later than this time, as 2026-01-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub after: Option<String>,
    /// Only what is earlier than this time
    #[arg(long, value_name = "TIME")]
    pub before: Option<String>,
    /// Goes on behind the record with this number
    #[arg(long, value_name = "SEQ")]
    pub cursor: Option<u64>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: u32,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: Server,
}
