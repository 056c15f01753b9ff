//! The few system calls no safe wrapper covers. Every block says why it is sound.
//!
//! Never grows policy: callers decide, this file only calls.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Gid, Uid};
use tokio::io::unix::AsyncFd;

use crate::passwd::Account;

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The one that called; the child's process id.
    Parent(rustix::process::Pid),
    /// The new process.
    Child,
}

/// Forks a process that has one thread.
///
/// # Errors
/// What fork says, or a refusal if there are more threads.
pub fn fork_single_threaded() -> io::Result<Forked> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(io::Error::other("cannot fork a process with several threads"));
    }
    // SAFETY: no other thread exists (checked above), so no lock can be left held in the child and
    // the child may go on as an ordinary program.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(rustix::process::Pid::from_raw(pid).expect("fork returns a positive id"))),
    }
}

/// Whether the new session has a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// Standard input becomes the controlling terminal.
    StandardInput,
    /// None.
    Absent,
}

/// Whose process it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Identity {
    /// `None` for root, which the agent is already.
    pub fn of(account: &Account) -> Option<Self> {
        let groups = account.groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
        (!account.is_root()).then_some(Self { uid, gid, groups })
    }

    /// Makes the calling thread, which must be the only one, this user's for good. Allocates nothing.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn assume(&self) -> rustix::io::Result<()> {
        rustix::thread::set_thread_groups(&self.groups)?;
        rustix::thread::set_thread_res_gid(self.gid, self.gid, self.gid)?;
        rustix::thread::set_thread_res_uid(self.uid, self.uid, self.uid)
    }

    /// Lets the user open what it was given as /dev/stdin and so on: a pipe or terminal belongs to its maker.
    fn own_standard_streams(&self) {
        let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        for stream in streams {
            let _ = rustix::fs::fchown(stream, Some(self.uid), None);
        }
    }
}

/// Makes the command start in a session of its own, with default signals, an ordinary OOM score and no niceness, and as
/// `identity` if there is one.
pub fn in_new_session(command: &mut Command, terminal: Terminal, identity: Option<Identity>) {
    let prepare = move || {
        rustix::process::setsid()?;
        if terminal == Terminal::StandardInput {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        for signal in 1..32 {
            // SAFETY: SIG_DFL installs no code of ours; the two signals that cannot be changed fail harmlessly.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        // Ours all close on exec; this covers what we may have inherited. Kernels without the call have nothing to cover.
        // SAFETY: the call takes no pointer and only marks descriptors.
        unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
        if let Ok(score) = rustix::fs::open(c"/proc/self/oom_score_adj", flags, rustix::fs::Mode::empty()) {
            let _ = rustix::io::write(&score, b"0");
        }
        let _ = rustix::process::setpriority_process(None, 0);
        if let Some(identity) = &identity {
            identity.own_standard_streams();
            identity.assume()?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
}

/// A socket listening on vsock `port` for any peer.
///
/// # Errors
/// What the kernel says; without vsock in the kernel, that the address family is unsupported.
pub fn listen_vsock(port: u32) -> io::Result<OwnedFd> {
    let check = |result: i32| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    // SAFETY: socket takes no pointer.
    let raw = check(unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: `raw` was just returned by the kernel and nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: all-zero bytes are a valid sockaddr_vm.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_port = port;
    address.svm_cid = libc::VMADDR_CID_ANY;
    let length = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
    // SAFETY: the pointer and length describe `address`, which outlives the call.
    check(unsafe { libc::bind(raw, (&raw const address).cast(), length) })?;
    // SAFETY: listen takes no pointer.
    check(unsafe { libc::listen(raw, 4) })?;
    Ok(socket)
}

/// Registers a non-blocking descriptor with the running reactor.
///
/// # Errors
/// What epoll says.
pub fn register(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the returned value owns the descriptor and gives out shared references only, so it
    // stays open and the same for as long as it is registered.
    unsafe { AsyncFd::register(descriptor) }.map_err(io::Error::from)
}

/// The signal number systemd understands as "power off".
pub fn systemd_power_off_signal() -> i32 {
    libc::SIGRTMIN() + 4
}

/// The signal number systemd understands as "reboot".
pub fn systemd_reboot_signal() -> i32 {
    libc::SIGRTMIN() + 5
}

/// Sends a signal given by number, real-time signals included; pid -1 means every process but ours and 1.
///
/// # Errors
/// What kill says.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes no pointer.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
