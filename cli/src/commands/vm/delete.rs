//! `banger vm delete`.

use banger_proto::v1::{DeleteVmRequest, Vm};
use clap::Args;

use super::targets::{Verb, Work, on_each};
use crate::context::Context;
use crate::error::{CliError, CommandResult};
use crate::run::guest_work;

/// Delete VMs and their disks
///
///     banger vm delete box
///
/// Running ones are stopped first. Everything in them is gone: this cannot be undone. A VM whose workspace has commits
/// or edits that exist nowhere else is refused; `banger vm workspace export` takes them out, --discard gives them up.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct DeleteArgs {
    /// VMs: names, ids, or beginnings of either
    #[arg(required = true, value_name = "VM", add = crate::completer::vms())]
    pub vms: Vec<String>,
    /// Delete also work in the workspace that exists nowhere else
    #[arg(long)]
    pub discard: bool,
}

/// How it is told.
pub(super) const VERB: Verb = Verb { done: "deleted", doing: "deleting VMs" };

/// Runs it.
///
/// # Errors
/// The first failure.
pub async fn run(context: &Context, args: DeleteArgs) -> CommandResult {
    on_each(context, &args.vms, VERB, |work, vm| delete_one(context, work, vm, args.discard)).await
}

/// Deletes one VM and forgets its host key.
pub(super) async fn delete_one(context: &Context, work: Work, vm: Vm, discard: bool) -> Result<(), CliError> {
    if !discard {
        guest_work::ensure_safe(context, &work.client, &vm).await?;
    }
    let paths = context.paths()?;
    let mut vms = work.client.vms();
    work.follow(vms.delete(DeleteVmRequest { reference: vm.id.clone() })).await?;
    crate::workspace_record::forget(&paths.state, &vm.id);
    Ok(crate::known_hosts::forget(&paths.known_hosts(), &vm.id)?)
}
