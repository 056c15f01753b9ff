//! The daemon that systemd keeps for the owner of this host's installation. Never started, never replaced from here:
//! only an administrator's `systemctl` and `banger system install` do that.

use std::io;
use std::path::PathBuf;

use banger_proto::failure::{Classified, Kind};
use banger_proto::install::{Install, RUNTIME_DIRECTORY};
use banger_proto::v1::GetVersionResponse;
use banger_proto::version::{COMMIT, VERSION};
use tokio::net::UnixStream;

use super::{Client, connect_running, is_same_build};
use crate::error::CliError;

/// Its unit.
pub const UNIT: &str = "bangerd.service";

/// Why it cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstalledError {
    /// It belongs to somebody else.
    #[error("the banger installed on this host belongs to {owner}, not to uid {uid}")]
    NotOwner {
        /// Login name.
        owner: String,
        /// Who asks.
        uid: u32,
    },
    /// Nobody listens.
    #[error("bangerd is not running: nobody listens at {}", socket.display())]
    Down {
        /// Where it would.
        socket: PathBuf,
    },
}

impl Classified for InstalledError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotOwner { .. } => Kind::Refused,
            Self::Down { .. } => Kind::Unreachable,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotOwner { owner, uid: 0 } => {
                vec![format!("VMs belong to their owner; run it as that user: `sudo -u {owner} banger …`.")]
            }
            Self::NotOwner { .. } => vec!["Use VMs of your own, without the services: `banger --rootless …`.".into()],
            Self::Down { .. } => vec![
                format!("Start it with `sudo systemctl start {UNIT}`."),
                format!("See why it ended with `journalctl -u {UNIT} -n 50`."),
            ],
        }
    }
}

/// Its socket.
pub fn socket() -> PathBuf {
    PathBuf::from(RUNTIME_DIRECTORY).join("bangerd.sock")
}

/// VMs are the owner's: their keys lie in the owner's home, and only the owner's processes write there.
///
/// # Errors
/// [`InstalledError::NotOwner`], for root too.
pub fn refuse_unless_owner(install: &Install) -> Result<(), InstalledError> {
    owner_check(install, rustix::process::getuid().as_raw())
}

fn owner_check(install: &Install, uid: u32) -> Result<(), InstalledError> {
    if uid == install.owner.uid {
        return Ok(());
    }
    Err(InstalledError::NotOwner { owner: install.owner.name.clone(), uid })
}

/// A connection, whoever we are.
///
/// # Errors
/// It does not run, or not for us.
pub async fn require(install: &Install) -> Result<Client, CliError> {
    let down = || InstalledError::Down { socket: socket() };
    find(install).await?.ok_or_else(|| down().into())
}

/// The same, if it runs.
///
/// # Errors
/// [`InstalledError::NotOwner`] if the socket is not for us; something is there that does not answer.
pub async fn find(install: &Install) -> Result<Option<Client>, CliError> {
    let socket = socket();
    if let Err(error) = UnixStream::connect(&socket).await
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        // The directory is the owner's alone.
        let uid = rustix::process::getuid().as_raw();
        return Err(InstalledError::NotOwner { owner: install.owner.name.clone(), uid }.into());
    }
    connect_running(&socket).await
}

/// What to tell if the daemon is of another build than this program.
pub fn differs(daemon: &GetVersionResponse) -> Option<String> {
    if is_same_build(daemon) {
        return None;
    }
    Some(format!(
        "bangerd {} (commit {}) is running, this is banger {VERSION} (commit {COMMIT}): \
         bring them together with `sudo banger system install`",
        daemon.version, daemon.commit
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use banger_proto::failure::Failure;
    use banger_proto::install::{Build, Network, Owner};

    use super::*;

    fn install() -> Install {
        Install {
            owner: Owner { name: "dev".into(), uid: 1000, gid: 1000, home: "/home/dev".into() },
            build: Build { version: "1".into(), commit: "c".into(), installed_unix_s: 1, updated_unix_s: 2 },
            network: Network::default(),
        }
    }

    #[test]
    fn only_the_owner_uses_vms_and_root_is_told_how() {
        owner_check(&install(), 1000).unwrap();
        let other = Failure::from_error(&owner_check(&install(), 1001).unwrap_err());
        assert_eq!(other.kind, Kind::Refused);
        assert!(other.chain[0].contains("belongs to dev") && other.hints[0].contains("--rootless"), "{other:?}");
        let root = Failure::from_error(&owner_check(&install(), 0).unwrap_err());
        assert!(root.hints[0].contains("sudo -u dev"), "{root:?}");
    }

    #[test]
    fn another_version_is_told_and_nothing_else() {
        let daemon = |version: &str| GetVersionResponse { version: version.into(), ..GetVersionResponse::default() };
        assert_eq!(differs(&daemon(VERSION)), None);
        assert!(differs(&daemon("0.0.9")).unwrap().contains("0.0.9"));
    }
}
