//! Asks whether there is work in the guest that exists nowhere else.

use banger_proto::guest::v1::sync_reply::Body as Reply;
use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{MarkExported, SyncPurpose, WorkReply};

use crate::path::render;
use crate::prepare::PrepareError;
use crate::prepare::link::Link;
use crate::ssh::Connection;

/// What exists only in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestWork {
    /// It committed, switched or reset.
    pub moved: bool,
    /// Files of the host that are something else now.
    pub changed: u64,
    /// New files that are not ignored.
    pub untracked: u64,
    /// The first few of both.
    pub sample: Vec<String>,
    /// An export of exactly this was taken.
    pub exported: bool,
}

impl GuestWork {
    /// True if nothing would be lost with the VM.
    pub fn is_safe(&self) -> bool {
        self.exported || (!self.moved && self.changed == 0 && self.untracked == 0)
    }
}

impl From<WorkReply> for GuestWork {
    fn from(reply: WorkReply) -> Self {
        Self {
            moved: reply.moved,
            changed: reply.changed,
            untracked: reply.untracked,
            sample: reply.sample.iter().map(|path| render(path)).collect(),
            exported: reply.exported,
        }
    }
}

/// Asks.
///
/// # Errors
/// [`PrepareError`].
pub async fn look(connection: &Connection, command: &str) -> Result<GuestWork, PrepareError> {
    let (mut link, _) = Link::greet(connection, command, SyncPurpose::Look).await?;
    answer(&mut link).await
}

/// Tells the guest that this state was exported and is safe.
///
/// # Errors
/// [`PrepareError`].
pub async fn mark_exported(
    connection: &Connection,
    command: &str,
    fingerprint: &[u8],
) -> Result<GuestWork, PrepareError> {
    let (mut link, _) = Link::greet(connection, command, SyncPurpose::MarkExported).await?;
    link.send(&Request::MarkExported(MarkExported { fingerprint: fingerprint.to_vec() })).await?;
    answer(&mut link).await
}

async fn answer(link: &mut Link) -> Result<GuestWork, PrepareError> {
    match link.reply().await? {
        Reply::Work(work) => Ok(work.into()),
        _ => Err(PrepareError::Unexpected { expected: "what work there is" }),
    }
}
