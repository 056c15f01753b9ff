//! The events `vm run --json`, `vm exec --json` and `vm ssh --json` write to stdout, one JSON object a line.
//! Their keys are part of the command line's contract (docs/cli.md, "Event streams").

use banger_proto::v1::{OperationEvent, ProgressUnit, Vm, operation_event::Event};
use base64ct::{Base64, Encoding as _};
use serde::Serialize;

use super::files::FilesView;
use super::vm::VmView;
use super::workspace::PreparedView;
use crate::ui::Channel;

/// One event.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum RunEvent<'a> {
    /// What will be made.
    Spec(SpecView<'a>),
    /// A stage begins.
    Stage {
        /// Absent for what the CLI does itself.
        operation_id: Option<&'a str>,
        /// Stable identifier.
        name: &'a str,
        /// For people.
        message: &'a str,
        /// Since the operation, or the run, began.
        elapsed_ms: u64,
    },
    /// Counts inside a stage.
    Progress {
        /// So far.
        done: u64,
        /// Absent if not known.
        total: Option<u64>,
        /// "bytes" or "steps".
        unit: &'static str,
    },
    /// Does not stop the work.
    Warning {
        /// For people.
        message: &'a str,
    },
    /// The VM is as far as `--wait` asked.
    Ready {
        /// Since the run began.
        elapsed_ms: u64,
        /// The VM.
        vm: Box<VmView>,
    },
    /// The files of the configuration are in the guest.
    Files(FilesView),
    /// The workspace is in the guest.
    Workspace(PreparedView),
    /// The tree the command begins with; with `--watch`.
    Tree {
        /// As both sides computed it.
        tree_digest: &'a str,
    },
    /// Output of the command.
    Stdout {
        /// Base64, standard alphabet, padded.
        data_base64: String,
    },
    /// Output of the command.
    Stderr {
        /// Base64, standard alphabet, padded.
        data_base64: String,
    },
    /// The command ended.
    Exit {
        /// As a shell sees it: 128+n after a signal.
        status: u8,
        /// Name of the signal that ended it.
        signal: Option<&'a str>,
    },
    /// The VM of `--rm` is gone.
    Deleted {
        /// Its id.
        id: &'a str,
        /// Its name.
        name: &'a str,
    },
}

/// What will be made.
#[derive(Debug, Serialize)]
pub struct SpecView<'a> {
    /// Virtual CPUs.
    pub vcpu: u32,
    /// Memory.
    pub memory_mib: u64,
    /// Work disk.
    pub work_disk_mib: u64,
    /// Image.
    pub image: &'a str,
    /// Absent: the image's own.
    pub kernel: Option<&'a str>,
}

impl<'a> RunEvent<'a> {
    /// The stage, progress and warning events of an operation; its begin and end show otherwise.
    pub fn of_operation(event: &'a OperationEvent) -> Option<Self> {
        match event.event.as_ref()? {
            Event::Stage(stage) => Some(Self::Stage {
                operation_id: Some(&event.operation_id),
                name: &stage.name,
                message: &stage.message,
                elapsed_ms: event.elapsed_ms,
            }),
            Event::Progress(step) => Some(Self::Progress {
                done: step.done,
                total: Some(step.total).filter(|&total| total != 0),
                unit: if step.unit() == ProgressUnit::Bytes { "bytes" } else { "steps" },
            }),
            Event::Warning(warning) => Some(Self::Warning { message: &warning.message }),
            Event::Started(_) | Event::Finished(_) => None,
        }
    }

    /// The VM is ready.
    pub fn ready(vm: &Vm, elapsed: std::time::Duration) -> Self {
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        Self::Ready { elapsed_ms, vm: Box::new(VmView::from(vm)) }
    }

    /// Output of the command.
    pub fn output(channel: Channel, bytes: &[u8]) -> Self {
        let data_base64 = Base64::encode_string(bytes);
        match channel {
            Channel::Data => Self::Stdout { data_base64 },
            Channel::Notes => Self::Stderr { data_base64 },
        }
    }
}

#[cfg(test)]
mod tests {
    use banger_proto::v1::{OperationStarted, Progress, Stage};

    use super::*;

    fn json(event: &RunEvent<'_>) -> serde_json::Value {
        serde_json::to_value(event).unwrap_or_default()
    }

    fn operation(event: Event) -> OperationEvent {
        OperationEvent { operation_id: "op-1".into(), elapsed_ms: 12, event: Some(event) }
    }

    #[test]
    fn the_events_are_stable() {
        let stage = operation(Event::Stage(Stage { name: "boot".into(), message: "booting".into() }));
        assert_eq!(
            RunEvent::of_operation(&stage).map(|event| json(&event)),
            Some(serde_json::json!({
                "event": "stage", "operation_id": "op-1", "name": "boot", "message": "booting", "elapsed_ms": 12,
            }))
        );
        let progress = operation(Event::Progress(Progress {
            done: 1,
            total: 0,
            unit: ProgressUnit::Bytes.into(),
            message: String::new(),
        }));
        assert_eq!(
            RunEvent::of_operation(&progress).map(|event| json(&event)),
            Some(serde_json::json!({ "event": "progress", "done": 1, "total": null, "unit": "bytes" }))
        );
        assert!(RunEvent::of_operation(&operation(Event::Started(OperationStarted::default()))).is_none());
        assert_eq!(
            json(&RunEvent::output(Channel::Data, b"\xff\x00a")),
            serde_json::json!({ "event": "stdout", "data_base64": "/wBh" })
        );
        assert_eq!(
            json(&RunEvent::Exit { status: 130, signal: Some("INT") }),
            serde_json::json!({ "event": "exit", "status": 130, "signal": "INT" })
        );
        let spec = SpecView { vcpu: 2, memory_mib: 2048, work_disk_mib: 8192, image: "debian-bookworm", kernel: None };
        assert_eq!(
            json(&RunEvent::Spec(spec)),
            serde_json::json!({
                "event": "spec", "vcpu": 2, "memory_mib": 2048, "work_disk_mib": 8192, "image": "debian-bookworm", "kernel": null,
            })
        );
    }
}
