//! The state a driver owns and the one way to change it: change the record, save it, publish it.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::{Snapshot, Snapshots, Trouble};
use crate::platform::VmPlan;
use crate::store::{IntentChange, StoreError};
use crate::vm::control::{Control, GuestEvent, Report};
use crate::vm::guest::GuestProgress;
use crate::vm::host::Host;
use crate::vm::plan::vm_plan;
use crate::vm::record::{VmRecord, Workspace};
use crate::vm::state::{LifeEvent, VmState};

/// Where a driver's VM comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Just reserved; an intent to create it is written.
    Reserved,
    /// From the store.
    Stored,
}

pub(super) struct Machine {
    pub(super) host: Arc<Host>,
    pub(super) record: VmRecord,
    pub(super) plan: VmPlan,
    pub(super) guest: GuestProgress,
    pub(super) control: Option<Control>,
    /// The creating intent still stands; it must not be replaced by a launch's.
    pub(super) being_created: bool,
    /// When this daemon started the VMM; `None` if an earlier one did.
    pub(super) launched: Option<Instant>,
    /// The guest said that it ends.
    ending: bool,
    removed: bool,
    publish: watch::Sender<Snapshot>,
}

impl Machine {
    pub(super) fn new(host: Arc<Host>, record: VmRecord, origin: Origin) -> Self {
        let being_created = origin == Origin::Reserved;
        // What an earlier daemon wrote down about the running guest still holds.
        let guest = GuestProgress {
            heard: record.reachable_after_ms > 0,
            reachable: record.reachable_after_ms > 0,
            booted: record.booted_after_ms > 0,
            ..GuestProgress::default()
        };
        let snapshot = Snapshot {
            record: Arc::new(record.clone()),
            guest: guest.clone(),
            control: None,
            being_created,
            removed: false,
        };
        Self {
            plan: vm_plan(&record, &host.paths),
            publish: watch::Sender::new(snapshot),
            control: None,
            launched: None,
            ending: false,
            removed: false,
            host,
            record,
            guest,
            being_created,
        }
    }

    pub(super) fn watch(&self) -> Snapshots {
        self.publish.subscribe()
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed
    }

    /// Takes up a running VMM the record knows.
    pub(super) async fn resume(&mut self) {
        self.attach();
        self.publish();
    }

    /// Starts the conversation with the guest of the recorded VMM.
    pub(super) fn attach(&mut self) {
        self.control = self.record.runtime.as_ref().map(|runtime| {
            Control::attach(Arc::clone(&self.host.platform), self.plan.clone(), runtime.process.clone())
        });
    }

    /// The next event from the guest; never resolves while nothing runs.
    pub(super) async fn next_event(&mut self) -> GuestEvent {
        loop {
            match &mut self.control {
                None => std::future::pending().await,
                Some(control) => match control.next().await {
                    Some(event) => return event,
                    None => {
                        // The last event is taken as the end; without one, the task itself failed.
                        tracing::error!(vm = %self.record.name, "the control task ended early; starting it again");
                        self.attach();
                    }
                },
            }
        }
    }

    /// Takes in an event. It has happened: if it cannot be saved, that is logged and the truth is kept in memory.
    pub(super) async fn note(&mut self, event: GuestEvent) {
        let before = (self.record.clone(), self.guest.clone());
        self.guest.learn(&event);
        match event {
            GuestEvent::Heard => {}
            GuestEvent::Reachable(report) => {
                self.ending = false;
                self.note_reached(&report);
            }
            GuestEvent::Booted(report) => {
                self.ending = false;
                self.note_reached(&report);
                if self.record.booted_after_ms == 0 {
                    self.record.booted_after_ms = self.since_launch(&report);
                }
            }
            GuestEvent::Failed { stage, reason } => {
                self.record.last_error = format!("the guest's init failed in stage {stage:?}: {reason}");
                self.record.state = self.record.state.after(LifeEvent::GuestFailed);
            }
            GuestEvent::Ending => self.ending = true,
            GuestEvent::Exited => {
                // A VMM that was killed, or a guest that crashed: nothing was written back.
                self.record.unclean = !self.ending && self.record.state != VmState::Stopping;
                self.note_exit(LifeEvent::Exited);
            }
        }
        if before.0 != self.record {
            self.save_or_log(IntentChange::Keep).await;
        } else if before.1 != self.guest {
            // A guest that repeats itself must not keep the disk busy.
            self.publish();
        }
    }

    fn note_reached(&mut self, report: &Report) {
        if self.record.boot_id != report.boot_id && !self.record.boot_id.is_empty() {
            tracing::info!(vm = %self.record.name, "the guest has rebooted");
            self.guest.booted = false;
            self.record.booted_after_ms = 0;
        }
        self.record.boot_id.clone_from(&report.boot_id);
        if self.record.reachable_after_ms == 0 {
            self.record.reachable_after_ms = self.since_launch(report);
        }
        if matches!(self.record.state, VmState::Booting | VmState::Broken) {
            self.record.last_error.clear();
        }
        self.record.state = self.record.state.after(LifeEvent::Reachable);
    }

    /// By the host's clock if we started the VMM, else by the guest's.
    fn since_launch(&self, report: &Report) -> u64 {
        match self.launched {
            Some(launched) => u64::try_from(launched.elapsed().as_millis()).unwrap_or(u64::MAX).max(1),
            None => report.uptime_ms.max(1),
        }
    }

    /// The VMM is gone.
    pub(super) fn note_exit(&mut self, how: LifeEvent) {
        if how == LifeEvent::Exited && self.record.state == VmState::Booting {
            self.record.last_error = "the VMM ended before the guest reported".to_owned();
        }
        self.record.state = self.record.state.after(how);
        self.record.runtime = None;
        self.control = None;
        self.launched = None;
    }

    pub(super) async fn note_trouble(&mut self, trouble: Trouble, text: String) {
        if self.record.runtime.is_none() || (trouble == Trouble::Unanswered && self.guest.reachable) {
            return;
        }
        self.record.last_error = text;
        if trouble == Trouble::Unanswered {
            self.record.state = self.record.state.after(LifeEvent::Unanswered);
        }
        self.save_or_log(IntentChange::Keep).await;
    }

    pub(super) async fn record_workspace(&mut self, workspace: Workspace) -> Result<(), StoreError> {
        let before = self.record.workspace.replace(workspace);
        let saved = self.save(IntentChange::Keep).await;
        if saved.is_err() {
            self.record.workspace = before;
        }
        saved
    }

    /// Saves, then publishes: nobody sees what could be forgotten.
    pub(super) async fn save(&mut self, change: IntentChange) -> Result<(), StoreError> {
        self.host.store.save_vm(self.record.clone(), change).await?;
        self.publish();
        Ok(())
    }

    /// For facts that cannot be taken back.
    pub(super) async fn save_or_log(&mut self, change: IntentChange) {
        if let Err(error) = self.host.store.save_vm(self.record.clone(), change).await {
            let failure = banger_proto::failure::Failure::from_error(&error);
            tracing::error!(vm = %self.record.name, "the VM's state is known but not saved: {failure}");
        }
        self.publish();
    }

    /// The row is gone.
    pub(super) fn publish_removed(&mut self) {
        self.removed = true;
        self.control = None;
        self.publish();
    }

    pub(super) fn publish(&self) {
        self.publish.send_replace(Snapshot {
            record: Arc::new(self.record.clone()),
            guest: self.guest.clone(),
            control: self.control.as_ref().map(Control::handle),
            being_created: self.being_created,
            removed: self.removed,
        });
    }
}
