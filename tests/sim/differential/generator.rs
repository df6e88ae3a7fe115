//! Which operation comes next: random, but where something may happen.

use millstream_tests::simulation::jetstream::{Answer, Marker, ReadFrom};

use crate::modelled::Modelled;
use crate::operation::{CAPABILITIES, Operation, Publication, Which};
use crate::random::Random;
use crate::setting::{LONG, Setting, Theme};

/// Keys of a bucket.
const KEYS: [&str; 3] = ["a", "b", "c.d"];
/// Ends of a journal's subjects.
const KINDS: [&str; 3] = ["control", "result.http", "result.mail"];
/// Ends of the history's subjects.
const PARTITIONS: [&str; 2] = ["0", "1"];
/// A fetch of everything.
pub(crate) const ALL: usize = 1_000;

/// No sequence takes longer than one slot more than this.
const SLOTS_MAX: u32 = 4;

/// Kinds of operations.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Append,
    Record,
    Queue,
    Fetch,
    Answer,
    Wait,
    Purge,
    DeleteMessage,
    Limit,
    Scan,
    Newest,
    Get,
    StreamInfo,
    ConsumerInfo,
    LoseTasks,
    LoseConsumer,
    Put,
    OpenFeed,
    ReadFeed,
}

/// The operations every sequence of a queue starts with.
pub(crate) fn opening(setting: &Setting) -> Vec<Operation> {
    if setting.streams().contains(&Which::Tasks) {
        (0..CAPABILITIES.len()).map(|capability| Operation::CreateConsumer { capability }).collect()
    } else {
        Vec::new()
    }
}

/// The next operation; `number` is how many came before, `slot` how much time has passed.
pub(crate) fn next(random: &mut Random, model: &Modelled, number: usize, slot: u32) -> Operation {
    let journal = [(8, Kind::Append), (2, Kind::Purge), (1, Kind::DeleteMessage), (1, Kind::Limit)];
    let history = [(8, Kind::Record), (2, Kind::DeleteMessage), (2, Kind::Get)];
    let queue = [
        (6, Kind::Queue),
        (5, Kind::Fetch),
        (7, Kind::Answer),
        (2, Kind::ConsumerInfo),
        (1, Kind::LoseTasks),
        (1, Kind::LoseConsumer),
        (1, Kind::DeleteMessage),
    ];
    let buckets = [(8, Kind::Put), (2, Kind::Newest)];
    let any = [
        (1, Kind::Scan),
        (1, Kind::Newest),
        (1, Kind::Get),
        (1, Kind::StreamInfo),
        (1, Kind::OpenFeed),
        (2, Kind::ReadFeed),
    ];
    let mut kinds = any.to_vec();
    match model.setting.theme {
        Theme::Journal => kinds.extend(journal),
        Theme::History => kinds.extend(journal.into_iter().chain(history)),
        Theme::Queue => kinds.extend(queue),
        Theme::Buckets => kinds.extend(buckets),
        Theme::Everything => kinds.extend(journal.into_iter().chain(history).chain(queue).chain(buckets)),
    }
    if !model.setting.is_calm && slot < SLOTS_MAX {
        kinds.push((2, Kind::Wait));
    }
    operation(random.weighted(&kinds), random, model, number)
}

fn operation(kind: Kind, random: &mut Random, model: &Modelled, number: usize) -> Operation {
    let setting = &model.setting;
    let stream = random.pick(setting.streams());
    let capability = usize::try_from(random.below(CAPABILITIES.len() as u64)).expect("an index");
    match kind {
        Kind::Append => {
            let end = random.pick(&KINDS);
            Operation::Publish(publication(random, model, Which::Journal, end, number))
        }
        Kind::Record => {
            let end = random.pick(&PARTITIONS);
            let mut publication = publication(random, model, Which::History, end, number);
            publication.lifetime = random.pick(&[None, Some(LONG), Some(short_lifetime(model))]);
            Operation::Publish(publication)
        }
        Kind::Queue => {
            let end = format!("{}.{}", CAPABILITIES[capability], random.below(2));
            Operation::Publish(publication(random, model, Which::Tasks, &end, number))
        }
        Kind::Put => {
            let bucket = if setting.theme == Theme::Everything { Which::Workers } else { stream };
            let key = random.pick(&KEYS);
            Operation::Publish(record(random, model, bucket, key, number))
        }
        Kind::Fetch => Operation::Fetch { capability, max: random.pick(&[1, 1, 2, 3, ALL]) },
        Kind::Answer if model.deliveries.is_empty() => Operation::Fetch { capability, max: ALL },
        Kind::Answer => answer(random, model),
        Kind::Wait => Operation::Wait { slots: random.weighted(&[(3, 1), (2, 2)]) },
        // A purged work queue keeps what was delivered in its counts, and a stream some of whose messages were deleted or
        // ran out miscounts what is left ("Stream state encountered internal inconsistency"). Nobody purges such.
        Kind::Purge => {
            let stream = if matches!(stream, Which::Tasks | Which::History) { Which::Journal } else { stream };
            Operation::Purge { stream, before: near(random, model, stream) }
        }
        Kind::DeleteMessage => Operation::DeleteMessage { stream, sequence: near(random, model, stream) },
        // A bucket has no limits of its own.
        Kind::Limit => Operation::Limit {
            stream: Which::Journal,
            max_msgs: random.chance(50).then(|| 1 + random.below(6)),
            max_bytes: random.chance(50).then(|| 100 + random.below(900)),
        },
        Kind::Scan => Operation::Scan { stream, filter: filter(random, setting, stream) },
        Kind::Newest => {
            let end = end_of(random, stream);
            Operation::Newest { stream, subject: setting.subject(stream, &end) }
        }
        Kind::Get => Operation::Get { stream, sequence: near(random, model, stream), directly: random.chance(50) },
        Kind::StreamInfo => Operation::StreamInfo { stream },
        Kind::ConsumerInfo => Operation::ConsumerInfo { capability },
        Kind::LoseTasks => {
            let is_there = model.server.stream_info(&setting.stream_name(Which::Tasks)).is_ok();
            // The same first sequence lets old acks hit new tasks, as a larger one must prevent.
            let first_sequence = setting.first_task + random.pick(&[0, 0, 1_000]);
            match (is_there, model.deleted_tasks) {
                (false, _) => Operation::CreateTasks { first_sequence },
                (true, false) => Operation::DeleteTasks,
                // A server that deletes a stream for the second time within a short time may keep its messages, and
                // a stream of that name that is created then has them.
                (true, true) => Operation::StreamInfo { stream: Which::Tasks },
            }
        }
        Kind::LoseConsumer => {
            let (tasks, consumer) = (setting.stream_name(Which::Tasks), setting.consumer_config(capability).name);
            let is_there = model.server.consumer_info(&tasks, &consumer).is_ok();
            if is_there && random.chance(20) {
                Operation::DeleteConsumer { capability }
            } else {
                Operation::CreateConsumer { capability }
            }
        }
        Kind::OpenFeed => {
            // A work queue takes no such consumer (reference, nats.md 0.7).
            let stream = *setting.streams().iter().find(|which| **which != Which::Tasks).unwrap_or(&stream);
            if stream == Which::Tasks {
                return Operation::StreamInfo { stream };
            }
            let filter = random.chance(50).then(|| filter(random, setting, stream));
            let by_sequence = ReadFrom::Sequence(near(random, model, stream).max(1));
            let from = if random.chance(50) { by_sequence } else { ReadFrom::NewestPerSubject };
            Operation::OpenFeed { stream, filter, from }
        }
        Kind::ReadFeed if model.feeds.is_empty() => Operation::StreamInfo { stream },
        Kind::ReadFeed => Operation::ReadFeed { feed: index(random, model.feeds.len()) },
    }
}

fn publication(random: &mut Random, model: &Modelled, stream: Which, end: &str, number: usize) -> Publication {
    let subject = model.setting.subject(stream, end);
    let size = usize::try_from(random.below(60)).expect("a length");
    let mut publication = Publication { payload: format!("{number} {}", "x".repeat(size)), ..Publication::default() };
    if random.chance(40) {
        publication.msg_id = Some(format!("id-{}", random.below(4)));
    }
    if random.chance(20) {
        publication.expected_subject = Some(expectation(random, model, stream, &subject));
    }
    if random.chance(10) {
        publication.expected_stream = Some(near(random, model, stream));
    }
    publication.subject = subject;
    publication
}

fn record(random: &mut Random, model: &Modelled, stream: Which, key: &str, number: usize) -> Publication {
    let subject = model.setting.subject(stream, key);
    let short = short_lifetime(model);
    let is_deletion = random.chance(20);
    Publication {
        expected_subject: random.chance(60).then(|| expectation(random, model, stream, &subject)),
        lifetime: random.pick(&[None, Some(LONG), Some(short)]),
        marker: is_deletion.then(|| random.pick(&[Marker::Deleted, Marker::Deleted, Marker::Purged])),
        payload: if is_deletion { String::new() } else { format!("{number} value") },
        subject,
        ..Publication::default()
    }
}

/// A lifetime that ends within the sequence, unless nothing does.
fn short_lifetime(model: &Modelled) -> std::time::Duration {
    if model.setting.is_calm { LONG } else { model.setting.pace.lifetime() }
}

/// Mostly right.
fn expectation(random: &mut Random, model: &Modelled, stream: Which, subject: &str) -> u64 {
    let newest = model.server.newest(
        &model.setting.stream_name(stream),
        subject,
        millstream_tests::simulation::jetstream::View::CURRENT,
    );
    let right = newest.ok().flatten().map_or(0, |message| message.sequence);
    random.weighted(&[(6, right), (2, 0), (1, right + 1)])
}

/// A sequence that a stream has, had or will have.
fn near(random: &mut Random, model: &Modelled, stream: Which) -> u64 {
    let Ok(info) = model.server.stream_info(&model.setting.stream_name(stream)) else { return 1 };
    let from = info.first_sequence.saturating_sub(2).max(1);
    if random.chance(30) { info.last_sequence.max(1) } else { from + random.below(info.last_sequence + 3 - from) }
}

fn answer(random: &mut Random, model: &Modelled) -> Operation {
    let count = model.deliveries.len();
    // Late deliveries more often than early ones, which nearly all are done with.
    let delivery = if random.chance(60) { count - 1 - index(random, count.min(4)) } else { index(random, count) };
    let pace = model.setting.pace;
    let delay = random.pick(&[pace.soon(), pace.next(), pace.later()]);
    let delay = if model.setting.is_calm { LONG } else { delay };
    let answer =
        random.weighted(&[(6, Answer::Ack), (2, Answer::Nak), (2, Answer::NakAfter(delay)), (2, Answer::Progress)]);
    Operation::Answer { delivery, answer, ask: random.chance(60) }
}

fn end_of(random: &mut Random, stream: Which) -> String {
    match stream {
        Which::Journal => random.pick(&KINDS).to_owned(),
        Which::History => random.pick(&PARTITIONS).to_owned(),
        Which::Tasks => format!("{}.{}", random.pick(&CAPABILITIES), random.below(2)),
        Which::Bucket | Which::Workers => random.pick(&KEYS).to_owned(),
    }
}

fn filter(random: &mut Random, setting: &Setting, stream: Which) -> String {
    let wildcards: &[&str] = match stream {
        Which::Journal => &[">", "result.*", "control", "nothing"],
        Which::History => &[">", "0", "*", "nothing"],
        Which::Tasks => &["*.0", "*.1", "http.*", "*.*", "http.0"],
        Which::Bucket | Which::Workers => &[">", "*", "c.*", "a"],
    };
    setting.subject(stream, random.pick(wildcards))
}

fn index(random: &mut Random, length: usize) -> usize {
    usize::try_from(random.below(length as u64)).expect("an index")
}
