//! The words of Millstream.
//!
//! Floor 0: everything that is said between its parts, and nothing that acts. No clock, no
//! randomness, no IO: whoever needs those brings them.
//!
//! - what people write: [`definition`], [`source`], [`validate`], [`schema`], compiled into a [`plan`]
//! - expressions: [`expression`]
//! - what is journaled and sent: [`entry`], [`batch`], [`task`], [`payload`], [`agent`]
//! - what people read: [`event`], [`view`], [`error`], [`audit`]
//! - ids, names, limits: [`ids`], [`names`], [`position`], [`time`], [`hash`], [`token`], [`trace`], [`limits`]

pub mod agent;
pub mod audit;
pub mod batch;
pub mod definition;
pub mod elements;
pub mod entry;
pub mod error;
pub mod event;
pub mod expression;
pub mod hash;
pub mod history;
pub mod ids;
pub mod lease;
pub mod limits;
pub mod names;
pub mod payload;
pub mod plan;
pub mod position;
pub mod schema;
pub mod snapshot;
pub mod source;
mod suggestion;
pub mod task;
pub mod time;
pub mod token;
pub mod trace;
pub mod transcript;
pub mod validate;
pub mod view;
