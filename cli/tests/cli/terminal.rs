//! Sessions on a terminal: it is passed through, follows its size, and is left as it was found.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::environment::{Environment, until};
use crate::session::with_guest;

/// A terminal with `banger` on it.
struct Pty {
    controller: File,
    terminal: OwnedFd,
    child: Child,
    seen: Arc<Mutex<String>>,
}

impl Pty {
    fn start(environment: &Environment, words: &[&str]) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&controller).expect("ours");
        unlockpt(&controller).expect("ours");
        let path = ptsname(&controller, Vec::new()).expect("it has a name");
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let terminal = rustix::fs::open(path.as_c_str(), flags, rustix::fs::Mode::empty()).expect("ours");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&controller, size).expect("ours");
        let stdio = || Stdio::from(terminal.try_clone().expect("a descriptor"));
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(env!("CARGO_BIN_EXE_banger")).args(words);
        environment.confine(&mut command);
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().expect("setsid runs");
        let seen = Arc::new(Mutex::new(String::new()));
        let controller = File::from(controller);
        let mut reader = controller.try_clone().expect("a descriptor");
        let record = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]);
                record.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        Self { controller, terminal, child, seen }
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn type_text(&mut self, text: &str) {
        self.controller.write_all(text.as_bytes()).expect("the terminal takes it");
    }

    #[track_caller]
    fn expect(&self, text: &str) {
        until(&format!("{text:?} in {:?}", self.seen()), || self.seen().contains(text));
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(self.terminal.as_fd()).expect("a terminal").local_modes.contains(LocalModes::ICANON)
    }

    fn finish(&mut self) -> i32 {
        until("it ends", || self.child.try_wait().expect("our child").is_some());
        self.child.wait().expect("our child").code().unwrap_or(-1)
    }
}

#[test]
fn a_shell_is_passed_through_and_the_terminal_left_as_it_was() {
    let Some((environment, _daemon, _sshd)) = with_guest() else { return };
    let mut terminal = Pty::start(&environment, &["vm", "ssh", "box"]);
    // What is typed is echoed: each answer is written so that its question does not contain it.
    terminal.type_text("echo si''ze $(stty size)\r");
    terminal.expect("size 24 80");
    assert!(terminal.is_raw());
    let size = Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal.controller, size).expect("ours");
    terminal.type_text("while [ \"$(stty size)\" != '40 100' ]; do sleep 0.1; done; echo re''sized\r");
    terminal.expect("resized");
    // Ctrl-C is tried where it matters, against the guest's own server: `e2e::terminal`.
    terminal.type_text("exit 5\r");
    assert_eq!(terminal.finish(), 5);
    assert!(!terminal.is_raw());
    terminal.expect("VM box is still running: `banger vm ssh box`");
}

#[test]
fn a_command_can_have_the_terminal() {
    let Some((environment, _daemon, _sshd)) = with_guest() else { return };
    let words = ["vm", "exec", "-t", "box", "--guest-path", "/tmp", "--", "sh", "-c", "tty; exit 6"];
    let mut terminal = Pty::start(&environment, &words);
    terminal.expect("/dev/pts/");
    assert_eq!(terminal.finish(), 6);
    assert!(!terminal.is_raw());
}

#[test]
fn a_terminated_session_leaves_the_terminal_as_it_was() {
    let Some((environment, _daemon, _sshd)) = with_guest() else { return };
    let mut terminal = Pty::start(&environment, &["vm", "ssh", "box"]);
    terminal.type_text("echo re''ady $PPID\r");
    terminal.expect("ready");
    assert!(terminal.is_raw());
    let banger = only_child(&terminal.child);
    rustix::process::kill_process(banger, Signal::TERM).expect("our grandchild");
    assert_eq!(terminal.finish(), 143);
    assert!(!terminal.is_raw());
}

/// The one process `setsid --wait` started, or itself where it needed no fork.
fn only_child(child: &Child) -> rustix::process::Pid {
    let own = rustix::process::Pid::from_child(child);
    let path = format!("/proc/{0}/task/{0}/children", own.as_raw_nonzero());
    let listed = std::fs::read_to_string(path).unwrap_or_default();
    listed.split_whitespace().next().and_then(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)).unwrap_or(own)
}

#[test]
fn stages_are_drawn_on_a_terminal_and_leave_no_litter() {
    let environment = Environment::new();
    let daemon = crate::daemon::Daemon::start(&environment);
    let mut terminal = Pty::start(&environment, &["vm", "create", "--name", "box"]);
    assert_eq!(terminal.finish(), 0);
    terminal.expect("spec: ");
    terminal.expect("box\r\n");
    assert!(daemon.was_called("create box"));

    daemon.state().hang_at.insert("boot".into());
    let mut terminal = Pty::start(&environment, &["vm", "create", "--name", "second"]);
    terminal.expect("stage boot");
    terminal.type_text("\u{3}");
    assert_eq!(terminal.finish(), 130);
    terminal.expect("cancelled while creating the VM");
    assert_eq!(daemon.names(), ["box"]);
}

#[test]
fn prune_asks_on_a_terminal() {
    let environment = Environment::new();
    let daemon = crate::daemon::Daemon::start(&environment);
    daemon.add("off", banger_proto::v1::VmState::Stopped);
    let mut terminal = Pty::start(&environment, &["vm", "prune"]);
    terminal.expect("delete 1 VMs and their disks? [y/N]");
    terminal.type_text("n\r");
    assert_eq!(terminal.finish(), 130);
    assert_eq!(daemon.names(), ["off"]);
    let mut terminal = Pty::start(&environment, &["vm", "prune"]);
    terminal.expect("[y/N]");
    terminal.type_text("y\r");
    assert_eq!(terminal.finish(), 0);
    assert!(daemon.names().is_empty());
}
