//! Sequences with a `kill -9` in the middle, each group on a server of its own.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use millstream_tests::nats;
use millstream_tests::simulation::jetstream::{Answer, Forgotten, Moment};
use millstream_tests::wait::lasting;
use tokio::time::Instant;

use crate::generator::ALL;
use crate::modelled::Modelled;
use crate::operation::{CAPABILITIES, Operation, Publication, Which};
use crate::random::Random;
use crate::sequence::{Ended, Sequence};
use crate::setting::Setting;
use crate::wire::Wire;

/// Sequences of one server.
const GROUP: u64 = 40;
/// Operations before and after the crash.
const OPERATIONS: usize = 30;
/// Consumers write what they did within this time.
const WRITTEN: Duration = Duration::from_secs(2);

/// How long a message waits for its delivery.
const AGE: Duration = Duration::from_secs(8);

/// Runs a group that crashes long after its last operation: nothing is forgotten but what memory held.
pub(crate) async fn run_written(group: u64) -> Vec<String> {
    let mut server = nats::start().await;
    let (mut sequences, mut reports) = begun(group, &server.url()).await;
    lasting(WRITTEN).await;
    server.restart().await;
    reports.extend(go_on(&mut sequences, &server.url(), |_| vec![Operation::Restart]).await);
    reports
}

/// Runs a group in whose midst a stream of each sequence becomes what it was some time before: its directory is put
/// back, as a restored volume does.
pub(crate) async fn run_restored(group: u64) -> Vec<String> {
    let mut server = nats::start().await;
    let (mut sequences, mut reports) = begun(group, &server.url()).await;
    sequences.retain(|sequence| sequence.model.setting.streams()[0] != Which::Tasks);
    lasting(WRITTEN).await;
    server.kill9();
    let streams = streams_directory(server.directory().path()).expect("the server stored something");
    let copies = server.directory().path().join("copies");
    for name in sequences.iter().map(restored) {
        copy(&streams.join(&name), &copies.join(&name)).expect("the disk takes a copy");
    }
    server.restart().await;
    let keep = |stream| vec![Operation::Restart, Operation::Keep { stream }];
    reports.extend(go_on(&mut sequences, &server.url(), keep).await);
    lasting(WRITTEN).await;
    server.kill9();
    for name in sequences.iter().map(restored) {
        std::fs::remove_dir_all(streams.join(&name)).expect("the server stored it there");
        copy(&copies.join(&name), &streams.join(&name)).expect("the disk takes a copy");
    }
    server.restart().await;
    reports.extend(go_on(&mut sequences, &server.url(), |stream| vec![Operation::Restore { stream }]).await);
    reports
}

/// The stream of a sequence that is put back.
fn restored(sequence: &Sequence) -> String {
    sequence.model.setting.stream_name(sequence.model.setting.streams()[0])
}

/// Where a server that stores below a directory keeps its streams.
fn streams_directory(below: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(below).ok()?;
    let mut directories: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    directories.retain(|path| path.is_dir());
    let found = directories.iter().find(|path| path.ends_with("streams")).cloned();
    found.or_else(|| directories.iter().find_map(|path| streams_directory(path)))
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (path, to) = (entry?.path(), to.to_owned());
        let to = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            std::fs::copy(&path, &to)?;
        }
    }
    Ok(())
}

/// After a start: looks at everything, and goes on. Sequences that differ end.
async fn go_on(sequences: &mut Vec<Sequence>, url: &str, first: impl Fn(Which) -> Vec<Operation>) -> Vec<String> {
    let continued = sequences.iter_mut().enumerate().map(async |(place, sequence)| {
        let name = format!("{place}of{}", sequence.model.moment().0);
        sequence.real.reconnect(Wire::connect(url, &name).await).await;
        let operations = first(sequence.model.setting.streams()[0]).into_iter().chain(looks(&sequence.model));
        for operation in operations {
            let ended = sequence.perform(operation).await;
            if ended.is_some() {
                return ended;
            }
        }
        sequence.proceed(OPERATIONS).await
    });
    let ended = join_all(continued).await;
    let mut ends = ended.iter().map(Option::is_some);
    sequences.retain(|_| !ends.next().unwrap_or(false));
    ended.into_iter().flatten().filter_map(report).collect()
}

/// Has two messages delivered of which one waited longer than ack_wait: after a crash that one comes again at once.
pub(crate) async fn run_aged() -> Vec<String> {
    let mut server = nats::start().await;
    let mut random = Random::new(0);
    let setting = Setting::aging("AGED".to_owned(), AGE, &mut random);
    let wire = Wire::connect(&server.url(), "first").await;
    let mut sequence = Sequence::start("GROUP=0".to_owned(), setting, random, wire).await;
    let subject = sequence.model.setting.subject(Which::Tasks, "http.0");
    let publish = Operation::Publish(Publication { subject, payload: "1".to_owned(), ..Publication::default() });
    let fetch = Operation::Fetch { capability: 0, max: ALL };

    let mut reports = all(&mut sequence, [Operation::CreateConsumer { capability: 0 }, publish.clone()]).await;
    pass(&mut sequence, AGE).await;
    reports.extend(all(&mut sequence, [publish, fetch.clone()]).await);
    pass(&mut sequence, WRITTEN).await;
    server.restart().await;
    sequence.real.reconnect(Wire::connect(&server.url(), "again").await).await;
    reports.extend(all(&mut sequence, [Operation::Restart, fetch]).await);
    reports
}

/// Performs operations and returns what differs.
async fn all(sequence: &mut Sequence, operations: impl IntoIterator<Item = Operation>) -> Vec<String> {
    let mut reports = Vec::new();
    for operation in operations {
        reports.extend(sequence.perform(operation).await.and_then(report));
    }
    reports
}

/// Lets time pass on both sides.
async fn pass(sequence: &mut Sequence, pause: Duration) {
    lasting(pause).await;
    let server = &mut sequence.model.server;
    server.set_clock(server.clock().plus_millis(u64::try_from(pause.as_millis()).expect("pauses are short")));
}

/// Runs a group that crashes in the midst of deliveries: each consumer forgets what it did after some moment, and there
/// is a moment that explains what it delivers afterwards. Also returns how many consumers forgot something.
pub(crate) async fn run_at_once(group: u64) -> (usize, Vec<String>) {
    let mut server = nats::start().await;
    let (mut sequences, mut reports) = begun(group, &server.url()).await;
    sequences.retain(|sequence| sequence.model.setting.streams().contains(&Which::Tasks));
    let bursts = join_all(sequences.iter_mut().map(burst)).await;
    server.restart().await;
    reports.extend(bursts.into_iter().flatten().filter_map(report));
    let mut forgetful = 0;
    for (place, sequence) in sequences.iter_mut().enumerate() {
        sequence.real.reconnect(Wire::connect(&server.url(), &format!("again{place}")).await).await;
        for capability in 0..CAPABILITIES.len() {
            let looks = deliver_again(&sequence.model, capability);
            let mut found = String::new();
            let mut model = sequence.model.clone();
            for look in &looks {
                found = sequence.real.perform(look, &model.perform(look), Instant::now()).await;
            }
            match explained(&sequence.model, &looks, &found) {
                Ok(forgets) => forgetful += usize::from(forgets),
                Err(expected) => reports.push(sequence.report(&expected, &found)),
            }
        }
    }
    (forgetful, reports)
}

/// Deliveries that the consumers have no time to write down.
async fn burst(sequence: &mut Sequence) -> Option<Ended> {
    for (capability, name) in CAPABILITIES.iter().enumerate() {
        let subject = sequence.model.setting.subject(Which::Tasks, &format!("{name}.0"));
        let publication = Publication { subject, payload: "burst".to_owned(), ..Publication::default() };
        for operation in [Operation::Publish(publication), Operation::Fetch { capability, max: ALL }] {
            let ended = sequence.perform(operation).await;
            if ended.is_some() {
                return ended;
            }
        }
    }
    None
}

/// Has everything delivered again that was delivered to a capability, with its counts.
fn deliver_again(model: &Modelled, capability: usize) -> Vec<Operation> {
    let tokens = model.deliveries.iter().enumerate().filter(|(_, token)| *token.consumer == *CAPABILITIES[capability]);
    let naks = tokens.map(|(delivery, _)| Operation::Answer { delivery, answer: Answer::Nak, ask: true });
    naks.chain([Operation::Fetch { capability, max: ALL }]).collect()
}

/// Whether a consumer forgot something, or what the model would have allowed.
fn explained(model: &Modelled, looks: &[Operation], found: &str) -> Result<bool, String> {
    let mut allowed = String::new();
    let last = model.moment();
    for moment in (0..=last.0).rev() {
        let mut crashed = model.clone();
        crashed.server.crash(Forgotten::DeliveriesSince(Moment(moment)));
        let expected = looks.iter().map(|look| crashed.perform(look)).last().unwrap_or_default();
        if expected == found {
            return Ok(moment < last.0);
        }
        writeln!(allowed, "{moment}: {expected}").expect("text takes text");
    }
    Err(allowed)
}

/// A group before its crash, without the sequences that differ already.
async fn begun(group: u64, url: &str) -> (Vec<Sequence>, Vec<String>) {
    let begun = (0..GROUP).map(async |place| {
        let seed = group * GROUP + place;
        let mut random = Random::new(seed);
        let setting = Setting::calm(format!("R{seed}"), &mut random);
        let wire = Wire::connect(url, &format!("first{place}")).await;
        let mut sequence = Sequence::start(format!("GROUP={group}"), setting, random, wire).await;
        let ended = sequence.proceed(OPERATIONS).await;
        (sequence, ended)
    });
    let (mut sequences, mut reports) = (Vec::new(), Vec::new());
    for (sequence, ended) in join_all(begun).await {
        match ended {
            None => sequences.push(sequence),
            Some(ended) => reports.extend(report(ended)),
        }
    }
    (sequences, reports)
}

/// Looks at everything.
fn looks(model: &Modelled) -> Vec<Operation> {
    let streams = model.setting.streams();
    let mut looks = Vec::new();
    for stream in streams.iter().copied() {
        looks.push(Operation::StreamInfo { stream });
        let filter = if stream == Which::Tasks { "*.*" } else { ">" };
        looks.push(Operation::Scan { stream, filter: model.setting.subject(stream, filter) });
    }
    if streams.contains(&Which::Tasks) {
        looks.extend((0..CAPABILITIES.len()).map(|capability| Operation::ConsumerInfo { capability }));
    }
    looks
}

fn report(ended: Ended) -> Option<String> {
    match ended {
        Ended::Different(report) => Some(report),
        Ended::Equal { .. } | Ended::Late { .. } => None,
    }
}
