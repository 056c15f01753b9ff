//! `banger vm workspace …`: lists and dispatches.

pub mod export;
pub mod flush;
pub mod prepare;
pub mod resolve;
pub mod status;
pub mod steer;
pub mod sync;
pub mod verify;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandResult;

/// Put a repository into a running VM, keep it in step, and bring work back
///
/// `banger vm run ./repo` does this by itself. For a VM that runs already, or to bring its copy up to date:
///
///     banger vm workspace prepare box ./repo
///     banger vm exec box -- make test
///     banger vm workspace export box -o work.patch
///
/// To have every save in the guest a moment later:
///
///     banger vm workspace sync --watch --detach box ./repo
///     banger vm exec --synced box -- make test
///     banger vm workspace status
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment, arg_required_else_help = true)]
pub enum WorkspaceCommand {
    Prepare(prepare::PrepareArgs),
    Sync(sync::SyncArgs),
    Status(status::StatusArgs),
    Flush(flush::FlushArgs),
    /// Have a session send nothing until `resume`
    ///
    ///     banger vm workspace pause box
    ///
    /// Barriers are refused meanwhile.
    #[command(verbatim_doc_comment)]
    Pause(steer::SteerArgs),
    /// Have a session go on, also after it stopped by itself
    ///
    ///     banger vm workspace resume box
    ///
    /// Whoever resumes a session that stopped by itself says that what is on the host now is right.
    #[command(verbatim_doc_comment)]
    Resume(steer::SteerArgs),
    /// End a session; the workspace stays as it is
    ///
    ///     banger vm workspace stop box
    ///
    /// Of a session that died already, what is left of it is removed.
    #[command(verbatim_doc_comment)]
    Stop(steer::SteerArgs),
    Resolve(resolve::ResolveArgs),
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
        WorkspaceCommand::Sync(args) => sync::run(context, args).await,
        WorkspaceCommand::Status(args) => status::run(context, args).await,
        WorkspaceCommand::Flush(args) => flush::run(context, args).await,
        WorkspaceCommand::Pause(args) => steer::pause(context, args).await,
        WorkspaceCommand::Resume(args) => steer::resume(context, args).await,
        WorkspaceCommand::Stop(args) => steer::stop(context, args).await,
        WorkspaceCommand::Resolve(args) => resolve::run(context, args).await,
        WorkspaceCommand::Verify(args) => verify::run(context, args).await,
        WorkspaceCommand::Export(args) => export::run(context, args).await,
    }
}
