//! The guest's half of a transfer: applies frames beneath one root and reports what it did.
//!
//! It never trusts a frame: paths are parsed, every file is checked against its digest before it gets its
//! name, and nothing outside the root can be reached ([`crate::dir`]). It never overwrites work done in the
//! guest ([`crate::diff`]). A run killed at any moment leaves every file old or new; the next one finishes.
//!
//! [`home`] is the memory under `.git/banger`, [`plan`] decides, [`apply`] writes files ([`packed`] those that are in a
//! pack, [`place`] gives each its name, [`staging`] all at once where nothing is yet), [`git`] installs
//! the git metadata of the tree and its [`module`]s ([`refs`] merges branches and tags), [`error`] is what can go wrong.
//! [`follow`] goes on with batches of edits, [`journal`] remembers them. [`inspect`] is what changes nothing: verify and
//! export. [`deliver`] is for files of no repository.

pub mod apply;
mod deliver;
pub mod error;
pub mod follow;
pub mod git;
pub mod home;
pub mod inspect;
pub mod journal;
pub mod module;
mod packed;
mod place;
pub mod plan;
pub mod refs;
mod staging;

use std::io::{Read, Write};
use std::path::Path;

use banger_proto::guest::v1::sync_reply::Body as Reply;
use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{
    ConflictPart, Finish, Need, SyncConflict, SyncDone, SyncPurpose, SyncReply, SyncRequest, Welcome, WireConflict,
};
use banger_proto::guest_contract::GUEST_BINARY;

use crate::diff::ConflictReason;
use crate::digest::TreeDigest;
use crate::frames::{ENTRY_LIMIT, FrameReader, FrameWriter, VERSION};
use crate::path::TreePath;
use crate::quote::shell_quote;
use crate::wire::{parse_entry, wire_conflict};
use apply::{Applied, Applier, Sending};
pub use error::ReceiverError;
use git::GitInstaller;
use home::Home;
use plan::Plan;

/// Conflicts in one reply frame, so that even the longest paths fit.
const CONFLICTS_A_FRAME: usize = 500;

/// Of the pipe from the SSH server; what the kernel gives without privileges.
const PIPE_SIZE: usize = 1 << 20;

/// The command a host executes in the guest.
pub fn sync_command(guest_path: &str) -> String {
    format!("{GUEST_BINARY} sync --root {}", shell_quote(guest_path))
}

/// The command that delivers files into a directory that is root's and stays so.
pub fn deliver_command(guest_path: &str) -> String {
    format!("{GUEST_BINARY} sync --root {} --as-root", shell_quote(guest_path))
}

/// Serves one transfer from `input` to `root`, answering on `output`. Blocks until it is over.
///
/// # Errors
/// [`ReceiverError`]; the host was told, unless the stream itself failed.
pub fn run(root: &Path, input: impl Read, output: impl Write) -> Result<(), ReceiverError> {
    let mut reader = FrameReader::new(input);
    let mut writer = FrameWriter::new(output);
    writer.send_preamble().map_err(|source| ReceiverError::Stream { source })?;
    let outcome = serve(root, &mut reader, &mut writer);
    if let Err(error) = &outcome
        && let Some(failure) = error.to_wire()
        && let Err(unsent) = writer.send(&SyncReply { body: Some(Reply::Failure(failure)) })
    {
        tracing::warn!(%unsent, "the host cannot be told about the failure");
    }
    outcome
}

/// [`run`] on the standard streams.
///
/// # Errors
/// [`ReceiverError`].
pub fn run_on_standard_streams(root: &Path) -> Result<(), ReceiverError> {
    let input = std::io::stdin().lock();
    // With more than 64 KiB the SSH server decrypts on while this writes files. A stream that is no pipe, or an owner
    // of too many, does without.
    let _ = rustix::pipe::fcntl_setpipe_size(&input, PIPE_SIZE);
    run(root, input, std::io::stdout().lock())
}

fn serve<R: Read, W: Write>(
    root: &Path,
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
) -> Result<(), ReceiverError> {
    let purpose = match next(reader)? {
        Request::Hello(hello) if hello.version == VERSION => hello.purpose(),
        Request::Hello(hello) => return Err(ReceiverError::Version { theirs: hello.version }),
        _ => return Err(ReceiverError::Unexpected { expected: "a greeting" }),
    };
    match purpose {
        SyncPurpose::Prepare => {
            let mut home = Home::open(root)?;
            prepare(&mut home, reader, writer)?;
            Ok(())
        }
        SyncPurpose::Deliver => deliver::serve(root, reader, writer),
        SyncPurpose::Follow => follow::serve(Home::open(root)?, reader, writer),
        inspecting => inspect::serve(root, inspecting, reader, writer),
    }
}

/// The whole tree, from the welcome to the report.
fn prepare<R: Read, W: Write>(
    home: &mut Home,
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
) -> Result<Applied, ReceiverError> {
    let git_moved = git::was_moved(home.side())?;
    reply(writer, Reply::Welcome(welcome(home, git_moved)?))?;
    let manifest = receive_manifest(reader)?;
    let plan = Plan::make(home, manifest)?;
    // The host reads on meanwhile.
    reply(writer, Reply::Need(Need { bitmap: plan.needed() }))?;
    home.save_pending(&plan)?;
    let mut applier = Applier::start(home, plan, Sending::Needed)?;
    let mut installer = GitInstaller::new(home)?;
    let finish = content((reader, writer), &mut applier, &mut installer, git_moved.then_some(Refused))?;
    let applied = applier.finish()?;
    let installed = installer.finish()?;
    home.save_state(&applied, installed, &finish)?;
    report(writer, &Report::of(&applied))?;
    Ok(applied)
}

/// No git file may come: the host was told that the guest's metadata is its own.
struct Refused;

/// Files and git files up to the end of a batch.
fn content<R: Read, W: Write>(
    streams: (&mut FrameReader<R>, &mut FrameWriter<W>),
    applier: &mut Applier<'_>,
    installer: &mut GitInstaller<'_>,
    git: Option<Refused>,
) -> Result<Finish, ReceiverError> {
    let received = receive_content(streams, applier, installer, git);
    // However it ended: the next run finds what is whole.
    let published = applier.publish();
    received.and_then(|finish| published.map(|()| finish))
}

fn receive_content<R: Read, W: Write>(
    (reader, writer): (&mut FrameReader<R>, &mut FrameWriter<W>),
    applier: &mut Applier<'_>,
    installer: &mut GitInstaller<'_>,
    git: Option<Refused>,
) -> Result<Finish, ReceiverError> {
    loop {
        let request = next(reader)?;
        if !matches!(request, Request::PackedFiles(_)) {
            applier.publish()?;
        }
        match request {
            Request::Batch(batch) => {
                for file in batch.files {
                    applier.file(file)?;
                }
            }
            Request::Blocks(request) => applier.blocks(&request, |blocks| reply(writer, Reply::Blocks(blocks)))?,
            Request::Copy(range) => applier.copy(&range)?,
            Request::FileStart(start) => applier.start_file(&start)?,
            Request::Chunk(chunk) if applier.in_file() => applier.chunk(&chunk.data)?,
            Request::Chunk(chunk) => installer.chunk(&chunk.data)?,
            Request::FileEnd(end) => applier.end_file(&end)?,
            Request::Vanished(vanished) => applier.vanished(vanished.index)?,
            Request::PackedFiles(files) => {
                let pack = installer.arrived(&files)?;
                reply(writer, Reply::Need(applier.packed(&pack, &files)?))?;
            }
            Request::ObjectFiles(files) => reply(writer, Reply::Need(applier.objects(installer.packs()?, &files)?))?,
            Request::Modules(_) | Request::GitFileStart(_) | Request::GitFileEnd(_) if git.is_some() => {
                return Err(ReceiverError::Unexpected { expected: "no git files" });
            }
            Request::Modules(modules) => installer.modules(modules)?,
            Request::GitFileStart(start) => installer.start(&start)?,
            Request::GitFileEnd(end) => installer.end(&end)?,
            Request::Finish(finish) => return Ok(finish),
            Request::Hello(_)
            | Request::Manifest(_)
            | Request::ManifestEnd(_)
            | Request::Delta(_)
            | Request::Check(_)
            | Request::Fetch(_)
            | Request::Export(_)
            | Request::MarkExported(_)
            | Request::Deliver(_) => {
                return Err(ReceiverError::Unexpected { expected: "content" });
            }
        }
    }
}

/// What the host is told at the end of a batch.
struct Report<'a> {
    tree_digest: TreeDigest,
    applied_digest: TreeDigest,
    files_written: u64,
    files_removed: u64,
    conflicts: &'a [(TreePath, ConflictReason)],
    outdated: &'a [TreePath],
    git_kept: bool,
}

impl<'a> Report<'a> {
    fn of(applied: &'a Applied) -> Self {
        Self {
            tree_digest: applied.tree_digest,
            applied_digest: applied.applied_digest,
            files_written: applied.files_written,
            files_removed: applied.files_removed,
            conflicts: &applied.conflicts,
            outdated: &[],
            git_kept: false,
        }
    }
}

fn report<W: Write>(writer: &mut FrameWriter<W>, report: &Report<'_>) -> Result<(), ReceiverError> {
    let conflicts = report.conflicts.iter().map(|(path, reason)| (path, wire_conflict(*reason)));
    let outdated = report.outdated.iter().map(|path| (path, WireConflict::Outdated));
    let all: Vec<SyncConflict> = conflicts
        .chain(outdated)
        .map(|(path, reason)| SyncConflict { path: path.as_bytes().to_vec(), reason: reason.into() })
        .collect();
    for part in all.chunks(CONFLICTS_A_FRAME) {
        reply(writer, Reply::Conflicts(ConflictPart { conflicts: part.to_vec() }))?;
    }
    reply(
        writer,
        Reply::Done(SyncDone {
            tree_digest: report.tree_digest.as_bytes().to_vec(),
            applied_digest: report.applied_digest.as_bytes().to_vec(),
            files_written: report.files_written,
            files_removed: report.files_removed,
            git_kept: report.git_kept,
        }),
    )
}

fn welcome(home: &Home, git_moved: bool) -> Result<Welcome, ReceiverError> {
    Ok(Welcome {
        version: VERSION,
        commits: home.state.commits.clone(),
        object_sets: home.state.object_sets.clone(),
        git_files: home.state.git_files.clone(),
        git_moved,
        tips: home.state.tips.clone(),
        modules: module::welcomes(home)?,
        tells_blocks: true,
        makes_packed_files: true,
        makes_object_files: true,
    })
}

fn receive_manifest<R: Read>(reader: &mut FrameReader<R>) -> Result<Vec<crate::entry::Entry>, ReceiverError> {
    let mut entries: Vec<crate::entry::Entry> = Vec::new();
    loop {
        match next(reader)? {
            Request::Manifest(part) => {
                if entries.len() as u64 + part.entries.len() as u64 > ENTRY_LIMIT {
                    return Err(ReceiverError::Manifest { problem: "it has too many entries" });
                }
                for wire in &part.entries {
                    let entry = parse_entry(wire).map_err(|source| ReceiverError::Entry { source })?;
                    if entries.last().is_some_and(|last| last.path >= entry.path) {
                        return Err(ReceiverError::Manifest { problem: "it is not sorted" });
                    }
                    entries.push(entry);
                }
            }
            Request::ManifestEnd(end) if end.count == entries.len() as u64 => return Ok(entries),
            Request::ManifestEnd(_) => return Err(ReceiverError::Manifest { problem: "entries are missing" }),
            _ => return Err(ReceiverError::Unexpected { expected: "the manifest" }),
        }
    }
}

fn next<R: Read>(reader: &mut FrameReader<R>) -> Result<Request, ReceiverError> {
    next_or_end(reader)?.ok_or(ReceiverError::HostGone)
}

/// `None` where the host may end the conversation and did.
fn next_or_end<R: Read>(reader: &mut FrameReader<R>) -> Result<Option<Request>, ReceiverError> {
    let request: Option<SyncRequest> = reader.receive().map_err(|source| ReceiverError::Stream { source })?;
    let Some(request) = request else { return Ok(None) };
    request.body.map(Some).ok_or(ReceiverError::Unexpected { expected: "a message of this version" })
}

fn reply<W: Write>(writer: &mut FrameWriter<W>, body: Reply) -> Result<(), ReceiverError> {
    writer.send(&SyncReply { body: Some(body) }).map_err(|source| ReceiverError::Stream { source })
}

#[cfg(test)]
mod tests;
