//! The owner's decisions, without NATS: what it asks of the world and when, and what it makes of the answers.

mod fixture;

mod appends;
mod fold;
mod keeping;
mod outages;
mod publishes;
mod values;
