//! Firecracker's API, played: HTTP over a unix socket in the jail, and a guest that listens on a vsock port.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FakeVmm {
    /// Takes everything, and writes what it was asked for into `asked` in the jail.
    #[default]
    Obliging,
    /// Does not like the machine it is to be.
    Refuses,
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
        let root = root.to_owned();
        std::thread::spawn(move || {
            let started = AtomicBool::new(false);
            for client in listener.incoming().flatten() {
                self.answer_all(client, &root, &started);
            }
        });
    }

    fn answer_all(self, mut client: UnixStream, root: &Path, started: &AtomicBool) {
        let mut reader = BufReader::new(client.try_clone().unwrap());
        while let Some((line, body)) = read_request(&mut reader) {
            if self == Self::HangsUp {
                return;
            }
            let mut asked = std::fs::File::options().create(true).append(true).open(root.join("asked")).unwrap();
            writeln!(asked, "{line} {body}").unwrap();
            let answer = if self == Self::Refuses && line.starts_with("PUT /machine-config") {
                respond("400 Bad Request", r#"{"fault_message":"The vCPU number is invalid!"}"#)
            } else if line.starts_with("GET / ") {
                let state = if started.load(Ordering::SeqCst) { "Running" } else { "Not started" };
                respond("200 OK", &format!(r#"{{"id":"x","state":"{state}","vmm_version":"1.12.1"}}"#))
            } else {
                started.fetch_or(body.contains("InstanceStart"), Ordering::SeqCst);
                "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n".to_owned()
            };
            client.write_all(answer.as_bytes()).unwrap();
        }
    }
}

fn respond(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn read_request(reader: &mut BufReader<UnixStream>) -> Option<(String, String)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|length| *length > 0)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((first.trim().to_owned(), String::from_utf8(body).ok()?))
}
