//! The files of one VM in system mode, and which build of an image or kernel a path belongs to. Pure.
//!
//! The root helper finds the same files by the same rules, from ids alone.

use std::path::{Path, PathBuf};

use banger_proto::failure::Kind;
use banger_proto::names::{BuildId, VmId};

use crate::platform::{PlatformError, VmPlan, error};

/// Below the helper's directory of jails: the jailer's own name for its program.
const JAILED_PROGRAM: &str = "firecracker";

/// In a VM's directory.
pub const METRICS: &str = "metrics.json";

/// Paths of one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Raw ext4.
    pub work_disk: PathBuf,
    /// Exists only while the VMM starts: it holds the guest's private key.
    pub initrd: PathBuf,
    /// What the VMM is told.
    pub config: PathBuf,
    /// What the guest wrote to its serial port, and the VMM to its log, since the VMM started.
    pub console: PathBuf,
    /// The same of the start before.
    pub previous_console: PathBuf,
    /// What the VMM counts: one JSON object a line, each minute and at its end.
    pub metrics: PathBuf,
    /// The VMM's end of the guest's vsock.
    pub vsock_socket: PathBuf,
}

impl Files {
    /// Names only, touches nothing. `jails` is the helper's directory of jails.
    pub fn of(plan: &VmPlan, jails: &Path) -> Self {
        let durable = |name: &str| plan.directory.join(name);
        let root = jail_root(jails, &plan.id);
        Self {
            work_disk: durable("work.ext4"),
            initrd: durable("initrd.cpio"),
            config: durable("config.json"),
            console: durable("console.log"),
            previous_console: durable("console.log.1"),
            metrics: durable(METRICS),
            vsock_socket: root.join("vsock.sock"),
        }
    }
}

fn jail_root(jails: &Path, id: &VmId) -> PathBuf {
    jails.join(JAILED_PROGRAM).join(id.as_str()).join("root")
}

/// One build of something in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Which build.
    pub build: BuildId,
}

/// `…/<name>@<build>/<file>` → name and build.
///
/// # Errors
/// [`Kind::Internal`] if the path is no file of a store.
pub fn stored(file: &Path) -> Result<Stored, PlatformError> {
    let directory = file.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let parts = directory.and_then(|name| name.rsplit_once('@'));
    parts
        .and_then(|(name, build)| Some(Stored { name: name.to_owned(), build: build.parse().ok()? }))
        .ok_or_else(|| error::plain(Kind::Internal, format!("{} is no file of a store", file.display())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_read_from_its_directory() {
        let build = "01a20d60bf9875dcb3d4f0abd3eb6fdd";
        let found = stored(Path::new(&format!("/s/images/debian-12@{build}/rootfs.ext4"))).unwrap();
        assert_eq!((found.name.as_str(), found.build.as_str()), ("debian-12", build));
        for bad in ["/s/images/debian/rootfs.ext4", "/s/images/debian@new/rootfs.ext4", "rootfs.ext4", "/"] {
            assert_eq!(stored(Path::new(bad)).unwrap_err().kind, Kind::Internal, "{bad}");
        }
    }

    #[test]
    fn sockets_in_a_jail_fit_the_limit_of_their_kind() {
        let id = "f".repeat(32).parse().unwrap();
        let jails = Path::new(banger_proto::install::HELPER_STATE_DIRECTORY).join("jail");
        let socket = jail_root(&jails, &id).join("vsock.sock");
        assert!(socket.as_os_str().len() <= 107, "{}", socket.display());
    }
}
