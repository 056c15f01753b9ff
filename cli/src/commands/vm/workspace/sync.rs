//! `banger vm workspace sync`.

use std::path::PathBuf;
use std::sync::Arc;

use banger_proto::v1::GetVmRequest;
use banger_sync::overlay::ObserveOptions;
use banger_sync::watch::Mode;
use clap::{Args, ValueEnum};

use super::prepare::{self, PrepareArgs};
use crate::args::GuestPath;
use crate::context::Context;
use crate::error::{CommandResult, OrFail as _};
use crate::follow::hosted::Telling;
use crate::follow::{Hosted, hosted, launch};
use crate::interrupt::Interrupts;
use crate::run::attach;
use crate::run::plan::WorkspacePlan;

/// Bring a VM's workspace up to date, and with --watch keep it so
///
///     banger vm workspace sync box ./repo
///     banger vm workspace sync --watch box ./repo
///     banger vm workspace sync --watch --detach box ./repo
///
/// Without --watch this is `vm workspace prepare`. With it, every save is in the guest a moment later, until Ctrl-C; what
/// git does (a checkout, a rebase) arrives as one step. It survives restarts of the VM. Work done in the guest is kept and
/// told as a conflict, unless --mode one-way-replica. Next: `banger vm workspace status`, `banger vm exec --synced`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct SyncArgs {
    /// VM: name, id, or a beginning of either
    #[arg(value_name = "VM", add = crate::completer::vms())]
    pub vm: String,
    /// Directory inside a git repository
    #[arg(default_value = ".", value_hint = clap::ValueHint::DirPath)]
    pub path: PathBuf,
    /// Go on with every edit
    #[arg(long)]
    pub watch: bool,
    /// What happens to work done in the guest
    #[arg(long, value_name = "MODE", default_value = "one-way-safe", requires = "watch")]
    pub mode: FollowMode,
    /// Go on in the background and return once the guest is in step
    #[arg(short, long, requires = "watch")]
    pub detach: bool,
    /// Put the guest on this branch, which exists only there
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
    /// Copy also files that are neither tracked nor ignored
    #[arg(long)]
    pub include_untracked: bool,
    /// Where the guest gets the working tree
    #[arg(long, value_name = "PATH", default_value_t)]
    pub guest_path: GuestPath,
}

/// What happens to work done in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum FollowMode {
    /// It is kept, and told as a conflict
    #[default]
    OneWaySafe,
    /// The host's version replaces it
    OneWayReplica,
}

impl From<FollowMode> for Mode {
    fn from(mode: FollowMode) -> Self {
        match mode {
            FollowMode::OneWaySafe => Self::OneWaySafe,
            FollowMode::OneWayReplica => Self::OneWayReplica,
        }
    }
}

/// Runs it.
///
/// # Errors
/// Of any step.
pub async fn run(context: &Context, args: SyncArgs) -> CommandResult {
    if !args.watch {
        let once = PrepareArgs {
            vm: args.vm,
            path: args.path,
            branch: args.branch,
            from: None,
            include_untracked: args.include_untracked,
            mode: None,
            guest_path: args.guest_path,
            dry_run: false,
        };
        return prepare::run(context, once).await;
    }
    let options =
        ObserveOptions { include_untracked: args.include_untracked, branch: args.branch, ..ObserveOptions::default() };
    let plan = WorkspacePlan { path: args.path, options, guest_path: args.guest_path };
    let mut interrupts = Interrupts::install()?;
    let client = interrupts.guard("reaching bangerd", context.client()).await?;
    let vm = client.vms().get(GetVmRequest { reference: args.vm }).await.or_fail()?.into_inner();
    let mode = args.mode.into();
    hosted::refuse_full_copy(context, &vm)?;
    if args.detach {
        attach::require_running(&vm)?;
        let starting = launch::in_background(context, &vm, &plan, mode);
        let (_, status) = interrupts.guard("bringing the guest in step", starting).await?;
        if context.ui.is_json() {
            context.ui.json(&status)?;
        } else {
            context.ui.status(&format!("{} is followed into {} of VM {}", status.root, status.guest_path, vm.name));
        }
        return Ok(0);
    }
    let hosted = interrupts.guard("reading the repository", Hosted::start(context, &client, &vm, &plan, mode)).await?;
    let watch = hosted.watch.clone();
    let tending = hosted.tend(Arc::clone(&context.ui), Telling::Everything);
    tokio::pin!(tending);
    loop {
        tokio::select! {
            ended = &mut tending => {
                ended?;
                return Ok(0);
            }
            // That is how it is ended.
            _ = interrupts.next() => watch.stop(),
        }
    }
}
