//! QEMU's monitor, asked once: where the processors are of a host that does not answer any more.

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
