//! NATS JetStream as Millstream uses it: the only crate that names async-nats.
//!
//! A [`Broker`] is one connection; it is cheap to clone. What lives in NATS is named by
//! [`millstream_model::names`] and configured in `layout.rs`.
//!
//! - connection: [`Broker::connect`], reconnects for ever by itself
//! - truth: [`Broker::append_control`], [`Broker::append_results`], [`Broker::read_journal`],
//!   [`Broker::purge_journal`]
//! - snapshots of it: [`Broker::put_snapshot`], [`Broker::snapshot_pointer`]
//! - queue: [`Broker::publish_task`], [`Broker::task_puller`], [`Broker::scan_tasks`]
//! - values: [`Broker::put_payload`], [`Broker::get_payload`]
//! - small records: definitions, agents, claims, presence, cancelled executions
//! - who owns what: [`Broker::take_lease`], [`Broker::announce_coordinator`], [`Broker::watch_leases`]
//! - what remains: [`Broker::append_history`], [`Broker::read_history`], [`Broker::append_audit`]
//! - what is not stored: [`Broker::publish_live`], [`Broker::subscribe_live`]; questions and answers, see
//!   [`Broker::serve`], [`Broker::ask`], [`Broker::ask_stream`]
//! - how it is: [`Broker::server_facts`], [`Broker::stream_facts`], [`Broker::probe_permissions`]

mod acks;
mod answer;
mod ask;
mod audit;
mod base64;
mod bucket;
mod cancelled;
mod catalog;
mod claims;
mod connection;
mod doctor;
mod drift;
mod feed;
mod frames;
mod get;
mod history;
mod journal;
mod layout;
mod leases;
mod live;
mod message;
mod objects;
mod payloads;
mod permissions;
mod presence;
mod provision;
mod puller;
mod reader;
mod replies;
mod request;
mod snapshots;
mod stored;
mod stream_reader;
mod tasks;
mod watch;

pub use acks::{AckError, Acker};
pub use answer::{AnswerSender, Question, Questions};
pub use ask::Answers;
pub use audit::{AuditAppendError, AuditMessage, AuditReader};
pub use cancelled::CancelledWatch;
pub use catalog::{AgentChange, AgentWatch, DefinitionRecord};
pub use claims::{ClaimError, ClaimHandle, ClaimOutcome};
pub use connection::{Broker, BrokerConfig, ConnectError};
pub use doctor::{AccountFacts, ClockFacts, FoundStream, PeerFacts, ServerFacts, StreamFacts, Usage};
pub use drift::Difference;
pub use history::{HistoryMessage, HistoryReader};
pub use journal::{AppendError, Appended, JournalState};
pub use layout::{Storage, Topology};
pub use leases::{LeaseChange, LeaseError, LeaseWatch};
pub use live::LiveEvents;
pub use payloads::PayloadError;
pub use permissions::{Action, Permission, Verdict};
pub use provision::ProvisionError;
pub use puller::{Delivery, PullError, TaskPuller};
pub use reader::{JournalMessage, JournalReader};
pub use request::{RequestError, StoreError};
pub use stream_reader::{ReadError, StreamSummary};
pub use tasks::{PublishError, PublishedTask, ScanError};
