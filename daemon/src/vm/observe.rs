//! Looks at the host: its size, its free space, and what guests wrote to their consoles. Changes nothing.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::spec::HostLimits;
use crate::platform::VmPlan;

/// Enough for the lines that matter, small enough to be read at once.
const TAIL_BYTES: u64 = 16 << 10;

/// The host's CPUs, RAM, and the space left where VMs are kept in `vms` (or will be, once it is made).
///
/// # Errors
/// The first look that failed, with what was looked at.
pub fn host_limits(vms: &Path) -> Result<HostLimits, ObserveError> {
    Ok(HostLimits {
        cpus: std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        memory_mib: memory_mib()?,
        free_mib: free_mib(if vms.exists() { vms } else { vms.parent().unwrap_or(vms) })?,
    })
}

/// Something about the host cannot be told.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {} of {}", what, path.display())]
pub struct ObserveError {
    /// "the free space" …
    pub what: &'static str,
    /// Where it was looked for.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

impl banger_proto::failure::Classified for ObserveError {
    fn kind(&self) -> banger_proto::failure::Kind {
        banger_proto::failure::Kind::HostNotReady
    }
}

/// Space an ordinary user may still fill on the file system of `path`, in MiB.
///
/// # Errors
/// [`ObserveError`].
pub fn free_mib(path: &Path) -> Result<u64, ObserveError> {
    let found = rustix::fs::statvfs(path).map_err(|error| ObserveError {
        what: "the free space",
        path: path.to_owned(),
        source: error.into(),
    })?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize) >> 20)
}

fn memory_mib() -> Result<u64, ObserveError> {
    let path = Path::new("/proc/meminfo");
    let error = |source| ObserveError { what: "the total memory", path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(error)?;
    parse_memory_total(&text).map(|kib| kib >> 10).ok_or_else(|| error(io::ErrorKind::InvalidData.into()))
}

fn parse_memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Where the VMM writes the guest's console.
pub fn console_log(plan: &VmPlan) -> PathBuf {
    plan.directory.join("console.log")
}

/// The last lines the guest wrote to its console, safe to print. Empty if there is nothing to tell.
pub fn console_tail(path: &Path, lines: usize) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let Ok(bytes) = read() else { return Vec::new() };
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<String> = text.lines().map(plain).filter(|line| !line.is_empty()).collect();
    all[all.len().saturating_sub(lines)..].to_vec()
}

/// A console line without escape sequences and control characters.
fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // CSI: ends with a letter or one of @[\]^_`{|}~ after its parameters.
            if chars.clone().next() == Some('[') {
                chars.next();
                for parameter in chars.by_ref() {
                    if ('@'..='~').contains(&parameter) {
                        break;
                    }
                }
            }
        } else if !c.is_control() {
            out.push(c);
        }
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines_without_escapes() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("console.log");
        std::fs::write(
            &path,
            format!("{}\r\n\x1b[1;31mKernel panic\x1b[0m - no init\r\n\r\nend\x07", "x\n".repeat(20_000)),
        )
        .unwrap();
        assert_eq!(console_tail(&path, 3), ["x", "Kernel panic - no init", "end"]);
        assert_eq!(console_tail(&scratch.path().join("none"), 3), Vec::<String>::new());
    }

    #[test]
    fn memory_is_read_from_the_line_that_says_total() {
        assert_eq!(parse_memory_total("MemTotal:       24040444 kB\nMemFree: 1 kB\n"), Some(24_040_444));
        assert_eq!(parse_memory_total("nonsense"), None);
    }
}
