//! Cut cables: each nats-server in a network namespace of its own, coordinators and workers on the other side of the
//! bridge, and packets that vanish.
//!
//! | cut | what vanishes |
//! |---|---|
//! | leader | everything between the server that leads most journals and the two others; clients see all three |
//! | leader, alone | the same, and everything between it and the clients |
//! | minority | everything between a server that leads least and the two others |
//! | one way | what the leader sends to one of the others |

use std::sync::Arc;
use std::time::Duration;

use crate::chaos;
use crate::chaos::figures;
use crate::chaos::ledger::Ledger;
use crate::chaos::load::Load;
use crate::chaos::privileged::{self, Script};
use crate::chaos::record::{Happened, What, now_ms};
use crate::chaos::settings::Settings;
use crate::chaos::world::{Ground, World};
use crate::wait::lasting;

/// Servers, and namespaces.
const SERVERS: usize = 3;
/// The number of this side of the bridge.
const HERE: usize = 254;
/// How long a cut lasts.
const CUT: Duration = Duration::from_secs(12);
/// How long the world is left alone after it.
const WHOLE: Duration = Duration::from_secs(15);
/// Quiet before the first cut.
const PRELUDE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
enum Cut {
    Leader,
    LeaderAlone,
    Minority,
    OneWay,
}

const CUTS: [Cut; 4] = [Cut::Leader, Cut::LeaderAlone, Cut::Minority, Cut::OneWay];

/// Runs every kind of cut under load and judges as after a storm; `false` when something was found.
///
/// # Panics
/// When the world cannot be built.
pub async fn run(settings: &Settings) -> bool {
    if let Some(missing) = privileged::missing(&["ip", "bash"]) {
        println!("SKIPPED: no network is cut: {missing}");
        return true;
    }
    let cables = Script::new("tests/chaos/network/cables.sh", &["down"]);
    cables.call(&["up", &SERVERS.to_string()]);
    let hosts = (1..=SERVERS).map(|i| format!("10.77.7.{i}")).collect();
    let prefix = |i: usize| ["ip", "netns", "exec", &format!("mschaos-{i}")].map(ToOwned::to_owned).to_vec();
    let ground = Ground::places(hosts, (1..=SERVERS).map(prefix).collect());

    let ledger = Ledger::open(settings.seed, "127.0.0.1");
    let mut world = World::build(settings, ground).await;
    println!("the world is in {}", world.directory().display());
    let spread = PRELUDE + (CUT + WHOLE) * u32::try_from(CUTS.len()).expect("there are few");
    let load = Load::start(settings, Arc::clone(world.clients()), &ledger, spread).await;
    lasting(PRELUDE).await;
    let mut happened = Vec::new();
    for cut in CUTS {
        let (first, last) = leaders(&world).await;
        let what = perform(&cables, cut, first, last);
        println!("  {what}");
        let start_ms = now_ms();
        lasting(CUT).await;
        cables.call(&["mend"]);
        happened.push(Happened { start_ms, end_ms: now_ms(), what: What::Cut(what) });
        world.look_after();
        lasting(WHOLE).await;
    }
    chaos::finish(settings, world, load, &ledger, happened).await.is_clean()
}

/// The numbers, from 1, of the servers that lead the most and the fewest journals.
async fn leaders(world: &World) -> (usize, usize) {
    let mut led = Vec::new();
    for (i, server) in world.servers().iter().enumerate() {
        let journals = server.leads().await.iter().filter(|stream| stream.contains("JOURNAL")).count();
        led.push((journals, i + 1));
    }
    led.sort_unstable();
    println!("  journals that each server leads: {led:?}");
    (led[led.len() - 1].1, led[0].1)
}

/// Cuts, and says what was cut.
fn perform(cables: &Script, cut: Cut, first: usize, last: usize) -> String {
    let both = |a: usize, b: usize| {
        cables.call(&["cut", &a.to_string(), &b.to_string()]);
        if b != HERE {
            cables.call(&["cut", &b.to_string(), &a.to_string()]);
        }
    };
    let others = |server: usize| (1..=SERVERS).filter(move |other| *other != server);
    match cut {
        Cut::Leader => {
            others(first).for_each(|other| both(first, other));
            format!("leader: nats-{first} from the other servers")
        }
        Cut::LeaderAlone => {
            others(first).chain([HERE]).for_each(|other| both(first, other));
            format!("leader, alone: nats-{first} from servers and clients")
        }
        Cut::Minority => {
            others(last).for_each(|other| both(last, other));
            format!("minority: nats-{last} from the other servers")
        }
        Cut::OneWay => {
            let other = others(first).next().expect("there are others");
            cables.call(&["cut", &first.to_string(), &other.to_string()]);
            format!("one way: what nats-{first} sends to nats-{other}")
        }
    }
}

/// How long no step completed in the time of each cut and after it, for people.
pub fn silences(evidence: &chaos::judge::Evidence, happened: &[Happened]) -> Vec<String> {
    let after_ms = u64::try_from(WHOLE.as_millis()).expect("it is short");
    let cuts = happened.iter().filter(|cut| matches!(cut.what, What::Cut(_)));
    cuts.map(|cut| {
        let silence_ms = figures::longest_silence_ms(evidence, cut.start_ms, cut.end_ms + after_ms);
        format!("{silence_ms:>6} ms: {cut}")
    })
    .collect()
}
