//! One command on a terminal of its own, as a person would have it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::env::Env;
use crate::wait::poll;

/// A command and the side of its terminal where the person sits.
#[derive(Debug)]
pub struct Pty {
    master: File,
    child: Child,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Pty {
    /// Starts banger with `args` on a terminal of this many rows and columns.
    ///
    /// # Panics
    /// If the machine gives no pseudo-terminal.
    pub fn start(env: &Env, args: &[&str], size: (u16, u16)) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pty");
        grantpt(&master).expect("a pty");
        unlockpt(&master).expect("a pty");
        let name = ptsname(&master, Vec::new()).expect("a pty");
        let path = std::path::PathBuf::from(name.to_str().expect("ASCII"));
        env.account().own(&path);
        let open = || {
            let terminal: OwnedFd = File::options().read(true).write(true).open(&path).expect("our pty").into();
            Stdio::from(terminal)
        };
        // setsid(1) makes the terminal the controlling one, which needs code between fork and exec otherwise.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(env.program("banger")).args(args);
        command.env_clear().envs(env.variables()).env("TERM", "xterm").current_dir(env.home());
        env.account().apply(&mut command);
        set_size(&master, size);
        let child = command.stdin(open()).stdout(open()).stderr(open()).spawn().expect("setsid starts");
        let screen = Arc::new(Mutex::new(Vec::new()));
        let master = File::from(master);
        let (mut reader, sink) = (master.try_clone().expect("a descriptor"), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                sink.lock().expect("no reader panics").extend_from_slice(&buffer[..length]);
            }
        });
        Self { master, child, screen }
    }

    /// Types.
    pub fn type_text(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("the terminal is open");
    }

    /// Changes the window's size.
    pub fn resize(&self, size: (u16, u16)) {
        set_size(&self.master, size);
    }

    /// Everything shown so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("no reader panics")).into_owned()
    }

    /// Waits until `text` was shown.
    ///
    /// # Panics
    /// With the screen, if it never is.
    pub fn expect(&self, text: &str, limit: Duration) {
        let shown = poll(limit, || self.screen().contains(text).then_some(()));
        assert!(shown.is_some(), "{text:?} was never shown; the screen:\n{}", self.screen());
    }

    /// Waits until `text` was shown behind the first `mark`.
    ///
    /// # Panics
    /// With the screen, if it never is.
    pub fn expect_behind(&self, mark: &str, text: &str, limit: Duration) {
        let behind = || self.screen().split_once(mark).is_some_and(|(_, behind)| behind.contains(text)).then_some(());
        assert!(
            poll(limit, behind).is_some(),
            "{text:?} was never shown behind {mark:?}; the screen:\n{}",
            self.screen()
        );
    }

    /// Waits for the end and gives the exit code.
    ///
    /// # Panics
    /// With the screen, if it does not end.
    pub fn finish(mut self, limit: Duration) -> i32 {
        let status = poll(limit, || self.child.try_wait().expect("our child"));
        let Some(status) = status else {
            let _ = self.child.kill();
            panic!("the command on the terminal does not end; the screen:\n{}", self.screen());
        };
        status.code().unwrap_or(-1)
    }
}

fn set_size(terminal: impl std::os::fd::AsFd, (rows, columns): (u16, u16)) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
        .expect("a terminal has a size");
}
