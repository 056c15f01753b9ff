//! `banger vm workspace …`: lists and dispatches.

pub mod export;
pub mod prepare;
pub mod verify;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandResult;

/// Put a repository into a running VM, and bring work back
///
/// `banger vm run ./repo` does this by itself. For a VM that runs already, or to bring its copy up to date:
///
///     banger vm workspace prepare box ./repo
///     banger vm exec box -- make test
///     banger vm workspace export box -o work.patch
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment, arg_required_else_help = true)]
pub enum WorkspaceCommand {
    Prepare(prepare::PrepareArgs),
    Verify(verify::VerifyArgs),
    Export(export::ExportArgs),
}

/// Runs it.
///
/// # Errors
/// Of the command.
pub async fn run(context: &Context, command: WorkspaceCommand) -> CommandResult {
    match command {
        WorkspaceCommand::Prepare(args) => prepare::run(context, args).await,
        WorkspaceCommand::Verify(args) => verify::run(context, args).await,
        WorkspaceCommand::Export(args) => export::run(context, args).await,
    }
}
