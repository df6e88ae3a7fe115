//! NATS JetStream as Millstream uses it: the only crate that names async-nats.
//!
//! A [`Broker`] is one connection; it is cheap to clone. What lives in NATS is named by
//! [`millstream_model::names`] and configured in `layout.rs`.
//!
//! - connection: [`Broker::connect`], reconnects for ever by itself
//! - truth: [`Broker::append_control`], [`Broker::append_results`], [`Broker::read_journal`]
//! - queue: [`Broker::publish_task`], [`Broker::task_puller`], [`Broker::scan_tasks`]
//! - values: [`Broker::put_payload`], [`Broker::get_payload`]
//! - small records: definitions, agents, claims, presence, cancelled executions
//! - what is not stored: [`Broker::publish_live`], [`Broker::subscribe_live`]

mod acks;
mod base64;
mod bucket;
mod cancelled;
mod catalog;
mod claims;
mod connection;
mod drift;
mod feed;
mod get;
mod journal;
mod layout;
mod live;
mod message;
mod payloads;
mod presence;
mod provision;
mod puller;
mod reader;
mod replies;
mod request;
mod stored;
mod tasks;
mod watch;

pub use acks::{AckError, Acker};
pub use cancelled::CancelledWatch;
pub use catalog::{AgentChange, AgentWatch, DefinitionRecord};
pub use claims::{ClaimError, ClaimHandle, ClaimOutcome};
pub use connection::{Broker, BrokerConfig, ConnectError};
pub use drift::Difference;
pub use journal::{AppendError, Appended, JournalState};
pub use layout::{Storage, Topology};
pub use live::LiveEvents;
pub use payloads::PayloadError;
pub use provision::ProvisionError;
pub use puller::{Delivery, PullError, TaskPuller};
pub use reader::{JournalMessage, JournalReader, ReadError};
pub use request::{RequestError, StoreError};
pub use tasks::{PublishError, PublishedTask, ScanError};
