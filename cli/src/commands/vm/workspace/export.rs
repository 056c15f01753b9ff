//! `banger vm workspace export`.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use banger_proto::failure::Kind;
use banger_proto::v1::{GetVmRequest, Vm};
use banger_sync::export::apply::Staging;
use banger_sync::export::branch::{Branched, Incoming};
use banger_sync::export::{Change, Item, Summary, Wanted, export, work};
use banger_sync::receiver::sync_command;
use clap::Args;

use crate::args::GuestPath;
use crate::context::Context;
use crate::error::{CliError, CommandResult, OrFail as _};
use crate::interrupt::Interrupts;
use crate::run::{attach, reach};
use crate::ui::Channel;
use crate::view::workspace::ExportView;

/// Bring the work done in a VM back, as a patch or a branch
///
///     banger vm workspace export box -o work.patch
///     banger vm workspace export box --branch from-box
///     banger vm workspace export box --apply
///
/// The patch has commits, uncommitted edits and new files since the commit the workspace was prepared at; without -o
/// it goes to stdout. --branch makes the guest's commits a branch of your repository, without touching your files.
/// --apply writes the changes into your working tree, which must be clean. Nothing in the guest changes, and nothing
/// of yours is ever overwritten.
///
/// The summary names paths that editors and other tools run by themselves: look at those before you use them.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ExportArgs {
    /// VM: name, id, or a beginning of either
    #[arg(value_name = "VM", add = crate::completer::vms())]
    pub vm: String,
    /// Write the patch to this file, which must not exist
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Make the guest's commits this branch of your repository
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
    /// Write the changes into your clean working tree
    #[arg(long)]
    pub apply: bool,
    /// Compare with this commit instead of the one the workspace was prepared at
    #[arg(long, value_name = "REVISION")]
    pub base_commit: Option<String>,
    /// Where the guest has it [default: where it was prepared]
    #[arg(long, value_name = "PATH")]
    pub guest_path: Option<GuestPath>,
}

/// Where things go while they arrive.
struct Sinks {
    patch: Option<tempfile::NamedTempFile>,
    to_stdout: bool,
    staging: Option<Staging>,
    incoming: Option<Incoming>,
    changes: Vec<Change>,
}

/// Runs it.
///
/// # Errors
/// Of any step.
pub async fn run(context: &Context, args: ExportArgs) -> CommandResult {
    let to_stdout = args.output.is_none() && args.branch.is_none() && !args.apply;
    if to_stdout && context.ui.is_json() {
        return Err(CliError::usage("--json and the patch cannot both go to stdout")
            .hint("Name a file, as in `banger vm workspace export box -o work.patch --json`."));
    }
    let mut interrupts = Interrupts::install()?;
    let client = interrupts.guard("reaching bangerd", context.client()).await?;
    let vm = client.vms().get(GetVmRequest { reference: args.vm.clone() }).await.or_fail()?.into_inner();
    attach::require_running(&vm)?;
    let Some(workspace) = vm.workspace.clone() else {
        return Err(CliError::new(Kind::NotFound, format!("VM {} has no workspace", vm.name))
            .hint(format!("Put one there with `banger vm workspace prepare {}`.", vm.name)));
    };
    let source = PathBuf::from(std::ffi::OsStr::from_bytes(&workspace.source_path));
    let base = base(&args, &vm, &source)?;
    let guest_path = match &args.guest_path {
        Some(path) => path.as_str().to_owned(),
        None => String::from_utf8_lossy(&workspace.guest_path).into_owned(),
    };
    let mut sinks = sinks(&args, &source, to_stdout)?;
    let wanted = Wanted {
        base,
        patch: to_stdout || args.output.is_some(),
        // Also to tell what is in it.
        changes: true,
        pack: args.branch.is_some(),
    };
    let command = sync_command(&guest_path);
    let exporting = async {
        let connection = reach::connect(context, &client, &vm, reach::ALREADY_RUNNING).await?;
        let mut take = |item: Item<'_>| sinks.take(context, item);
        let exported = export(&connection, &command, wanted, &mut take).await;
        Ok((connection, exported))
    };
    let (connection, exported) = interrupts.guard("exporting", exporting).await?;
    let summary = match exported {
        Ok(summary) => summary,
        Err(error) => {
            connection.close().await;
            return Err(error.into());
        }
    };
    let (written, branched, applied) = keep(&args, sinks, &source, &summary)?;
    let (changes, commits_only) = (written.1, args.branch.is_some() && wanted.pack && !wanted.patch && !args.apply);
    if !commits_only || changes.is_empty() {
        // Only what was kept here is safe; a branch alone lacks uncommitted edits.
        let _ = work::mark_exported(&connection, &command, &summary.fingerprint).await;
    }
    connection.close().await;
    let view = ExportView::new(&summary, &changes, base.as_ref(), (written.0.as_deref(), branched.as_ref(), applied));
    if context.ui.is_json() {
        context.ui.json(&view)?;
    }
    for line in view.lines() {
        context.ui.status(&line);
    }
    for warning in view.warnings() {
        context.ui.warn(&warning);
    }
    Ok(0)
}

/// The commit to compare with: the one recorded, or a revision of the host's repository.
fn base(args: &ExportArgs, vm: &Vm, source: &std::path::Path) -> Result<Option<gix::ObjectId>, CliError> {
    let recorded = vm.workspace.as_ref().map(|workspace| workspace.head_commit.as_str()).unwrap_or_default();
    let Some(revision) = &args.base_commit else {
        return Ok(gix::ObjectId::from_hex(recorded.as_bytes()).ok());
    };
    if let Ok(id) = gix::ObjectId::from_hex(revision.as_bytes()) {
        return Ok(Some(id));
    }
    let unknown = || {
        CliError::new(Kind::NotFound, format!("cannot find the commit {revision:?} in {}", source.display()))
            .hint(format!("List the branches with `git -C {} branch --all`.", source.display()))
    };
    let repository = gix::open_opts(source, gix::open::Options::isolated()).map_err(|_| unknown())?;
    let commit = repository.rev_parse_single(revision.as_str()).and_then(|id| id.object()?.peel_to_commit());
    Ok(Some(commit.map_err(|_| unknown())?.id))
}

fn sinks(args: &ExportArgs, source: &std::path::Path, to_stdout: bool) -> Result<Sinks, CliError> {
    let failed = |path: &std::path::Path, error: &std::io::Error| {
        CliError::new(Kind::HostNotReady, format!("cannot write {}", path.display()))
            .map(|failure| failure.caused_by(error.to_string()))
    };
    let patch = match &args.output {
        Some(path) if path.exists() => {
            return Err(CliError::new(Kind::Conflict, format!("{} exists already", path.display()))
                .hint("Name a new file with `-o FILE`."));
        }
        Some(path) => {
            let directory =
                path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
            Some(tempfile::NamedTempFile::new_in(directory).map_err(|error| failed(path, &error))?)
        }
        None => None,
    };
    let staging = if args.apply { Some(Staging::new(source)?) } else { None };
    let incoming = match args.branch {
        Some(_) => Some(Incoming::new().map_err(|error| failed(&std::env::temp_dir(), &error))?),
        None => None,
    };
    Ok(Sinks { patch, to_stdout, staging, incoming, changes: Vec::new() })
}

impl Sinks {
    fn take(&mut self, context: &Context, item: Item<'_>) -> std::io::Result<()> {
        if let Item::Change(change) = &item {
            self.changes.push(change.clone());
        }
        if let Some(incoming) = &mut self.incoming {
            incoming.take(&item)?;
        }
        match (&item, &mut self.patch) {
            (Item::Patch(bytes), Some(file)) => file.write_all(bytes)?,
            (Item::Patch(bytes), None) if self.to_stdout => context.ui.bytes(Channel::Data, bytes)?,
            _ => {}
        }
        match &mut self.staging {
            Some(staging) => staging.take(item),
            None => Ok(()),
        }
    }
}

/// The patch's file, the changes it is about.
type Written = (Option<PathBuf>, Vec<Change>);

fn keep(
    args: &ExportArgs,
    sinks: Sinks,
    source: &std::path::Path,
    summary: &Summary,
) -> Result<(Written, Option<Branched>, bool), CliError> {
    // What can be refused comes first: then nothing at all was done.
    let branched = match (sinks.incoming, &args.branch, summary.head) {
        (Some(incoming), Some(name), Some(head)) => Some(incoming.make_branch(source, name, head)?),
        (Some(_), _, _) => return Err(banger_sync::export::ExportError::NoCommits.into()),
        _ => None,
    };
    let applied = match sinks.staging {
        Some(staging) => {
            staging.apply(source)?;
            true
        }
        None => false,
    };
    if let (Some(file), Some(path)) = (sinks.patch, &args.output) {
        file.persist_noclobber(path).map_err(|error| {
            CliError::new(Kind::HostNotReady, format!("cannot write {}", path.display()))
                .map(|failure| failure.caused_by(error.error.to_string()))
        })?;
    }
    Ok(((args.output.clone(), sinks.changes), branched, applied))
}
