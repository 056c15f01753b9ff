//! `banger vm workspace …`: lists and dispatches.

pub mod prepare;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandResult;

/// Put a repository into a running VM
///
/// `banger vm run ./repo` does this by itself. For a VM that runs already, or to bring its copy up to date:
///
///     banger vm workspace prepare box ./repo
///     banger vm exec box -- make test
///
/// Not there yet: following your edits as you make them, and bringing the guest's work back as a patch or branch.
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment, arg_required_else_help = true)]
pub enum WorkspaceCommand {
    Prepare(prepare::PrepareArgs),
}

/// Runs it.
///
/// # Errors
/// Of the command.
pub async fn run(context: &Context, command: WorkspaceCommand) -> CommandResult {
    match command {
        WorkspaceCommand::Prepare(args) => prepare::run(context, args).await,
    }
}
