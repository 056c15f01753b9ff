//! The change of root: start the agent, free the initramfs, become the image's init.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use super::BootError;
use crate::agent::SPARED;
use crate::log;

const RAMFS: u32 = 0x8584_58f6;
const TMPFS: u32 = 0x0102_1994;

/// The initramfs, still open behind the new root.
pub struct OldRoot(OwnedFd);

/// Makes the filesystem mounted at `root` the root of this process.
///
/// # Errors
/// [`BootError::Switch`].
pub fn into(root: &Path) -> Result<OldRoot, BootError> {
    let step = |step: &'static str| move |error: rustix::io::Errno| BootError::Switch { step, source: error.into() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = rustix::fs::open("/", flags, Mode::empty()).map_err(step("open the old root"))?;
    rustix::process::chdir(root).map_err(step("enter the new root"))?;
    rustix::mount::mount_move(".", "/").map_err(step("move the new root over the old one"))?;
    rustix::process::chroot(".").map_err(step("change root"))?;
    rustix::process::chdir("/").map_err(step("enter /"))?;
    Ok(OldRoot(old))
}

impl OldRoot {
    /// Frees the memory the initramfs takes. Only ever on a filesystem that lives in memory.
    pub fn delete_contents(self) {
        let memory = rustix::fs::fstatfs(&self.0).is_ok_and(|stat| {
            let kind = stat.f_type as u32;
            kind == RAMFS || kind == TMPFS
        });
        let device = rustix::fs::fstat(&self.0).map(|stat| stat.st_dev);
        if let (true, Ok(device)) = (memory, device) {
            delete_below(&self.0, device);
        }
    }
}

/// Never leaves the device: anything mounted below belongs to the new system.
fn delete_below(directory: &OwnedFd, device: u64) {
    let Ok(entries) = Dir::read_from(directory.as_fd()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if stat.st_dev != device {
            continue;
        }
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(below) = rustix::fs::openat(directory, name, flags, Mode::empty()) {
                delete_below(&below, device);
            }
        }
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let _ = rustix::fs::unlinkat(directory, name, flags);
    }
}

/// An agent that takes longer has to share the processor with the image's init.
const HEAD_START: Duration = Duration::from_secs(2);

/// Starts the supervised agent, which will outlive this program in pid 1, and lets it have the processor until it is
/// reachable: whoever waits for a guest waits for that, and an init that starts is busy.
pub fn start_agent(binary: &Path) {
    let mut command = Command::new(binary);
    command.arg0(SPARED).arg("agent").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    match command.spawn() {
        Ok(mut agent) => {
            if let Some(word) = agent.stdout.take() {
                wait_for(word.as_fd(), HEAD_START);
            }
        }
        Err(error) => log::failure(&format!("cannot start the agent: {error}")),
    }
}

/// Until something can be read, or for as long as that.
fn wait_for(word: BorrowedFd<'_>, limit: Duration) {
    let until = Instant::now() + limit;
    loop {
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
        match poll(&mut [PollFd::from_borrowed_fd(word, PollFlags::IN)], left.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Becomes the image's init. Returns only when that fails.
pub fn exec_init(path: &str) -> io::Error {
    // Words of the kernel command line that are meant for init reach us as arguments.
    Command::new(OsStr::new(path)).args(std::env::args_os().skip(1)).exec()
}
