//! `banger vm …`: lists and dispatches.

pub mod create;
pub mod delete;
pub mod exec;
pub mod kill;
pub mod list;
pub mod logs;
pub mod new_vm;
pub mod ports;
pub mod prune;
pub mod restart;
pub mod run;
pub mod set;
pub mod show;
pub mod ssh;
pub mod start;
pub mod stop;
pub mod targets;
pub mod workspace;

use clap::Subcommand;

use crate::context::Context;
use crate::error::CommandResult;

/// Make, use and delete VMs
///
/// A VM is a small Linux machine of your own: it boots in seconds, you are root in it, and nothing you do there
/// reaches your host. Nearly always this is all you need:
///
///     banger vm run --rm ./repo -- make test
///
/// Step by step, for scripts and long-lived VMs:
///
///     banger vm create --name box
///     banger vm workspace prepare box ./repo
///     banger vm exec box -- make test
///     banger vm stop box
///     banger vm delete box
///
/// VMs are named by name, id, or an unambiguous beginning of either. Verbs on several VMs run at the same time and
/// go on when one fails. Next: `banger vm run --help`.
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment, arg_required_else_help = true)]
pub enum VmCommand {
    Run(run::RunArgs),
    Create(create::CreateArgs),
    Start(start::StartArgs),
    Stop(stop::StopArgs),
    Restart(restart::RestartArgs),
    Kill(kill::KillArgs),
    Delete(delete::DeleteArgs),
    Prune(prune::PruneArgs),
    #[command(visible_alias = "ps")]
    List(list::ListArgs),
    Show(show::ShowArgs),
    Set(set::SetArgs),
    Ssh(ssh::SshArgs),
    Exec(exec::ExecArgs),
    Logs(logs::LogsArgs),
    Ports(ports::PortsArgs),
    #[command(subcommand)]
    Workspace(workspace::WorkspaceCommand),
}

/// Runs it.
///
/// # Errors
/// Of the command.
pub async fn run(context: &Context, command: VmCommand) -> CommandResult {
    match command {
        VmCommand::Run(args) => run::run(context, args).await,
        VmCommand::Create(args) => create::run(context, args).await,
        VmCommand::Start(args) => start::run(context, args).await,
        VmCommand::Stop(args) => stop::run(context, args).await,
        VmCommand::Restart(args) => restart::run(context, args).await,
        VmCommand::Kill(args) => kill::run(context, args).await,
        VmCommand::Delete(args) => delete::run(context, args).await,
        VmCommand::Prune(args) => prune::run(context, args).await,
        VmCommand::List(args) => list::run(context, args).await,
        VmCommand::Show(args) => show::run(context, args).await,
        VmCommand::Set(args) => set::run(context, args).await,
        VmCommand::Ssh(args) => ssh::run(context, args).await,
        VmCommand::Exec(args) => exec::run(context, args).await,
        VmCommand::Logs(args) => logs::run(context, args).await,
        VmCommand::Ports(args) => ports::run(context, args).await,
        VmCommand::Workspace(command) => workspace::run(context, command).await,
    }
}
