//! Compares the host's overlay with what is really in the guest, path by path.
//!
//! The guest reads every file again and says what it found; the judgement is made here. Nothing is changed on
//! either side.

use banger_proto::guest::v1::sync_reply::Body as Reply;
use banger_proto::guest::v1::{SyncPurpose, VerifiedPath, VerifiedState};

use crate::digest::{DigestBuilder, TreeDigest};
use crate::entry::{Content, Entry};
use crate::overlay::Overlay;
use crate::path::TreePath;
use crate::prepare::link::Link;
use crate::prepare::{PrepareError, send_manifest};
use crate::ssh::Connection;
use crate::wire::{parse_digest, parse_kind};

/// Most paths a guest may add to those it was asked about.
const EXTRA_LIMIT: usize = 1 << 20;

/// How one path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceKind {
    /// The guest does not have it.
    Missing,
    /// Its content is another.
    Content,
    /// It is another kind: a link, or executable where it should not be, or the reverse.
    Kind,
    /// A directory, device, pipe or socket is there.
    Obstructed,
    /// The host does not have it any more.
    Extra,
}

/// One path that is not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub path: TreePath,
    /// How.
    pub kind: DifferenceKind,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Of the overlay.
    pub host: TreeDigest,
    /// Of the same paths in the guest, and those only it has.
    pub guest: TreeDigest,
    /// Paths compared.
    pub paths: u64,
    /// In path order; empty exactly if the digests are equal.
    pub differences: Vec<Difference>,
}

/// Asks the receiver that `command` starts.
///
/// # Errors
/// [`PrepareError`].
pub async fn verify(connection: &Connection, overlay: &Overlay, command: &str) -> Result<Verified, PrepareError> {
    let (mut link, _) = Link::greet(connection, command, SyncPurpose::Verify).await?;
    let entries = &overlay.manifest.entries;
    send_manifest(&mut link, entries).await?;
    let mut found: Vec<(TreePath, Option<Content>)> = Vec::with_capacity(entries.len());
    let mut differences = Vec::new();
    let mut expected = entries.iter();
    let mut paths = 0;
    loop {
        let Reply::Verified(part) = link.reply().await? else {
            return Err(PrepareError::Unexpected { expected: "what is there" });
        };
        for answer in part.paths {
            let entry = if answer.path.is_empty() { expected.next() } else { None };
            if found.len() > entries.len() + EXTRA_LIMIT {
                return Err(PrepareError::Unexpected { expected: "fewer paths" });
            }
            let (path, content, kind) = judge(&answer, entry, paths)?;
            paths += u64::from(entry.is_some());
            differences.extend(kind.map(|kind| Difference { path: path.clone(), kind }));
            found.push((path, content));
        }
        if part.last {
            break;
        }
    }
    if expected.next().is_some() {
        return Err(PrepareError::Unexpected { expected: "an answer for every path" });
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    let mut builder = DigestBuilder::default();
    for (path, content) in &found {
        if let Some(content) = content {
            builder.push(path.as_bytes(), *content);
        }
    }
    differences.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(Verified { host: overlay.tree_digest(), guest: builder.finish(), paths, differences })
}

type Judged = (TreePath, Option<Content>, Option<DifferenceKind>);

fn judge(answer: &VerifiedPath, entry: Option<&Entry>, position: u64) -> Result<Judged, PrepareError> {
    let unexpected = |expected| PrepareError::Unexpected { expected };
    let content = match answer.state() {
        VerifiedState::Present => Some(Content {
            kind: parse_kind(answer.kind()).ok_or(unexpected("a kind"))?,
            digest: parse_digest(&answer.digest).ok_or(unexpected("a digest"))?,
        }),
        VerifiedState::Absent | VerifiedState::Directory | VerifiedState::Special => None,
        VerifiedState::Unspecified => return Err(unexpected("a state")),
    };
    let Some(entry) = entry else {
        let path = TreePath::parse(&answer.path).map_err(|_| unexpected("one answer a path"))?;
        return Ok((path, content, Some(DifferenceKind::Extra)));
    };
    if u64::from(answer.index) != position {
        return Err(unexpected("answers in order"));
    }
    let kind = match (answer.state(), content) {
        (_, Some(content)) if content == entry.content() => None,
        (_, Some(content)) if content.kind == entry.kind => Some(DifferenceKind::Content),
        (_, Some(_)) => Some(DifferenceKind::Kind),
        (VerifiedState::Absent, None) => Some(DifferenceKind::Missing),
        (_, None) => Some(DifferenceKind::Obstructed),
    };
    Ok((entry.path.clone(), content, kind))
}
