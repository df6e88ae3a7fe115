//! Runs a workflow on a server and shows it to whoever waits for it.

use std::time::Duration;

use millstream_model::event::Event;
use millstream_model::view::ExecutionView;

use crate::progress::{Progress, Screen, Stream, duration};
use crate::server_api::{Notice, RequestError, ServerApi};

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

/// Follows an execution on a screen.
pub(crate) async fn show(
    api: &ServerApi,
    execution: &ExecutionView,
    stream: Stream,
    manner: Manner,
) -> Result<Followed, RequestError> {
    let progress = Progress::of(execution.steps.iter().map(|step| step.id.as_str()));
    let mut screen = Screen::new(stream, progress);
    let outcome = follow(api, &execution.id.to_string(), manner, &mut screen).await;
    screen.close();
    outcome
}

/// Follows an execution to its end, or until the caller has enough.
pub(crate) async fn follow(
    api: &ServerApi,
    execution: &str,
    manner: Manner,
    watcher: &mut impl Watcher,
) -> Result<Followed, RequestError> {
    let mut events = api.follow(execution);
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
                api.cancel(execution).await?;
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

/// How an execution ended, in one line, and why.
pub(crate) fn conclusion(execution: &ExecutionView, colour: bool) -> String {
    use millstream_model::view::ExecutionStatus as Status;
    let style = || console::Style::new().force_styling(colour).bold();
    let style = match execution.status {
        Status::Completed => style().green(),
        Status::Failed | Status::Timeout => style().red(),
        Status::Cancelled => style().yellow(),
        Status::Pending | Status::Running => style().cyan(),
    };
    let mut text = style.apply_to(execution.status.as_str()).to_string();
    if let Some(ended_at) = execution.ended_at {
        let micros = ended_at.as_micros().saturating_sub(execution.started_at.as_micros());
        text.push_str(&format!(" in {}", duration(micros)));
    }
    if execution.partial {
        text.push_str(", partially: a step that is not critical failed");
    }
    if let Some(error) = execution.error.as_ref().filter(|_| execution.status != Status::Cancelled) {
        let step = error.step.as_ref().map(|step| format!("step {step}: ")).unwrap_or_default();
        text.push_str(&format!("\n{step}{} {}", error.error.code, error.error.message));
    }
    text
}
