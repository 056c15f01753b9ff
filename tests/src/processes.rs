//! Processes that belong to a test, found by the test's own directory in their arguments or environment.
//!
//! The directory's name is random, so nothing but that test's processes can match.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// One running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its arguments.
    pub argv: Vec<String>,
}

impl Process {
    /// File name of its program.
    pub fn program(&self) -> &str {
        self.argv.first().map_or("", |path| path.rsplit('/').next().unwrap_or(path))
    }

    /// Sends a signal; a process that has ended meanwhile is fine.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).expect("a pid");
        let _ = kill_process(pid, signal);
    }
}

/// Every living process (zombies are not) whose arguments or environment mention `directory`.
pub fn mentioning(directory: &Path) -> Vec<Process> {
    let needle = directory.as_os_str().as_bytes();
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    let mut found: Vec<Process> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .filter_map(|pid: u32| {
            // Gone in between, or not ours to read: not this test's process.
            let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).ok();
            let arguments = read("cmdline").filter(|bytes| !bytes.is_empty())?;
            let mentioned = contains(&arguments, needle) || read("environ").is_some_and(|all| contains(&all, needle));
            mentioned.then(|| Process { pid, argv: split(&arguments) })
        })
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

fn split(arguments: &[u8]) -> Vec<String> {
    let text = arguments.strip_suffix(b"\0").unwrap_or(arguments);
    text.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
