//! pid 1 for good: where the image has no init, or where there is no system at all.
//!
//! It reaps what nobody else does and never ends; the agent powers the machine off.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use banger_proto::guest_contract::GUEST_BINARY;
use rustix::mount::{MountFlags, mount};
use rustix::process::WaitOptions;

/// Replaces this process by one that only stays, so that the initramfs' copy of it can go.
pub fn exec() -> ExitCode {
    for binary in [Path::new(GUEST_BINARY), Path::new("/proc/self/exe")] {
        // Returns only if it could not.
        let _ = Command::new(binary).arg("stay").exec();
    }
    run()
}

/// Reaps for ever.
pub fn run() -> ExitCode {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let _ = mount("cgroup2", "/sys/fs/cgroup", "cgroup2", flags, None);
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // No child left, not even the agent's supervisor: there is nothing to do but exist.
            Err(_) => std::thread::sleep(Duration::from_secs(1)),
        }
    }
}
