//! `banger vm kill`.

use banger_proto::v1::KillVmRequest;
use clap::Args;

use super::targets::{Verb, on_each};
use crate::context::Context;
use crate::error::CommandResult;

/// End VMs at once, losing what the guest has not written
///
///     banger vm kill box
///
/// For when `banger vm stop` hangs. Disks stay, as after a power failure.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct KillArgs {
    /// VMs: names, ids, or beginnings of either
    #[arg(required = true, value_name = "VM", add = crate::completer::vms())]
    pub vms: Vec<String>,
}

/// Runs it.
///
/// # Errors
/// The first failure.
pub async fn run(context: &Context, args: KillArgs) -> CommandResult {
    let verb = Verb { done: "killed", doing: "killing VMs" };
    on_each(context, &args.vms, verb, |work, vm| async move {
        let mut vms = work.client.vms();
        work.follow(vms.kill(KillVmRequest { reference: vm.id })).await
    })
    .await
}
