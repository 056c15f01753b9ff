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

use crate::args::Deferred;
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
    Run(Deferred<run::RunArgs>),
    Create(Deferred<create::CreateArgs>),
    Start(Deferred<start::StartArgs>),
    Stop(Deferred<stop::StopArgs>),
    Restart(Deferred<restart::RestartArgs>),
    Kill(Deferred<kill::KillArgs>),
    Delete(Deferred<delete::DeleteArgs>),
    Prune(Deferred<prune::PruneArgs>),
    #[command(visible_alias = "ps")]
    List(Deferred<list::ListArgs>),
    Show(Deferred<show::ShowArgs>),
    Set(Deferred<set::SetArgs>),
    Ssh(Deferred<ssh::SshArgs>),
    Exec(Deferred<exec::ExecArgs>),
    Logs(Deferred<logs::LogsArgs>),
    Ports(Deferred<ports::PortsArgs>),
    #[command(subcommand)]
    Workspace(Deferred<workspace::WorkspaceCommand>),
}

/// Runs it.
///
/// # Errors
/// Of the command.
pub async fn run(context: &Context, command: VmCommand) -> CommandResult {
    match command {
        VmCommand::Run(Deferred(args)) => run::run(context, args).await,
        VmCommand::Create(Deferred(args)) => create::run(context, args).await,
        VmCommand::Start(Deferred(args)) => start::run(context, args).await,
        VmCommand::Stop(Deferred(args)) => stop::run(context, args).await,
        VmCommand::Restart(Deferred(args)) => restart::run(context, args).await,
        VmCommand::Kill(Deferred(args)) => kill::run(context, args).await,
        VmCommand::Delete(Deferred(args)) => delete::run(context, args).await,
        VmCommand::Prune(Deferred(args)) => prune::run(context, args).await,
        VmCommand::List(Deferred(args)) => list::run(context, args).await,
        VmCommand::Show(Deferred(args)) => show::run(context, args).await,
        VmCommand::Set(Deferred(args)) => set::run(context, args).await,
        VmCommand::Ssh(Deferred(args)) => ssh::run(context, args).await,
        VmCommand::Exec(Deferred(args)) => exec::run(context, args).await,
        VmCommand::Logs(Deferred(args)) => logs::run(context, args).await,
        VmCommand::Ports(Deferred(args)) => ports::run(context, args).await,
        VmCommand::Workspace(Deferred(command)) => workspace::run(context, command).await,
    }
}
