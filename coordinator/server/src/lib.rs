//! Owns partitions, folds journals, performs effects, serves the REST API.

pub mod catalog;
pub mod cluster;
pub mod config;
pub mod coordinator;
pub mod http;
pub mod owner;
