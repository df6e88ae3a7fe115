//! What the suites share: real processes, a real nats-server, a client, a witness of side effects.
//!
//! Nothing here knows how Millstream works inside. Processes are started from the binaries and
//! asked over HTTP, so that a suite sees what a user sees.
//!
//! - where things are: [`workspace`], [`binaries`], [`temp_dir`]
//! - what runs: [`nats`], [`process`], [`cluster`]
//! - what is asked and seen: [`api`], [`sse`], [`witness`], [`collector`], [`wait`]
//! - what is simulated: [`simulation`]
//! - what is killed, paused, cut off: [`chaos`]

pub mod api;
pub mod binaries;
#[path = "../chaos/chaos.rs"]
pub mod chaos;
pub mod cluster;
pub mod collector;
pub mod nats;
pub mod process;
#[path = "../sim/simulation.rs"]
pub mod simulation;
pub mod sse;
pub mod temp_dir;
pub mod wait;
pub mod witness;
pub mod workspace;
