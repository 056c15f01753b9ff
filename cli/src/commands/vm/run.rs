//! `banger vm run`: the arguments, and what they mean. The work is in [`crate::run`](mod@crate::run).

use std::path::PathBuf;

use banger_sync::overlay::{CopyMode, ObserveOptions};
use banger_sync::watch::Mode;
use clap::{Args, ValueEnum};

use super::new_vm::NewVmArgs;
use crate::args::GuestPath;
use crate::context::Context;
use crate::error::{CliError, CommandResult};
use crate::run::plan::{Ending, Plan, WorkspacePlan};
use crate::session::Terminal;
use crate::sizing::Host;

/// Make a VM, put a repository in it, and run a command or a shell there
///
/// Run the tests of a repository in a fresh VM and delete it afterwards:
///
///     banger vm run --rm ./repo -- make test
///
/// Work in a VM: a shell in the repository's copy. The VM stays when the shell ends:
///
///     banger vm run ./repo
///
/// A bare sandbox, one with internet access, one in the background:
///
///     banger vm run
///     banger vm run --nat --rm
///     banger vm run -d --name box ./repo
///
/// The guest gets the files git tracks, as they are in your working tree, and enough of .git for git to work there.
/// Ignored files never travel; untracked ones with --include-untracked. See exactly what would travel:
///
///     banger vm run --dry-run ./repo
///
/// With --watch every save is in the guest a moment later, for as long as the command or shell runs; with -d, for as long as
/// the VM lives:
///
///     banger vm run --watch ./repo -- make serve
///
/// The command runs without a terminal unless -t is given: its stdin, stdout, stderr and exit status are passed
/// through exactly, and Ctrl-C reaches it (three times: stop waiting). Next: `banger vm exec`, `banger vm ssh`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct RunArgs {
    /// Directory inside a git repository whose working tree the guest gets, at /root/repo
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub path: Option<PathBuf>,
    /// Command to run instead of a shell; its exit status becomes ours
    #[arg(last = true)]
    pub command: Vec<String>,
    /// Delete the VM when the command or shell ends, or when anything fails before
    #[arg(long)]
    pub rm: bool,
    /// With --rm: do not keep changed and new files and commits of the guest in a file first
    #[arg(long, requires = "rm")]
    pub discard: bool,
    /// Leave the VM running in the background and return once it is ready
    #[arg(short, long, conflicts_with_all = ["rm", "command", "tty"])]
    pub detach: bool,
    /// Keep the guest's copy in step with your edits; prints the tree the command begins with
    #[arg(long, requires = "path", conflicts_with_all = ["from", "dry_run"])]
    pub watch: bool,
    /// How much of the repository; with --watch, what happens to work done in the guest
    /// [default: overlay, one-way-safe]
    #[arg(long, value_name = "MODE", requires = "path")]
    pub mode: Option<RunMode>,
    /// Run as this user of the guest, USER[:GROUP] [default: the image's user, else root]
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// The new VM.
    #[command(flatten)]
    pub vm: NewVmArgs,
    /// The workspace.
    #[command(flatten)]
    pub workspace: WorkspaceArgs,
    /// Print what would be copied and stop: no VM, no daemon
    #[arg(long, requires = "path")]
    pub dry_run: bool,
}

/// How a repository gets into the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RunMode {
    /// The working tree, and of the history what git needs to work
    Overlay,
    /// Also the whole history of all branches and tags, and the submodules that are checked out
    #[value(name = "full_copy")]
    FullCopy,
    /// Kept in step: work done in the guest is kept, and told as a conflict
    OneWaySafe,
    /// Kept in step: the host's version replaces work done in the guest
    OneWayReplica,
}

impl RunMode {
    fn copy(mode: Option<Self>) -> CopyMode {
        if mode == Some(Self::FullCopy) { CopyMode::FullCopy } else { CopyMode::Overlay }
    }

    /// How edits are followed, if they are.
    ///
    /// # Errors
    /// The mode does not go together with that.
    fn follow(mode: Option<Self>, watch: bool) -> Result<Option<Mode>, CliError> {
        match (mode, watch) {
            (Some(Self::FullCopy), true) => Err(banger_sync::watch::WatchError::FullCopy.into()),
            (Some(Self::OneWaySafe | Self::OneWayReplica), false) => {
                Err(CliError::usage("without --watch there are no edits to be followed in a mode")
                    .hint("Add `--watch`, or leave out `--mode`."))
            }
            (Some(Self::OneWayReplica), true) => Ok(Some(Mode::OneWayReplica)),
            (_, true) => Ok(Some(Mode::OneWaySafe)),
            (_, false) => Ok(None),
        }
    }
}

/// What of a repository goes where.
#[derive(Debug, Args)]
#[command(next_help_heading = "Workspace options")]
pub struct WorkspaceArgs {
    /// Put the guest on this branch, which exists only there
    #[arg(long, value_name = "NAME", requires = "path")]
    pub branch: Option<String>,
    /// Start that branch at this commit, with its files instead of the working tree's
    #[arg(long, value_name = "REVISION", requires = "branch")]
    pub from: Option<String>,
    /// Copy also files that are neither tracked nor ignored
    #[arg(long, requires = "path")]
    pub include_untracked: bool,
    /// Where the guest gets the working tree [default: /root/repo]
    #[arg(long, value_name = "PATH", requires = "path")]
    pub guest_path: Option<GuestPath>,
}

impl WorkspaceArgs {
    /// The plan for a repository.
    pub fn plan(self, path: PathBuf, mode: CopyMode) -> WorkspacePlan {
        WorkspacePlan {
            path,
            options: ObserveOptions {
                include_untracked: self.include_untracked,
                branch: self.branch,
                from: self.from,
                mode,
            },
            guest_path: self.guest_path.unwrap_or_default(),
        }
    }
}

/// Runs it.
///
/// # Errors
/// Of any step.
pub async fn run(context: &Context, args: RunArgs) -> CommandResult {
    let interactive = args.command.is_empty() && !args.detach && !args.dry_run;
    if context.ui.is_json() && (interactive || args.tty) {
        return Err(CliError::usage("--json has no form for a terminal session")
            .hint("Give a command, as in `banger vm run --json -- make test`, or `--detach`."));
    }
    let watch = RunMode::follow(args.mode, args.watch)?;
    let workspace = args.path.map(|path| args.workspace.plan(path, RunMode::copy(args.mode)));
    if args.dry_run {
        let plan = workspace.ok_or_else(|| CliError::usage("--dry-run needs a path"))?;
        return crate::run::workspace::dry_run(context, plan).await;
    }
    let ending = match (args.detach, args.rm) {
        (true, _) => Ending::Detach,
        (false, true) => Ending::Delete,
        (false, false) => Ending::Keep,
    };
    let stdin_is_terminal = std::io::IsTerminal::is_terminal(&std::io::stdin());
    let wants_terminal = args.tty || (args.command.is_empty() && stdin_is_terminal);
    let config = context.config()?;
    let plan = Plan {
        spec: args.vm.decide(&config, Host::observe())?,
        workspace,
        file_sync: config.file_sync,
        command: args.command,
        terminal: if wants_terminal { Terminal::Ours } else { Terminal::None },
        user: args.user.unwrap_or_default(),
        ending,
        discard: args.discard,
        watch,
    };
    crate::run::run(context, plan).await
}
