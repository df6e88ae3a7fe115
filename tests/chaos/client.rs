//! Clients as they should be: they ask any coordinator, wait a little and ask another one when there is no answer or a
//! refusal that passes, and say the same `Idempotency-Key` each time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::api::{Answer, Api};
use crate::chaos::record::now_ms;
use crate::chaos::workflow::WORKFLOW;
use crate::simulation::dice::Dice;
use crate::wait::lasting;

/// How long a client waits for an answer.
const ANSWER: Duration = Duration::from_secs(20);

/// The coordinators, as clients know them.
#[derive(Debug)]
pub struct Clients {
    apis: Vec<Api>,
    seed: u64,
    /// How often each kind of answer came.
    answers: Mutex<BTreeMap<String, u64>>,
    denials: Mutex<Vec<String>>,
}

/// The answer to a request that was asked until it had one.
#[derive(Debug)]
pub enum Outcome {
    /// 2xx.
    Done(Value),
    /// 4xx that asking again does not change.
    Refused(u16, Value),
}

impl Clients {
    pub fn new(apis: Vec<Api>, seed: u64) -> Self {
        Self { apis, seed, answers: Mutex::default(), denials: Mutex::default() }
    }

    pub fn apis(&self) -> &[Api] {
        &self.apis
    }

    /// The dice of one client.
    pub fn dice(&self, client: &str) -> Dice {
        Dice::of(self.seed, client)
    }

    /// How often each kind of answer came, for people.
    pub fn answers(&self) -> String {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.iter().map(|(answer, count)| format!("{answer}: {count}")).collect::<Vec<_>>().join(", ")
    }

    /// Every time that a coordinator did not know what had been accepted, for people.
    pub fn denials(&self) -> Vec<String> {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, what: &str, answer: &Result<Answer, String>) {
        let answer = match answer {
            Ok(answer) => answer.status.to_string(),
            Err(problem) => problem.clone(),
        };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry(format!("{what} {answer}")).or_default() += 1;
    }

    /// Asks one coordinator once.
    async fn ask(&self, what: &str, method: &Method, path: &str, ask: &Ask<'_>, dice: &mut Dice) -> Option<Answer> {
        let api = &self.apis[dice.index(self.apis.len())];
        let mut request = api.request(method.clone(), path);
        if let Some(key) = ask.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = ask.body {
            request = request.json(body);
        }
        if let Some(accept) = ask.accept {
            request = request.header("accept", accept);
        }
        let answer = match tokio::time::timeout(ANSWER, api.send(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err("no connection".to_owned()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        self.count(what, &answer);
        if ask.missing_max > 0 && answer.as_ref().is_ok_and(|answer| answer.status == 404) {
            let denial = format!("{} at {}: {method} {path}", api.base(), now_ms());
            self.denials.lock().unwrap_or_else(PoisonError::into_inner).push(denial);
        }
        answer.ok()
    }

    /// Asks until there is an answer that stays. 404 is one that may pass when the request is about something that
    /// exists: `missing` then says how often it is asked again.
    async fn insist(&self, what: &str, method: Method, path: &str, ask: Ask<'_>, dice: &mut Dice) -> Outcome {
        let mut missing = 0;
        loop {
            if let Some(answer) = self.ask(what, &method, path, &ask, dice).await {
                match answer.status {
                    200..=299 => return Outcome::Done(answer.body),
                    404 if missing < ask.missing_max => missing += 1,
                    408 | 425 | 429 => {}
                    status @ 400..=499 => return Outcome::Refused(status, answer.body),
                    _ => {}
                }
            }
            lasting(Duration::from_millis(dice.between(200, 1_200))).await;
        }
    }

    /// Starts an execution.
    pub async fn submit(&self, key: &str, input: &Value, dice: &mut Dice) -> Outcome {
        let body = serde_json::json!({ "input": input });
        let ask = Ask { key: Some(key), body: Some(&body), ..Ask::default() };
        self.insist("submit", Method::POST, &format!("/workflows/{WORKFLOW}/execute"), ask, dice).await
    }

    /// Cancels an execution.
    pub async fn cancel(&self, id: &str, dice: &mut Dice) -> Outcome {
        let ask = Ask { missing_max: MISSING_MAX, ..Ask::default() };
        self.insist("cancel", Method::DELETE, &format!("/executions/{id}"), ask, dice).await
    }

    /// Shows an execution.
    pub async fn show(&self, id: &str, dice: &mut Dice) -> Outcome {
        let ask = Ask { missing_max: MISSING_MAX, ..Ask::default() };
        self.insist("show", Method::GET, &format!("/executions/{id}"), ask, dice).await
    }

    /// Lists the events of an execution.
    pub async fn events(&self, id: &str, dice: &mut Dice) -> Outcome {
        let ask = Ask { accept: Some("application/json"), missing_max: MISSING_MAX, ..Ask::default() };
        self.insist("events", Method::GET, &format!("/executions/{id}/events"), ask, dice).await
    }

    /// Stores something, or finds it stored.
    pub async fn put(&self, path: &str, body: &Value, dice: &mut Dice) -> Outcome {
        let ask = Ask { body: Some(body), ..Ask::default() };
        self.insist("put", Method::PUT, path, ask, dice).await
    }
}

/// How often an execution that was accepted and is not known is asked for again.
const MISSING_MAX: u32 = 20;

/// What a request has beside its path.
#[derive(Debug, Default)]
struct Ask<'a> {
    key: Option<&'a str>,
    body: Option<&'a Value>,
    accept: Option<&'a str>,
    missing_max: u32,
}
