//! One line per request in the journal: who asked for what, what was decided, how it ended, how long it took.
//!
//! Text that came from outside is quoted, so that no byte of a request can begin a line or forge a field.

use std::io::Write as _;
use std::time::Duration;

use banger_proto::failure::Failure;

use crate::caller::Caller;
use crate::request::Operation;

/// What the policy or the parser said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It was performed.
    Permit,
    /// It was not, for this reason.
    Refuse(String),
}

/// One request.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The daemon's operation, "-" if it could not be read.
    pub operation_id: &'a str,
    /// Who asked.
    pub caller: Caller,
    /// What for, if it could be read.
    pub operation: Option<&'a Operation>,
    /// Whether it was performed.
    pub decision: Decision,
    /// How it ended; `None` if it was not performed or nothing went wrong.
    pub failure: Option<&'a Failure>,
    /// From its last byte to its answer.
    pub took: Duration,
}

/// Writes it down.
pub fn record(entry: &Entry<'_>) {
    write(&render(entry));
}

/// Writes down something that is no request.
pub fn note(level: u8, text: &str) {
    write(&format!("<{level}>{}", text.replace('\n', " ")));
}

/// In one call, so that lines of different threads do not mix.
fn write(line: &str) {
    // A log that cannot be written cannot be told so either.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn render(entry: &Entry<'_>) -> String {
    let name = entry.operation.map_or("-", name_of);
    let vm = entry.operation.and_then(Operation::vm).map_or("-", |vm| vm.as_str());
    let (level, decision, outcome) = match (&entry.decision, entry.failure) {
        (Decision::Refuse(reason), _) => (5, format!("refuse reason={reason:?}"), "nothing".to_owned()),
        (Decision::Permit, None) => (6, "permit".to_owned(), "done".to_owned()),
        (Decision::Permit, Some(failure)) => {
            let left = failure.left_behind.join("; ");
            let left = if left.is_empty() { String::new() } else { format!(" left_behind={left:?}") };
            (4, "permit".to_owned(), format!("failed why={:?}{left}", failure.to_string()))
        }
    };
    format!(
        "<{level}>request op={} uid={} pid={} operation={name} vm={vm} decision={decision} outcome={outcome} ms={}",
        entry.operation_id,
        entry.caller.uid(),
        entry.caller.pid(),
        entry.took.as_millis(),
    )
}

fn name_of(operation: &Operation) -> &'static str {
    match operation {
        Operation::EnsureNetwork => "ensure_network",
        Operation::AttachLink { .. } => "attach_link",
        Operation::DetachLink { .. } => "detach_link",
        Operation::SetNat { .. } => "set_nat",
        Operation::SetResolver { .. } => "set_resolver",
        Operation::CreateRootDisk { .. } => "create_root_disk",
        Operation::LaunchVm { .. } => "launch_vm",
        Operation::SignalVm { .. } => "signal_vm",
        Operation::TeardownVm { .. } => "teardown_vm",
        Operation::Inventory => "inventory",
    }
}

#[cfg(test)]
mod tests {
    use banger_proto::failure::Kind;

    use super::*;

    fn entry(decision: Decision) -> Entry<'static> {
        Entry {
            operation_id: "op-1",
            caller: Caller::with_uid(1000),
            operation: Some(&Operation::Inventory),
            decision,
            failure: None,
            took: Duration::from_millis(12),
        }
    }

    #[test]
    fn a_reason_cannot_begin_a_line_of_its_own() {
        let line = render(&entry(Decision::Refuse("no\n<6>request op=forged \"quoted\"".to_owned())));
        assert!(!line.contains('\n'), "{line}");
        let expected = "decision=refuse reason=\"no\\n<6>request op=forged \\\"quoted\\\"\" outcome=nothing";
        assert!(line.contains(expected), "{line}");
    }

    #[test]
    fn a_line_says_who_what_and_how_it_ended() {
        let line = render(&entry(Decision::Permit));
        let expected = "<6>request op=op-1 uid=1000 pid=1 operation=inventory vm=- decision=permit outcome=done ms=12";
        assert_eq!(line, expected);
        let failure = Failure { left_behind: vec!["the tap".into()], ..Failure::new(Kind::Failed, "no") };
        let line = render(&Entry { failure: Some(&failure), ..entry(Decision::Permit) });
        assert!(line.contains("outcome=failed why=\"no\" left_behind=\"the tap\""), "{line}");
    }
}
