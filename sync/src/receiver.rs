//! The guest's half of a transfer: applies frames beneath one root and reports what it did.
//!
//! It never trusts a frame: paths are parsed, every file is checked against its digest before it gets its
//! name, and nothing outside the root can be reached ([`crate::dir`]). It never overwrites work done in the
//! guest ([`crate::diff`]). A run killed at any moment leaves every file old or new; the next one finishes.
//!
//! [`home`] is the memory under `.git/banger`, [`plan`] decides, [`apply`] writes files, [`git`] installs
//! the git metadata, [`error`] is what can go wrong. [`inspect`] is what changes nothing: verify and export.

pub mod apply;
pub mod error;
pub mod git;
pub mod home;
pub mod inspect;
pub mod plan;

use std::io::{Read, Write};
use std::path::Path;

use banger_proto::guest::v1::sync_reply::Body as Reply;
use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{
    ConflictPart, Need, SyncConflict, SyncDone, SyncPurpose, SyncReply, SyncRequest, Welcome,
};
use banger_proto::guest_contract::GUEST_BINARY;

use crate::frames::{ENTRY_LIMIT, FrameReader, FrameWriter, VERSION};
use crate::quote::shell_quote;
use crate::wire::{parse_entry, wire_conflict};
use apply::Applier;
pub use error::ReceiverError;
use git::GitInstaller;
use home::Home;
use plan::Plan;

/// Conflicts in one reply frame, so that even the longest paths fit.
const CONFLICTS_A_FRAME: usize = 500;

/// The command a host executes in the guest.
pub fn sync_command(guest_path: &str) -> String {
    format!("{GUEST_BINARY} sync --root {}", shell_quote(guest_path))
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

fn serve<R: Read, W: Write>(
    root: &Path,
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
) -> Result<(), ReceiverError> {
    match next(reader)? {
        Request::Hello(hello) if hello.version == VERSION && hello.purpose() == SyncPurpose::Prepare => {}
        Request::Hello(hello) if hello.version == VERSION => {
            return inspect::serve(root, hello.purpose(), reader, writer);
        }
        Request::Hello(hello) => return Err(ReceiverError::Version { theirs: hello.version }),
        _ => return Err(ReceiverError::Unexpected { expected: "a greeting" }),
    }
    let mut home = Home::open(root)?;
    let git_moved = git::was_moved(&home)?;
    reply(writer, Reply::Welcome(welcome(&home, git_moved)))?;
    let manifest = receive_manifest(reader)?;
    let plan = Plan::make(&home, manifest)?;
    home.save_pending(&plan)?;
    let mut applier = Applier::start(&home, plan)?;
    reply(writer, Reply::Need(Need { bitmap: applier.needed() }))?;
    let mut installer = GitInstaller::new(&home)?;
    let finish = loop {
        match next(reader)? {
            Request::Batch(batch) => {
                for file in batch.files {
                    applier.file(file)?;
                }
            }
            Request::FileStart(start) => applier.start_file(&start)?,
            Request::Chunk(chunk) if applier.in_file() => applier.chunk(&chunk.data)?,
            Request::Chunk(chunk) => installer.chunk(&chunk.data)?,
            Request::FileEnd(end) => applier.end_file(&end)?,
            Request::Vanished(vanished) => applier.vanished(vanished.index)?,
            Request::GitFileStart(_) | Request::GitFileEnd(_) if git_moved => {
                return Err(ReceiverError::Unexpected { expected: "no git files" });
            }
            Request::GitFileStart(start) => installer.start(&start)?,
            Request::GitFileEnd(end) => installer.end(&end)?,
            Request::Finish(finish) => break finish,
            Request::Hello(_)
            | Request::Manifest(_)
            | Request::ManifestEnd(_)
            | Request::Export(_)
            | Request::MarkExported(_) => {
                return Err(ReceiverError::Unexpected { expected: "content" });
            }
        }
    };
    let applied = applier.finish()?;
    let git_files = installer.finish()?;
    home.save_state(&applied, git_files, &finish)?;
    for part in applied.conflicts.chunks(CONFLICTS_A_FRAME) {
        let conflicts = part
            .iter()
            .map(|(path, reason)| SyncConflict {
                path: path.as_bytes().to_vec(),
                reason: wire_conflict(*reason).into(),
            })
            .collect();
        reply(writer, Reply::Conflicts(ConflictPart { conflicts }))?;
    }
    reply(
        writer,
        Reply::Done(SyncDone {
            tree_digest: applied.tree_digest.as_bytes().to_vec(),
            applied_digest: applied.applied_digest.as_bytes().to_vec(),
            files_written: applied.files_written,
            files_removed: applied.files_removed,
        }),
    )
}

fn welcome(home: &Home, git_moved: bool) -> Welcome {
    Welcome {
        version: VERSION,
        commits: home.state.commits.clone(),
        object_sets: home.state.object_sets.clone(),
        git_files: home.state.git_files.clone(),
        git_moved,
    }
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
    let request: Option<SyncRequest> = reader.receive().map_err(|source| ReceiverError::Stream { source })?;
    let Some(request) = request else { return Err(ReceiverError::HostGone) };
    request.body.ok_or(ReceiverError::Unexpected { expected: "a message of this version" })
}

fn reply<W: Write>(writer: &mut FrameWriter<W>, body: Reply) -> Result<(), ReceiverError> {
    writer.send(&SyncReply { body: Some(body) }).map_err(|source| ReceiverError::Stream { source })
}

#[cfg(test)]
mod tests;
