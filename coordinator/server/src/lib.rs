//! Owns partitions, folds journals, performs effects, serves the REST API.

pub mod audit;
pub mod catalog;
pub mod cluster;
pub mod config;
pub mod coordinator;
pub mod history;
pub mod http;
pub mod leases;
pub mod metrics;
pub mod owner;
