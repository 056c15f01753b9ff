//! Conversations that change nothing in the tree: verify, look, export.
//!
//! They work on a root an earlier prepare made; there is nothing to make here. [`verify`] reads every file again,
//! [`work`] finds what exists only in the guest, [`export`] hands it over.

pub mod export;
pub mod verify;
pub mod work;

use std::io::{Read, Write};
use std::path::Path;

use banger_proto::guest::v1::sync_reply::Body as Reply;
use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{SyncPurpose, WorkReply};

use super::error::ReceiverError;
use super::home::Home;
use super::{next, receive_manifest, reply};
use crate::frames::{FrameReader, FrameWriter};
use work::Work;

/// Serves one after its greeting.
///
/// # Errors
/// [`ReceiverError`].
pub(super) fn serve<R: Read, W: Write>(
    root: &Path,
    purpose: SyncPurpose,
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
) -> Result<(), ReceiverError> {
    let home = Home::open_existing(root)?;
    let git_moved = super::git::was_moved(home.side())?;
    reply(writer, Reply::Welcome(super::welcome(&home, git_moved)?))?;
    match purpose {
        SyncPurpose::Prepare | SyncPurpose::Follow | SyncPurpose::Deliver => {
            Err(ReceiverError::Unexpected { expected: "another purpose" })
        }
        SyncPurpose::Verify => {
            let manifest = receive_manifest(reader)?;
            verify::run(&home, &manifest, |part| reply(writer, Reply::Verified(part)))
        }
        SyncPurpose::Look => {
            let work = Work::observe(&home)?;
            reply(writer, Reply::Work(report(&home, &work)?))
        }
        SyncPurpose::MarkExported => {
            let Request::MarkExported(mark) = next(reader)? else {
                return Err(ReceiverError::Unexpected { expected: "what was exported" });
            };
            let work = Work::observe(&home)?;
            // What changed since was not exported.
            if mark.fingerprint == work.fingerprint().as_bytes() {
                work::remember_exported(&home, &mark.fingerprint)?;
            }
            reply(writer, Reply::Work(report(&home, &work)?))
        }
        SyncPurpose::Export => {
            let Request::Export(request) = next(reader)? else {
                return Err(ReceiverError::Unexpected { expected: "what to export" });
            };
            export::run(&home, root, &request, |body| reply(writer, body))
        }
    }
}

fn report(home: &Home, work: &Work) -> Result<WorkReply, ReceiverError> {
    let fingerprint = work.fingerprint();
    let exported = work::was_exported(home, fingerprint.as_bytes())?;
    Ok(WorkReply {
        fingerprint: fingerprint.as_bytes().to_vec(),
        moved: work.moved,
        branch: work.branch.clone(),
        head: work.head.clone(),
        changed: work.changed.len() as u64,
        untracked: work.untracked.len() as u64,
        sample: work.sample(),
        exported,
    })
}
