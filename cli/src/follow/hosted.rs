//! A session in this process: the engine, its socket, its record, and what is shown of it.

use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use banger_proto::failure::Kind;
use banger_proto::v1::{SetWorkspaceRequest, Vm, Workspace};
use banger_sync::overlay::CopyMode;
use banger_sync::prepare::WORTH_ASKING;
use banger_sync::receiver::sync_command;
use banger_sync::watch::cycle::Tuning;
use banger_sync::watch::{Batch, Mode, Status, Watch, WatchError, WatchOptions, start};
use tokio::net::UnixListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::reach::VmReach;
use super::record::{Claim, Place, SessionRecord};
use super::serve::serve;
use crate::client::Client;
use crate::context::Context;
use crate::error::CliError;
use crate::run::plan::WorkspacePlan;
use crate::ui::Ui;
use crate::view::follow::{FollowEvent, Identity, StatusView, batch_line};
use crate::view::time::now_ms;
use crate::workspace_record::{self, WorkspaceRecord};

/// How often a session writes down how it is, at the most.
const RECORD_EVERY: Duration = Duration::from_secs(1);
/// How many directories may be watched, for tests and odd hosts.
const BUDGET_VARIABLE: &str = "BANGER_WATCH_BUDGET";

/// Who is told what a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// Every batch.
    Everything,
    /// Nothing: something else has the output.
    Nothing,
}

/// See the module.
pub struct Hosted {
    /// The engine.
    pub watch: Watch,
    engine: JoinHandle<()>,
    server: JoinHandle<()>,
    batches: mpsc::UnboundedReceiver<Batch>,
    gone: Arc<Notify>,
    claim: Claim,
    identity: Arc<Identity>,
    client: Client,
    told: Option<StatusView>,
    recorded: Option<(Instant, StatusView)>,
    workspace: Option<(Option<String>, String)>,
}

impl Hosted {
    /// Begins one for a VM that runs.
    ///
    /// # Errors
    /// There is one already, or the repository cannot be followed.
    pub async fn start(
        context: &Context,
        client: &Client,
        vm: &Vm,
        plan: &WorkspacePlan,
        mode: Mode,
    ) -> Result<Self, CliError> {
        let paths = context.paths()?;
        // Guests know the key they were made with.
        context.owner()?;
        let guest_path = plan.guest_path.as_str().to_owned();
        let claim = Place::of(&paths, &vm.id, &guest_path).claim(&paths, vm)?;
        let gone = Arc::new(Notify::new());
        let reach = VmReach {
            client: client.clone(),
            vm_id: vm.id.clone(),
            identity: paths.identity(),
            gone: Arc::clone(&gone),
        };
        let root = plan.path.canonicalize().unwrap_or_else(|_| plan.path.clone());
        let options = WatchOptions {
            path: plan.path.clone(),
            observe: plan.options.clone(),
            command: sync_command(&guest_path),
            guest_path: guest_path.clone(),
            mode,
            budget: std::env::var(BUDGET_VARIABLE).ok().and_then(|text| text.parse().ok()),
            memory_file: Some(workspace_record::digests(&paths.state, &root)),
            tuning: Tuning::default(),
            worth_asking: WORTH_ASKING,
        };
        let (sender, batches) = mpsc::unbounded_channel();
        let (watch, engine) = start(options, Arc::new(reach), Some(sender)).await?;
        WorkspaceRecord::new(&plan.options, &vm.name).save(&paths.state, &vm.id);
        let identity = Arc::new(Identity {
            vm: vm.clone(),
            root: root.display().to_string(),
            guest_path,
            mode,
            started_unix_ms: now_ms(),
        });
        let listener = UnixListener::bind(claim.place().socket()).map_err(|error| {
            CliError::new(Kind::HostNotReady, "the session cannot be asked anything")
                .map(|failure| failure.caused_by(error.to_string()))
        })?;
        let server = tokio::spawn(serve(listener, watch.clone(), Arc::clone(&identity)));
        let mut hosted = Self {
            watch,
            engine,
            server,
            batches,
            gone,
            claim,
            identity,
            client: client.clone(),
            told: None,
            recorded: None,
            workspace: None,
        };
        hosted.record();
        Ok(hosted)
    }

    /// Where it is found.
    pub fn place(&self) -> Place {
        self.claim.place().clone()
    }

    /// Takes care of it until it ends.
    ///
    /// # Errors
    /// Nobody reads what is told any more; the session was ended.
    pub async fn tend(mut self, ui: Arc<Ui>, telling: Telling) -> Result<(), CliError> {
        let mut outcome = Ok(());
        let mut status = self.watch.clone();
        loop {
            if telling == Telling::Everything
                && outcome.is_ok()
                && let Err(error) = self.tell(&ui)
            {
                outcome = Err(error);
                self.watch.stop();
            }
            self.record();
            self.remember_workspace().await;
            tokio::select! {
                batch = self.batches.recv() => {
                    let Some(batch) = batch else { break };
                    if telling == Telling::Everything && outcome.is_ok() {
                        outcome = tell_batch(&ui, &batch);
                    }
                }
                changed = status.changed() => {
                    if changed.is_none() {
                        break;
                    }
                }
                () = self.gone.notified() => {
                    if telling == Telling::Everything {
                        ui.status(&format!("VM {} is gone", self.identity.vm.name));
                    }
                    self.watch.stop();
                }
                // The record may be a moment old.
                () = tokio::time::sleep(RECORD_EVERY) => {}
            }
        }
        let _ = (&mut self.engine).await;
        self.server.abort();
        self.remember_workspace().await;
        if telling == Telling::Everything && ui.is_json() && outcome.is_ok() {
            outcome = ui.event(&FollowEvent::Ended);
        }
        outcome
    }

    /// What is new about it, apart from batches.
    fn tell(&mut self, ui: &Ui) -> Result<(), CliError> {
        let now = StatusView::new(&self.identity, &self.watch.status());
        let before = self.told.replace(now.clone());
        let passing = |state: &str| matches!(state, "sending" | "in_step");
        let same = before.as_ref().is_some_and(|before| {
            let state = before.state == now.state || passing(&before.state) && passing(&now.state);
            state && before.conflicts == now.conflicts && before.notes() == now.notes()
        });
        if same {
            return Ok(());
        }
        if ui.is_json() {
            return ui.event(&FollowEvent::Status(Box::new(now)));
        }
        let old_state = before.as_ref().map(|before| before.state.clone()).unwrap_or_default();
        if old_state != now.state && !(passing(&old_state) && passing(&now.state)) {
            ui.status(&format!("{}: {}", now.vm, now.state_text()));
        }
        let old_notes = before.as_ref().map(StatusView::notes).unwrap_or_default();
        for note in now.notes().iter().filter(|note| !old_notes.contains(note)) {
            ui.warn(note);
        }
        let old = before.map(|before| before.conflicts).unwrap_or_default();
        for conflict in now.conflicts.iter().filter(|conflict| !old.contains(conflict)) {
            ui.warn(&format!("conflict: {} {}", conflict.path, conflict.reason.replace('_', " ")));
        }
        for conflict in old.iter().filter(|conflict| !now.conflicts.contains(conflict)) {
            ui.status(&format!("settled: {}", conflict.path));
        }
        Ok(())
    }

    fn record(&mut self) {
        let now = StatusView::new(&self.identity, &self.watch.status());
        let due = match &self.recorded {
            Some((when, before)) => *before != now && when.elapsed() >= RECORD_EVERY,
            None => true,
        };
        if due {
            self.claim.save(&SessionRecord {
                vm_id: now.vm_id.clone(),
                vm_name: now.vm.clone(),
                guest_path: now.guest_path.clone(),
                last: now.clone(),
            });
            self.recorded = Some((Instant::now(), now));
        }
    }

    /// Has the daemon know what is in the guest, for everything else that works on the workspace.
    async fn remember_workspace(&mut self) {
        let status = self.watch.status();
        let Some(now) = workspace_of(&status) else { return };
        if self.workspace.as_ref() == Some(&now) {
            return;
        }
        let workspace = Workspace {
            guest_path: self.identity.guest_path.as_bytes().to_vec(),
            source_path: std::path::Path::new(&self.identity.root).as_os_str().as_bytes().to_vec(),
            head_commit: now.0.clone().unwrap_or_default(),
            tree_digest: now.1.clone(),
            prepared_unix_ms: now_ms(),
        };
        let request = SetWorkspaceRequest { reference: self.identity.vm.id.clone(), workspace: Some(workspace) };
        match self.client.vms().set_workspace(request).await {
            Ok(_) => self.workspace = Some(now),
            // Tried again with the next change; what it is for works with the older one.
            Err(error) => tracing::debug!(%error, "the daemon does not remember the workspace"),
        }
    }
}

fn workspace_of(status: &Status) -> Option<(Option<String>, String)> {
    status.tree.map(|tree| (status.head_commit.clone(), tree.to_string()))
}

fn tell_batch(ui: &Ui, batch: &Batch) -> Result<(), CliError> {
    if ui.is_json() {
        return ui.event(&FollowEvent::batch(batch));
    }
    ui.status(&batch_line(batch));
    Ok(())
}

/// A full copy is not followed; following it as an overlay would cut its history.
///
/// # Errors
/// The VM's workspace is one.
pub fn refuse_full_copy(context: &Context, vm: &Vm) -> Result<(), CliError> {
    match WorkspaceRecord::load(&context.paths()?.state, &vm.id).mode() {
        CopyMode::Overlay => Ok(()),
        CopyMode::FullCopy => Err(WatchError::FullCopy.into()),
    }
}
