//! Cut power: each nats-server on a small disk of its own, and disks that from one moment on take nothing more.
//!
//! | case | `sync_interval` | who loses power | expected |
//! |---|---|---|---|
//! | all, always | `always` | everything | nothing acknowledged is lost |
//! | one, always | `always` | the server that leads most journals | nothing acknowledged is lost |
//! | all, default | two minutes | everything | executions are lost: the harness bites |

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::chaos;
use crate::chaos::client::Clients;
use crate::chaos::ledger::Ledger;
use crate::chaos::load::Load;
use crate::chaos::privileged::{self, Script};
use crate::chaos::record::{Happened, What, now_ms};
use crate::chaos::schedule::Target;
use crate::chaos::settings::Settings;
use crate::chaos::world::{Ground, World};
use crate::temp_dir::TempDir;
use crate::wait::lasting;

/// Size of a disk.
const MEGABYTES: &str = "512";
/// How long the load runs before the power goes.
const LIGHT: Duration = Duration::from_secs(12);
/// How long it stays dark.
const DARK: Duration = Duration::from_secs(2);
/// How long a world that lost what it must not lose gets to show that.
const AFTERMATH: Duration = Duration::from_secs(40);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    All,
    Leader,
}

/// Runs every case; `false` when one of them did not end as expected.
///
/// # Panics
/// When a world cannot be built.
pub async fn run(settings: &Settings) -> bool {
    if let Some(missing) = privileged::missing(&["mkfs.ext4", "mount", "umount", "losetup", "python3", "bash"]) {
        println!("SKIPPED: no power is cut: {missing}");
        return true;
    }
    let mut as_expected = true;
    for (who, sync_always) in [(Who::All, true), (Who::Leader, true), (Who::All, false)] {
        println!("---- power of {who:?} fails, sync_interval {}", if sync_always { "always" } else { "by default" });
        as_expected &= case(&Settings { sync_always, ..settings.clone() }, who).await;
    }
    as_expected
}

async fn case(settings: &Settings, who: Who) -> bool {
    let directory = TempDir::new("disks");
    let at = directory.path().display().to_string();
    let disks = Script::new("tests/chaos/power/disks.sh", &["down", &at]);
    disks.call(&["up", &at, &settings.replicas.to_string(), MEGABYTES]);
    let stores: Vec<PathBuf> = (1..=settings.replicas).map(|i| directory.join(format!("disk-{i}/store"))).collect();

    let ledger = Ledger::open(settings.seed, "127.0.0.1");
    let mut world = World::build(settings, Ground::disks(stores)).await;
    println!("the world is in {}", world.directory().display());
    // The load goes on for a while after the lights are back.
    let load = Load::start(settings, Arc::clone(world.clients()), &ledger, LIGHT * 3 / 2).await;
    lasting(LIGHT).await;

    let dark: Vec<usize> = match who {
        Who::All => (1..=settings.replicas).collect(),
        Who::Leader => vec![leader(&world).await],
    };
    let numbers: Vec<String> = dark.iter().map(ToString::to_string).collect();
    let words = |verb: &'static str| {
        let mut words = vec![verb, at.as_str()];
        words.extend(numbers.iter().map(String::as_str));
        words
    };
    let start_ms = now_ms();
    disks.call(&words("cut"));
    let mut targets: Vec<Target> = dark.iter().map(|number| Target::Nats(number - 1)).collect();
    if who == Who::All {
        targets.extend((0..settings.coordinators).map(Target::Coordinator));
        targets.extend((0..settings.workers).map(Target::Worker));
    }
    targets.iter().for_each(|target| world.kill(*target));
    let accepted = load.accepted();
    lasting(DARK).await;
    disks.call(&words("back"));
    targets.iter().for_each(|target| world.start_again(*target));
    let what = What::Cut(format!("power off: {} of {} disks", dark.len(), settings.replicas));
    let happened = vec![Happened { start_ms, end_ms: now_ms(), what }];
    println!("{} executions had been accepted when the power went", accepted.len());

    let clean = if settings.sync_always {
        chaos::finish(settings, world, load, &ledger, happened).await.is_clean()
    } else {
        let settled = load.settle(AFTERMATH).await;
        let ended = settled.fates.iter().filter(|fate| fate.ended.is_some()).filter_map(|fate| fate.id.clone());
        let ended: BTreeSet<String> = ended.collect();
        let open = accepted.difference(&ended).count();
        let lost = unknown(world.clients(), &accepted).await;
        let all = accepted.len();
        println!("{lost} of {all} accepted executions are lost: nobody knows them; {open} had not ended");
        world.end(lost > 0 && !settings.keep);
        lost > 0
    };
    drop(disks);
    clean
}

async fn leader(world: &World) -> usize {
    let mut led = Vec::new();
    for (i, server) in world.servers().iter().enumerate() {
        led.push((server.leads().await.iter().filter(|stream| stream.contains("JOURNAL")).count(), i + 1));
    }
    led.into_iter().max().expect("there are servers").1
}

/// How many of these executions a coordinator answers 404 for.
async fn unknown(clients: &Clients, accepted: &BTreeSet<String>) -> usize {
    let mut unknown = 0;
    for id in accepted {
        let path = format!("/executions/{id}");
        let answer = tokio::time::timeout(Duration::from_secs(2), clients.apis()[0].get(&path)).await;
        unknown += usize::from(matches!(answer, Ok(Ok(answer)) if answer.status == 404));
    }
    unknown
}
