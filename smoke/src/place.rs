//! Where scenarios run: in the host in QEMU, or here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::bounded;
use crate::error::{Error, Result};
use crate::host::machine::{Machine, PAYLOAD_MOUNT};
use crate::layout::Layout;
use crate::scenario::User;

/// Where scenarios run.
#[derive(Debug)]
pub enum Place {
    /// In the host in QEMU.
    Virtual(Box<Machine>),
    /// On this machine.
    Here {
        /// The ordinary user.
        owner: String,
        /// The payload.
        payload: TempDir,
    },
}

impl Place {
    /// This machine, if it is a supported host and we are its administrator.
    pub fn here(owner: &str) -> Result<Self> {
        let lacks = |reason| Err(Error::Unsupported { reason });
        if !Path::new("/run/systemd/system").is_dir() {
            return lacks("systemd does not run it");
        }
        if !Path::new("/dev/kvm").exists() {
            return lacks("it has no /dev/kvm");
        }
        if !geteuid().is_root() {
            return lacks("the scenarios install system services, and you are not root");
        }
        // Not under target/: the owner may not be able to enter the directories above it.
        let payload = tempfile::Builder::new().prefix("banger-smoke-").tempdir_in("/var/tmp");
        let payload = payload.map_err(Error::file("make a directory in", "/var/tmp"))?;
        fs::set_permissions(payload.path(), PermissionsExt::from_mode(0o755))
            .map_err(Error::file("open", payload.path()))?;
        Ok(Self::Here { owner: owner.to_owned(), payload })
    }

    /// Where the scenarios find the payload.
    pub fn payload(&self) -> PathBuf {
        match self {
            Self::Virtual(_) => PathBuf::from(PAYLOAD_MOUNT),
            Self::Here { payload, .. } => payload.path().to_path_buf(),
        }
    }

    /// The ordinary user's name.
    pub fn owner(&self) -> &str {
        match self {
            Self::Virtual(_) => User::Dev.name(),
            Self::Here { owner, .. } => owner,
        }
    }

    /// Restarts the host, and returns when systemd has started everything again.
    pub fn reboot(&self, layout: &Layout) -> Result<()> {
        match self {
            Self::Virtual(machine) => machine.reboot(layout),
            // Nobody's machine is rebooted for a test.
            Self::Here { .. } => Err(Error::Unsupported { reason: "it is not rebooted for a scenario" }),
        }
    }

    /// A shell command line there, ended after `limit`.
    pub fn command(&self, user: User, limit: Duration, script: &str) -> Command {
        match (self, user) {
            (Self::Virtual(machine), _) => machine.reach.command(user, limit, script),
            (Self::Here { .. }, User::Root) => {
                let mut command = bounded::command("bash", limit);
                command.args(["-c", script]);
                command
            }
            (Self::Here { owner, .. }, User::Dev) => {
                let mut command = bounded::command("runuser", limit);
                // What a login session has and runuser does not set.
                let script = format!("export XDG_RUNTIME_DIR=/run/user/$(id -u); {script}");
                command.args(["-l", owner, "-c", &script]);
                command
            }
        }
    }
}
