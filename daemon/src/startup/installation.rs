//! Whether this process may be the service of the installation on this host.

use banger_proto::failure::{Classified, Kind};
use banger_proto::install::{INSTALL_FILE, Install, InstallError};

/// It may not.
#[derive(Debug, thiserror::Error)]
pub enum InstallationError {
    /// Nothing is installed.
    #[error("nothing is installed on this host: there is no {INSTALL_FILE}")]
    Absent,
    /// The metadata cannot be used.
    #[error(transparent)]
    Metadata(#[from] InstallError),
    /// It belongs to somebody else.
    #[error("this installation belongs to {owner} (uid {owner_uid}), not to uid {uid}")]
    NotTheOwner {
        /// Who we are.
        uid: u32,
        /// The owner's login name.
        owner: String,
        /// The owner.
        owner_uid: u32,
    },
}

impl Classified for InstallationError {
    fn kind(&self) -> Kind {
        match self {
            Self::Absent => Kind::HostNotReady,
            Self::Metadata(error) => error.kind(),
            Self::NotTheOwner { .. } => Kind::Refused,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Absent => vec!["Install it with `sudo banger system install --owner USER`.".into()],
            Self::Metadata(error) => error.hints(),
            Self::NotTheOwner { .. } => {
                vec!["It is started by the service manager: `sudo systemctl start bangerd`.".into()]
            }
        }
    }
}

/// The installation, if `uid` is its owner.
///
/// # Errors
/// [`InstallationError`].
pub fn admit(found: Result<Option<Install>, InstallError>, uid: u32) -> Result<Install, InstallationError> {
    let install = found?.ok_or(InstallationError::Absent)?;
    if install.owner.uid == uid {
        return Ok(install);
    }
    let (owner, owner_uid) = (install.owner.name, install.owner.uid);
    Err(InstallationError::NotTheOwner { uid, owner, owner_uid })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use banger_proto::install::{Build, Network, Owner};

    use super::*;

    #[test]
    fn only_the_owner_is_admitted_root_included() {
        let install = || Install {
            owner: Owner { name: "dev".into(), uid: 1000, gid: 1000, home: "/home/dev".into() },
            build: Build { version: "1".into(), commit: "c".into(), installed_unix_s: 1, updated_unix_s: 1 },
            network: Network::default(),
        };
        assert_eq!(admit(Ok(Some(install())), 1000).unwrap(), install());
        for uid in [0, 1001] {
            let error = admit(Ok(Some(install())), uid).unwrap_err();
            assert_eq!(error.kind(), Kind::Refused);
            assert!(error.to_string().contains("belongs to dev"), "{error}");
        }
        let absent = admit(Ok(None), 1000).unwrap_err();
        assert!(absent.hints()[0].contains("`sudo banger system install"), "{:?}", absent.hints());
    }
}
