//! Progress of one piece of work: a spinner or bar where stderr is a terminal, one plain line per stage elsewhere,
//! nothing with `--quiet` or `--json`.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::style::escape;
use super::{Ui, lock};

/// What a count counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Anything else.
    Steps,
}

/// Work under way. Dropping it removes the bar.
pub struct Progress<'a> {
    ui: &'a Ui,
    bar: Option<ProgressBar>,
    stage: Option<(String, Instant)>,
}

impl Ui {
    /// Begins to show progress.
    pub fn progress(&self) -> Progress<'_> {
        let bar = (self.shows_progress() && self.notes_is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(spinner_style());
            bar
        });
        lock(&self.bar).clone_from(&bar);
        Progress { ui: self, bar, stage: None }
    }
}

impl Progress<'_> {
    /// A new stage begins, and with it the one before ends.
    pub fn stage(&mut self, message: &str) {
        self.end_stage();
        self.stage = Some((message.to_owned(), Instant::now()));
        match &self.bar {
            Some(bar) => {
                bar.set_style(spinner_style());
                bar.unset_length();
                bar.set_message(escape(message));
                // Not before there is something to say: it draws at once.
                bar.enable_steady_tick(Duration::from_millis(120));
            }
            None => self.ui.status(message),
        }
    }

    /// Counts inside the stage. `total` 0 if unknown.
    pub fn count(&self, done: u64, total: u64, unit: Unit) {
        let Some(bar) = &self.bar else { return };
        if total == 0 {
            bar.set_style(spinner_style());
            return;
        }
        if bar.length() != Some(total) {
            bar.set_style(bar_style(unit));
            bar.set_length(total);
        }
        bar.set_position(done.min(total));
    }

    /// More words for the stage.
    pub fn message(&self, message: &str) {
        if let (Some(bar), false) = (&self.bar, message.is_empty()) {
            bar.set_message(escape(message));
        }
    }

    fn end_stage(&mut self) {
        if let Some((message, began)) = self.stage.take() {
            self.ui.detail(&format!("{message}: {:.1} s", began.elapsed().as_secs_f64()));
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.end_stage();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            *lock(&self.ui.bar) = None;
        }
    }
}

fn spinner_style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}")
        .expect("the template is well formed")
        .tick_chars("|/-\\ ")
}

fn bar_style(unit: Unit) -> ProgressStyle {
    let template = match unit {
        Unit::Bytes => "{spinner} {msg} [{bar:24}] {bytes}/{total_bytes} {elapsed}",
        Unit::Steps => "{spinner} {msg} [{bar:24}] {pos}/{len} {elapsed}",
    };
    ProgressStyle::with_template(template)
        .expect("the template is well formed")
        .tick_chars("|/-\\ ")
        .progress_chars("=> ")
}
