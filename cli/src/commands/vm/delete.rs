//! `banger vm delete`.

use std::path::PathBuf;

use banger_proto::v1::{DeleteVmRequest, Vm};
use clap::Args;

use super::targets::{Verb, Work, on_each};
use crate::context::Context;
use crate::error::{CliError, CommandResult};

/// Delete VMs and their disks
///
///     banger vm delete box
///
/// Running ones are stopped first. Everything in them is gone: this cannot be undone.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct DeleteArgs {
    /// VMs: names, ids, or beginnings of either
    #[arg(required = true, value_name = "VM", add = crate::completer::vms())]
    pub vms: Vec<String>,
}

/// How it is told.
pub(super) const VERB: Verb = Verb { done: "deleted", doing: "deleting VMs" };

/// Runs it.
///
/// # Errors
/// The first failure.
pub async fn run(context: &Context, args: DeleteArgs) -> CommandResult {
    let known_hosts = context.paths()?.known_hosts();
    on_each(context, &args.vms, VERB, |work, vm| delete_one(work, vm, known_hosts.clone())).await
}

/// Deletes one VM and forgets its host key.
pub(super) async fn delete_one(work: Work, vm: Vm, known_hosts: PathBuf) -> Result<(), CliError> {
    let mut vms = work.client.vms();
    work.follow(vms.delete(DeleteVmRequest { reference: vm.id.clone() })).await?;
    Ok(crate::known_hosts::forget(&known_hosts, &vm.id)?)
}
