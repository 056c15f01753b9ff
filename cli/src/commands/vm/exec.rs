//! `banger vm exec`.

use banger_proto::failure::Kind;
use banger_proto::v1::{GetVmRequest, Vm};
use clap::Args;

use super::workspace::flush::refuse_conflicts;
use crate::args::GuestPath;
use crate::context::Context;
use crate::error::{CliError, CommandResult, OrFail as _};
use crate::follow::{control, record};
use crate::interrupt::Interrupts;
use crate::run::attach::{Attach, attach, require_running};
use crate::run::{reach, workspace};
use crate::session::Terminal;
use crate::session::command_line::command;
use crate::view::workspace::PreparedView;

/// Run a command in a VM's workspace
///
///     banger vm exec box -- make test
///
/// Runs where the last `vm run` or `vm workspace prepare` put the repository, else in the image's working directory or
/// the user's home. stdin, stdout, stderr and
/// the exit status are passed through exactly. Warns if your repository is not what was prepared any more, file by file;
/// --auto-prepare brings the guest up to date first. --synced waits until the guest has what you saved, says which tree that
/// is, and lets nothing be sent while the command runs.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ExecArgs {
    /// VM: name, id, or a beginning of either
    #[arg(value_name = "VM", add = crate::completer::vms())]
    pub vm: String,
    /// Command to run
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
    /// Directory to run it in [default: the workspace, else the image's working directory or the home]
    #[arg(long, value_name = "PATH")]
    pub guest_path: Option<GuestPath>,
    /// First bring the workspace up to date with your repository
    #[arg(long)]
    pub auto_prepare: bool,
    /// Run on exactly the tree you have now, and print its digest; a session that follows edits waits meanwhile
    #[arg(long, conflicts_with = "auto_prepare")]
    pub synced: bool,
    /// Run as this user of the guest, USER[:GROUP] [default: the image's user, else root]
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
}

/// Runs it.
///
/// # Errors
/// Of any step.
pub async fn run(context: &Context, args: ExecArgs) -> CommandResult {
    let mut interrupts = Interrupts::install()?;
    let terminal = if args.tty { Terminal::Ours } else { Terminal::None };
    let mut holding = None;
    if args.synced {
        holding = interrupts.guard("waiting for both sides to be equal", synced(context, &args)).await?;
    } else if args.auto_prepare {
        interrupts.guard("preparing the workspace", prepare(context, &args)).await?;
    } else {
        interrupts.guard("comparing the workspace", warn_if_different(context, &args.vm)).await?;
    }
    let user = args.user.unwrap_or_default();
    let request = Attach { reference: args.vm, terminal, interactive: false, user };
    let outcome = attach(context, &mut interrupts, request, |vm| {
        let directory = directory(args.guest_path.as_ref(), vm);
        Some(command(directory.as_deref(), &args.command))
    })
    .await;
    if let Some(holding) = holding {
        holding.release().await;
    }
    outcome
}

/// Brings both sides in step: by the session that follows edits, which then waits, else by a prepare.
async fn synced(context: &Context, args: &ExecArgs) -> Result<Option<control::Holding>, CliError> {
    let followed = match record::the_one(&context.paths()?, &args.vm) {
        Ok(found) => found,
        Err(error) if error.kind() == Some(Kind::NotFound) => {
            let view = prepare(context, args).await?;
            if let Some(conflict) = view.warnings().first() {
                return Err(CliError::new(Kind::Conflict, format!("the guest has work of its own: {conflict}"))
                    .hint("Bring it back with `banger vm workspace export`, or run without `--synced`."));
            }
            say_tree(context, view.tree_digest());
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let holding = control::hold(&followed.place).await?;
    refuse_conflicts(&holding.flushed, &followed.record.vm_name)?;
    say_tree(context, &holding.flushed.tree_digest);
    Ok(Some(holding))
}

fn say_tree(context: &Context, digest: &str) {
    context.ui.status(&format!("tree {digest}"));
}

/// Brings the guest up to date, as the last prepare did.
async fn prepare(context: &Context, args: &ExecArgs) -> Result<PreparedView, CliError> {
    let client = context.client().await?;
    let vm = client.vms().get(GetVmRequest { reference: args.vm.clone() }).await.or_fail()?.into_inner();
    require_running(&vm)?;
    let plan = workspace::plan_again(context, &vm, None, None)?;
    let overlay = workspace::observe(context, &plan).await?;
    let connection = reach::connect(context, &client, &vm, reach::ALREADY_RUNNING).await?;
    let destination = workspace::Destination {
        client: &client,
        connection: &connection,
        vm: &vm,
        guest_path: &plan.guest_path,
        options: &plan.options,
    };
    let prepared = workspace::prepare(context, &overlay, destination).await;
    connection.close().await;
    let view = prepared?;
    context.ui.status(&view.line());
    Ok(view)
}

/// The result belongs to the tree that was prepared, not to what the user may be looking at.
async fn warn_if_different(context: &Context, reference: &str) -> Result<(), CliError> {
    let client = context.client().await?;
    let vm = client.vms().get(GetVmRequest { reference: reference.to_owned() }).await.or_fail()?.into_inner();
    let Some(workspace) = &vm.workspace else { return Ok(()) };
    // A session that follows edits is never more than a moment behind, and says so itself if it is.
    if record::of_vm(&context.paths()?, &vm.id).iter().any(|found| found.alive) {
        return Ok(());
    }
    let Ok(plan) = workspace::plan_again(context, &vm, None, None) else { return Ok(()) };
    // A repository that is gone or cannot be read is no reason not to run something in the guest.
    let Ok(overlay) = workspace::observe_quietly(context, &plan).await else { return Ok(()) };
    let here = overlay.tree_digest().to_string();
    if here != workspace.tree_digest {
        let short = |digest: &str| digest.get(..15).unwrap_or(digest).to_owned();
        context.ui.warn(&format!(
            "the workspace was prepared from the tree {}, but {} is at {} now; update it with \
             `banger vm workspace prepare {}`, or use --auto-prepare",
            short(&workspace.tree_digest),
            plan.path.display(),
            short(&here),
            vm.name
        ));
    }
    Ok(())
}

fn directory(named: Option<&GuestPath>, vm: &Vm) -> Option<String> {
    match (named, &vm.workspace) {
        (Some(path), _) => Some(path.as_str().to_owned()),
        (None, Some(workspace)) => Some(String::from_utf8_lossy(&workspace.guest_path).into_owned()),
        (None, None) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use banger_proto::v1::Workspace;

    use super::*;

    #[test]
    fn commands_run_in_the_workspace_unless_told_otherwise() {
        let bare = Vm::default();
        let prepared = Vm {
            workspace: Some(Workspace { guest_path: b"/root/w".to_vec(), ..Workspace::default() }),
            ..Vm::default()
        };
        assert_eq!(directory(None, &bare), None);
        assert_eq!(directory(None, &prepared).as_deref(), Some("/root/w"));
        assert_eq!(directory(Some(&"/srv".parse().unwrap()), &prepared).as_deref(), Some("/srv"));
    }
}
