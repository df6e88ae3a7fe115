//! What the differential suite cannot see: reads of the past, crashes and clocks that are told. And the facts of the
//! reference that Millstream is built on, in one place.

use super::*;

const NOON: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn server() -> Server {
    let mut server = Server::new(ServerOptions { removed_kept: 100, ..ServerOptions::default() }, NOON);
    let tasks = StreamConfig::tasks("TASKS", "task.*.*".to_owned(), 2, 1_000);
    server.create_stream(tasks).expect("a free name");
    let consumer = ConsumerConfig::tasks("http", "task.http.*".to_owned());
    server.create_consumer("TASKS", consumer).expect("a free filter");
    server.create_stream(StreamConfig::journal("JOURNAL", "journal.>".to_owned(), Some(1_000))).expect("a free name");
    server.create_stream(StreamConfig::workers_bucket("WORKERS")).expect("a free name");
    server
}

fn publish(server: &mut Server, subject: &str, payload: &'static str) -> Result<PubAck, RequestFailed> {
    server.publish(&Publish::new(subject, payload.into()))
}

fn fetch(server: &mut Server) -> Vec<Delivery> {
    server.fetch("TASKS", "http", 100).expect("there is a consumer")
}

/// Stream sequence and count of each delivery.
fn counts(deliveries: &[Delivery]) -> Vec<(u64, u64)> {
    deliveries.iter().map(|delivery| (delivery.stream_sequence(), delivery.delivered())).collect()
}

fn scan(server: &Server, view: View) -> Vec<u64> {
    let messages = server.messages("TASKS", "task.*.0", view).expect("there is a stream");
    messages.iter().map(|message| message.sequence).collect()
}

#[test]
fn a_view_of_the_past_shows_what_was_there() {
    let mut server = server();
    publish(&mut server, "task.http.0", "one").expect("stored");
    let before = server.moment();
    publish(&mut server, "task.http.0", "two").expect("stored");
    let first = fetch(&mut server).remove(0);
    server.answer(&first.token, Answer::Ack).expect("confirmed");

    assert_eq!(scan(&server, View::CURRENT), [1_001]);
    assert_eq!(scan(&server, View::as_of(before)), [1_000], "a follower that lags");
    assert_eq!(scan(&server, View::removals_as_of(before)), [1_000, 1_001], "an ack that is not visible yet");
    let newest = server.newest("TASKS", "task.http.0", View::as_of(before)).expect("there is a stream");
    assert_eq!(newest.map(|message| &message.payload[..]), Some(&b"one"[..]));
}

#[test]
fn a_full_subject_and_a_full_stream_have_one_code_and_two_texts() {
    let mut server = server();
    publish(&mut server, "task.http.0", "one").expect("stored");
    publish(&mut server, "task.http.0", "two").expect("stored");
    let refused = publish(&mut server, "task.http.0", "three").expect_err("two are enough");
    assert_eq!(refused, RequestFailed::Refused(Refusal::subject_full()));
    let large = server.publish(&Publish::new("journal.control", vec![0; 1_000].into()));
    assert_eq!(large, Err(RequestFailed::Refused(Refusal::bytes_full())));
}

#[test]
fn a_message_is_taken_again_after_its_ack_but_not_under_its_id_until_a_restart() {
    let mut server = server();
    let task = Publish::new("task.http.0", "task".into()).msg_id("id");
    assert_eq!(server.publish(&task), Ok(PubAck { sequence: 1_000, duplicate: false }));
    let delivery = fetch(&mut server).remove(0);
    server.answer(&delivery.token, Answer::Ack).expect("confirmed");

    assert_eq!(server.publish(&task), Ok(PubAck { sequence: 1_000, duplicate: true }));
    server.crash(Forgotten::Nothing);
    assert_eq!(server.publish(&task), Ok(PubAck { sequence: 1_001, duplicate: false }));
}

#[test]
fn an_expired_delivery_acks_what_another_worker_runs() {
    let mut server = server();
    publish(&mut server, "task.http.0", "task").expect("stored");
    let first = fetch(&mut server).remove(0);
    assert_eq!(server.next_due(), Some(NOON.plus_millis(10_000)));
    server.set_clock(NOON.plus_millis(10_000));
    assert!(server.can_deliver("TASKS", "http"));
    assert_eq!(counts(&fetch(&mut server)), [(1_000, 2)]);
    server.answer(&first.token, Answer::Ack).expect("confirmed");
    assert_eq!(scan(&server, View::CURRENT), [0_u64; 0]);
    server.set_clock(NOON.plus_millis(60_000));
    assert_eq!(counts(&fetch(&mut server)), [(0, 0); 0]);
}

#[test]
fn an_ack_of_a_lost_stream_hits_the_stream_that_takes_its_sequences() {
    for (first_sequence, left) in [(1_000, vec![]), (2_000, vec![2_000])] {
        let mut server = server();
        publish(&mut server, "task.http.0", "lost").expect("stored");
        let stale = fetch(&mut server).remove(0);
        server.delete_stream("TASKS").expect("it was there");
        let tasks = StreamConfig::tasks("TASKS", "task.*.*".to_owned(), 2, first_sequence);
        server.create_stream(tasks).expect("a free name");
        server.create_consumer("TASKS", ConsumerConfig::tasks("http", "task.http.*".to_owned())).expect("free");
        publish(&mut server, "task.http.0", "unrelated").expect("stored");
        fetch(&mut server);
        server.answer(&stale.token, Answer::Ack).expect("confirmed");
        assert_eq!(scan(&server, View::CURRENT), left);
    }
}

#[test]
fn a_crash_forgets_deliveries_after_a_moment() {
    let mut server = server();
    publish(&mut server, "task.http.0", "one").expect("stored");
    assert_eq!(counts(&fetch(&mut server)), [(1_000, 1)]);
    let written = server.moment();
    publish(&mut server, "task.http.0", "two").expect("stored");
    assert_eq!(counts(&fetch(&mut server)), [(1_001, 1)]);
    server.set_clock(NOON.plus_millis(20_000));
    assert_eq!(counts(&fetch(&mut server)), [(1_000, 2), (1_001, 2)]);

    server.crash(Forgotten::DeliveriesSince(written));
    assert_eq!(counts(&fetch(&mut server)), [(1_000, 2), (1_001, 1)], "the first delivery of the second never was");
}

#[test]
fn after_a_crash_a_delivery_is_due_by_the_age_of_its_message_or_its_progress() {
    let mut server = server();
    publish(&mut server, "task.http.0", "busy").expect("stored");
    publish(&mut server, "task.http.0", "silent").expect("stored");
    server.set_clock(NOON.plus_millis(60_000));
    let busy = fetch(&mut server).remove(0);
    server.set_clock(NOON.plus_millis(61_500));
    server.answer(&busy.token, Answer::Progress).expect("confirmed");
    server.crash(Forgotten::Nothing);
    assert_eq!(counts(&fetch(&mut server)), [(1_001, 2)], "long before its ack_wait is over");
    server.set_clock(NOON.plus_millis(70_999));
    assert_eq!(counts(&fetch(&mut server)), [(0, 0); 0]);
    server.set_clock(NOON.plus_millis(71_000));
    assert_eq!(counts(&fetch(&mut server)), [(1_000, 2)]);
}

#[test]
fn a_clock_that_went_back_delays_redeliveries() {
    let mut server = server();
    publish(&mut server, "task.http.0", "task").expect("stored");
    fetch(&mut server);
    server.set_clock(Timestamp::from_micros(NOON.as_micros() - 5_000_000));
    publish(&mut server, "journal.control", "entry").expect("stored");
    let entry = server.newest("JOURNAL", "journal.control", View::CURRENT).expect("there is a stream");
    assert_eq!(entry.map(|message| message.time), Some(server.clock()), "timestamps follow the clock");
    server.set_clock(NOON.plus_millis(9_999));
    assert_eq!(counts(&fetch(&mut server)), [(0, 0); 0]);
    server.set_clock(NOON.plus_millis(10_000));
    assert_eq!(counts(&fetch(&mut server)), [(1_000, 2)]);
}

#[test]
fn a_record_runs_out_its_marker_too_and_watchers_are_told_of_the_first() {
    let mut server = server();
    let key = key_subject("WORKERS", "w");
    let mut watch = server.open_feed("KV_WORKERS", None, ReadFrom::NewestPerSubject).expect("there is a stream");
    let second = Some(std::time::Duration::from_secs(1));
    server.put_record("WORKERS", "w", "here".into(), Expected::Revision(0), second).expect("written");
    server.set_clock(NOON.plus_millis(30_000));
    assert_eq!(server.newest_record("WORKERS", "w", View::CURRENT), Ok(Newest::Nothing));
    let gone = server.messages("KV_WORKERS", &key, View::removals_as_of(Moment(0))).expect("there is a stream");
    let times: Vec<_> = gone.iter().map(|message| (message.marker, message.time.millis_since(NOON))).collect();
    assert_eq!(times, [(None, 0), (Some(Marker::Expired), 1_000)]);
    assert_eq!(server.feed_next(&mut watch), Ok(None), "a slow watcher is told nothing");

    server.put_record("WORKERS", "w", "again".into(), Expected::Revision(0), second).expect("written");
    server.set_clock(NOON.plus_millis(31_000));
    let told = server.feed_next(&mut watch).expect("the feed is whole").expect("something to tell");
    assert_eq!(told.marker, Some(Marker::Expired));
}

#[test]
fn a_purge_skips_a_reader_in_silence_and_a_restart_breaks_it() {
    let mut server = server();
    for entry in ["one", "two", "three"] {
        publish(&mut server, "journal.control", entry).expect("stored");
    }
    let mut feed = server.open_feed("JOURNAL", None, ReadFrom::Sequence(1)).expect("there is a stream");
    assert_eq!((feed.waiting(), server.purge("JOURNAL", 3)), (3, Ok(2)));
    let next = server.feed_next(&mut feed).expect("the feed is whole").map(|message| message.sequence);
    assert_eq!(next, Some(3));
    server.crash(Forgotten::Nothing);
    assert_eq!(server.feed_next(&mut feed), Err(FeedBroken));
}

#[test]
fn a_lost_tail_gives_its_sequences_again() {
    let mut server = server();
    for entry in ["one", "two", "three"] {
        publish(&mut server, "journal.control", entry).expect("stored");
    }
    server.lose_tail("JOURNAL", 1).expect("there is a stream");
    assert_eq!(publish(&mut server, "journal.control", "other").map(|ack| ack.sequence), Ok(2));
}
