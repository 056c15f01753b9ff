//! `banger vm restart`.

use banger_proto::v1::{StartVmRequest, StopVmRequest, VmState, WaitFor};
use clap::Args;

use super::targets::{Verb, on_each};
use crate::args::Wait;
use crate::context::Context;
use crate::error::CommandResult;
use crate::run::files;

/// Stop VMs and start them again
///
///     banger vm restart box
///
/// One that does not run is only started.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct RestartArgs {
    /// VMs: names, ids, or beginnings of either
    #[arg(required = true, value_name = "VM", add = crate::completer::vms())]
    pub vms: Vec<String>,
    /// How far to wait for each
    #[arg(long, value_name = "HOW_FAR", default_value = "reachable")]
    pub wait: Wait,
}

/// Runs it.
///
/// # Errors
/// The first failure.
pub async fn run(context: &Context, args: RestartArgs) -> CommandResult {
    let owner = context.owner()?;
    let verb = Verb { done: "restarted", doing: "restarting VMs" };
    let files = files::read(context, &context.config()?.file_sync).await?;
    let files = &files;
    on_each(context, &args.vms, verb, |work, vm| {
        let start = StartVmRequest {
            reference: vm.id.clone(),
            owner: Some(owner.clone()),
            wait: WaitFor::from(args.wait).into(),
            wait_timeout_seconds: 0,
        };
        async move {
            crate::run::guest_work::forget_stop(context, &vm);
            let mut vms = work.client.vms();
            if matches!(vm.state(), VmState::Running | VmState::Booting | VmState::Stopping) {
                work.follow(vms.stop(StopVmRequest { reference: vm.id.clone(), timeout_seconds: 0 })).await?;
            }
            work.follow(vms.start(start)).await?;
            files::deliver_after_start(context, &work.client, files, (&vm, files::guest_before_start(&vm))).await
        }
    })
    .await
}
