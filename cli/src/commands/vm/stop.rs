//! `banger vm stop`.

use banger_proto::v1::StopVmRequest;
use clap::Args;

use super::targets::{Verb, on_each};
use crate::context::Context;
use crate::error::CommandResult;
use crate::run::guest_work;

/// Shut VMs down cleanly
///
///     banger vm stop box
///
/// The guest writes everything and powers itself off; one that does not in time is killed, and `banger vm list` says
/// so. Disks stay. Next: `banger vm start box` or `banger vm delete box`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct StopArgs {
    /// VMs: names, ids, or beginnings of either
    #[arg(required = true, value_name = "VM", add = crate::completer::vms())]
    pub vms: Vec<String>,
    /// Longest wait for the guest before it is killed
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: Option<u32>,
}

/// Runs it.
///
/// # Errors
/// The first failure.
pub async fn run(context: &Context, args: StopArgs) -> CommandResult {
    let verb = Verb { done: "stopped", doing: "stopping VMs" };
    on_each(context, &args.vms, verb, |work, vm| {
        let request = StopVmRequest { reference: vm.id.clone(), timeout_seconds: args.timeout.unwrap_or(0) };
        async move {
            guest_work::note_before_stop(context, &work.client, &vm).await;
            let mut vms = work.client.vms();
            work.follow(vms.stop(request)).await
        }
    })
    .await
}
