//! The broker's promises, against a real nats-server.

mod catalog;
mod claims;
mod fixture;
mod journal;
mod payloads;
mod permissions;
mod provisioning;
mod pulls;
mod queue;
mod raw_nats;
