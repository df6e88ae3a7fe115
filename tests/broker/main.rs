//! The broker's promises, against a real nats-server.

mod catalog;
mod claims;
mod doctor;
mod fixture;
mod history;
mod journal;
mod leases;
mod payloads;
mod permissions;
mod provisioning;
mod pulls;
mod questions;
mod queue;
mod raw_nats;
mod snapshots;
