//! Reads what is really there and tells the host, which compares. Nothing remembered is believed.

use std::collections::HashSet;

use banger_proto::guest::v1::{VerifiedPath, VerifiedState, VerifyPart, WireKind};

use crate::diff::Observed;
use crate::dir::Walker;
use crate::entry::Entry;
use crate::parallel;
use crate::path::TreePath;
use crate::receiver::error::ReceiverError;
use crate::receiver::home::Home;
use crate::receiver::plan::observe;
use crate::wire::wire_kind;

/// Paths in one frame, so that even the longest fit.
const PATHS_A_FRAME: usize = 500;

/// Answers for every path of the manifest, and for paths of earlier runs that are still there.
///
/// # Errors
/// [`ReceiverError`].
pub fn run(
    home: &Home,
    manifest: &[Entry],
    mut send: impl FnMut(VerifyPart) -> Result<(), ReceiverError>,
) -> Result<(), ReceiverError> {
    let mut walker = home.walker()?;
    let mut part = VerifyPart::default();
    let mut push = |path: VerifiedPath| {
        part.paths.push(path);
        if part.paths.len() >= PATHS_A_FRAME { send(std::mem::take(&mut part)) } else { Ok(()) }
    };
    let looks = parallel::map(manifest, || home.walker(), |walker, entry| look(walker, &entry.path))?;
    for (index, found) in (0_u32..).zip(looks) {
        push(VerifiedPath { index, ..found })?;
    }
    let wanted: HashSet<&TreePath> = manifest.iter().map(|entry| &entry.path).collect();
    let mut others: Vec<&TreePath> =
        home.known.keys().chain(home.pending.keys()).filter(|path| !wanted.contains(path)).collect();
    others.sort_unstable();
    others.dedup();
    for path in others {
        let found = look(&mut walker, path)?;
        if found.state() == VerifiedState::Present {
            push(VerifiedPath { path: path.as_bytes().to_vec(), ..found })?;
        }
    }
    part.last = true;
    send(part)
}

fn look(walker: &mut Walker, path: &TreePath) -> Result<VerifiedPath, ReceiverError> {
    let (observed, _) = observe(walker, path, None)?;
    let state = match observed {
        Observed::Absent => VerifiedState::Absent,
        Observed::Present(_) => VerifiedState::Present,
        Observed::Directory => VerifiedState::Directory,
        Observed::Special => VerifiedState::Special,
    };
    let (kind, digest) = match observed {
        Observed::Present(content) => (wire_kind(content.kind), content.digest.as_bytes().to_vec()),
        _ => (WireKind::Unspecified, Vec::new()),
    };
    Ok(VerifiedPath { state: state.into(), kind: kind.into(), digest, ..VerifiedPath::default() })
}
