//! A running `banger-guest serve` with fresh keys, and the ways to reach it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use banger_proto::guest::v1::Seed;
use prost::Message;
use rand::RngCore;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;

pub struct Server {
    pub directory: tempfile::TempDir,
    pub address: SocketAddr,
    pub key: PrivateKey,
    child: Child,
}

pub fn fresh_key() -> PrivateKey {
    let mut bytes = [0u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    PrivateKey::from(Ed25519Keypair::from_seed(&bytes))
}

impl Server {
    pub fn start() -> Self {
        Self::start_as("")
    }

    /// Of an image whose configuration names this user.
    pub fn start_as(user: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = fresh_key();
        let seed = Seed {
            authorized_keys: vec![key.public_key().to_openssh().unwrap()],
            ssh_host_key: fresh_key().to_openssh(LineEnding::LF).unwrap().to_string(),
            environment: vec!["FROM_IMAGE=yes".into()],
            user: user.to_owned(),
            working_directory: directory.path().to_str().unwrap().into(),
            ..Seed::default()
        };
        let file = directory.path().join("seed.pb");
        std::fs::write(&file, seed.encode_to_vec()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_banger-guest-program"))
            .arg("serve")
            .arg(&file)
            .arg("127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let server = Self { address: line.trim().parse().expect(&line), directory, key, child };
        server.write_key("id", &server.key);
        server
    }

    pub fn write_key(&self, name: &str, key: &PrivateKey) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, key.to_openssh(LineEnding::LF).unwrap()).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// OpenSSH's client with nothing of the user's configuration.
    pub fn openssh(&self, key: &Path) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        command.args(["-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-i"]).arg(key);
        command.args(["-p", &self.address.port().to_string()]).env_remove("SSH_AUTH_SOCK");
        command
    }

    /// ssh to root with the right key; the caller adds the command.
    pub fn ssh(&self) -> Command {
        let mut command = self.openssh(&self.path("id"));
        command.arg("root@127.0.0.1");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// 100 MB nobody can guess or compress.
pub fn big() -> &'static [u8] {
    static BIG: OnceLock<Vec<u8>> = OnceLock::new();
    BIG.get_or_init(|| {
        let mut bytes = vec![0u8; 100_000_000];
        rand::rng().fill_bytes(&mut bytes);
        bytes
    })
}

/// Waits until `holds`; panics with `what` after a generous limit.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// True while a process whose command line contains `mark` exists.
pub fn is_running(mark: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.any(|line| String::from_utf8_lossy(&line).contains(mark))
}
