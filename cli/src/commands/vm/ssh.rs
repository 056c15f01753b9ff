//! `banger vm ssh`.

use std::io::IsTerminal as _;

use clap::Args;

use crate::context::Context;
use crate::error::CommandResult;
use crate::interrupt::Interrupts;
use crate::run::attach::{Attach, attach};
use crate::session::Terminal;
use crate::session::command_line::command;

/// Open a shell in a VM, or run a command there
///
///     banger vm ssh box
///     banger vm ssh box -- uname -a
///
/// Either starts in the image's working directory, else in the user's home. The VM goes on running when the shell ends. In the workspace instead: `banger vm exec box -- make test`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct SshArgs {
    /// VM: name, id, or a beginning of either
    #[arg(value_name = "VM", add = crate::completer::vms())]
    pub vm: String,
    /// Command to run instead of a shell
    #[arg(last = true)]
    pub command: Vec<String>,
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
pub async fn run(context: &Context, args: SshArgs) -> CommandResult {
    let mut interrupts = Interrupts::install()?;
    let interactive = args.command.is_empty();
    let wants_terminal = args.tty || (interactive && std::io::stdin().is_terminal());
    let request = Attach {
        reference: args.vm,
        terminal: if wants_terminal { Terminal::Ours } else { Terminal::None },
        interactive,
        user: args.user.unwrap_or_default(),
    };
    attach(context, &mut interrupts, request, |_| (!interactive).then(|| command(None, &args.command))).await
}
