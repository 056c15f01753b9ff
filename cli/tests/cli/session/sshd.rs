//! The distribution's sshd with a configuration, a key and a port of its own.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use banger_proto::v1::Connection;

use crate::environment::{Environment, until};

/// A running one; ends with the value.
pub struct Sshd {
    child: Child,
    port: u16,
    host_key: String,
}

/// Says why a test did nothing.
pub fn skipped(why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

impl Sshd {
    /// Lets in the key of the environment. `None`, with the reason printed, where there is no sshd.
    pub fn start(environment: &Environment) -> Option<Self> {
        let Some(binary) =
            ["/usr/sbin/sshd", "/usr/bin/sshd"].map(PathBuf::from).into_iter().find(|path| path.is_file())
        else {
            skipped("no sshd on this host");
            return None;
        };
        if rustix::process::getuid().is_root() {
            // Where sshd separates its privileges; a package makes it at boot.
            std::fs::create_dir_all("/run/sshd").expect("root may");
        }
        let directory = environment.path().join("sshd");
        std::fs::create_dir(&directory).expect("a new directory");
        let host_key = directory.join("host_key");
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&host_key).status();
        assert!(made.expect("ssh-keygen runs").success());
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let config = directory.join("config");
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nPrintMotd no\n",
            host_key.display(),
            environment.state().join("ssh/id_ed25519.pub").display(),
        );
        std::fs::write(&config, text).expect("writable");
        let mut command = Command::new(binary);
        command.arg("-D").arg("-e").arg("-f").arg(config).stdin(Stdio::null()).stdout(Stdio::null());
        let log = std::fs::File::create(directory.join("log")).expect("writable");
        let child = command.stderr(log).spawn().expect("sshd starts");
        let public = std::fs::read_to_string(host_key.with_extension("pub")).expect("made");
        let mut sshd = Self { child, port, host_key: public.trim().to_owned() };
        until("sshd listens", || {
            assert!(sshd.child.try_wait().expect("our child").is_none(), "sshd ended");
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(sshd)
    }

    /// As the daemon would tell it.
    pub fn connection(&self) -> Connection {
        let name = Command::new("id").arg("-un").output().expect("id runs").stdout;
        Connection {
            agent_host: "127.0.0.1".into(),
            agent_port: self.port.into(),
            user: String::from_utf8_lossy(&name).trim().to_owned(),
            host_key: self.host_key.clone(),
            ..Connection::default()
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
