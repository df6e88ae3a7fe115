//! Where progress is shown: a terminal with moving parts, or plain lines.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use millstream_model::event::Event;

use super::{Active, Items, Progress, count};

/// Moving rows; what is under way beyond them is only counted.
const ROWS_MAX: usize = 8;
const TICK: Duration = Duration::from_millis(90);
/// Tells a fan-out without a terminal this often on its way.
const QUARTERS: u64 = 4;

/// The standard stream that is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// Shows the progress of one execution at a time.
pub(crate) struct Screen {
    term: Term,
    progress: Progress,
    live: Option<Live>,
    /// Quarters of each fan-out that were told.
    quarters: BTreeMap<String, u64>,
}

/// The moving part.
struct Live {
    multi: MultiProgress,
    rows: BTreeMap<String, ProgressBar>,
    overall: ProgressBar,
}

impl Screen {
    /// Moving parts when the stream is a terminal, else plain lines.
    pub(crate) fn new(stream: Stream, progress: Progress) -> Self {
        let (term, target) = match stream {
            Stream::Out => (Term::stdout(), ProgressDrawTarget::stdout_with_hz(20)),
            Stream::Err => (Term::stderr(), ProgressDrawTarget::stderr_with_hz(20)),
        };
        let live = term.features().is_attended().then(|| Live::new(target, progress.steps().0));
        Self { term, progress, live, quarters: BTreeMap::new() }
    }

    /// Takes the next event.
    pub(crate) fn apply(&mut self, event: &Event) {
        let line = self.progress.apply(event);
        match &mut self.live {
            Some(live) => live.refresh(&self.progress),
            None => self.tell_quarters(event),
        }
        if let Some(line) = line {
            self.say(&line.render(self.progress.width(), colours(&self.term)));
        }
    }

    /// Says something between the lines of steps.
    pub(crate) fn say(&mut self, text: &str) {
        // A stream that nobody reads any more is no reason to stop an execution.
        match &self.live {
            Some(live) => live.multi.println(text).ok(),
            None => writeln!(self.term, "{text}").ok(),
        };
    }

    /// Takes the moving part away; what was said stays.
    pub(crate) fn close(self) {
        if let Some(live) = self.live {
            live.close();
        }
    }

    fn tell_quarters(&mut self, event: &Event) {
        let Some(step) = event.step_id.as_ref().filter(|_| event.item.is_some()).map(|step| step.as_str()) else {
            return;
        };
        let Some(Items { total, completed, .. }) = self.progress.active().get(step).and_then(|active| active.items)
        else {
            return;
        };
        let quarter = (completed * QUARTERS).checked_div(total).unwrap_or(0);
        let told = self.quarters.entry(step.to_owned()).or_default();
        if quarter > *told && quarter < QUARTERS {
            *told = quarter;
            let width = self.progress.width();
            let line = format!("  … {step:width$}  {} of {} items", count(completed), count(total));
            self.say(&line);
        }
    }
}

impl Live {
    #[allow(clippy::literal_string_with_formatting_args, reason = "indicatif's templates")]
    fn new(target: ProgressDrawTarget, steps: usize) -> Self {
        let multi = MultiProgress::with_draw_target(target);
        let overall = multi.add(ProgressBar::new(steps as u64));
        overall.set_style(style("  {bar:28.cyan/dim} {pos}/{len} steps  {elapsed:.dim}  {msg:.dim}", "━╸─"));
        overall.enable_steady_tick(TICK);
        Self { multi, rows: BTreeMap::new(), overall }
    }

    fn refresh(&mut self, progress: &Progress) {
        let active = progress.active();
        self.rows.retain(|step, row| {
            let stays = active.contains_key(step);
            if !stays {
                row.finish_and_clear();
            }
            stays
        });
        for (step, state) in active {
            if !self.rows.contains_key(step) && self.rows.len() >= ROWS_MAX {
                continue;
            }
            let row = self.rows.entry(step.clone()).or_insert_with(|| {
                let row = self.multi.insert_before(&self.overall, row(state));
                // Only from here on it draws where it belongs.
                row.enable_steady_tick(TICK);
                row.set_prefix(format!("{step:width$}", width = progress.width()));
                row
            });
            update(row, state);
        }
        self.overall.set_position(progress.steps().1 as u64);
        let hidden = active.len() - self.rows.len();
        self.overall.set_message(if hidden > 0 { format!("and {hidden} more under way") } else { String::new() });
    }

    fn close(self) {
        for row in self.rows.values() {
            row.finish_and_clear();
        }
        self.overall.finish_and_clear();
    }
}

#[allow(clippy::literal_string_with_formatting_args, reason = "indicatif's templates")]
fn row(state: &Active) -> ProgressBar {
    match state.items {
        Some(items) => ProgressBar::new(items.total).with_style(style(
            "  {spinner:.magenta} {prefix}  {bar:28.magenta/dim} {human_pos}/{human_len} items  {rate:.dim}",
            "━╸─",
        )),
        None => {
            ProgressBar::new_spinner().with_style(style("  {spinner:.cyan} {prefix}  {msg:19} {elapsed:>4.dim}", "━╸─"))
        }
    }
}

fn update(row: &ProgressBar, state: &Active) {
    match state.items {
        Some(items) => row.set_position(items.completed + u64::from(items.failed)),
        None if state.attempt > 1 => row.set_message(format!("{}, attempt {}", state.stage, state.attempt)),
        None => row.set_message(state.stage),
    }
}

fn style(template: &str, bar: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the templates are ours").progress_chars(bar);
    // A text that cannot be written has nobody to read it.
    style.with_key("rate", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        write!(text, "{:.0} items/s", state.per_sec()).ok();
    })
}

/// Whether to colour what goes to this stream: `NO_COLOR` and the like are honoured.
fn colours(term: &Term) -> bool {
    term.features().colors_supported()
}
