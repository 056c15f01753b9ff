//! Which VM a text means: its name, its id, or an unambiguous beginning of either. Pure.

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::{VmId, VmName};

/// Why a reference does not lead to one VM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// To none.
    #[error("there is no VM {reference:?}")]
    NotFound {
        /// What was given.
        reference: String,
    },
    /// To several.
    #[error("{reference:?} could mean several VMs: {}", candidates.join(", "))]
    Ambiguous {
        /// What was given.
        reference: String,
        /// `name (short id)` of each.
        candidates: Vec<String>,
    },
    /// To all.
    #[error("no VM was named")]
    Empty,
}

impl Classified for ReferenceError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Ambiguous { .. } | Self::Empty => Kind::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        vec!["Run `banger vm list` to see the names and ids.".into()]
    }
}

/// Finds the one VM `reference` means. A whole name wins over everything else.
///
/// # Errors
/// [`ReferenceError`].
pub fn resolve<'a>(
    reference: &str,
    known: impl Iterator<Item = (&'a VmId, &'a VmName)> + Clone,
) -> Result<VmId, ReferenceError> {
    if reference.is_empty() {
        return Err(ReferenceError::Empty);
    }
    let mut whole = known.clone().filter(|(_, name)| name.as_str() == reference);
    if let Some((id, _)) = whole.next() {
        return Ok(id.clone());
    }
    let beginning: Vec<_> =
        known.filter(|(id, name)| id.as_str().starts_with(reference) || name.as_str().starts_with(reference)).collect();
    match beginning.as_slice() {
        [] => Err(ReferenceError::NotFound { reference: reference.to_owned() }),
        [(id, _)] => Ok((*id).clone()),
        several => Err(ReferenceError::Ambiguous {
            reference: reference.to_owned(),
            candidates: several.iter().map(|(id, name)| format!("{name} ({})", id.short())).collect(),
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn known() -> Vec<(VmId, VmName)> {
        [("aaaa", "web"), ("aabb", "web-2"), ("cccc", "aa")]
            .map(|(id, name)| (format!("{id:0<32}").parse().unwrap(), name.parse().unwrap()))
            .to_vec()
    }

    fn find(reference: &str) -> Result<String, ReferenceError> {
        let known = known();
        resolve(reference, known.iter().map(|(id, name)| (id, name))).map(|id| id.as_str()[..4].to_owned())
    }

    #[test]
    fn a_whole_name_wins_over_the_beginning_of_others() {
        assert_eq!(find("web"), Ok("aaaa".into()));
        assert_eq!(find("aa"), Ok("cccc".into()));
    }

    #[test]
    fn an_unambiguous_beginning_of_name_or_id_is_enough() {
        assert_eq!(find("web-"), Ok("aabb".into()));
        assert_eq!(find("aabb0"), Ok("aabb".into()));
    }

    #[test]
    fn an_ambiguous_beginning_names_the_candidates() {
        let Err(ReferenceError::Ambiguous { candidates, .. }) = find("we") else { panic!("not ambiguous") };
        assert_eq!(candidates, ["web (aaaa00000000)", "web-2 (aabb00000000)"]);
    }

    #[test]
    fn nothing_is_found_by_nothing() {
        assert_eq!(find(""), Err(ReferenceError::Empty));
        assert_eq!(find("zz"), Err(ReferenceError::NotFound { reference: "zz".into() }));
    }
}
