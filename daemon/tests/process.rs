//! The program itself: one at a time, telling how its start went, private, and leaving when nobody needs it.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(30);

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("run")).unwrap();
        Self(home)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Starts bangerd; its ready line goes to the file `ready`.
    fn start(&self, ready: &str, arguments: &[&str]) -> Running {
        // The shell opens descriptor 3; doing it here would need unsafe code.
        let child = Command::new("sh")
            .args(["-c", "exec \"$0\" --rootless --ready-fd 3 \"$@\" 3>\"$READY\""])
            .arg(env!("CARGO_BIN_EXE_bangerd"))
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.0.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("READY", self.path(ready))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Running { child, ready: self.path(ready) }
    }

    fn socket(&self) -> PathBuf {
        self.path("run/banger/bangerd.sock")
    }

    fn database(&self) -> PathBuf {
        self.path(".local/state/banger/bangerd.db")
    }
}

struct Running {
    child: Child,
    ready: PathBuf,
}

impl Running {
    fn ready_line(&self) -> serde_json::Value {
        until("the ready line", || std::fs::read_to_string(&self.ready).is_ok_and(|text| text.ends_with('\n')));
        serde_json::from_str(&std::fs::read_to_string(&self.ready).unwrap()).unwrap()
    }

    fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        until("the exit", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone in every test that passes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut there: impl FnMut() -> bool) {
    let began = Instant::now();
    while !there() {
        assert!(began.elapsed() < LONG, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn it_serves_privately_and_leaves_no_socket_behind() {
    let home = Home::new();
    let mut daemon = home.start("ready", &[]);
    let line = daemon.ready_line();
    assert_eq!(line["ready"], true);
    assert_eq!(line["socket"], home.socket().to_str().unwrap());
    assert_eq!(mode(&home.socket()), 0o600);
    assert_eq!(mode(home.socket().parent().unwrap()), 0o700);
    assert_eq!(mode(&home.database()), 0o600);
    assert_eq!(mode(home.database().parent().unwrap()), 0o700);
    daemon.terminate();
    assert_eq!(daemon.exit_code(), Some(0));
    assert!(!home.socket().exists());
}

#[test]
fn a_second_one_is_refused_and_told_who_is_first() {
    let home = Home::new();
    let mut first = home.start("ready", &[]);
    first.ready_line();
    let mut second = home.start("ready-2", &[]);
    let failure = &second.ready_line()["failure"];
    assert_eq!(failure["kind"], "conflict");
    let expected = format!("another bangerd is already running (pid {})", first.child.id());
    assert_eq!(failure["chain"][0], expected);
    assert_eq!(second.exit_code(), Some(4));
    assert!(home.socket().exists(), "the first one still serves");
    first.terminate();
    assert_eq!(first.exit_code(), Some(0));
}

#[test]
fn one_that_was_killed_is_followed_by_another() {
    let home = Home::new();
    let mut first = home.start("ready", &[]);
    first.ready_line();
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert!(home.socket().exists(), "nobody cleaned up");
    let mut second = home.start("ready-2", &[]);
    assert_eq!(second.ready_line()["ready"], true);
    second.terminate();
    assert_eq!(second.exit_code(), Some(0));
}

#[test]
fn a_corrupted_store_is_told_and_left_as_it_is() {
    let home = Home::new();
    std::fs::create_dir_all(home.database().parent().unwrap()).unwrap();
    std::fs::write(home.database(), "precious ".repeat(1000)).unwrap();
    let mut daemon = home.start("ready", &[]);
    let failure = &daemon.ready_line()["failure"];
    assert_eq!(failure["kind"], "host_not_ready");
    assert!(failure["chain"][0].as_str().unwrap().contains(home.database().to_str().unwrap()), "{failure}");
    assert!(failure["hints"][0].as_str().unwrap().contains("mv "), "{failure}");
    assert_eq!(daemon.exit_code(), Some(7));
    assert_eq!(std::fs::read_to_string(home.database()).unwrap(), "precious ".repeat(1000));
    assert!(!home.socket().exists());
}

#[test]
fn an_idle_one_leaves() {
    let home = Home::new();
    let mut daemon = home.start("ready", &["--idle-exit-seconds", "1"]);
    daemon.ready_line();
    assert_eq!(daemon.exit_code(), Some(0));
}

#[test]
fn a_connection_keeps_an_idle_one_here() {
    let home = Home::new();
    let mut daemon = home.start("ready", &["--idle-exit-seconds", "1"]);
    daemon.ready_line();
    let connection = std::os::unix::net::UnixStream::connect(home.socket()).unwrap();
    let began = Instant::now();
    until("two idle periods", || began.elapsed() > Duration::from_millis(2500));
    assert_eq!(daemon.child.try_wait().unwrap(), None);
    drop(connection);
    assert_eq!(daemon.exit_code(), Some(0));
}

#[test]
fn a_service_without_an_installation_says_how_to_install() {
    if Path::new(banger_proto::install::INSTALL_FILE).exists() {
        std::io::Write::write_all(&mut std::io::stderr(), b"skipped: banger is installed on this host\n").unwrap();
        return;
    }
    let home = Home::new();
    let output = Command::new(env!("CARGO_BIN_EXE_bangerd"))
        .arg("--system")
        .env_clear()
        .env("HOME", home.0.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("`sudo banger system install --owner USER`"), "{said}");
    assert!(!home.path(".local").exists(), "nothing is made before the owner is known");
}
