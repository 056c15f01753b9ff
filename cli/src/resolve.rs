//! Which VM is meant: a name, an id, or an unambiguous prefix of either. Pure.

use banger_proto::failure::{Classified, Kind};
use banger_proto::v1::Vm;

/// Why a reference means no VM.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// None matches.
    #[error("no VM is called {reference:?}")]
    NotFound {
        /// As it was typed.
        reference: String,
    },
    /// Several match.
    #[error("{reference:?} could be any of the VMs {}", names.join(", "))]
    Ambiguous {
        /// As it was typed.
        reference: String,
        /// Names of those that match.
        names: Vec<String>,
    },
}

impl Classified for ResolveError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Ambiguous { .. } => Kind::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotFound { .. } => vec!["See the VMs there are with `banger vm list`.".into()],
            Self::Ambiguous { .. } => vec!["Write more of the name; `banger vm list` shows them.".into()],
        }
    }
}

/// The VM a reference means.
///
/// # Errors
/// [`ResolveError`].
pub fn resolve<'a>(vms: &'a [Vm], reference: &str) -> Result<&'a Vm, ResolveError> {
    let not_found = || ResolveError::NotFound { reference: reference.to_owned() };
    if reference.is_empty() {
        return Err(not_found());
    }
    if let Some(vm) = vms.iter().find(|vm| vm.name == reference || vm.id == reference) {
        return Ok(vm);
    }
    let matches: Vec<&Vm> =
        vms.iter().filter(|vm| vm.name.starts_with(reference) || vm.id.starts_with(reference)).collect();
    match matches.as_slice() {
        [] => Err(not_found()),
        [vm] => Ok(vm),
        several => Err(ResolveError::Ambiguous {
            reference: reference.to_owned(),
            names: several.iter().map(|vm| vm.name.clone()).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_matches_win_over_prefixes() {
        let vm = |name: &str, id: &str| Vm { name: name.into(), id: id.into(), ..Vm::default() };
        let vms = [vm("box", "aa11"), vm("box-2", "bb22"), vm("web", "bb33")];
        let name = |reference: &str| resolve(&vms, reference).map(|vm| vm.name.clone()).map_err(|error| error.kind());
        assert_eq!(name("box"), Ok("box".into()));
        assert_eq!(name("box-"), Ok("box-2".into()));
        assert_eq!(name("aa"), Ok("box".into()));
        assert_eq!(name("bb22"), Ok("box-2".into()));
        assert_eq!(name("bb"), Err(Kind::Usage));
        assert_eq!(name("bo"), Err(Kind::Usage));
        assert_eq!(name("nope"), Err(Kind::NotFound));
        assert_eq!(name(""), Err(Kind::NotFound));
    }
}
