//! One process behind one session channel, from its start to its exit status.
//!
//! The status is sent after all output, always, and exactly once. When the client goes away first,
//! the process group is hung up, and killed if it does not follow.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use russh::server::{Handle, Msg};
use russh::{ChannelWriteHalf, Sig};
use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use super::inbox::Outlet;
use super::pump::{self, AtEnd, Stream};
use super::terminal::{self, Master, Size};
use crate::agent::ending::Ending;
use crate::passwd::{Account, UnknownAccount};
use crate::syscalls::{self, Identity, Terminal};

/// How long a process may take to follow a hang-up.
const HANG_UP_GRACE: Duration = Duration::from_secs(5);

/// How long a process may take to end with the machine, and then to be gone once killed.
const END_GRACE: Duration = Duration::from_secs(3);
const KILLED_WITHIN: Duration = Duration::from_millis(500);

/// What shells say for a command that exists but cannot be run.
const NOT_STARTED: i32 = 126;

/// What to start.
#[derive(Debug)]
pub enum Program {
    /// `<shell> -c <command>`.
    Command(Vec<u8>),
    /// A login shell.
    Login,
    /// A program by path (a subsystem).
    Path(PathBuf),
}

/// Everything about the process before it exists.
#[derive(Debug)]
pub struct Launch {
    /// What to start.
    pub program: Program,
    /// Who it runs as.
    pub account: Account,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Directories to start in: the first that exists.
    pub directories: Vec<PathBuf>,
    /// A terminal of that size, or none.
    pub terminal: Option<Size>,
}

/// What the client asks of a running process. The end of this queue means that the client is gone.
#[derive(Debug)]
pub enum Order {
    /// The window has another size.
    Resize(Size),
    /// Deliver a signal.
    Signal(Sig),
}

/// The channel as the process sees it.
pub struct Wire {
    /// Output goes here.
    pub channel: ChannelWriteHalf<Msg>,
    /// For messages the channel half cannot send.
    pub session: Handle,
    /// Input comes from here.
    pub outlet: Outlet,
    /// Orders come from here.
    pub orders: mpsc::UnboundedReceiver<Order>,
}

/// Why nothing is started.
#[derive(Debug)]
pub enum Refusal {
    /// The process cannot be anybody's.
    Unknown(UnknownAccount),
    /// The machine is about to be off.
    Ending,
}

/// Starts the process and stays with it, at the longest to the machine's end; ends with the channel closed.
pub async fn run(launch: Launch, wire: Wire, end: Arc<Ending>) {
    let running = end.session();
    match start(&launch) {
        Ok(started) => attend(started, wire, &end).await,
        Err(error) => {
            let shell = launch.account.shell.display();
            let text = format!("banger-guest: cannot start {shell}: {error}\r\n");
            let _ = wire.channel.extended_data_bytes(1, text.into_bytes()).await;
            finish(&wire.channel, &wire.session, ExitStatus::from_raw(127 << 8)).await;
        }
    }
    drop(running);
}

/// Tells why not; ends with the channel closed.
pub async fn refuse(refusal: Refusal, wire: Wire) {
    let text = match refusal {
        Refusal::Unknown(unknown) => {
            format!("banger-guest: {unknown}\r\nhint: choose who runs it with `--user NAME`, root for instance\r\n")
        }
        Refusal::Ending => "banger-guest: the machine is shutting down\r\n".to_owned(),
    };
    let _ = wire.channel.extended_data_bytes(1, text.into_bytes()).await;
    finish(&wire.channel, &wire.session, ExitStatus::from_raw(NOT_STARTED << 8)).await;
}

struct Started {
    child: Child,
    group: Pid,
    master: Option<Master>,
}

fn start(launch: &Launch) -> io::Result<Started> {
    let shell = &launch.account.shell;
    let mut command = std::process::Command::new(match &launch.program {
        Program::Path(path) => path,
        Program::Command(_) | Program::Login => shell,
    });
    match &launch.program {
        Program::Command(line) => {
            command.arg("-c").arg(std::ffi::OsStr::from_bytes(line));
        }
        Program::Login => {
            let mut name = OsString::from("-");
            name.push(shell.file_name().unwrap_or(std::ffi::OsStr::new("sh")));
            command.arg0(name);
        }
        Program::Path(_) => {}
    }
    command.env_clear().envs(launch.environment.iter().map(|(name, value)| (name, value)));
    if let Some(directory) = launch.directories.iter().find(|directory| directory.is_dir()) {
        command.current_dir(directory);
    }
    let identity = Identity::of(&launch.account);
    let master = match launch.terminal {
        Some(size) => {
            let (master, slave) = terminal::open(size)?;
            command.stdin(copy(&slave)?).stdout(copy(&slave)?).stderr(slave);
            syscalls::in_new_session(&mut command, Terminal::StandardInput, identity);
            Some(master)
        }
        None => {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            syscalls::in_new_session(&mut command, Terminal::Absent, identity);
            None
        }
    };
    // Not killed on drop: the group is hung up in an orderly way below.
    let child = Command::from(command).spawn()?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let group = id.ok_or_else(|| io::Error::other("the process has no id"))?;
    Ok(Started { child, group, master })
}

fn copy(slave: &OwnedFd) -> io::Result<Stdio> {
    Ok(slave.try_clone()?.into())
}

async fn attend(started: Started, wire: Wire, end: &Ending) {
    let Started { mut child, group, master } = started;
    let Wire { channel, session, outlet, mut orders } = wire;
    let (exit, exited) = watch::channel(false);
    let input = match &master {
        Some(master) => tokio::spawn(pump::input(outlet, master.clone(), AtEnd::TypeEndOfFile)),
        None => match child.stdin.take() {
            Some(stdin) => tokio::spawn(pump::input(outlet, stdin, AtEnd::Close)),
            None => tokio::spawn(async {}),
        },
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let outputs = async {
        let main = async {
            match (&master, stdout) {
                (Some(master), _) => pump::output(master.clone(), &channel, Stream::Output, exited.clone()).await,
                (None, Some(stdout)) => pump::output(stdout, &channel, Stream::Output, exited.clone()).await,
                (None, None) => {}
            }
        };
        let errors = async {
            if let Some(stderr) = stderr {
                pump::output(stderr, &channel, Stream::Error, exited.clone()).await;
            }
        };
        tokio::join!(main, errors);
    };
    let status = {
        tokio::pin!(outputs);
        let mut outputs_done = false;
        let mut status = None;
        let at_the_end = end_with_machine(end, group, master.is_some());
        tokio::pin!(at_the_end);
        loop {
            tokio::select! {
                result = child.wait(), if status.is_none() => {
                    status = Some(result.unwrap_or(ExitStatus::from_raw(255 << 8)));
                    let _ = exit.send(true);
                }
                () = &mut outputs, if !outputs_done => outputs_done = true,
                // What still has the output open, and is not the group's, is left to the init.
                () = &mut at_the_end => break,
                order = orders.recv() => match order {
                    Some(Order::Resize(size)) => {
                        if let Some(master) = &master {
                            master.resize(size);
                        }
                    }
                    Some(Order::Signal(signal)) if status.is_none() => {
                        deliver(&signal, master.as_ref().and_then(Master::foreground).unwrap_or(group));
                    }
                    Some(Order::Signal(_)) => {}
                    None => break,
                },
            }
            if outputs_done && status.is_some() {
                break;
            }
        }
        status.filter(|_| outputs_done)
    };
    input.abort();
    match status {
        Some(status) => finish(&channel, &session, status).await,
        None => hang_up(child, group).await,
    }
}

async fn finish(channel: &ChannelWriteHalf<Msg>, session: &Handle, status: ExitStatus) {
    let _ = channel.eof().await;
    match (status.code(), status.signal()) {
        (Some(code), _) => {
            let _ = channel.exit_status(u32::try_from(code).unwrap_or(255)).await;
        }
        (None, signal) => {
            let name = signal.map_or_else(|| Sig::Custom("UNKNOWN".into()), signal_name);
            let id = channel.id();
            let _ = session.exit_signal_request(id, name, status.core_dumped(), String::new(), String::new()).await;
        }
    }
    let _ = channel.close().await;
}

/// Asks the group to end when the machine does, as systemd asks a unit; insists, and returns when that was done.
async fn end_with_machine(end: &Ending, group: Pid, has_terminal: bool) {
    end.begun().await;
    // An interactive shell follows only a hang-up.
    let polite =
        if has_terminal { &[Signal::TERM, Signal::HUP, Signal::CONT][..] } else { &[Signal::TERM, Signal::CONT] };
    for signal in polite {
        let _ = rustix::process::kill_process_group(group, *signal);
    }
    tokio::time::sleep(END_GRACE).await;
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
    tokio::time::sleep(KILLED_WITHIN).await;
}

/// The client is gone: tell the group as a closed terminal would, then insist.
async fn hang_up(mut child: Child, group: Pid) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    let _ = rustix::process::kill_process_group(group, Signal::HUP);
    // A stopped process acts on the hang-up only when it goes on.
    let _ = rustix::process::kill_process_group(group, Signal::CONT);
    if tokio::time::timeout(HANG_UP_GRACE, child.wait()).await.is_err() {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        let _ = child.wait().await;
    }
}

fn deliver(signal: &Sig, group: Pid) {
    let known = match signal {
        Sig::ABRT => Signal::ABORT,
        Sig::ALRM => Signal::ALARM,
        Sig::FPE => Signal::FPE,
        Sig::HUP => Signal::HUP,
        Sig::ILL => Signal::ILL,
        Sig::INT => Signal::INT,
        Sig::KILL => Signal::KILL,
        Sig::PIPE => Signal::PIPE,
        Sig::QUIT => Signal::QUIT,
        Sig::SEGV => Signal::SEGV,
        Sig::TERM => Signal::TERM,
        Sig::USR1 => Signal::USR1,
        Sig::Custom(name) => match name.as_str() {
            "USR2" => Signal::USR2,
            "CONT" => Signal::CONT,
            "STOP" => Signal::STOP,
            "TSTP" => Signal::TSTP,
            "WINCH" => Signal::WINCH,
            _ => return,
        },
    };
    let _ = rustix::process::kill_process_group(group, known);
}

fn signal_name(signal: i32) -> Sig {
    let named = [
        (Signal::ABORT, Sig::ABRT),
        (Signal::ALARM, Sig::ALRM),
        (Signal::FPE, Sig::FPE),
        (Signal::HUP, Sig::HUP),
        (Signal::ILL, Sig::ILL),
        (Signal::INT, Sig::INT),
        (Signal::KILL, Sig::KILL),
        (Signal::PIPE, Sig::PIPE),
        (Signal::QUIT, Sig::QUIT),
        (Signal::SEGV, Sig::SEGV),
        (Signal::TERM, Sig::TERM),
        (Signal::USR1, Sig::USR1),
        (Signal::USR2, Sig::Custom("USR2".into())),
        (Signal::BUS, Sig::Custom("BUS".into())),
        (Signal::TRAP, Sig::Custom("TRAP".into())),
        (Signal::SYS, Sig::Custom("SYS".into())),
        (Signal::XCPU, Sig::Custom("XCPU".into())),
        (Signal::XFSZ, Sig::Custom("XFSZ".into())),
    ];
    let found = named.into_iter().find(|(known, _)| known.as_raw() == signal);
    found.map_or_else(|| Sig::Custom(format!("{signal}")), |(_, name)| name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// How `script` ends with the machine.
    async fn ended(script: &str, has_terminal: bool) -> Option<i32> {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped()).process_group(0);
        let mut child = Command::from(command).spawn().unwrap();
        let group = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        // It says when its traps are set.
        let mut ready = [0];
        tokio::io::AsyncReadExt::read_exact(child.stdout.as_mut().unwrap(), &mut ready).await.unwrap();
        let end = Ending::default();
        let (status, ()) = tokio::join!(child.wait(), async {
            tokio::select! {
                () = end_with_machine(&end, group, has_terminal) => {}
                () = async { end.begin(); std::future::pending().await } => {}
            }
        });
        status.unwrap().signal()
    }

    #[tokio::test]
    async fn sessions_end_with_the_machine_as_politely_as_they_let_themselves() {
        assert_eq!(ended("echo; exec sleep 600", false).await, Some(libc::SIGTERM));
        assert_eq!(ended("trap '' TERM; echo; exec sleep 600", true).await, Some(libc::SIGHUP));
        assert_eq!(ended("trap '' TERM HUP; echo; exec sleep 600", true).await, Some(libc::SIGKILL));
    }
}
