//! `banger vm workspace prepare`.

use std::path::PathBuf;

use banger_proto::v1::GetVmRequest;
use banger_sync::overlay::ObserveOptions;
use clap::Args;

use crate::args::GuestPath;
use crate::context::Context;
use crate::error::{CommandResult, OrFail as _};
use crate::interrupt::Interrupts;
use crate::run::plan::WorkspacePlan;
use crate::run::{attach, reach, workspace};

/// Copy the working tree of a repository into a running VM
///
///     banger vm workspace prepare box ./repo
///     banger vm workspace prepare --dry-run box ./repo
///
/// Only what differs is sent. Files changed in the guest since the last time are kept and reported.
/// Next: `banger vm exec box -- make test`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct PrepareArgs {
    /// VM: name, id, or a beginning of either
    #[arg(value_name = "VM", add = crate::completer::vms())]
    pub vm: String,
    /// Directory inside a git repository
    #[arg(default_value = ".", value_hint = clap::ValueHint::DirPath)]
    pub path: PathBuf,
    /// Put the guest on this branch, which exists only there
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
    /// Start that branch at this commit, with its files instead of the working tree's
    #[arg(long, value_name = "REVISION", requires = "branch")]
    pub from: Option<String>,
    /// Copy also files that are neither tracked nor ignored
    #[arg(long)]
    pub include_untracked: bool,
    /// Where the guest gets the working tree
    #[arg(long, value_name = "PATH", default_value_t)]
    pub guest_path: GuestPath,
    /// Print what would be copied and stop: no VM, no daemon
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs it.
///
/// # Errors
/// Of any step.
pub async fn run(context: &Context, args: PrepareArgs) -> CommandResult {
    let options = ObserveOptions { include_untracked: args.include_untracked, branch: args.branch, from: args.from };
    let plan = WorkspacePlan { path: args.path, options, guest_path: args.guest_path };
    if args.dry_run {
        return workspace::dry_run(context, plan).await;
    }
    let mut interrupts = Interrupts::install()?;
    let overlay = interrupts.guard("reading the repository", workspace::observe(context, &plan)).await?;
    let client = interrupts.guard("reaching bangerd", context.client()).await?;
    let vm = client.vms().get(GetVmRequest { reference: args.vm }).await.or_fail()?.into_inner();
    attach::require_running(&vm)?;
    let work = async {
        let connection = reach::connect(context, &client, &vm, reach::ALREADY_RUNNING).await?;
        let destination = workspace::Destination {
            client: &client,
            connection: &connection,
            vm: &vm,
            guest_path: &plan.guest_path,
            options: &plan.options,
        };
        let prepared = workspace::prepare(context, &overlay, destination).await;
        connection.close().await;
        prepared
    };
    let view = interrupts.guard("preparing the workspace", work).await?;
    if context.ui.is_json() {
        context.ui.json(&view)?;
    } else {
        context.ui.status(&view.line());
    }
    Ok(0)
}
