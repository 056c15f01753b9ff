//! What a full copy has beyond one commit: every branch and tag of the host, as one file of references.

use gix::ObjectId;

use super::OverlayError;
use crate::path::TreePath;

/// Branches and tags, and everything that can be reached from them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// What they name, and the commit of `HEAD`; sorted.
    pub tips: Vec<ObjectId>,
    /// The content of `packed-refs`.
    pub references: Vec<u8>,
}

/// Reads all references; those that name nothing that is here are left out.
///
/// # Errors
/// [`OverlayError::Git`].
pub fn observe(repository: &gix::Repository, head: Option<ObjectId>) -> Result<History, OverlayError> {
    let failed =
        |source| OverlayError::Git { action: "read the references", path: repository.git_dir().to_owned(), source };
    let mut named: Vec<(String, ObjectId)> = Vec::new();
    let platform = repository.references().map_err(failed)?;
    for prefix in ["refs/heads/", "refs/tags/"] {
        for reference in platform.prefixed(prefix).map_err(failed)? {
            // A broken one is no reason to carry none.
            let Ok(mut reference) = reference else { continue };
            let name = reference.name().as_bstr().to_string();
            let Ok(target) = reference.follow_to_object() else { continue };
            if is_carried(&name) && repository.has_object(target) {
                named.push((name, target.detach()));
            }
        }
    }
    named.sort();
    named.dedup_by(|one, other| one.0 == other.0);
    let mut tips: Vec<ObjectId> = named.iter().map(|(_, id)| *id).chain(head).collect();
    tips.sort_unstable();
    tips.dedup();
    let lines: String = named.iter().map(|(name, id)| format!("{id} {name}\n")).collect();
    Ok(History { tips, references: format!("# pack-refs with: sorted \n{lines}").into_bytes() })
}

/// One the receiver takes.
fn is_carried(name: &str) -> bool {
    let plain = name.strip_prefix("refs/").is_some_and(|rest| TreePath::parse(rest.as_bytes()).is_ok());
    plain && !name.contains(char::REPLACEMENT_CHARACTER)
}
