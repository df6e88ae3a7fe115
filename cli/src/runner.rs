//! Runs a workflow on a server and shows it to whoever waits for it.

use std::time::Duration;

use millstream_model::event::Event;
use millstream_model::view::ExecutionView;

use crate::progress::{Progress, Screen, Stream};
use crate::server_api::{Notice, Provenance, RequestError, ServerApi};

/// How following an execution ended.
#[derive(Debug)]
pub(crate) enum Followed {
    Ended,
    /// The time that the caller gave was over.
    OutOfTime,
    /// Ctrl-C.
    Interrupted,
}

/// What a caller wants while following.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// How long to follow.
    pub patience: Option<Duration>,
    pub on_interrupt: OnInterrupt,
}

/// What the first Ctrl-C does; a second one always leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnInterrupt {
    /// Asks for the execution's end, and follows it there.
    Cancel,
    /// Leaves the execution alone.
    Leave,
}

/// Follows an execution on a screen, from its beginning or after an event.
pub(crate) async fn show(
    api: &ServerApi,
    execution: &ExecutionView,
    after: Option<String>,
    stream: Stream,
    manner: Manner,
) -> Result<Followed, RequestError> {
    let steps = execution.steps.iter();
    let progress = match &after {
        None => Progress::of(steps.map(|step| (step.id.as_str(), false))),
        Some(_) => Progress::of(steps.map(|step| (step.id.as_str(), step.status.is_settled()))),
    };
    let mut screen = Screen::new(stream, progress);
    let outcome = follow(api, &execution.id.to_string(), after, manner, &mut screen).await;
    screen.close();
    outcome
}

/// Follows an execution to its end, or until the caller has enough.
pub(crate) async fn follow(
    api: &ServerApi,
    execution: &str,
    after: Option<String>,
    manner: Manner,
    watcher: &mut impl Watcher,
) -> Result<Followed, RequestError> {
    let mut events = api.follow(execution, after);
    let deadline = async {
        match manner.patience {
            Some(patience) => tokio::time::sleep(patience).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    let mut leaving = manner.on_interrupt == OnInterrupt::Leave;
    loop {
        let next = tokio::select! {
            next = events.next() => next?,
            () = &mut deadline => return Ok(Followed::OutOfTime),
            _ = tokio::signal::ctrl_c() => {
                if leaving {
                    return Ok(Followed::Interrupted);
                }
                leaving = true;
                watcher.say("Cancelling; once more Ctrl-C leaves it alone.");
                match api.cancel(execution, false, &Provenance::default()).await {
                    Ok(_) => {}
                    // It ends by itself.
                    Err(RequestError::Refused(problem)) if problem.status == 409 => watcher.say(&problem.detail),
                    Err(error) => return Err(error),
                }
                continue;
            }
        };
        match next {
            Some(Notice::Event(event)) => watcher.event(&event),
            Some(Notice::Interrupted { reason }) => watcher.say(&format!("Connection lost ({reason}); trying again.")),
            Some(Notice::Resumed) => watcher.say("Connected again."),
            None => return Ok(Followed::Ended),
        }
    }
}

/// Who is told what happens.
pub(crate) trait Watcher {
    fn event(&mut self, event: &Event);
    fn say(&mut self, text: &str);
}

impl Watcher for Screen {
    fn event(&mut self, event: &Event) {
        self.apply(event);
    }

    fn say(&mut self, text: &str) {
        Self::say(self, text);
    }
}

/// Waits for the end and tells nothing.
pub(crate) struct Silent;

impl Watcher for Silent {
    fn event(&mut self, _: &Event) {}

    fn say(&mut self, _: &str) {}
}
