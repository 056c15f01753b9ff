//! `banger system uninstall`.

use banger_proto::failure::Kind;
use banger_proto::v1::{DeleteVmRequest, StopVmRequest, Vm, VmState};
use clap::Args;

use crate::client::{Client, installed};
use crate::context::Context;
use crate::error::{CliError, CommandResult};
use crate::install::host::Host;
use crate::install::removal::{Extent, Outcome, Removal, perform};
use crate::install::require_root;
use crate::operation::{Reporting, Seen, follow};
use crate::view::install::{RemovalView, UninstalledView, render_removal, render_uninstalled};

/// Take the services away; with --purge also VMs, images and kernels
///
///     sudo banger system uninstall
///     sudo banger system uninstall --purge --yes
///
/// Lists first what will be removed. Without --purge VMs are stopped and everything in /var/lib/banger stays for a
/// later installation. Only what `system install` created is removed: what was changed since, or put there by somebody
/// else, is named and kept. Keys and known hosts in the owner's home are the owner's.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct UninstallArgs {
    /// Delete all VMs, images and kernels as well
    #[arg(long)]
    pub purge: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Runs it.
///
/// # Errors
/// What could not be removed.
pub async fn run(context: &Context, args: UninstallArgs) -> CommandResult {
    require_root("system uninstall")?;
    let (host, ui) = (Host::this(), &context.ui);
    let extent = if args.purge { Extent::Everything } else { Extent::Programs };
    let Some(removal) = Removal::decide(&host, extent)? else {
        ui.status("banger is not installed: nothing to remove");
        return Ok(0);
    };
    if !ui.is_json() {
        ui.data(&render_removal(&removal.items))?;
    }
    if !args.yes && !agreed(context)? {
        return Err(CliError::cancelled("nothing was removed"));
    }
    let mut outcome = settle_vms(context, &removal, extent).await?;
    let rest = perform(&host, &removal);
    outcome.removed.extend(rest.removed);
    outcome.failed.extend(rest.failed);
    if ui.is_json() {
        let kept = RemovalView::kept(&removal.items);
        ui.json(&UninstalledView { removed: &outcome.removed, kept, failed: &outcome.failed })?;
    } else {
        ui.data(&render_uninstalled(&outcome.removed))?;
    }
    if outcome.failed.is_empty() {
        return Ok(0);
    }
    let mut error = CliError::new(Kind::Failed, "not everything could be removed")
        .hint("Try again with `sudo banger system uninstall`, or as `make build` left it: `target/release/banger`.");
    for left in outcome.failed {
        error = error.map(|mut failure| {
            failure.left_behind.push(left);
            failure
        });
    }
    Err(error)
}

fn agreed(context: &Context) -> Result<bool, CliError> {
    use std::io::IsTerminal as _;
    if !std::io::stdin().is_terminal() || context.ui.is_json() {
        return Err(CliError::new(Kind::Refused, "refusing to remove banger without being asked to on a terminal")
            .hint("Add `--yes`, as in `sudo banger system uninstall --yes`."));
    }
    Ok(context.ui.confirm("Remove all that?"))
}

/// Ends VMs through the daemon, which does it gently. One that does not run has nothing to say: what is left of its VMs
/// is then the helper's to take down, which it can only do together with their disks.
async fn settle_vms(context: &Context, removal: &Removal, extent: Extent) -> Result<Outcome, CliError> {
    let mut outcome = Outcome::default();
    let Some(install) = &removal.install else { return Ok(outcome) };
    let client = match installed::find(install).await {
        Ok(Some(client)) => client,
        Ok(None) | Err(_) => {
            if crate::install::vms::on_disk(&Host::this()).is_empty() {
                return Ok(outcome);
            }
            if extent == Extent::Everything {
                context.ui.warn("bangerd does not run: VMs are ended without asking their guests");
                return Ok(outcome);
            }
            return Err(CliError::new(Kind::Unreachable, "cannot stop the VMs: bangerd is not running")
                .hint("Start it with `sudo systemctl start bangerd.service`, or delete VMs too with `--purge`."));
        }
    };
    for vm in client.list_vms().await? {
        let (name, runs) = (vm.name.clone(), !matches!(vm.state(), VmState::Stopped | VmState::Created));
        let ended = match extent {
            Extent::Everything => end(context, &client, &vm, extent).await,
            Extent::Programs if runs => end(context, &client, &vm, extent).await,
            Extent::Programs => continue,
        };
        match ended {
            Ok(()) => outcome.removed.push(format!("VM {name}")),
            // With a purge the helper takes it down in any case.
            Err(CliError::Failed(failure)) if extent == Extent::Everything => context.ui.warn(&failure.to_string()),
            Err(error) => return Err(error.context(format!("cannot stop VM {name}, so nothing was removed"))),
        }
    }
    Ok(outcome)
}

async fn end(context: &Context, client: &Client, vm: &Vm, extent: Extent) -> Result<(), CliError> {
    let (mut vms, reference, reporting) = (client.vms(), vm.id.clone(), Reporting::Warnings(&context.ui));
    match extent {
        Extent::Everything => follow(vms.delete(DeleteVmRequest { reference }), reporting, &mut Seen::default()).await,
        Extent::Programs => {
            follow(vms.stop(StopVmRequest { reference, ..StopVmRequest::default() }), reporting, &mut Seen::default())
                .await
        }
    }
}
