//! Commands in the test host, by ssh with the key of its build; its host key is pinned.
//!
//! One connection per user is kept open and shared: under emulation each handshake costs seconds.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::bounded;
use crate::error::{Error, Result};
use crate::host::image::Image;
use crate::scenario::User;

/// The way in.
#[derive(Debug)]
pub struct Reach {
    /// On loopback.
    pub port: u16,
    key: PathBuf,
    known_hosts: PathBuf,
    // In /tmp: a socket's path must fit 108 bytes.
    sockets: TempDir,
}

impl Reach {
    /// To the host that has its port 22 at `port`.
    pub fn new(port: u16, image: &Image) -> Result<Self> {
        let sockets = tempfile::Builder::new().prefix("smoke-").tempdir_in("/tmp");
        let sockets = sockets.map_err(Error::file("make a directory in", "/tmp"))?;
        Ok(Self { port, key: image.file("key"), known_hosts: image.file("known_hosts"), sockets })
    }

    /// Where QEMU's monitor listens.
    pub fn monitor(&self) -> PathBuf {
        self.sockets.path().join("monitor")
    }

    /// A shell command line run in the host, without a terminal, ended after `limit`.
    pub fn command(&self, user: User, limit: Duration, script: &str) -> Command {
        let mut command = bounded::command("ssh", limit);
        self.options(&mut command, user);
        command.arg(script);
        command
    }

    /// A person's shell.
    pub fn interactive(&self, user: User) -> Command {
        let mut command = Command::new("ssh");
        command.arg("-t");
        self.options(&mut command, user);
        command
    }

    /// Closes the kept connections.
    pub fn close(&self) {
        for user in [User::Root, User::Dev] {
            let mut command = bounded::command("ssh", Duration::from_secs(10));
            command.args(["-O", "exit"]);
            self.options(&mut command, user);
            // There may be none; the machine's end closes it anyway.
            let _ = command.output();
        }
    }

    fn options(&self, command: &mut Command, user: User) {
        // No configuration of the person at the keyboard: it could name another key or a proxy.
        command.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"]);
        command.args(["-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=4"]);
        command.args(["-o", "ControlMaster=auto", "-o", "ControlPersist=yes", "-o", "HostKeyAlias=banger-smoke"]);
        command.arg("-o").arg(format!("ControlPath={}/%r", self.sockets.path().display()));
        command.arg("-o").arg(format!("UserKnownHostsFile={}", self.known_hosts.display()));
        command.arg("-i").arg(&self.key);
        command.args(["-p", &self.port.to_string(), &format!("{}@127.0.0.1", user.name())]);
    }
}
