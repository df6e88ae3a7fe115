//! The simulated world: Millstream's own state machines over a modelled broker, seeded, in one thread, in virtual time.
//!
//! What decides in production decides here: the owner's core (`coordinator/server/src/owner/core.rs`), the core of the
//! leases (`coordinator/server/src/leases/core.rs`), the engine, the worker's protocol (`worker/src/protocol.rs`). What
//! surrounds them is made up: JetStream, the network, clocks, agents, clients. Nothing reads a real clock, draws a real
//! random number, runs in a second thread or iterates over a hash map; a seed run twice gives the same bytes of trace.
//!
//! ```text
//!        clients ──ask──▶ Coordinator ──commands──▶ ┌─ Physics ───────────────┐ ─▶ Broker (Server of `jetstream`)
//!           ▲               (real Core)             │ agenda, network, clocks │      │ journal, tasks, claims, marks
//!           └───answers───────┘  ◀──replies, pushes─│ dice: loss, delay, …    │ ◀────┤
//!                                                   └─────────────────────────┘      │
//!                           Worker  ──requests───────────▲            ▲──────────────┘
//!                        (real protocol) ──side effects─▶ Witness
//!
//!   strikes: crash, pause, disconnect, full disk, lost stream, clock jump …     plants: bugs of the shells and the fold
//!   Checker: folds what the broker stored, compares with owners, witness and definitions after everything that happens
//! ```
//!
//! - what is asked for: [`workload`] (definitions, agents, wishes), [`client`]
//! - what it runs on: [`physics`], [`agenda`], [`network`], [`clocks`], [`broker`], [`jetstream`], [`request`]
//! - who runs: [`coordinator`] (leases, recovery from a snapshot, records, parked executions, the cut journal),
//!   [`worker`]; all of it in [`world`], which says what [`happening`]s do
//! - what goes wrong: [`faults`] (which, in which seed), [`strikes`] (those that have a time); [`coverage`]: in which phase
//! - what must hold: [`invariants`], with the [`witness`]
//! - how it is shown to bite: [`plants`], [`tamper`]
//! - how it is run: [`run`], the suite `suite.rs`, and for people
//!
//! ```text
//! cargo run --release -p millstream-tests --bin sim -- --seeds 1000 --coverage
//! cargo run --release -p millstream-tests --bin sim -- --seeds 1 --from 77 --trace
//! cargo run --release -p millstream-tests --bin sim -- --seeds 10000 --plant forget-claim
//! ```
//!
//! A world has a time of chaos, in which the faults of its seed strike, and then it is healed: from there on everything
//! must come to its end. It ends when everything is done and has been for a while, or when nothing has moved for longer
//! than anything could take; then it tells what is outstanding.
//!
//! Owners of a world let go early of what they hold: executions that wait for a second are parked, snapshots are taken
//! after a few entries. Coordinators of some worlds are of an older build until the world is healed. A world whose
//! journal goes backwards ends there; what is seen of it is whether everybody stops.
//!
//! A seed that fails prints the command that repeats it, with as few faults as it needs. It goes to `regressions.txt`
//! once it is understood.

pub mod agenda;
pub mod broker;
pub mod client;
pub mod clocks;
pub mod coordinator;
pub mod coverage;
pub mod dice;
pub mod faults;
pub mod happening;
pub mod invariants;
pub mod jetstream;
pub mod network;
pub mod physics;
pub mod plants;
pub mod request;
pub mod run;
pub mod strikes;
pub mod tamper;
pub mod trace;
pub mod witness;
pub mod worker;
pub mod workload;
pub mod world;
