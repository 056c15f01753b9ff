//! `banger system …`: lists and dispatches.

pub mod install;
pub mod restart;
pub mod status;
pub mod stop;
pub mod uninstall;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandResult;

/// Install banger's services, look at them, take them away
///
/// There are two ways to use banger. Without installing anything, each user has a daemon of their own that starts with
/// the first command and ends when it is idle. Installed once as root for one user, two systemd services run VMs with
/// Firecracker on a network of their own; daily work then never asks for root again:
///
///     sudo banger system install --owner USER
///     banger system status
///     sudo banger system uninstall
///
/// VMs do not depend on the daemon: they go on running while it is restarted or replaced.
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment, arg_required_else_help = true)]
pub enum SystemCommand {
    Install(install::InstallArgs),
    Status(status::StatusArgs),
    Restart(restart::RestartArgs),
    Stop(stop::StopArgs),
    Uninstall(uninstall::UninstallArgs),
}

/// Runs it.
///
/// # Errors
/// Of the command.
pub async fn run(context: &Context, command: SystemCommand) -> CommandResult {
    match command {
        SystemCommand::Install(args) => install::run(context, args).await,
        SystemCommand::Status(args) => status::run(context, args).await,
        SystemCommand::Restart(args) => restart::run(context, args).await,
        SystemCommand::Stop(args) => stop::run(context, args).await,
        SystemCommand::Uninstall(args) => uninstall::run(context, args).await,
    }
}
