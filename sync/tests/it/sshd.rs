//! The distribution's OpenSSH server on loopback, with its own configuration, keys and port.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use banger_sync::ssh::{Connection, SshTarget, ensure_identity};

const PROGRAM: &str = "/usr/sbin/sshd";

pub struct Sshd {
    place: tempfile::TempDir,
    child: Child,
    pub target: SshTarget,
}

impl Sshd {
    /// `None`, with the reason printed, where there is no server program.
    pub fn start() -> Option<Self> {
        if !PathBuf::from(PROGRAM).exists() {
            eprintln!("skipped: {PROGRAM} is not installed");
            return None;
        }
        let place = tempfile::tempdir().unwrap();
        let host_key = ensure_identity(&place.path().join("host/key")).unwrap();
        let identity = place.path().join("client/key");
        let authorized = ensure_identity(&identity).unwrap();
        std::fs::write(place.path().join("authorized_keys"), format!("{authorized}\n")).unwrap();
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        if user.trim() == "root" {
            // Its privilege separation directory, normally made by the service.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        for _ in 0..20 {
            let address = free_address();
            if let Some(child) = spawn(&place, address) {
                let target = SshTarget { address, user: user.trim().into(), host_key, identity };
                return Some(Self { place, child, target });
            }
        }
        panic!("no sshd came up: {}", std::fs::read_to_string(place.path().join("log")).unwrap());
    }

    pub async fn connect(&self) -> Connection {
        match Connection::connect(&self.target).await {
            Ok(connection) => connection,
            Err(error) => {
                panic!("{error:?}\n{}", std::fs::read_to_string(self.place.path().join("log")).unwrap())
            }
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

/// A running server that greets, or nothing if the port was taken meanwhile.
fn spawn(place: &tempfile::TempDir, address: SocketAddr) -> Option<Child> {
    let dir = place.path().display();
    // Another home: what an account's shell reads when it starts is this machine's, and can take longer than a test.
    let config = format!(
        "ListenAddress {address}\nHostKey {dir}/host/key\nAuthorizedKeysFile {dir}/authorized_keys\nPidFile none\n\
         UsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         PermitRootLogin prohibit-password\nPrintMotd no\nMaxSessions 100\nSetEnv HOME={dir}\n"
    );
    let config_path = place.path().join("sshd_config");
    std::fs::write(&config_path, config).unwrap();
    let mut child = Command::new(PROGRAM)
        .args(["-D", "-E"])
        .arg(place.path().join("log"))
        .arg("-f")
        .arg(config_path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        let mut greeting = [0_u8; 4];
        let greets = TcpStream::connect_timeout(&address, Duration::from_secs(1)).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.read_exact(&mut greeting)
        });
        if greets.is_ok() && greeting == *b"SSH-" {
            return Some(child);
        }
        std::thread::yield_now();
    }
    child.kill().ok();
    child.wait().unwrap();
    None
}
