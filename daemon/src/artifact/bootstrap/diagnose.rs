//! What mmdebstrap's last messages mean and what helps. Pure.

use std::fmt;

use banger_proto::failure::Kind;

/// The causes worth telling apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The user has no range in /etc/subuid or /etc/subgid.
    NoSubordinateIds,
    /// newuidmap is not installed.
    NoUidmap,
    /// The host forbids user namespaces to ordinary users.
    NamespacesForbidden,
    /// A mirror cannot be resolved or reached.
    NoNetwork,
    /// The distribution's keys are not on this host.
    NoKeyring,
    /// The disk is full.
    DiskFull,
    /// The suite or a package does not exist.
    NotInArchive,
    /// Anything else.
    Unknown,
}

/// Reads the tail of the messages. The first match in this order wins: a full disk also breaks downloads.
pub(super) fn diagnose(tail: &[String]) -> Cause {
    const SIGNS: [(Cause, &[&str]); 7] = [
        (Cause::DiskFull, &["No space left on device", "Disk quota exceeded", "You don't have enough free space"]),
        (
            Cause::NoSubordinateIds,
            &["failed to parse /etc/subuid", "/etc/subuid is empty", "/etc/subuid doesn't exist"],
        ),
        (Cause::NoUidmap, &["cannot find newuidmap", "newuidmap: not found"]),
        (
            Cause::NamespacesForbidden,
            &[
                "unprivileged_userns_clone",
                "unshare failed",
                "unshare syscall failed",
                "newuidmap: write to uid_map failed",
            ],
        ),
        (Cause::NoKeyring, &["NO_PUBKEY", "is not signed", "public key is not available", "keyring"]),
        (
            Cause::NoNetwork,
            &[
                "Temporary failure resolving",
                "Could not resolve",
                "Could not connect",
                "Unable to connect",
                "Network is unreachable",
                "Connection timed out",
                "Connection failed",
            ],
        ),
        (
            Cause::NotInArchive,
            &["does not have a Release file", "Unable to locate package", "has no installation candidate"],
        ),
    ];
    SIGNS
        .iter()
        .find(|(_, signs)| tail.iter().any(|line| signs.iter().any(|sign| line.contains(sign))))
        .map_or(Cause::Unknown, |(cause, _)| *cause)
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSubordinateIds => "the user has no range of subordinate ids",
            Self::NoUidmap => "newuidmap is not installed",
            Self::NamespacesForbidden => "this host does not let the user make user namespaces",
            Self::NoNetwork => "the package mirror cannot be reached",
            Self::NoKeyring => "the archive's signature cannot be checked",
            Self::DiskFull => "the disk is full",
            Self::NotInArchive => "the suite or a package is not in the archive",
            Self::Unknown => "it ended with an error",
        })
    }
}

impl Cause {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::NoSubordinateIds
            | Self::NoUidmap
            | Self::NamespacesForbidden
            | Self::NoKeyring
            | Self::NoNetwork
            | Self::DiskFull => Kind::HostNotReady,
            Self::NotInArchive => Kind::NotFound,
            Self::Unknown => Kind::Failed,
        }
    }

    pub(super) fn hints(self) -> Vec<String> {
        let hint = match self {
            Self::NoSubordinateIds => {
                "Give yourself a range with `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER`."
            }
            Self::NoUidmap => "Run `sudo apt-get install uidmap`.",
            Self::NamespacesForbidden => {
                "Allow user namespaces with `sudo sysctl -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0` (whichever of them exists)."
            }
            Self::NoKeyring => "Run `sudo apt-get install debian-archive-keyring`.",
            Self::NoNetwork => {
                "Check that the host reaches its mirrors with `sudo apt-get update`; a proxy goes into the variable http_proxy."
            }
            Self::DiskFull => "See what is full with `df -h /var/tmp ~`.",
            Self::NotInArchive | Self::Unknown => return Vec::new(),
        };
        vec![hint.to_owned()]
    }
}
