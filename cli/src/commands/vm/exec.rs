//! `banger vm exec`.

use banger_proto::v1::Vm;
use clap::Args;

use crate::args::GuestPath;
use crate::context::Context;
use crate::error::CommandResult;
use crate::interrupt::Interrupts;
use crate::run::attach::{Attach, attach};
use crate::session::Terminal;
use crate::session::command_line::{HOME, command};
use crate::ui::Ui;
use crate::{git, view};

/// Run a command in a VM's workspace
///
///     banger vm exec box -- make test
///
/// Runs where the last `vm run` or `vm workspace prepare` put the repository, else in /root. stdin, stdout, stderr and
/// the exit status are passed through exactly. Warns if your repository has moved to another commit since; bring the
/// guest up to date with `banger vm workspace prepare box`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ExecArgs {
    /// VM: name, id, or a beginning of either
    #[arg(value_name = "VM", add = crate::completer::vms())]
    pub vm: String,
    /// Command to run
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
    /// Directory to run it in [default: the workspace, else /root]
    #[arg(long, value_name = "PATH")]
    pub guest_path: Option<GuestPath>,
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
    let request = Attach { reference: args.vm, terminal, interactive: false };
    attach(context, &mut interrupts, request, |vm| {
        warn_if_moved(&context.ui, vm);
        let directory = directory(args.guest_path.as_ref(), vm);
        Some(command(&directory, &args.command))
    })
    .await
}

fn directory(named: Option<&GuestPath>, vm: &Vm) -> String {
    match (named, &vm.workspace) {
        (Some(path), _) => path.as_str().to_owned(),
        (None, Some(workspace)) => String::from_utf8_lossy(&workspace.guest_path).into_owned(),
        (None, None) => HOME.to_owned(),
    }
}

/// The result belongs to the recorded commit, not to what the user may be looking at.
fn warn_if_moved(ui: &Ui, vm: &Vm) {
    use std::os::unix::ffi::OsStrExt as _;
    let Some(workspace) = &vm.workspace else { return };
    let source = std::path::Path::new(std::ffi::OsStr::from_bytes(&workspace.source_path));
    let Some(now) = git::head_commit(source) else { return };
    if view::non_empty(&workspace.head_commit).is_some_and(|then| then != now) {
        let short = |commit: &str| commit.get(..12).unwrap_or(commit).to_owned();
        ui.warn(&format!(
            "the workspace is at {}, but {} is at {} now; update it with `banger vm workspace prepare {}`",
            short(&workspace.head_commit),
            source.display(),
            short(&now),
            vm.name
        ));
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
        assert_eq!(directory(None, &bare), "/root");
        assert_eq!(directory(None, &prepared), "/root/w");
        assert_eq!(directory(Some(&"/srv".parse().unwrap()), &prepared), "/srv");
    }
}
