//! The streams and consumers of one sequence, and the times in it.

use std::time::Duration;

use millstream_tests::simulation::jetstream::{ConsumerConfig, Retention, StreamConfig};
use serde_json::{Value, json};

use crate::operation::{CAPABILITIES, Which};
use crate::random::Random;

/// Longer than any sequence.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// Time passes in slots. Everything between two waits happens while a slot is open, at its start, so that what falls
/// due in a slot does so after its operations and before those of the next.
///
/// A machine that is too busy for that gets slots of twice, three times… the length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace(pub(crate) u32);

impl Pace {
    pub(crate) fn slot(self) -> Duration {
        Duration::from_millis(700) * self.0
    }

    /// How long operations of a slot may take.
    pub(crate) fn open(self) -> Duration {
        Duration::from_millis(220) * self.0
    }

    /// Falls due in the rest of the same slot.
    pub(crate) fn soon(self) -> Duration {
        Duration::from_millis(350) * self.0
    }

    /// Falls due in the rest of the next slot.
    pub(crate) fn next(self) -> Duration {
        Duration::from_millis(1_050) * self.0
    }

    /// Falls due in the rest of the slot after the next.
    pub(crate) fn later(self) -> Duration {
        Duration::from_millis(1_750) * self.0
    }

    /// A lifetime, in whole seconds; it too ends in the rest of the next slot.
    pub(crate) fn lifetime(self) -> Duration {
        Duration::from_secs(1) * self.0
    }
}

/// What a sequence is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Theme {
    Journal,
    History,
    Queue,
    Buckets,
    Everything,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) theme: Theme,
    /// Nothing falls due, and nothing waits.
    pub(crate) is_calm: bool,
    pub(crate) pace: Pace,
    /// Sets names apart from those of other sequences.
    tag: String,
    ack_wait: Duration,
    window: Duration,
    max_ack_pending: usize,
    tasks_per_subject: u64,
    pub(crate) first_task: u64,
    journal_bytes: Option<u64>,
    journal_messages: Option<u64>,
}

impl Setting {
    pub(crate) fn of(tag: String, pace: Pace, random: &mut Random) -> Self {
        Self::with(tag, pace, random, 50)
    }

    /// A sequence in which nothing falls due, and whose consumers deliver all they have.
    pub(crate) fn calm(tag: String, random: &mut Random) -> Self {
        Self { max_ack_pending: 1_000, ..Self::with(tag, Pace(1), random, 100) }
    }

    /// A calm sequence of a queue whose deliveries fall due after `ack_wait`.
    pub(crate) fn aging(tag: String, ack_wait: Duration, random: &mut Random) -> Self {
        Self { theme: Theme::Queue, ack_wait, tasks_per_subject: 50, ..Self::calm(tag, random) }
    }

    fn with(tag: String, pace: Pace, random: &mut Random, calm_percent: u64) -> Self {
        let theme = random.weighted(&[
            (4, Theme::Journal),
            (3, Theme::History),
            (8, Theme::Queue),
            (5, Theme::Buckets),
            (3, Theme::Everything),
        ]);
        let is_calm = random.chance(calm_percent);
        Self {
            theme,
            is_calm,
            pace,
            tag,
            ack_wait: if is_calm { LONG } else { pace.next() },
            window: if is_calm { LONG } else { random.pick(&[pace.next(), pace.next(), LONG]) },
            max_ack_pending: random.pick(&[2, 3, 5, 1_000]),
            tasks_per_subject: random.pick(&[1, 2, 3, 50]),
            first_task: 1_000 * (1 + random.below(3)),
            journal_bytes: random.chance(40).then(|| 300 + random.below(900)),
            journal_messages: random.chance(20).then(|| 3 + random.below(5)),
        }
    }

    pub(crate) fn streams(&self) -> &'static [Which] {
        match self.theme {
            Theme::Journal => &[Which::Journal],
            Theme::History => &[Which::Journal, Which::History],
            Theme::Queue => &[Which::Tasks],
            Theme::Buckets => &[Which::Bucket, Which::Workers],
            Theme::Everything => &[Which::Journal, Which::History, Which::Tasks, Which::Workers],
        }
    }

    pub(crate) fn stream_name(&self, which: Which) -> String {
        let tag = &self.tag;
        match which {
            Which::Journal => format!("{tag}_JOURNAL"),
            Which::History => format!("{tag}_HISTORY"),
            Which::Tasks => format!("{tag}_TASKS"),
            Which::Bucket => format!("KV_{tag}_BUCKET"),
            Which::Workers => format!("KV_{tag}_WORKERS"),
        }
    }

    /// A subject of a stream, from its end.
    pub(crate) fn subject(&self, which: Which, end: &str) -> String {
        let tag = &self.tag;
        match which {
            Which::Journal => format!("{tag}.journal.{end}"),
            Which::History => format!("{tag}.history.{end}"),
            Which::Tasks => format!("{tag}.task.{end}"),
            Which::Bucket => format!("$KV.{tag}_BUCKET.{end}"),
            Which::Workers => format!("$KV.{tag}_WORKERS.{end}"),
        }
    }

    pub(crate) fn stream_config(&self, which: Which) -> StreamConfig {
        let config = match which {
            Which::Journal => StreamConfig {
                max_msgs: self.journal_messages,
                ..StreamConfig::journal("", self.subject(which, ">"), self.journal_bytes)
            },
            Which::History => StreamConfig::history("", self.subject(which, "*")),
            Which::Tasks => {
                StreamConfig::tasks("", self.subject(which, "*.*"), self.tasks_per_subject, self.first_task)
            }
            Which::Bucket => StreamConfig::expiring_bucket(&format!("{}_BUCKET", self.tag)),
            Which::Workers => StreamConfig {
                marker_lifetime: Some(LONG),
                ..StreamConfig::workers_bucket(&format!("{}_WORKERS", self.tag))
            },
        };
        StreamConfig { name: self.stream_name(which), duplicate_window: self.window, ..config }
    }

    pub(crate) fn consumer_config(&self, capability: usize) -> ConsumerConfig {
        let capability = CAPABILITIES[capability];
        ConsumerConfig {
            ack_wait: self.ack_wait,
            max_ack_pending: self.max_ack_pending,
            ..ConsumerConfig::tasks(capability, self.subject(Which::Tasks, &format!("{capability}.*")))
        }
    }
}

/// A stream's configuration as the API takes it.
pub(crate) fn stream_json(config: &StreamConfig) -> Value {
    let limit = |limit: Option<u64>| limit.map_or(json!(-1), |limit| json!(limit));
    json!({
        "name": config.name,
        "subjects": config.subjects,
        "retention": match config.retention { Retention::Limits => "limits", Retention::WorkQueue => "workqueue" },
        "storage": "file",
        "num_replicas": 1,
        "discard": "new",
        "discard_new_per_subject": config.discard_new_per_subject,
        "max_consumers": -1,
        "max_msgs": limit(config.max_msgs),
        "max_bytes": limit(config.max_bytes),
        "max_msgs_per_subject": limit(config.max_msgs_per_subject),
        "max_msg_size": -1,
        "max_age": 0,
        "duplicate_window": nanos(config.duplicate_window),
        "first_seq": config.first_sequence,
        "deny_delete": config.deny_delete,
        "allow_direct": true,
        "allow_rollup_hdrs": config.allow_lifetimes,
        "allow_msg_ttl": config.allow_lifetimes,
        "subject_delete_marker_ttl": config.marker_lifetime.map_or(0, nanos),
    })
}

/// A consumer's configuration as the API takes it.
pub(crate) fn consumer_json(config: &ConsumerConfig) -> Value {
    json!({
        "durable_name": config.name,
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": nanos(config.ack_wait),
        "max_deliver": -1,
        "max_ack_pending": config.max_ack_pending,
        "filter_subject": config.filter,
        "replay_policy": "instant",
    })
}

/// A duration as the API takes it.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("times here are short")
}
