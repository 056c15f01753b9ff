//! `banger system …`: lists and dispatches.

pub mod status;
pub mod stop;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandResult;

/// Look at and end the daemon
///
/// bangerd is started by the first command that needs it and ends by itself when it has been idle. VMs do not depend
/// on it: they go on running without it.
///
///     banger system status
///     banger system stop
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment, arg_required_else_help = true)]
pub enum SystemCommand {
    Status(status::StatusArgs),
    Stop(stop::StopArgs),
}

/// Runs it.
///
/// # Errors
/// Of the command.
pub async fn run(context: &Context, command: SystemCommand) -> CommandResult {
    match command {
        SystemCommand::Status(args) => status::run(context, args).await,
        SystemCommand::Stop(args) => stop::run(context, args).await,
    }
}
