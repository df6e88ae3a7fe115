//! The server that the connection is with, the account, the clocks, the permissions.

use millstream_broker::{Action, Permission, Storage, Usage, Verdict};
use millstream_model::limits::INLINE_MAX;

use super::{Diagnosis, Facts, percent, size};

/// A journal message holds two inline values and what is around them, and is at most half of a message.
const PAYLOAD_MIN: usize = 4 * INLINE_MAX;
/// What NATS has by default.
const PAYLOAD_GOOD: usize = 1 << 20;
/// Beyond it NATS itself advises against.
const PAYLOAD_LARGE: usize = 8 << 20;
/// Skew that makes deadlines visibly late or early.
const SKEW_WARN_US: i64 = 1_000_000;
/// Skew with which claims and deadlines of workers are wrong.
const SKEW_FAIL_US: i64 = 60_000_000;
/// Buckets, object stores, tasks, history, audit: streams beside the journals.
const STREAMS_BESIDE: u64 = 11;

pub(super) fn check(facts: &Facts) -> Vec<Diagnosis> {
    let mut found = vec![version(facts)];
    found.extend(jetstream(facts));
    found.push(payload(facts));
    found.extend(clock(facts));
    found.extend(permissions(facts));
    found
}

fn version(facts: &Facts) -> Diagnosis {
    const CHECK: &str = "server";
    let server = &facts.server;
    let cluster = server.cluster.as_ref().map(|cluster| format!(" of cluster {cluster}")).unwrap_or_default();
    let message = format!("nats-server {}{cluster}", server.version);
    if !server.version_suffices {
        let change = format!("install nats-server {} or newer", server.version_oldest);
        return Diagnosis::fail(CHECK, message, change);
    }
    if server.lame_duck {
        return Diagnosis::warn(CHECK, format!("{message} asks its clients to leave"), "it is about to stop");
    }
    Diagnosis::ok(CHECK, message)
}

fn jetstream(facts: &Facts) -> Vec<Diagnosis> {
    const CHECK: &str = "jetstream";
    let Some(account) = &facts.server.account else {
        let message = format!("JetStream is off on {}, or for this account", facts.server.name);
        let change = "add a block `jetstream { store_dir: … }` to nats-server's configuration, and `jetstream: enabled` \
                      to the account where accounts are configured";
        return vec![Diagnosis::fail(CHECK, message, change)];
    };
    let mut found = vec![Diagnosis::ok(CHECK, format!("on, API level {}", account.api_level))];
    let (kind, usage) = match facts.topology.storage {
        Storage::File => ("storage", account.storage),
        Storage::Memory => ("memory", account.memory),
    };
    found.extend(limit(kind, usage));
    let wanted = u64::from(facts.partitions.unwrap_or(facts.topology.partitions)) + STREAMS_BESIDE;
    if let Some(max) = account.streams.max
        && max < wanted
    {
        let message = format!("the account may have {max} streams; {wanted} are needed");
        found.push(Diagnosis::fail("limits", message, format!("raise `max_streams` of the account to {wanted}")));
    }
    found
}

fn limit(kind: &str, usage: Usage) -> Option<Diagnosis> {
    const CHECK: &str = "limits";
    let max = usage.max?;
    let used = percent(usage.used, max);
    let message = format!("the account uses {used} % of its {kind}, {} of {}", size(usage.used), size(max));
    let change = format!("raise the account's JetStream {kind}, or keep less: `retention_ms` of workflows");
    Some(match used {
        95.. => Diagnosis::fail(CHECK, message, change),
        80.. => Diagnosis::warn(CHECK, message, change),
        _ => Diagnosis::ok(CHECK, message),
    })
}

fn payload(facts: &Facts) -> Diagnosis {
    const CHECK: &str = "max_payload";
    let found = facts.server.max_payload;
    let message = format!("messages of up to {}", size(found as u64));
    let change = "set `max_payload: 1MB` in nats-server's configuration";
    match found {
        ..PAYLOAD_MIN => {
            let needed = size(PAYLOAD_MIN as u64);
            Diagnosis::fail(CHECK, format!("{message}; submissions and results may need {needed}"), change)
        }
        PAYLOAD_MIN..PAYLOAD_GOOD => {
            Diagnosis::warn(CHECK, format!("{message}: batches and snapshots of it stay small"), change)
        }
        PAYLOAD_GOOD..=PAYLOAD_LARGE => Diagnosis::ok(CHECK, message),
        _ => Diagnosis::warn(CHECK, format!("{message}; NATS advises against more than 8 MiB"), change),
    }
}

/// The worst of the stream leaders' clocks, compared with this machine's.
fn clock(facts: &Facts) -> Option<Diagnosis> {
    const CHECK: &str = "clock";
    let clocks = facts.streams.iter().filter_map(|stream| stream.found.as_ref()?.clock);
    let certain = |clock: &millstream_broker::ClockFacts| {
        let uncertain = i64::try_from(clock.uncertain_us).unwrap_or(i64::MAX);
        clock.ahead_us.saturating_abs().saturating_sub(uncertain).max(0)
    };
    let worst = clocks.max_by_key(certain)?;
    let (skew, ahead) = (certain(&worst), worst.ahead_us > 0);
    #[allow(clippy::cast_precision_loss, reason = "for reading")]
    let seconds = skew as f64 / 1e6;
    let side = if ahead { "ahead of" } else { "behind" };
    let message = format!("NATS' clock is {seconds:.3} s {side} this machine's");
    let change = "run chrony or another NTP client on every machine";
    Some(match skew {
        SKEW_FAIL_US.. => Diagnosis::fail(CHECK, message, change),
        SKEW_WARN_US.. => Diagnosis::warn(CHECK, message, change),
        _ => Diagnosis::ok(CHECK, "this machine and NATS agree on the time"),
    })
}

fn permissions(facts: &Facts) -> Vec<Diagnosis> {
    const CHECK: &str = "permissions";
    if facts.permissions.is_empty() {
        return Vec::new();
    }
    let denied = |action: Action| -> Vec<String> {
        let denied = facts.permissions.iter().filter(|p| p.action == action && p.verdict == Verdict::Denied);
        denied.map(|permission| format!("\"{}\"", permission.subject)).collect()
    };
    let mut found = Vec::new();
    for (action, word) in [(Action::Publish, "publish"), (Action::Subscribe, "subscribe")] {
        let denied = denied(action);
        if !denied.is_empty() {
            let message = format!("this user may not {word} to {}", denied.join(", "));
            let change = format!("permissions {{ {word} {{ allow: [{}] }} }}", denied.join(", "));
            found.push(Diagnosis::fail(CHECK, message, change));
        }
    }
    // What is missing does not answer, and is told as missing.
    let complete = facts.streams.iter().all(|stream| stream.found.is_some());
    let silent: Vec<&Permission> =
        facts.permissions.iter().filter(|permission| permission.verdict == Verdict::Unanswered).collect();
    if complete && !silent.is_empty() {
        let subjects: Vec<&str> = silent.iter().map(|permission| permission.subject.as_str()).collect();
        let message = format!("no answer on {}", subjects.join(", "));
        found.push(Diagnosis::warn(CHECK, message, "let this user subscribe to its inbox, _INBOX.>, and try again"));
    }
    if found.is_empty() {
        found.push(Diagnosis::ok(CHECK, format!("{} subjects tried, all allowed", facts.permissions.len())));
    }
    found
}
