//! The distribution's OpenSSH server on loopback with keys of its own, for measurements through a real connection.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait::until;

/// One server; ends when dropped.
pub struct Sshd {
    place: PathBuf,
    port: u16,
    child: Child,
}

impl Sshd {
    /// Starts it with its files in `place`.
    ///
    /// # Panics
    /// If OpenSSH is not installed or does not come up.
    pub fn start(place: &Path) -> Self {
        for key in ["host", "client"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(place.join(key))
                .status()
                .expect("ssh-keygen runs");
            assert!(made.success(), "ssh-keygen failed");
        }
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).expect("loopback").port();
        let at = place.display();
        // Another home: what an account's shell does when it starts is not what is measured.
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {at}/host\nAuthorizedKeysFile {at}/client.pub\nPidFile none\n\
             UsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\nPrintMotd no\nSetEnv HOME={at}\n"
        );
        std::fs::write(place.join("sshd_config"), config).expect("the place is writable");
        let known = std::fs::read_to_string(place.join("host.pub")).expect("the key was made");
        std::fs::write(place.join("known_hosts"), format!("[127.0.0.1]:{port} {known}")).expect("writable");
        // Its privilege separation directory, normally made by the service; only root needs and can make it.
        let _ = std::fs::create_dir_all("/run/sshd");
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(place.join("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sshd is installed");
        until("sshd listens", Duration::from_secs(20), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { place: place.to_owned(), port, child }
    }

    /// `ssh` with everything but the destination, as one would type it; AES-GCM is its fastest cipher here.
    pub fn ssh(&self) -> String {
        let at = self.place.display();
        format!(
            "ssh -p {} -i {at}/client -o UserKnownHostsFile={at}/known_hosts -o BatchMode=yes -c aes256-gcm@openssh.com",
            self.port
        )
    }

    /// The same through one connection that all who name this socket share.
    pub fn shared_ssh(&self, socket: &Path) -> String {
        let socket = socket.display();
        format!("{} -o ControlMaster=auto -o ControlPersist=60 -o ControlPath={socket}", self.ssh())
    }

    /// Who to be there.
    pub fn user(&self) -> String {
        let output = Command::new("id").arg("-un").output().expect("id runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The arguments our own program takes for it.
    pub fn for_sender(&self) -> String {
        let at = self.place.display();
        format!("127.0.0.1:{} {} {at}/host.pub {at}/client", self.port, self.user())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
