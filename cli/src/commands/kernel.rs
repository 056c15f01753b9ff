//! `banger kernel …`: lists and dispatches.

pub mod delete;
pub mod files;
pub mod import;
pub mod list;
pub mod pull;
pub mod show;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandResult;

/// Fetch and keep kernels for VMs
///
/// Every image names the kernel it wants, and that one is fetched by itself. To try another:
///
///     banger kernel list --available
///     banger kernel pull generic-6.12
///     banger vm run --kernel-ref generic-6.12
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment, arg_required_else_help = true)]
pub enum KernelCommand {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Pull(pull::PullArgs),
    Import(import::ImportArgs),
    Delete(delete::DeleteArgs),
}

/// Runs it.
///
/// # Errors
/// Of the command.
pub async fn run(context: &Context, command: KernelCommand) -> CommandResult {
    match command {
        KernelCommand::List(args) => list::run(context, args).await,
        KernelCommand::Show(args) => show::run(context, args).await,
        KernelCommand::Pull(args) => pull::run(context, args).await,
        KernelCommand::Import(args) => import::run(context, args).await,
        KernelCommand::Delete(args) => delete::run(context, args).await,
    }
}
