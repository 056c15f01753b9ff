//! Firecracker's API, played: HTTP over a unix socket in the jail, and a guest that listens on a vsock port.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FakeVmm {
    /// Starts its guest.
    #[default]
    Obliging,
    /// Waits for orders that nobody gives.
    Waits,
    /// Takes a request and hangs up.
    HangsUp,
    /// Never listens.
    Deaf,
    /// Is gone before anybody can ask it.
    EndsAtOnce,
}

impl FakeVmm {
    pub fn serve(self, root: &Path) {
        // Left by an earlier one.
        let _ = std::fs::remove_dir_all(root);
        std::fs::create_dir_all(root.join("run")).unwrap();
        if matches!(self, Self::Deaf | Self::EndsAtOnce) {
            return;
        }
        let listener = UnixListener::bind(root.join("run/firecracker.socket")).unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                self.answer_all(client);
            }
        });
    }

    fn answer_all(self, mut client: UnixStream) {
        let mut reader = BufReader::new(client.try_clone().unwrap());
        while let Some(line) = read_request(&mut reader) {
            if self == Self::HangsUp {
                return;
            }
            let state = if self == Self::Obliging { "Running" } else { "Not started" };
            let answer = match line.as_str() {
                "GET / HTTP/1.1" => {
                    respond("200 OK", &format!(r#"{{"id":"x","state":"{state}","vmm_version":"1.12.1"}}"#))
                }
                other => respond("400 Bad Request", &format!(r#"{{"fault_message":"{other} was not expected"}}"#)),
            };
            client.write_all(answer.as_bytes()).unwrap();
        }
    }
}

fn respond(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn read_request(reader: &mut BufReader<UnixStream>) -> Option<String> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|length| *length > 0)?;
    let mut header = String::from("not read yet");
    while !header.trim().is_empty() {
        header.clear();
        reader.read_line(&mut header).ok()?;
    }
    Some(first.trim().to_owned())
}
