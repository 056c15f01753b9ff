//! The workspace: what a repository contains, and how it gets into the guest. Errors of the sync crate pass through.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Mutex;

use banger_proto::failure::Kind;
use banger_proto::v1::{SetWorkspaceRequest, Vm, Workspace};
use banger_sync::overlay::{self, ObserveOptions, Overlay};
use banger_sync::prepare::{PrepareProgress, Receiver};
use banger_sync::ssh::Connection;

use super::plan::WorkspacePlan;
use crate::args::GuestPath;
use crate::client::Client;
use crate::context::Context;
use crate::error::{CliError, CommandResult, OrFail as _};
use crate::interrupt::Interrupts;
use crate::ui::progress::{Progress, Unit};
use crate::view::time::now_ms;
use crate::view::workspace::{DryRunView, PreparedView};
use crate::workspace_record::{self, WorkspaceRecord};

/// Reads the repository.
///
/// # Errors
/// It is not one, or cannot be read.
pub async fn observe(context: &Context, plan: &WorkspacePlan) -> Result<Overlay, CliError> {
    let overlay = observe_quietly(context, plan).await?;
    if overlay.skipped_untracked > 0 {
        let count = overlay.skipped_untracked;
        context
            .ui
            .status(&format!("notice: {count} untracked files are left out; --include-untracked takes them along"));
    }
    Ok(overlay)
}

/// [`observe`] without telling anybody.
///
/// # Errors
/// As [`observe`].
pub async fn observe_quietly(context: &Context, plan: &WorkspacePlan) -> Result<Overlay, CliError> {
    let (path, options) = (plan.path.clone(), plan.options.clone());
    let state = context.paths().ok().map(|paths| paths.state);
    let observed = tokio::task::spawn_blocking(move || {
        overlay::observe_with(&path, &options, |root| Some(workspace_record::digests(state.as_ref()?, root)))
    })
    .await;
    let overlay = observed.map_err(|crash| {
        CliError::new(Kind::Internal, "reading the repository crashed")
            .map(|failure| failure.caused_by(crash.to_string()))
    })??;
    for module in overlay.modules.iter().filter(|module| !module.is_populated()) {
        let path = &module.path;
        context.ui.warn(&format!("the submodule {path} is not checked out: the guest gets an empty directory"));
    }
    context.ui.detail(&format!("{} files of {}", overlay.manifest.entries.len(), overlay.root.display()));
    Ok(overlay)
}

/// The plan of the last prepare of a VM, with what is given in its place.
///
/// # Errors
/// There was none and nothing is given.
pub fn plan_again(
    context: &Context,
    vm: &Vm,
    path: Option<PathBuf>,
    guest_path: Option<GuestPath>,
) -> Result<WorkspacePlan, CliError> {
    let missing = || {
        CliError::new(Kind::NotFound, format!("VM {} has no workspace", vm.name))
            .hint(format!("Put one there with `banger vm workspace prepare {}`.", vm.name))
    };
    let path = match (path, &vm.workspace) {
        (Some(path), _) => path,
        (None, Some(workspace)) => PathBuf::from(std::ffi::OsStr::from_bytes(&workspace.source_path)),
        (None, None) => return Err(missing()),
    };
    let guest_path = match (guest_path, &vm.workspace) {
        (Some(path), _) => path,
        (None, Some(workspace)) => String::from_utf8_lossy(&workspace.guest_path).parse().map_err(|_| missing())?,
        (None, None) => GuestPath::default(),
    };
    let options = WorkspaceRecord::load(&context.paths()?.state, &vm.id).options();
    Ok(WorkspacePlan { path, options, guest_path })
}

/// Tells what would be copied.
///
/// # Errors
/// As [`observe`].
pub async fn dry_run(context: &Context, plan: WorkspacePlan) -> CommandResult {
    let mut interrupts = Interrupts::install()?;
    let overlay = interrupts.guard("reading the repository", observe(context, &plan)).await?;
    let view = DryRunView::new(&overlay, plan.guest_path.as_str());
    if context.ui.is_json() {
        context.ui.json(&view)?;
    } else {
        context.ui.data(&view.render())?;
    }
    Ok(0)
}

/// Where a workspace goes.
#[derive(Clone, Copy)]
pub struct Destination<'a> {
    /// Remembers it.
    pub client: &'a Client,
    /// To the guest.
    pub connection: &'a Connection,
    /// Of the guest.
    pub vm: &'a Vm,
    /// In the guest.
    pub guest_path: &'a GuestPath,
    /// How it was observed, to be remembered.
    pub options: &'a ObserveOptions,
}

/// Copies the workspace into the guest and has the daemon remember it.
///
/// # Errors
/// It is not in the guest, or not remembered.
pub async fn prepare(
    context: &Context,
    overlay: &Overlay,
    destination: Destination<'_>,
) -> Result<PreparedView, CliError> {
    let receiver = Receiver::open(destination.connection, destination.guest_path.as_str()).await?;
    prepare_in(context, overlay, destination, receiver).await
}

/// [`prepare`] with a receiver that was started meanwhile, on the same connection and for the same path.
///
/// # Errors
/// As [`prepare`].
pub async fn prepare_in(
    context: &Context,
    overlay: &Overlay,
    destination: Destination<'_>,
    receiver: Receiver,
) -> Result<PreparedView, CliError> {
    let Destination { client, vm, guest_path, options, .. } = destination;
    let prepared = {
        let progress = Mutex::new(context.ui.progress());
        let report = |step: PrepareProgress| {
            // A poisoned lock would mean that drawing panicked; progress is not worth failing for.
            if let Ok(mut progress) = progress.lock() {
                show(&mut progress, step);
            }
        };
        receiver.prepare(overlay, guest_path.as_str(), &report).await?
    };
    let workspace = Workspace {
        guest_path: guest_path.as_str().as_bytes().to_vec(),
        source_path: overlay.root.as_os_str().as_bytes().to_vec(),
        head_commit: overlay.head_commit.clone().unwrap_or_default(),
        tree_digest: prepared.tree_digest.to_string(),
        prepared_unix_ms: now_ms(),
    };
    let request = SetWorkspaceRequest { reference: vm.id.clone(), workspace: Some(workspace) };
    client.vms().set_workspace(request).await.or_fail()?;
    if let Ok(paths) = context.paths() {
        WorkspaceRecord::new(options, &vm.name).save(&paths.state, &vm.id);
    }
    let view = PreparedView::new(&prepared, overlay, guest_path.as_str());
    for warning in view.warnings() {
        context.ui.warn(&warning);
    }
    Ok(view)
}

fn show(progress: &mut Progress<'_>, step: PrepareProgress) {
    progress.message(&format!("copying {} of {} files", step.files_done, step.files_total));
    progress.count(step.bytes_done, step.bytes_total, Unit::Bytes);
}
