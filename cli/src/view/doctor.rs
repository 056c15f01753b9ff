//! The rows of `doctor`.

use banger_proto::v1::{Check, CheckStatus};
use serde::Serialize;

use crate::ui::style::{Paint, escape};

/// Outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Fine.
    Pass,
    /// Works, but look at it.
    Warn,
    /// Something will not work.
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What was looked at.
    pub title: String,
    /// Outcome.
    pub status: Verdict,
    /// What was seen.
    pub details: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Row {
    /// A row without details.
    pub fn new(status: Verdict, title: impl Into<String>) -> Self {
        Self { title: title.into(), status, details: Vec::new(), hint: None }
    }

    /// Adds what was seen.
    #[must_use]
    pub fn detail(mut self, text: impl Into<String>) -> Self {
        self.details.push(text.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }
}

impl From<Check> for Row {
    fn from(check: Check) -> Self {
        let status = match check.status() {
            CheckStatus::Pass => Verdict::Pass,
            CheckStatus::Warn | CheckStatus::Unspecified => Verdict::Warn,
            CheckStatus::Fail => Verdict::Fail,
        };
        Self {
            title: check.title,
            status,
            details: check.details,
            hint: Some(check.hint).filter(|hint| !hint.is_empty()),
        }
    }
}

/// `{"checks": […], "failed": N}`.
#[derive(Debug, Serialize)]
pub struct DoctorView<'a> {
    checks: &'a [Row],
    failed: usize,
}

impl<'a> DoctorView<'a> {
    /// All rows.
    pub fn new(checks: &'a [Row]) -> Self {
        Self { checks, failed: failed(checks) }
    }
}

/// How many checks failed.
pub fn failed(rows: &[Row]) -> usize {
    rows.iter().filter(|row| row.status == Verdict::Fail).count()
}

/// One row per check, its details indented below.
pub fn render(rows: &[Row], paint: Paint) -> String {
    let mut text = String::new();
    for row in rows {
        let verdict = match row.status {
            Verdict::Pass => paint.good("PASS"),
            Verdict::Warn => paint.warning("WARN"),
            Verdict::Fail => paint.error("FAIL"),
        };
        text += &format!("{verdict}  {}\n", escape(&row.title));
        for detail in &row.details {
            text += &format!("      - {}\n", escape(detail));
        }
        if let Some(hint) = &row.hint {
            text += &format!("      {} {}\n", paint.hint("hint:"), escape(hint));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_readable_without_colour() {
        let rows = [
            Row::new(Verdict::Pass, "state directory").detail("/s"),
            Row::new(Verdict::Fail, "bangerd").hint("Run `make install`."),
        ];
        assert_eq!(
            render(&rows, Paint::plain()),
            "PASS  state directory\n      - /s\nFAIL  bangerd\n      hint: Run `make install`.\n"
        );
        assert_eq!(
            serde_json::to_value(DoctorView::new(&rows)).unwrap_or_default(),
            serde_json::json!({
                "checks": [
                    { "title": "state directory", "status": "pass", "details": ["/s"], "hint": null },
                    { "title": "bangerd", "status": "fail", "details": [], "hint": "Run `make install`." },
                ],
                "failed": 1,
            })
        );
    }
}
