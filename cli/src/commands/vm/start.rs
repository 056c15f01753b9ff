//! `banger vm start`.

use banger_proto::v1::{StartVmRequest, WaitFor};
use clap::Args;

use super::targets::{Verb, on_each};
use crate::args::Wait;
use crate::context::Context;
use crate::error::CommandResult;
use crate::run::{files, guest_work};

/// Start stopped VMs
///
///     banger vm start box
///
/// The disks are as they were left. Next: `banger vm ssh box`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct StartArgs {
    /// VMs: names, ids, or beginnings of either
    #[arg(required = true, value_name = "VM", add = crate::completer::vms())]
    pub vms: Vec<String>,
    /// How far to wait for each
    #[arg(long, value_name = "HOW_FAR", default_value = "reachable")]
    pub wait: Wait,
    /// Longest wait [default: 90 for each stage]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub wait_timeout: Option<u32>,
}

/// Runs it.
///
/// # Errors
/// The first failure.
pub async fn run(context: &Context, args: StartArgs) -> CommandResult {
    let owner = context.owner()?;
    let verb = Verb { done: "started", doing: "starting VMs" };
    let files = files::read(context, &context.config()?.file_sync).await?;
    let files = &files;
    on_each(context, &args.vms, verb, |work, vm| {
        let request = StartVmRequest {
            reference: vm.id.clone(),
            owner: Some(owner.clone()),
            wait: WaitFor::from(args.wait).into(),
            wait_timeout_seconds: args.wait_timeout.unwrap_or(0),
        };
        async move {
            guest_work::forget_stop(context, &vm);
            let mut vms = work.client.vms();
            work.follow(vms.start(request)).await?;
            context.remember_host_key(&vm);
            files::deliver_after_start(context, &work.client, files, (&vm, files::guest_before_start(&vm))).await
        }
    })
    .await
}
