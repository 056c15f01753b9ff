//! How far the guest of a VM has come since its VMM was started. Volatile; the record keeps what must last.

use super::control::{GuestEvent, Report};

/// See the module header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GuestProgress {
    /// Counts starts, so that one who waits for a start is not fooled by the next.
    pub run: u64,
    /// Something of ours spoke.
    pub heard: bool,
    /// Commands can run.
    pub reachable: bool,
    /// Its init has finished starting.
    pub booted: bool,
    /// Its init gave up: `(stage, reason)`.
    pub failed: Option<(String, String)>,
    /// What went wrong without stopping it.
    pub warnings: Vec<String>,
}

impl GuestProgress {
    /// A new start.
    #[must_use]
    pub fn started_again(&self) -> Self {
        Self { run: self.run + 1, ..Self::default() }
    }

    /// Takes in what the guest told.
    pub fn learn(&mut self, event: &GuestEvent) {
        match event {
            GuestEvent::Heard => self.heard = true,
            GuestEvent::Reachable(report) => self.reached(report),
            GuestEvent::Booted(report) => {
                self.reached(report);
                self.booted = true;
            }
            GuestEvent::Failed { stage, reason } => {
                self.heard = true;
                self.failed = Some((stage.clone(), reason.clone()));
            }
            GuestEvent::Ending | GuestEvent::Exited => {}
        }
    }

    fn reached(&mut self, report: &Report) {
        self.heard = true;
        self.reachable = true;
        self.failed = None;
        for warning in &report.warnings {
            if !self.warnings.contains(warning) && self.warnings.len() < 100 {
                self.warnings.push(warning.clone());
            }
        }
    }
}
