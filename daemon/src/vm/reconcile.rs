//! After a restart: compares the store with the host and makes both tell the same story.
//!
//! What was half made is removed, what runs is watched again, what vanished is stopped, and what nobody
//! knows is removed, unless the store itself is new: then it belongs to the one that was moved aside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use banger_proto::failure::Failure;
use banger_proto::names::VmId;

use super::Vms;
use super::driver::{DriverHandle, Origin};
use super::plan::{Recovery, recover, vm_plan};
use super::record::VmRecord;
use super::state::VmState;
use crate::reporter::Reporter;
use crate::store::{Action, Intent, IntentChange, Origin as StoreOrigin, StoreError};

/// Operation id of what the daemon does on its own account at start.
const ON_OUR_OWN: &str = "recovery";

impl Vms {
    /// Runs once, before the first request is served.
    ///
    /// # Errors
    /// Only if the store cannot be read; trouble with single VMs is recorded on them.
    pub async fn reconcile(&self, origin: StoreOrigin) -> Result<(), StoreError> {
        let records = self.host.store.vms().await?;
        let intents: BTreeMap<VmId, Intent> =
            self.host.store.intents().await?.into_iter().map(|intent| (intent.vm.clone(), intent)).collect();
        let known: BTreeSet<VmId> = records.iter().map(|record| record.id.clone()).collect();
        for record in records {
            let intent = intents.get(&record.id);
            self.recover_one(record, intent).await?;
        }
        self.remove_orphans(&known, origin).await
    }

    async fn recover_one(&self, mut record: VmRecord, intent: Option<&Intent>) -> Result<(), StoreError> {
        let name = record.name.clone();
        let plan = vm_plan(&record, &self.host.paths);
        let recorded = record.runtime.as_ref().map(|runtime| runtime.process.clone());
        let action = intent.map(|intent| intent.action);
        let recovery = match self.host.platform.inspect(&plan, recorded.as_ref()).await {
            Ok(observed) => recover(&record, action, observed),
            Err(error) => {
                let text = format!("cannot tell whether its VMM runs: {}", Failure::from_error(&error));
                tracing::error!(vm = %name, "{text}");
                record.state = VmState::Broken;
                record.last_error = text;
                self.host.store.save_vm(record.clone(), IntentChange::Keep).await?;
                self.spawn_driver(record, Origin::Stored);
                return Ok(());
            }
        };
        if let Some(intent) = intent {
            tracing::info!(vm = %name, operation_id = %intent.operation_id, action = intent.action.name(), "found interrupted");
        }
        match recovery {
            Recovery::Remove => {
                let handle = self.spawn_driver(record, Origin::Stored);
                if let Err(error) = handle.remove(&Reporter::silent(ON_OUR_OWN)).await {
                    tracing::error!(vm = %name, left_behind = ?error.left_behind(), "{}", Failure::from_error(&error));
                }
            }
            Recovery::Attach { running, stop_again } => {
                tracing::info!(vm = %name, pid = running.process.pid, "still runs");
                if action == Some(Action::Launch) || !record_is_up(record.state) {
                    record.state = VmState::Booting;
                    record.started_unix_ms = crate::clock::unix_ms();
                    (record.reachable_after_ms, record.booted_after_ms) = (0, 0);
                }
                record.runtime = Some(running.into());
                self.host.store.save_vm(record.clone(), IntentChange::Finish).await?;
                let handle = self.spawn_driver(record, Origin::Stored);
                if stop_again {
                    self.stop_in_background(handle);
                }
            }
            Recovery::Rest { state, unclean, note } => {
                if state != record.state {
                    tracing::info!(vm = %name, was = %record.state, now = %state, "runs no longer");
                }
                record.state = state;
                record.unclean = unclean;
                record.runtime = None;
                if let Some(note) = note {
                    record.last_error = note;
                }
                self.host.store.save_vm(record.clone(), IntentChange::Finish).await?;
                self.spawn_driver(record, Origin::Stored);
            }
        }
        Ok(())
    }

    /// The guest was asked already; asking again costs nothing.
    fn stop_in_background(&self, handle: DriverHandle) {
        let patience = self.host.patience.stop;
        tokio::spawn(async move {
            if let Err(error) = handle.stop(&Reporter::silent(ON_OUR_OWN), patience).await {
                tracing::error!(vm = %handle.snapshot().record.name, "{}", Failure::from_error(&error));
            }
        });
    }

    async fn remove_orphans(&self, known: &BTreeSet<VmId>, origin: StoreOrigin) -> Result<(), StoreError> {
        let found = match self.host.platform.inventory().await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!("cannot look for VMs nobody knows: {}", Failure::from_error(&error));
                return Ok(());
            }
        };
        let unknown: Vec<VmId> = found.into_iter().filter(|id| !known.contains(id)).collect();
        if origin == StoreOrigin::Fresh && !unknown.is_empty() {
            tracing::warn!(vms = ?unknown, "these VMs belong to an earlier store and are left alone");
            return self.host.store.record_foreign_vms(unknown).await;
        }
        let foreign = self.host.store.foreign_vms().await?;
        let platform = Arc::clone(&self.host.platform);
        for id in unknown.iter().filter(|id| !foreign.contains(id)) {
            tracing::warn!(vm = %id, "removing a VM nobody knows");
            for error in platform.remove_orphan(id).await {
                tracing::error!(vm = %id, "{}", Failure::from_error(&error));
            }
        }
        Ok(())
    }
}

/// States in which a living VMM is no surprise.
fn record_is_up(state: VmState) -> bool {
    match state {
        VmState::Booting | VmState::Running | VmState::Stopping | VmState::Broken => true,
        VmState::Created | VmState::Provisioned | VmState::Stopped => false,
    }
}
