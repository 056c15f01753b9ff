//! Where the processors are of a host that does not answer any more: QEMU's monitor, asked once, and QEMU's own threads.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};

/// A monitor that has said nothing for so long has said everything.
const QUIET: Duration = Duration::from_secs(2);
/// Twice: a processor that is in one place both times stands still.
const QUESTIONS: &[&str] = &["info registers -a", "info registers -a"];

/// All registers of all processors, two times, as QEMU prints them.
pub fn processors(socket: &Path) -> Result<String> {
    let cannot = || Error::file("ask the monitor at", socket);
    let mut stream = UnixStream::connect(socket).map_err(cannot())?;
    stream.set_read_timeout(Some(QUIET)).map_err(cannot())?;
    let mut said = Vec::new();
    for question in QUESTIONS {
        stream.write_all(format!("{question}\n").as_bytes()).map_err(cannot())?;
        let mut part = [0; 4096];
        loop {
            match stream.read(&mut part) {
                Ok(0) => break,
                Ok(count) => said.extend_from_slice(&part[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(cannot()(error)),
            }
        }
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// A line for each thread: the kernel's about it (proc_pid_stat(5): name, state, the time it ran), then the system call and the
/// place it waits in, if it does. Two looks tell which threads run.
pub fn threads(pid: u32) -> String {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return String::new() };
    let mut lines = String::new();
    for thread in threads.flatten() {
        let read = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        for part in [read("stat"), read("syscall"), read("wchan")] {
            lines.push_str(part.trim_end());
            lines.push_str(" | ");
        }
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    #[allow(clippy::unwrap_used)]
    fn both_answers_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("monitor");
        let listener = UnixListener::bind(&socket).unwrap();
        let monitor = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for (number, line) in lines.take(QUESTIONS.len()).enumerate() {
                stream.write_all(format!("{} answer {number}\r\n", line.unwrap()).as_bytes()).unwrap();
            }
        });
        let said = processors(&socket).unwrap();
        monitor.join().unwrap();
        assert_eq!(said, "info registers -a answer 0\r\ninfo registers -a answer 1\r\n");
        assert!(processors(&directory.path().join("none")).is_err());
    }

    #[test]
    #[allow(clippy::unwrap_used)]
    fn each_thread_has_a_line() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("looked-at".into());
        let thread = thread.spawn(move || wait.recv()).unwrap();
        // It gives itself its name.
        let named = |said: &str| said.lines().any(|line| line.contains("(looked-at) "));
        assert!((0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            named(&threads(std::process::id()))
        }));
        drop(done);
        assert!(thread.join().unwrap().is_err());
        assert_eq!(threads(0), "");
    }
}
