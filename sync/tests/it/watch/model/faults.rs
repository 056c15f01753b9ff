//! What the machines of both sides do to a session: a queue of events that overflows, a disk with no room left.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

/// Enough for what a sequence makes, and filled in a moment.
const DISK_SIZE: &str = "size=48m";

/// A small filesystem of its own for the guest's tree.
pub struct GuestDisk(tempfile::TempDir);

impl GuestDisk {
    /// `None` where this user may not mount one.
    pub fn mount() -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", DISK_SIZE, "tmpfs"]).arg(place.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(place))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// No byte more fits.
    pub fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.path().join("ballast")).unwrap();
        for size in [1 << 20, 4096] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Room again.
    pub fn free(&self) {
        let _ = std::fs::remove_file(self.path().join("ballast"));
    }
}

impl Drop for GuestDisk {
    fn drop(&mut self) {
        // A receiver that is about to end may still be in it.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.path().display());
    }
}

/// More events at once than the kernel keeps for a session that does not read them.
pub fn flood(root: &Path) {
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: u64 = limit.trim().parse().unwrap();
    // Two, as an event like the one before it is not kept.
    let open = |name: &str| File::options().create(true).truncate(false).write(true).open(root.join(name)).unwrap();
    let files = [open("flood-a"), open("flood-b")];
    for number in 0..=limit {
        files[usize::from(number % 2 == 1)].write_all_at(b"flood\n", 0).unwrap();
    }
}
