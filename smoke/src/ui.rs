//! Everything this program says. Progress and results go to stdout, problems to stderr.

use std::error::Error as _;
use std::io::{self, Write as _};

use crate::error::Error;
use crate::report::{Outcome, Ran};
use crate::scenario::Scenario;

/// One line of progress.
pub fn step(text: &str) {
    line(&format!("smoke: {text}"));
}

/// One scenario of the list.
pub fn listed(scenario: &Scenario) {
    line(&format!("{:<28} {:<5} {}", scenario.name, scenario.runs_as.name(), scenario.claim));
}

/// How one scenario ended; the end of its log where it failed.
pub fn ran(ran: &Ran) {
    let word = match ran.outcome {
        Outcome::Passed => "PASS",
        Outcome::Failed => "FAIL",
        Outcome::Skipped => "SKIP",
    };
    line(&format!("{word} [{:>7.1}s] {}", ran.seconds, ran.name));
    if let Some(reason) = &ran.reason {
        reason.lines().for_each(|text| line(&format!("     | {text}")));
        line(&format!("     | log: {}", ran.log.display()));
    }
}

/// The last line.
pub fn totals(ran: &[Ran]) {
    let count = |outcome| ran.iter().filter(|ran| ran.outcome == outcome).count();
    let (passed, failed, skipped) = (count(Outcome::Passed), count(Outcome::Failed), count(Outcome::Skipped));
    let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    line(&format!("{passed} passed, {failed} failed{skipped}"));
}

/// An error with what caused it and what to do about it.
pub fn problem(error: &Error) {
    let mut text = format!("error: {error}\n");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!("  caused by: {cause}\n"));
        source = cause.source();
    }
    if let Some(hint) = error.hint() {
        text.push_str(&format!("hint: {hint}\n"));
    }
    // Nobody to tell when stderr is gone.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

fn line(text: &str) {
    let mut stdout = io::stdout().lock();
    // Whoever closed stdout does not want to know.
    let _ = stdout.write_all(format!("{text}\n").as_bytes()).and_then(|()| stdout.flush());
}
