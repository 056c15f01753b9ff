//! `banger vm workspace prepare`.

use std::path::PathBuf;

use banger_proto::v1::{GetVmRequest, Vm};
use banger_sync::overlay::{self, ObserveOptions};
use banger_sync::prepare::Receiver;
use banger_sync::ssh::Connection;
use clap::{Args, ValueEnum};

use crate::args::GuestPath;
use crate::client::Client;
use crate::context::Context;
use crate::error::{CliError, CommandResult, OrFail as _};
use crate::interrupt::Interrupts;
use crate::run::plan::WorkspacePlan;
use crate::run::{attach, reach, workspace};
use crate::workspace_record::WorkspaceRecord;

/// Copy the working tree of a repository into a running VM
///
///     banger vm workspace prepare box ./repo
///     banger vm workspace prepare --dry-run box ./repo
///
/// Only what differs is sent. Files changed in the guest since the last time are kept and reported.
///
/// With the whole history, all branches and tags, and the files of checked-out submodules:
///
///     banger vm workspace prepare --mode full_copy box ./repo
///
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
    /// How much of the repository [default: as the last time, else overlay]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<CopyMode>,
    /// Where the guest gets the working tree
    #[arg(long, value_name = "PATH", default_value_t)]
    pub guest_path: GuestPath,
    /// Print what would be copied and stop: no VM, no daemon
    #[arg(long)]
    pub dry_run: bool,
}

/// How much of the repository travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CopyMode {
    /// The working tree, and of the history what git needs to work
    Overlay,
    /// Also the whole history of all branches and tags, and the submodules that are checked out
    #[value(name = "full_copy")]
    FullCopy,
}

impl From<CopyMode> for overlay::CopyMode {
    fn from(mode: CopyMode) -> Self {
        match mode {
            CopyMode::Overlay => Self::Overlay,
            CopyMode::FullCopy => Self::FullCopy,
        }
    }
}

/// Runs it.
///
/// # Errors
/// Of any step.
pub async fn run(context: &Context, args: PrepareArgs) -> CommandResult {
    let given = args.mode.map(overlay::CopyMode::from);
    let state = context.paths().ok().map(|paths| paths.state);
    let recorded = || state.as_ref().map(|state| WorkspaceRecord::find(state, &args.vm).mode()).unwrap_or_default();
    let options = ObserveOptions {
        include_untracked: args.include_untracked,
        branch: args.branch,
        from: args.from,
        mode: given.unwrap_or_else(recorded),
    };
    let mut plan = WorkspacePlan { path: args.path, options, guest_path: args.guest_path };
    if args.dry_run {
        return workspace::dry_run(context, plan).await;
    }
    let mut interrupts = Interrupts::install()?;
    // The guest's side starts while the repository is read; what is wrong with the repository is told first.
    let reaching = reach_receiver(context, args.vm, &plan.guest_path);
    let both = async {
        let (overlay, reached) = tokio::join!(workspace::observe(context, &plan), reaching);
        Ok::<_, CliError>((overlay?, reached?))
    };
    let (mut overlay, Reached { client, vm, connection, receiver }) =
        interrupts.guard("reading the repository", both).await?;
    // Only the daemon knows for sure which VM that is.
    let known = state.map(|state| WorkspaceRecord::load(&state, &vm.id).mode()).unwrap_or_default();
    if given.is_none() && known != plan.options.mode {
        plan.options.mode = known;
        overlay = interrupts.guard("reading the repository", workspace::observe(context, &plan)).await?;
    }
    let work = async {
        let destination = workspace::Destination {
            client: &client,
            connection: &connection,
            vm: &vm,
            guest_path: &plan.guest_path,
            options: &plan.options,
        };
        let prepared = workspace::prepare_in(context, &overlay, destination, receiver).await;
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

/// The guest's side, waiting for a tree.
struct Reached {
    client: Client,
    vm: Vm,
    connection: Connection,
    receiver: Receiver,
}

async fn reach_receiver(context: &Context, reference: String, guest_path: &GuestPath) -> Result<Reached, CliError> {
    let client = context.client().await?;
    let vm = client.vms().get(GetVmRequest { reference }).await.or_fail()?.into_inner();
    attach::require_running(&vm)?;
    let connection = reach::connect(context, &client, &vm, reach::ALREADY_RUNNING).await?;
    let receiver = Receiver::open(&connection, guest_path.as_str()).await?;
    Ok(Reached { client, vm, connection, receiver })
}
