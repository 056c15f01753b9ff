//! Locks between test processes: one test at a time for a name, and as many booting machines as there are processors.
//!
//! File locks, because nextest runs every test in a process of its own. They vanish with their holder.

use std::fs::File;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::programs::target_directory;
use crate::wait::poll;

/// How long a test waits for its turn. Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A held lock; dropped, it is free again.
#[derive(Debug)]
pub struct Held {
    _files: Vec<File>,
}

/// Waits for the one lock of this name.
pub fn exclusive(name: &str) -> Held {
    let file = open(name);
    flock(&file, FlockOperation::LockExclusive).expect("a local file can be locked");
    Held { _files: vec![file] }
}

/// Waits until one more machine may boot.
pub fn one_machine() -> Held {
    let slots: Vec<File> = (0..count()).map(|number| open(&format!("machine-{number}"))).collect();
    let free =
        poll(PATIENCE, || slots.iter().position(|slot| flock(slot, FlockOperation::NonBlockingLockExclusive).is_ok()));
    let free = free.expect("another test never ended");
    Held { _files: slots.into_iter().nth(free).into_iter().collect() }
}

/// Waits until no other test's machine runs, and keeps it so.
pub fn all_machines() -> Held {
    // In order, so that two waiting for all cannot wait for each other.
    let files = (0..count()).map(|number| open(&format!("machine-{number}"))).collect::<Vec<_>>();
    for file in &files {
        flock(file, FlockOperation::LockExclusive).expect("a local file can be locked");
    }
    Held { _files: files }
}

fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn open(name: &str) -> File {
    let directory = target_directory().join("test-locks");
    std::fs::create_dir_all(&directory).expect("the target directory is writable");
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join(name))
        .expect("the target directory is writable")
}
