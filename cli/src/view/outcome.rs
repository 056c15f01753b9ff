//! Results of a verb on several VMs: one line, or one JSON object, per target in the order they were named.

use serde::Serialize;

use crate::error::{CliError, FailureView};

/// What happened to one target.
#[derive(Debug)]
pub struct Outcome {
    /// As it was typed.
    pub reference: String,
    /// Id and name, once it was resolved.
    pub vm: Option<(String, String)>,
    /// How it ended.
    pub result: Result<(), CliError>,
}

/// `{"results": […]}`.
#[derive(Debug, Serialize)]
pub struct OutcomesView<'a> {
    results: Vec<OutcomeView<'a>>,
}

#[derive(Debug, Serialize)]
struct OutcomeView<'a> {
    reference: &'a str,
    id: Option<&'a str>,
    name: Option<&'a str>,
    ok: bool,
    error: Option<FailureView<'a>>,
}

impl<'a> OutcomesView<'a> {
    /// All outcomes.
    pub fn new(outcomes: &'a [Outcome]) -> Self {
        Self { results: outcomes.iter().map(OutcomeView::from).collect() }
    }
}

impl<'a> From<&'a Outcome> for OutcomeView<'a> {
    fn from(outcome: &'a Outcome) -> Self {
        let error = match &outcome.result {
            Err(CliError::Failed(failure)) => Some(FailureView::from(failure.as_ref())),
            Err(CliError::OutputClosed) | Ok(()) => None,
        };
        Self {
            reference: &outcome.reference,
            id: outcome.vm.as_ref().map(|(id, _)| id.as_str()),
            name: outcome.vm.as_ref().map(|(_, name)| name.as_str()),
            ok: outcome.result.is_ok(),
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use banger_proto::failure::Kind;

    use super::*;

    #[test]
    fn the_json_object_is_stable() {
        let outcomes = [
            Outcome { reference: "a".into(), vm: Some(("1".into(), "a".into())), result: Ok(()) },
            Outcome { reference: "b".into(), vm: None, result: Err(CliError::new(Kind::NotFound, "no VM matches b")) },
        ];
        assert_eq!(
            serde_json::to_value(OutcomesView::new(&outcomes)).unwrap_or_default(),
            serde_json::json!({ "results": [
                { "reference": "a", "id": "1", "name": "a", "ok": true, "error": null },
                { "reference": "b", "id": null, "name": null, "ok": false, "error": {
                    "kind": "not_found", "exit_code": 3, "message": "no VM matches b", "causes": [], "hints": [],
                    "operation_id": null, "left_behind": [],
                } },
            ] })
        );
    }
}
