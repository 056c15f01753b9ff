//! `banger image …`: lists and dispatches.

pub mod build;
pub mod cache;
mod credential;
pub mod delete;
pub mod export;
pub mod list;
pub mod promote;
pub mod pull;
pub mod register;
pub mod show;
mod source;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandResult;

/// Build and keep root filesystems for VMs
///
/// An image is fetched or built by itself when a VM needs it; doing it beforehand makes the first VM quick:
///
///     banger image list --available
///     banger image pull debian-bookworm
///     banger image pull docker.io/library/alpine:3.20
///     banger vm run --image debian-bookworm
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment, arg_required_else_help = true)]
pub enum ImageCommand {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Pull(pull::PullArgs),
    Build(build::BuildArgs),
    Register(register::RegisterArgs),
    Promote(promote::PromoteArgs),
    Export(export::ExportArgs),
    Delete(delete::DeleteArgs),
    #[command(subcommand)]
    Cache(cache::CacheCommand),
}

/// Runs it.
///
/// # Errors
/// Of the command.
pub async fn run(context: &Context, command: ImageCommand) -> CommandResult {
    match command {
        ImageCommand::List(args) => list::run(context, args).await,
        ImageCommand::Show(args) => show::run(context, args).await,
        ImageCommand::Pull(args) => pull::run(context, args).await,
        ImageCommand::Build(args) => build::run(context, args).await,
        ImageCommand::Register(args) => register::run(context, args).await,
        ImageCommand::Promote(args) => promote::run(context, args).await,
        ImageCommand::Export(args) => export::run(context, args).await,
        ImageCommand::Delete(args) => delete::run(context, args).await,
        ImageCommand::Cache(command) => cache::run(context, command).await,
    }
}
