//! Questions over core NATS: answers of any size, streams, and every way in which there is none.

use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_broker::{Answers, Broker, Question, Questions, RequestError};
use millstream_tests::nats::{self, Server};
use millstream_tests::wait::eventually;

use crate::fixture::{SOON, connect, soon};

const SUBJECT: &str = "ms.query.0";

/// A server, who asks, who answers, and the questions.
async fn both_sides() -> (Server, Broker, Broker, Questions) {
    let server = nats::start().await;
    let (asker, answerer) = (connect(&server).await, connect(&server).await);
    let questions = answerer.serve(SUBJECT).await.expect("served");
    (server, asker, answerer, questions)
}

async fn question(questions: &mut Questions) -> Question {
    soon("a question", questions.next()).await.expect("the connection lasts")
}

async fn item(answers: &mut Answers) -> Option<Result<Bytes, RequestError>> {
    soon("an item", answers.next()).await
}

fn bytes(length: usize) -> Bytes {
    (0..length).map(|place| u8::try_from(place % 251).expect("small")).collect()
}

#[tokio::test]
async fn an_answer_of_any_size_comes_whole() {
    let (_server, asker, _answerer, mut questions) = both_sides().await;
    let half = asker.max_payload() / 2;
    for length in [0, 1, half, half + 1, 2 * half, 5 * 1024 * 1024, 20 * 1024 * 1024 + 1] {
        let body = Bytes::from(length.to_string());
        let asked = asker.ask(SUBJECT, body.clone(), SOON);
        let answered = async {
            let question = question(&mut questions).await;
            assert_eq!(question.body, body);
            question.answer(bytes(length)).await
        };
        let (asked, answered) = tokio::join!(asked, answered);
        answered.expect("sent");
        assert!(asked.expect("answered") == bytes(length), "{length}");
    }
}

#[tokio::test]
async fn a_question_that_nobody_serves_ends_at_once() {
    let server = nats::start().await;
    let asker = connect(&server).await;
    let start = Instant::now();
    let error = asker.ask(SUBJECT, Bytes::new(), SOON).await.expect_err("nobody is there");
    assert!(matches!(&error, RequestError::NoResponders { subject } if subject == SUBJECT), "{error}");
    let Err(error) = asker.ask_stream(SUBJECT, Bytes::new(), SOON).await else { panic!("nobody is there") };
    assert!(matches!(error, RequestError::NoResponders { .. }) && error.is_retryable(), "{error}");
    assert!(start.elapsed() < Duration::from_secs(4), "not by waiting");
}

#[tokio::test]
async fn a_question_larger_than_a_message_is_not_asked() {
    let (_server, asker, _answerer, mut questions) = both_sides().await;
    let max = asker.max_payload();
    let error = asker.ask(SUBJECT, bytes(max + 1), SOON).await.expect_err("too large");
    assert!(matches!(error, RequestError::TooLarge { size, max: limit, .. } if size == max + 1 && limit == max));
    let answered = async { question(&mut questions).await.answer(Bytes::from_static(b"yes")).await };
    let (asked, answered) = tokio::join!(asker.ask(SUBJECT, bytes(max), SOON), answered);
    answered.expect("sent");
    assert_eq!(asked.expect("the largest there may be"), "yes");
}

#[tokio::test]
async fn a_question_that_is_dropped_ends_at_once_and_so_does_one_that_was_not_heard() {
    let (_server, asker, _answerer, mut questions) = both_sides().await;
    let asked = asker.ask(SUBJECT, Bytes::new(), SOON);
    let dropped = async { drop(question(&mut questions).await) };
    let start = Instant::now();
    let (asked, ()) = tokio::join!(asked, dropped);
    assert!(matches!(asked, Err(RequestError::NoAnswer { .. })), "{asked:?}");

    let asked = asker.ask(SUBJECT, Bytes::new(), SOON);
    let stopped = async {
        asker.flush().await;
        drop(questions);
    };
    let (asked, ()) = tokio::join!(asked, stopped);
    assert!(matches!(asked, Err(RequestError::NoResponders { .. })), "{asked:?}");
    assert!(start.elapsed() < SOON / 2, "not by waiting");
}

#[tokio::test]
async fn patience_ends() {
    let (_server, asker, _answerer, mut questions) = both_sides().await;
    let kept = async { question(&mut questions).await };
    let (asked, kept) = tokio::join!(asker.ask(SUBJECT, Bytes::new(), Duration::from_millis(300)), kept);
    assert!(matches!(asked, Err(RequestError::NoAnswer { reason: "it took too long", .. })), "{asked:?}");
    kept.answer(Bytes::new()).await.expect("sent to nobody");
}

#[tokio::test]
async fn a_stream_brings_its_items_in_order_and_ends() {
    let (_server, asker, _answerer, mut questions) = both_sides().await;
    let answering = tokio::spawn(async move {
        let mut sender = question(&mut questions).await.stream();
        for number in 0..1_000_u32 {
            sender.send(Bytes::from(number.to_string())).await.expect("sent");
            if number % 100 == 0 {
                sender.keep_alive().await.expect("the asker is there");
                sender.send(bytes(3 * 1024 * 1024)).await.expect("sent");
            }
        }
        sender.end().await.expect("sent");
        questions
    });
    let mut answers = asker.ask_stream(SUBJECT, Bytes::new(), SOON).await.expect("heard");
    for number in 0..1_000_u32 {
        assert_eq!(item(&mut answers).await.expect("an item").expect("whole"), number.to_string());
        if number % 100 == 0 {
            assert!(item(&mut answers).await.expect("an item").expect("whole") == bytes(3 * 1024 * 1024));
        }
    }
    assert!(item(&mut answers).await.is_none());
    assert!(item(&mut answers).await.is_none());
    soon("the answerer", answering).await.expect("no panic");
}

#[tokio::test]
async fn keep_alives_keep_a_silent_stream_and_without_them_it_ends() {
    let (_server, asker, _answerer, mut questions) = both_sides().await;
    let silence_max = Duration::from_millis(600);
    let (answers, question) =
        tokio::join!(asker.ask_stream(SUBJECT, Bytes::new(), silence_max), question(&mut questions));
    let (mut answers, mut sender) = (answers.expect("heard"), question.stream());
    let start = Instant::now();
    let mut beat = tokio::time::interval(silence_max / 6);
    let alive = async {
        while start.elapsed() < 3 * silence_max {
            beat.tick().await;
            sender.keep_alive().await.expect("the asker is there");
        }
        sender.send(Bytes::from_static(b"late")).await.expect("sent");
        sender
    };
    let (sender, late) = tokio::join!(alive, item(&mut answers));
    assert_eq!(late.expect("an item").expect("whole"), "late");
    let silent = item(&mut answers).await.expect("an error").expect_err("silence");
    assert!(matches!(silent, RequestError::NoAnswer { reason: "it took too long", .. }), "{silent}");
    assert!(item(&mut answers).await.is_none());
    drop(sender);
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_broken_and_an_asker_that_is_gone_is_noticed() {
    let (_server, asker, _answerer, mut questions) = both_sides().await;
    let (answers, asked) = tokio::join!(asker.ask_stream(SUBJECT, Bytes::new(), SOON), question(&mut questions));
    let (mut answers, mut sender) = (answers.expect("heard"), asked.stream());
    sender.send(Bytes::from_static(b"one")).await.expect("sent");
    drop(sender);
    assert_eq!(item(&mut answers).await.expect("an item").expect("whole"), "one");
    let broken = item(&mut answers).await.expect("an error").expect_err("no end");
    assert!(matches!(broken, RequestError::NoAnswer { reason: "the answer was broken off", .. }), "{broken}");

    let (answers, asked) = tokio::join!(asker.ask_stream(SUBJECT, Bytes::new(), SOON), question(&mut questions));
    let mut sender = asked.stream();
    drop(answers.expect("heard"));
    // The two connections' messages may overtake each other.
    let gone = async {
        loop {
            if let Err(error) = sender.keep_alive().await {
                return error;
            }
        }
    };
    let gone = soon("the answerer notices", gone).await;
    assert!(matches!(gone, RequestError::NoResponders { .. } | RequestError::NoAnswer { .. }), "{gone}");
}

#[tokio::test]
async fn a_slow_asker_slows_the_answerer_and_loses_nothing() {
    let (_server, asker, _answerer, mut questions) = both_sides().await;
    let (answers, asked) = tokio::join!(asker.ask_stream(SUBJECT, Bytes::new(), SOON), question(&mut questions));
    let (mut answers, mut sender) = (answers.expect("heard"), asked.stream());
    let (told, mut sent) = tokio::sync::watch::channel(0_usize);
    let answering = tokio::spawn(async move {
        for number in 1..=100 {
            sender.send(bytes(1024 * 1024)).await.expect("sent");
            told.send_replace(number);
        }
        sender.end().await.expect("sent");
    });
    soon("some are sent", sent.wait_for(|sent| *sent >= 3)).await.expect("it is sending");
    let waits = tokio::time::timeout(Duration::from_millis(300), sent.wait_for(|sent| *sent > 8)).await;
    assert!(waits.is_err(), "it waits for the asker");
    let mut items = 0;
    while let Some(one) = item(&mut answers).await {
        assert!(one.expect("whole") == bytes(1024 * 1024));
        items += 1;
    }
    assert_eq!(items, 100);
    soon("the answerer", answering).await.expect("no panic");
}

#[tokio::test]
async fn a_dropped_wait_loses_no_item_and_no_question() {
    let (_server, asker, _answerer, mut questions) = both_sides().await;
    let (answers, asked) = tokio::join!(asker.ask_stream(SUBJECT, Bytes::new(), SOON), question(&mut questions));
    let (mut answers, mut sender) = (answers.expect("heard"), asked.stream());
    let answering = tokio::spawn(async move {
        for number in 0..300_u32 {
            sender.send(Bytes::from(number.to_string())).await.expect("sent");
            sender.keep_alive().await.expect("the asker is there");
        }
        sender.end().await.expect("sent");
    });
    let mut seen = Vec::new();
    let all = async {
        loop {
            match tokio::time::timeout(Duration::from_micros(50), answers.next()).await {
                Ok(Some(item)) => seen.push(item.expect("whole")),
                Ok(None) => break,
                Err(_) => {}
            }
        }
    };
    soon("all items", all).await;
    assert_eq!(seen, (0..300_u32).map(|number| Bytes::from(number.to_string())).collect::<Vec<_>>());
    soon("the answerer", answering).await.expect("no panic");

    let answering = async {
        let mut answered = 0;
        while answered < 50 {
            if let Ok(question) = tokio::time::timeout(Duration::from_micros(50), questions.next()).await {
                let question = question.expect("the connection lasts");
                let body = question.body.clone();
                question.answer(body).await.expect("sent");
                answered += 1;
            }
        }
    };
    let asking = async {
        for number in 0..50_u32 {
            let body = Bytes::from(number.to_string());
            assert_eq!(asker.ask(SUBJECT, body.clone(), SOON).await.expect("answered"), body);
        }
    };
    soon("the answers", async { tokio::join!(answering, asking) }).await;
}

#[tokio::test]
async fn questions_are_served_after_a_crash_of_the_server_and_one_under_way_ends_at_once() {
    let (mut server, asker, answerer, mut questions) = both_sides().await;
    let (answers, asked) = tokio::join!(asker.ask_stream(SUBJECT, Bytes::new(), SOON), question(&mut questions));
    let (mut answers, sender) = (answers.expect("heard"), asked.stream());
    server.restart().await;
    let lost = item(&mut answers).await.expect("an error").expect_err("the connection is gone");
    assert!(matches!(lost, RequestError::NoAnswer { reason: "the connection was lost", .. }), "{lost}");
    drop(sender);
    let answering = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            drop(question.answer(Bytes::from_static(b"back")).await);
        }
    });
    let answer =
        eventually(SOON, "an answer after the crash", || async { asker.ask(SUBJECT, Bytes::new(), SOON).await.ok() })
            .await;
    assert_eq!(answer, "back");
    answering.abort();
    drop(answerer);
}

#[tokio::test]
async fn each_question_goes_to_one_of_those_who_serve() {
    let (_server, asker, answerer, mut one) = both_sides().await;
    let mut other = answerer.serve(SUBJECT).await.expect("served");
    let answering = tokio::spawn(async move {
        loop {
            let (name, question) = tokio::select! {
                question = one.next() => ("one", question),
                question = other.next() => ("other", question),
            };
            let Some(question) = question else { return };
            drop(question.answer(Bytes::from_static(name.as_bytes())).await);
        }
    });
    for _ in 0..100 {
        let answer = asker.ask(SUBJECT, Bytes::new(), SOON).await.expect("one whole answer");
        assert!(answer == "one" || answer == "other");
    }
    answering.abort();
}

#[tokio::test]
async fn a_denied_question_is_denied_at_once() {
    let server = nats::start_with(
        "authorization { users: [ {user: some, password: p, permissions: {publish: {deny: [\"ms.query.>\"]}}} ] }\n\
         no_auth_user: some",
    )
    .await;
    let asker = connect(&server).await;
    let start = Instant::now();
    let error = asker.ask(SUBJECT, Bytes::new(), SOON).await.expect_err("not allowed");
    assert!(matches!(&error, RequestError::Denied { subject } if subject == SUBJECT), "{error}");
    assert!(start.elapsed() < Duration::from_secs(4), "not by waiting");
}
