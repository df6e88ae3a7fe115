//! Process chaos: a real cluster under real kills and pauses, watched from outside.
//!
//! ```text
//!  clients ──► coordinators ×3 ──► nats-server ×3 (R3, sync_interval: always)
//!                                        │
//!  witness ◄── workers ×4 ◄──────────────┘       strikes: kill -9, SIGSTOP, on any of these ten
//! ```
//!
//! Everything random comes from one seed: the strikes, the load, who is asked, which calls the witness refuses. The
//! [`schedule`] is printed before the first strike; the same seed and settings give the same one. The witness and the
//! clients live in the harness and are not struck.
//!
//! What is claimed afterwards is in [`judge`]; how long things took is in [`figures`].
//! [`network`] and [`power`] use the same world with cut cables and cut disks; they need root and are run on demand.

pub mod arguments;
pub mod client;
pub mod figures;
pub mod judge;
pub mod ledger;
pub mod load;
pub mod network;
pub mod power;
pub mod privileged;
pub mod record;
pub mod schedule;
pub mod servers;
pub mod settings;
pub mod storm;
pub mod verify;
pub mod workflow;
pub mod world;

use std::sync::Arc;
use std::time::Duration;

use crate::chaos::judge::Verdict;
use crate::chaos::ledger::Ledger;
use crate::chaos::load::Load;
use crate::chaos::record::{Happened, now_ms};
use crate::chaos::settings::Settings;
use crate::chaos::world::{Ground, World};

/// Runs the chaos of `settings` and judges it. The world's directory stays when the verdict is not clean.
///
/// # Panics
/// When the world cannot be built at all.
pub async fn run(settings: &Settings) -> Verdict {
    let strikes = schedule::schedule(settings);
    print!("{}", schedule::render(settings, &strikes));
    let ledger = Ledger::open(settings.seed, "127.0.0.1");
    let mut world = World::build(settings, Ground::loopback()).await;
    println!("the world is in {}", world.directory().display());
    let spread = Duration::from_millis(schedule::end_ms(&strikes));
    let load = Load::start(settings, Arc::clone(world.clients()), &ledger, spread).await;
    let happened = storm::storm(&mut world, &strikes).await;
    finish(settings, world, load, &ledger, happened).await
}

/// Waits for the load's end, asks all that can be asked, stops the world and judges.
async fn finish(
    settings: &Settings,
    mut world: World,
    load: Load,
    ledger: &Ledger,
    happened: Vec<Happened>,
) -> Verdict {
    let calm = now_ms();
    let settled = load.settle(settings.settle).await;
    let settled_ms = now_ms() - calm;
    println!("settled {settled_ms} ms after the last strike");
    let evidence = judge::gather(&world, &settled).await;
    let fallen = world.fallen();
    let verified = verify::verify(&mut world, &evidence).await;
    let calls = ledger.calls();
    std::fs::write(world.directory().join("witness.jsonl"), ledger.text())
        .expect("the world's directory can be written");
    let verdict = judge::judge(settings, &settled, &evidence, &calls, &happened, &fallen, verified);
    print!("{}", figures::figures(&settled, &evidence, &calls, &happened, settled_ms));
    print!("{verdict}");
    world.end(verdict.is_clean() && !settings.keep);
    verdict
}
